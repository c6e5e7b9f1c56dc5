//! Log lines for the system's log.
//!
//! Lines go out one datagram each, in the old form (RFC 3164), as the reference's do (`cmd/serf/command/agent/syslog.go`).
//! The socket never waits: what the system's log does not take at once is lost there, and in the ring all the same.

use std::io;
use std::os::unix::net::UnixDatagram;

use crate::log_ring::Level;

/// Where systems listen for log lines.
const PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// What lines are marked with.
const TAG: &str = "serf";

/// The facilities, in the order of their numbers (RFC 3164, 4.1.1).
const FACILITIES: [&str; 24] = [
    "KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV",
    "FTP", "NTP", "AUDIT", "ALERT", "CLOCK", "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4",
    "LOCAL5", "LOCAL6", "LOCAL7",
];

/// The facility is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no syslog facility: expected LOCAL0 to LOCAL7, DAEMON, USER, ...")]
pub struct UnknownFacility(String);

/// Which part of the system lines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// Reads a facility's name, in any case.
    ///
    /// # Errors
    /// [`UnknownFacility`].
    pub fn parse(name: &str) -> Result<Self, UnknownFacility> {
        FACILITIES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .and_then(|number| u8::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| UnknownFacility(name.to_owned()))
    }
}

/// A connection to the system's log.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    facility: Facility,
}

impl Syslog {
    /// Connects to where the system listens.
    pub(super) fn connect(facility: Facility) -> io::Result<Self> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for path in PATHS {
            result = Self::connect_to(path, facility);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn connect_to(path: &str, facility: Facility) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, facility })
    }

    /// Sends a line: when, how much it matters, and its text.
    pub(super) fn send(&self, stamp: &str, level: Level, text: &str) {
        let priority = self.facility.0 * 8 + severity(level);
        let process = std::process::id();
        let line = format!("<{priority}>{stamp} {TAG}[{process}]: {text}");
        let _ = self.socket.send(line.as_bytes());
    }
}

/// The reference's severities (`levelPriority`).
const fn severity(level: Level) -> u8 {
    match level {
        Level::Trace => 7,
        Level::Debug => 6,
        Level::Info => 5,
        Level::Warn => 4,
        Level::Err => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_with_their_priority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let listener = UnixDatagram::bind(&path).unwrap();
        let facility = Facility::parse("local3").unwrap();
        let syslog = Syslog::connect_to(path.to_str().unwrap(), facility).unwrap();
        let mut buffer = [0; 200];
        for (level, priority) in [(Level::Err, 155), (Level::Info, 157), (Level::Trace, 159)] {
            syslog.send("Nov 24 05:00:00", level, "agent: hello");
            let length = listener.recv(&mut buffer).unwrap();
            let process = std::process::id();
            let expected = format!("<{priority}>Nov 24 05:00:00 serf[{process}]: agent: hello");
            assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
        }
        // Nobody reads: nothing waits.
        for _ in 0..10_000 {
            syslog.send("Nov 24 05:00:00", Level::Info, "more than the socket holds");
        }
    }

    #[test]
    fn facilities_are_known_by_name() {
        assert_eq!(Facility::parse("LOCAL0"), Ok(Facility(16)));
        assert_eq!(Facility::parse("daemon"), Ok(Facility(3)));
        assert!(Facility::parse("LOCAL8").is_err());
    }
}
