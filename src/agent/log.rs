//! The agent's log: to standard error, to the system's log where it is asked for, and to a ring that monitors read.
//!
//! Lines have the reference's form, `2026/11/23 15:18:48 [INFO] agent: …`, in local time. The ring takes lines of every
//! level that is enabled at all, so a monitor may see more than the agent itself prints. A line may say which RPC client
//! it is [about](Line::about), so that it is not shown to that very client. Standard error may have JSON objects instead, one
//! a line.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::syslog::{Facility, Syslog};

/// Lines the ring holds (the reference's `NewLogWriter(512)`).
pub const RING_LINES: usize = 512;
/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// What a cut line ends with.
const CUT_MARK: &str = " [cut]";
/// The key under which a log record names the RPC client it is about.
const CLIENT_KEY: &str = "client";

/// How much a line matters, as the reference names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every packet.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// What an operator follows.
    Info,
    /// What should not be.
    Warn,
    /// What must not be.
    Err,
}

impl Level {
    /// Every level, the least first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Err];

    /// Reads a level in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
    }

    /// The word in a line's brackets.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Err => "ERR",
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            _ => Self::Err,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<::log::Level> for Level {
    fn from(level: ::log::Level) -> Self {
        match level {
            ::log::Level::Trace => Self::Trace,
            ::log::Level::Debug => Self::Debug,
            ::log::Level::Info => Self::Info,
            ::log::Level::Warn => Self::Warn,
            ::log::Level::Error => Self::Err,
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts lines from 0.
    pub number: u64,
    /// How much it matters.
    pub level: Level,
    /// The RPC client it is about, by [`crate::rpc::SessionId::number`].
    pub about: Option<u64>,
    /// The whole line without its end.
    pub text: Arc<str>,
}

/// The last lines of the log.
#[derive(Debug, Default)]
pub struct LogRing {
    lines: Mutex<VecDeque<Line>>,
    next: AtomicU64,
}

impl LogRing {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line; the oldest makes room.
    pub fn push(&self, level: Level, about: Option<u64>, text: &str) {
        let mut lines = lock(&self.lines);
        if lines.len() == RING_LINES {
            lines.pop_front();
        }
        let number = self.next.load(Ordering::Relaxed);
        lines.push_back(Line {
            number,
            level,
            about,
            text: text.into(),
        });
        self.next.store(number + 1, Ordering::Release);
    }

    /// The number that the next line will have. Cheap: to see whether there is anything new.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// The lines from `number` on that the ring still has.
    #[must_use]
    pub fn since(&self, number: u64) -> Vec<Line> {
        let lines = lock(&self.lines);
        let first = lines.front().map_or(0, |line| line.number);
        let skip = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        lines.iter().skip(skip).cloned().collect()
    }
}

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

/// A panic elsewhere while the log was held leaves nothing half done that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn the_ring_keeps_the_last_lines() {
        let ring = LogRing::new();
        for number in 0..600 {
            ring.push(Level::Info, None, &number.to_string());
        }
        assert_eq!(ring.next_number(), 600);
        let lines = ring.since(0);
        assert_eq!(
            (lines.len(), &*lines[0].text, lines[0].number),
            (RING_LINES, "88", 88)
        );
        assert_eq!(ring.since(599).len(), 1);
        assert_eq!(ring.since(600), []);
        assert_eq!(ring.since(u64::MAX), []);
    }

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(Level::parse("warn"), Some(Level::Warn));
        assert_eq!(Level::parse("Err"), Some(Level::Err));
        assert_eq!(Level::parse("ERROR"), None);
        assert!(Level::Debug < Level::Info);
    }
}
