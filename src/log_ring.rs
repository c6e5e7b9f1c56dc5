//! The last lines of the log, for the monitors of RPC clients.
//!
//! Whoever has a log fills the ring: the agent's own logger, or a host program's. It takes lines of every level that is
//! enabled at all, so a monitor may see more than what is printed elsewhere. A line may say which RPC client it is
//! [about](Line::about), so that it is not shown to that very client.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines the ring holds (the reference's `NewLogWriter(512)`).
pub const RING_LINES: usize = 512;
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

    pub(crate) const fn from_number(number: u8) -> Self {
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

/// A lock that outlives whoever panicked with it: what it guards is whole after every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

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
