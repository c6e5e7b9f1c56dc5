//! Figures that `stats` shows.

use std::fmt;

/// A figure of `stats`. Clients see it as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure<'a> {
    /// A number of something.
    Count(u64),
    /// Whether something is so.
    Flag(bool),
    /// Something else.
    Text(&'a str),
}

impl fmt::Display for Figure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<u64> for Figure<'_> {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Figure<'_> {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<usize> for Figure<'_> {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<bool> for Figure<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Takes figures by their names.
pub type VisitFigure<'a> = dyn FnMut(&'static str, Figure<'_>) + 'a;
