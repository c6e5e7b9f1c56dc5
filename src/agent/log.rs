//! The agent's log: to standard error, to the system's log where it is asked for, and to a [ring](LogRing) that monitors
//! read.
//!
//! Lines have the reference's form, `2026/11/23 15:18:48 [INFO] agent: …`, in local time. Standard error may have JSON objects
//! instead, one a line.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::syslog::{Facility, Syslog};
use crate::log_ring::{Level, LogRing, lock};

/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// What a cut line ends with.
const CUT_MARK: &str = " [cut]";
/// The key under which a log record names the RPC client it is about.
const CLIENT_KEY: &str = "client";

/// Writes the log of the process. Made once, by [`install`].
struct Logger {
    ring: Arc<LogRing>,
    shared: Arc<Shared>,
    json: bool,
    syslog: Option<Syslog>,
    writing: Mutex<Writing>,
}

/// Where the log goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// The lowest level that standard error and the system's log show.
    pub level: Level,
    /// Whether standard error gets JSON objects.
    pub json: bool,
    /// The facility of lines for the system's log, if they go there.
    pub syslog: Option<Facility>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has a log already; an embedder then passes a [`LogRing`] that it fills itself.
    #[error("can't set up the log: {0}")]
    Installed(#[from] ::log::SetLoggerError),
    /// The system's log is not there.
    #[error("can't reach the system's log: {0}; is a syslog daemon running?")]
    Syslog(std::io::Error),
}

/// What a [`LogControl`] changes.
struct Shared {
    /// The lowest level that standard error shows.
    level: AtomicU8,
}

struct Writing {
    zone: TimeZone,
    /// The second that `stamp` is of.
    second: i64,
    stamp: String,
    line: String,
}

/// Steers the installed log.
#[derive(Clone)]
pub struct LogControl {
    ring: Arc<LogRing>,
    shared: Arc<Shared>,
}

impl LogControl {
    /// The ring that the log goes to.
    #[must_use]
    pub fn ring(&self) -> Arc<LogRing> {
        Arc::clone(&self.ring)
    }

    /// Changes what standard error shows.
    pub fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
        // Monitors may always ask for debug lines.
        ::log::set_max_level(if level == Level::Trace {
            ::log::LevelFilter::Trace
        } else {
            ::log::LevelFilter::Debug
        });
    }

    /// What standard error shows.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::from_number(self.shared.level.load(Ordering::Relaxed))
    }
}

/// Makes this the log of the process.
///
/// # Errors
/// [`LogError`].
pub fn install(options: LogOptions) -> Result<LogControl, LogError> {
    let LogOptions {
        level,
        json,
        syslog,
    } = options;
    let syslog = syslog.map(Syslog::connect).transpose();
    let syslog = syslog.map_err(LogError::Syslog)?;
    let ring = Arc::new(LogRing::new());
    let shared = Arc::new(Shared {
        level: AtomicU8::new(level as u8),
    });
    let writing = Writing {
        zone: TimeZone::system(),
        second: i64::MIN,
        stamp: String::new(),
        line: String::new(),
    };
    let control = LogControl {
        ring: Arc::clone(&ring),
        shared: Arc::clone(&shared),
    };
    ::log::set_boxed_logger(Box::new(Logger {
        ring,
        shared,
        json,
        syslog,
        writing: Mutex::new(writing),
    }))?;
    control.set_level(level);
    Ok(control)
}

impl ::log::Log for Logger {
    fn enabled(&self, _: &::log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &::log::Record<'_>) {
        // What libraries below say is not for operators.
        if !record.target().starts_with("serfling") {
            return;
        }
        let level = Level::from(record.level());
        let about = record
            .key_values()
            .get(CLIENT_KEY.into())
            .and_then(|value| value.to_u64());
        let mut writing = lock(&self.writing);
        let now = Timestamp::now();
        writing.format(now, level, record.args());
        self.ring.push(level, about, &writing.line);
        if level as u8 >= self.shared.level.load(Ordering::Relaxed) {
            if let Some(syslog) = &self.syslog {
                syslog.send(&writing.syslog_stamp(), level, writing.message());
            }
            if self.json {
                writing.make_json(now, level, about);
            }
            writing.line.push('\n');
            // Nobody may read it; then it is lost here, and the ring has it.
            let _ = std::io::stderr().write_all(writing.line.as_bytes());
        }
    }

    fn flush(&self) {}
}

impl Writing {
    /// The line without time and level.
    fn message(&self) -> &str {
        let after = self.line.split_once("] ");
        after.map_or(&self.line, |(_, message)| message)
    }

    /// The time of the line in the system's log.
    fn syslog_stamp(&self) -> String {
        let time = Timestamp::from_second(self.second).unwrap_or_default();
        let local = self.zone.to_datetime(time);
        local.strftime("%b %e %H:%M:%S").to_string()
    }

    /// Makes the line a JSON object.
    fn make_json(&mut self, now: Timestamp, level: Level, about: Option<u64>) {
        let mut object = serde_json::json!({
            "time": format!("{now:.3}"),
            "level": level.as_str(),
            "message": self.message(),
        });
        if let (Some(client), Some(object)) = (about, object.as_object_mut()) {
            object.insert(CLIENT_KEY.to_owned(), client.into());
        }
        self.line = object.to_string();
    }

    /// Puts the line together in `self.line`.
    fn format(&mut self, now: Timestamp, level: Level, message: &fmt::Arguments<'_>) {
        if self.second != now.as_second() {
            self.second = now.as_second();
            let local = self.zone.to_datetime(now);
            self.stamp.clear();
            let _ = write!(
                self.stamp,
                "{:04}/{:02}/{:02} {:02}:{:02}:{:02}",
                local.year(),
                local.month(),
                local.day(),
                local.hour(),
                local.minute(),
                local.second()
            );
        }
        self.line.clear();
        let _ = write!(self.line, "{} [{level}] {message}", self.stamp);
        if self.line.len() > LINE_BYTES_MAX {
            self.line.truncate(
                self.line
                    .floor_char_boundary(LINE_BYTES_MAX - CUT_MARK.len()),
            );
            self.line.push_str(CUT_MARK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> String {
        let mut writing = Writing {
            zone: TimeZone::UTC,
            second: i64::MIN,
            stamp: String::new(),
            line: String::new(),
        };
        let now = Timestamp::from_second(1_795_447_128).unwrap();
        writing.format(now, Level::Info, &format_args!("{message}"));
        writing.line
    }

    #[test]
    fn lines_read_as_the_reference_writes_them() {
        assert_eq!(
            line("agent: hello"),
            "2026/11/23 15:18:48 [INFO] agent: hello"
        );
    }

    #[test]
    fn lines_can_be_json() {
        let mut writing = Writing {
            zone: TimeZone::UTC,
            second: i64::MIN,
            stamp: String::new(),
            line: String::new(),
        };
        let now = Timestamp::from_millisecond(1_795_447_128_042).unwrap();
        writing.format(now, Level::Warn, &format_args!("serf: [odd] \"name\"\n"));
        assert_eq!(writing.message(), "serf: [odd] \"name\"\n");
        assert_eq!(writing.syslog_stamp(), "Nov 23 15:18:48");
        writing.make_json(now, Level::Warn, Some(7));
        let object: serde_json::Value = serde_json::from_str(&writing.line).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "time": "2026-11-23T15:18:48.042Z",
                "level": "WARN",
                "message": "serf: [odd] \"name\"\n",
                "client": 7,
            })
        );
    }

    #[test]
    fn long_lines_are_cut() {
        let long = line(&"é".repeat(LINE_BYTES_MAX));
        assert!(long.len() <= LINE_BYTES_MAX && long.ends_with(CUT_MARK));
    }
}
