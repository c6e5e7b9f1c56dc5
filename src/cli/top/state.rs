//! The state of the view: what is known, what the user wants to see of it, and how the connection is.
//!
//! It changes by what comes from the agent ([`State::live`]) and from the keyboard ([`State::handle_key`]), and reads no
//! clock. While the view is paused, what comes goes on being taken in, and a copy of what was known is shown.

use std::cmp::Ordering;
use std::time::Instant;

use super::keys::Key;
use super::knowledge::{Knowledge, LogLine, Row};
use crate::cluster::MemberStatus;

/// How far a key for pages goes, in lines.
const PAGE: usize = 10;
/// The longest filter, in characters.
const FILTER_CHARS_MAX: usize = 64;

/// In what order members are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    /// Those that may need somebody come first.
    Status,
    /// The nearest come first, those of whom nothing is known last.
    Rtt,
}

impl Sort {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Status => "status",
            Self::Rtt => "rtt",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Name => Self::Status,
            Self::Status => Self::Rtt,
            Self::Rtt => Self::Name,
        }
    }
}

/// What the arrow keys scroll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Focus {
    #[default]
    Members,
    Log,
}

/// How the connection to the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Connection {
    Open,
    /// Gone, for this reason; the next try is at this time.
    Lost {
        why: String,
        retry_at: Instant,
    },
}

/// Whether to go on after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Quit,
}

/// What was known when the view was paused.
struct Frozen {
    knowledge: Knowledge,
    at: Instant,
}

/// The state of the view.
pub(super) struct State {
    /// Where the agent is.
    pub(super) address: String,
    pub(super) connection: Connection,
    /// What is known now.
    pub(super) live: Knowledge,
    frozen: Option<Box<Frozen>>,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) focus: Focus,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) shows_help: bool,
    /// How many members are above the first one shown.
    pub(super) members_above: usize,
    /// How many lines of the log are below the last one shown.
    pub(super) lines_below: usize,
    /// Lines that the log had when it was last fitted.
    lines_seen: u64,
}

impl State {
    pub(super) fn new(now: Instant, address: &str) -> Self {
        Self {
            address: address.to_owned(),
            connection: Connection::Open,
            live: Knowledge::new(now),
            frozen: None,
            sort: Sort::default(),
            reversed: false,
            focus: Focus::default(),
            filter: String::new(),
            is_typing: false,
            shows_help: false,
            members_above: 0,
            lines_below: 0,
            lines_seen: 0,
        }
    }

    /// What is to be seen.
    pub(super) fn shown(&self) -> &Knowledge {
        self.frozen
            .as_ref()
            .map_or(&self.live, |frozen| &frozen.knowledge)
    }

    /// The time at which it is so.
    pub(super) fn shown_at(&self, now: Instant) -> Instant {
        self.frozen.as_ref().map_or(now, |frozen| frozen.at)
    }

    /// How much has happened since the view was paused, if it is.
    pub(super) fn missed(&self) -> Option<u64> {
        let frozen = self.frozen.as_ref()?;
        Some(
            self.live
                .lines_ever
                .saturating_sub(frozen.knowledge.lines_ever),
        )
    }

    /// The members to be seen, in order.
    pub(super) fn members(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.filtered().collect();
        rows.sort_by(|a, b| {
            let order = self.compare(a, b);
            if self.reversed {
                order.reverse()
            } else {
                order
            }
        });
        rows
    }

    /// The lines of the log to be seen, the oldest first.
    pub(super) fn log(&self) -> Vec<&LogLine> {
        let lines = self.shown().log.iter();
        lines.filter(|line| self.lets_line_through(line)).collect()
    }

    /// Keeps within what there is, with room for so many members and lines of the log.
    pub(super) fn fit(&mut self, member_rows: usize, log_rows: usize) {
        let members = self.filtered().count();
        self.members_above = self.members_above.min(members.saturating_sub(member_rows));
        let ever = self.shown().lines_ever;
        let come = ever.saturating_sub(std::mem::replace(&mut self.lines_seen, ever));
        if self.lines_below > 0 {
            // Who reads back is not pushed on by what comes.
            let come = usize::try_from(come).unwrap_or(usize::MAX);
            let newest = self.shown().log.iter().rev().take(come);
            let come = newest.filter(|line| self.lets_line_through(line)).count();
            self.lines_below = self.lines_below.saturating_add(come);
        }
        let lines = self.log().len();
        self.lines_below = self.lines_below.min(lines.saturating_sub(log_rows));
    }

    /// A key was pressed.
    pub(super) fn handle_key(&mut self, now: Instant, key: Key) -> Flow {
        if key == Key::Interrupt {
            return Flow::Quit;
        }
        if self.is_typing {
            self.type_filter(key);
            return Flow::Continue;
        }
        if std::mem::take(&mut self.shows_help) && key != Key::Char('q') {
            return Flow::Continue;
        }
        match key {
            Key::Char('q') => return Flow::Quit,
            Key::Char('?' | 'h') => self.shows_help = true,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/') => self.is_typing = true,
            Key::Escape => self.filter.clear(),
            Key::Char('p' | ' ') => self.toggle_pause(now),
            Key::Tab => {
                self.focus = match self.focus {
                    Focus::Members => Focus::Log,
                    Focus::Log => Focus::Members,
                }
            }
            Key::Up | Key::Char('k') => self.scroll_up(1),
            Key::Down | Key::Char('j') => self.scroll_down(1),
            Key::PageUp => self.scroll_up(PAGE),
            Key::PageDown => self.scroll_down(PAGE),
            Key::Home | Key::Char('g') => self.scroll_up(usize::MAX),
            Key::End | Key::Char('G') => self.scroll_down(usize::MAX),
            _ => {}
        }
        Flow::Continue
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(char) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(char);
            }
            _ => {}
        }
    }

    fn toggle_pause(&mut self, now: Instant) {
        self.frozen = match self.frozen.take() {
            Some(_) => None,
            None => Some(Box::new(Frozen {
                knowledge: self.live.clone(),
                at: now,
            })),
        };
    }

    fn scroll_up(&mut self, lines: usize) {
        match self.focus {
            Focus::Members => self.members_above = self.members_above.saturating_sub(lines),
            Focus::Log => self.lines_below = self.lines_below.saturating_add(lines),
        }
    }

    fn scroll_down(&mut self, lines: usize) {
        match self.focus {
            Focus::Members => self.members_above = self.members_above.saturating_add(lines),
            Focus::Log => self.lines_below = self.lines_below.saturating_sub(lines),
        }
    }

    fn filtered(&self) -> impl Iterator<Item = &Row> {
        let rows = self.shown().members.values();
        rows.filter(|row| self.lets_through(|| row_text(row)))
    }

    /// Whether the filter, in any case of letters, is part of the text.
    fn lets_through(&self, text: impl FnOnce() -> String) -> bool {
        self.filter.is_empty() || text().to_lowercase().contains(&self.filter.to_lowercase())
    }

    fn lets_line_through(&self, line: &LogLine) -> bool {
        self.lets_through(|| format!("{} {}", line.kind, line.text))
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let by_name = || a.member.name.cmp(&b.member.name);
        match self.sort {
            Sort::Name => by_name(),
            Sort::Status => rank(a.member.status)
                .cmp(&rank(b.member.status))
                .then_with(by_name),
            Sort::Rtt => (a.rtt.is_none(), a.rtt)
                .cmp(&(b.rtt.is_none(), b.rtt))
                .then_with(by_name),
        }
    }
}

const fn rank(status: MemberStatus) -> u8 {
    match status {
        MemberStatus::Failed => 0,
        MemberStatus::Leaving => 1,
        MemberStatus::None => 2,
        MemberStatus::Alive => 3,
        MemberStatus::Left => 4,
    }
}

/// All that is shown of a member, for the filter.
fn row_text(row: &Row) -> String {
    let member = &row.member;
    format!(
        "{} {}:{} {} {}",
        member.name,
        member.addr,
        member.port,
        member.status,
        tags_text(row)
    )
}

/// Tags as `members` shows them.
pub(super) fn tags_text(row: &Row) -> String {
    let tags = row.member.tags.iter();
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={value}")).collect();
    tags.join(",")
}
