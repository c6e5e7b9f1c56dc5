//! The snapshot: what a node needs to find its cluster again after a restart, and to not hear old events twice.
//!
//! The file is the reference's (`serf/snapshot.go`), and either agent starts from the other's: lines of text, appended
//! as things happen, of which the last word counts.
//!
//! ```text
//! alive: NAME IP:PORT      not-alive: NAME
//! clock: N                 event-clock: N      query-clock: N
//! leave                    the node left; what came before is void
//! # …                      skipped, as are `coordinate:` lines of old agents
//! ```
//!
//! Failed nodes are kept in comments (`#failed: NAME IP:PORT`), which the reference skips: after an outage of the whole
//! cluster they are the only ones left to ask.
//!
//! This is the core, without I/O: [`Replay`] takes the bytes of a file in, [`Snapshot`] takes events in and gives
//! [`SnapshotCommand`]s out, at most one append each [`FLUSH_INTERVAL`] with the last value of each clock.
//! Invariant: after a torn or unreadable line, or a failed write, the file is replaced before anything is appended.

mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{Event, MemberEvent, MemberEventKind};

pub use replay::{Recovered, Replay};

/// How long lines are gathered before they are appended.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How long after a failed write the file is tried again.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// The file is replaced when it is larger than this and than twice what it was after the last time.
pub const COMPACT_BYTES_MIN: u64 = 128 * 1024;

/// What to do with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotCommand {
    /// Add these lines at its end.
    Append(Vec<u8>),
    /// Replace it by these lines, at once or not at all.
    Replace(Vec<u8>),
    /// Make sure that it survives a power failure.
    Sync,
}

/// Whether a node that left finds back on its next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLeave {
    /// It stays away until it is told to join.
    StayAway,
    /// It joins again.
    Rejoin,
}

/// The state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    /// Lines may be appended.
    Sound,
    /// It has to be replaced first, not before this time if there is one.
    Broken(Option<Instant>),
}

/// The three Lamport clocks, each as the last time seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Clocks {
    member: u64,
    event: u64,
    query: u64,
}

/// What is in the file, and what is to be.
#[derive(Debug)]
pub struct Snapshot {
    after_leave: AfterLeave,
    leaving: bool,
    alive: BTreeMap<Arc<str>, SocketAddr>,
    failed: BTreeMap<Arc<str>, SocketAddr>,
    clocks: Clocks,
    clocks_written: Clocks,
    /// Lines not yet appended.
    pending: String,
    flush_at: Option<Instant>,
    file: FileState,
    file_bytes: u64,
    compact_bytes: u64,
    commands: VecDeque<SnapshotCommand>,
    /// Whether the last command that was taken replaces the file.
    replacing: bool,
}

impl Snapshot {
    /// Goes on where the file that was replayed ends.
    #[must_use]
    pub fn new(now: Instant, replay: Replay, after_leave: AfterLeave) -> Self {
        let file = replay.finish();
        let mut snapshot = Self {
            after_leave,
            leaving: false,
            clocks_written: file.clocks,
            clocks: file.clocks,
            alive: file.alive,
            failed: file.failed,
            pending: String::new(),
            flush_at: None,
            file: FileState::Sound,
            file_bytes: file.bytes,
            compact_bytes: COMPACT_BYTES_MIN,
            commands: VecDeque::new(),
            replacing: false,
        };
        if file.unreadable > 0 {
            log::warn!(
                "serf: {} lines of the snapshot could not be read and are ignored",
                file.unreadable
            );
            snapshot.file = FileState::Broken(None);
            snapshot.flush_at = Some(now);
        }
        snapshot
    }

    /// What the file says.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        let list = |nodes: &BTreeMap<Arc<str>, SocketAddr>| {
            nodes
                .iter()
                .map(|(name, addr)| (name.clone(), *addr))
                .collect()
        };
        Recovered {
            alive: list(&self.alive),
            failed: list(&self.failed),
            clock: self.clocks.member,
            event_clock: self.clocks.event,
            query_clock: self.clocks.query,
        }
    }

    /// Takes note of an event. Nothing is recorded after a leave.
    pub fn handle_event(&mut self, now: Instant, event: &Event) {
        if self.leaving {
            return;
        }
        match event {
            Event::Member(event) => self.handle_member_event(event),
            Event::User(event) => self.clocks.event = self.clocks.event.max(event.ltime),
            Event::Query(event) => self.handle_query(now, event.id.ltime),
        }
        self.plan_flush(now);
    }

    /// Takes note of a query that is no event: an internal one, or one that is for others.
    pub fn handle_query(&mut self, now: Instant, ltime: u64) {
        if !self.leaving {
            self.clocks.query = self.clocks.query.max(ltime);
            self.plan_flush(now);
        }
    }

    /// Takes note of the members' Lamport time, which is one past the last seen.
    pub fn handle_member_time(&mut self, now: Instant, time: u64) {
        if !self.leaving {
            self.clocks.member = self.clocks.member.max(time.saturating_sub(1));
            self.plan_flush(now);
        }
    }

    /// The node leaves: everything until now is void on the next start, unless it is to join again.
    pub fn handle_leave(&mut self, now: Instant) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        if self.after_leave == AfterLeave::StayAway {
            self.alive.clear();
            self.failed.clear();
        }
        self.write_clocks();
        self.pending.push_str("leave\n");
        self.flush(now);
    }

    /// Brings the file up to date now, also if that failed a moment ago: before a stop there is no later.
    pub fn flush(&mut self, now: Instant) {
        if self.file != FileState::Sound {
            self.file = FileState::Broken(None);
        }
        self.flush_at = Some(now);
        self.handle_timeout(now);
        self.commands.push_back(SnapshotCommand::Sync);
    }

    /// Appends what was gathered, or replaces the file, when it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.flush_at.is_none_or(|at| at > now) {
            return;
        }
        self.flush_at = None;
        if let FileState::Broken(Some(retry_at)) = self.file
            && retry_at > now
        {
            self.flush_at = Some(retry_at);
            return;
        }
        self.write_clocks();
        let grown = self.file_bytes + self.pending.len() as u64;
        if self.file != FileState::Sound || grown > self.compact_bytes {
            self.replace();
        } else if !self.pending.is_empty() {
            self.file_bytes = grown;
            let lines = std::mem::take(&mut self.pending).into_bytes();
            self.commands.push_back(SnapshotCommand::Append(lines));
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.flush_at
    }

    /// What to do with the file next. Poll after every `handle_…` and [`flush`](Self::flush).
    pub fn poll_command(&mut self) -> Option<SnapshotCommand> {
        let command = self.commands.pop_front()?;
        self.replacing = matches!(command, SnapshotCommand::Replace(_));
        Some(command)
    }

    /// The command that was taken last could not be carried out. Nothing is lost here: the file is replaced, at once
    /// if that is not what has failed, else later.
    pub fn handle_write_error(&mut self, now: Instant) {
        self.commands.clear();
        if !self.replacing {
            self.replace();
            return;
        }
        let retry_at = now + RETRY_INTERVAL;
        self.file = FileState::Broken(Some(retry_at));
        self.flush_at = Some(retry_at);
    }

    fn handle_member_event(&mut self, event: &MemberEvent) {
        for member in &event.members {
            let name = &member.name;
            // A line break in a name would forge lines.
            if name.contains(['\n', '\0']) {
                continue;
            }
            let addr = SocketAddr::new(member.addr, member.port);
            match event.kind {
                MemberEventKind::Join => {
                    self.failed.remove(name);
                    if self.alive.insert(name.clone(), addr) != Some(addr) {
                        self.write_node("alive", name, addr);
                    }
                }
                MemberEventKind::Leave => {
                    self.failed.remove(name);
                    self.alive.remove(name);
                    self.write_not_alive(name);
                }
                MemberEventKind::Failed => {
                    self.alive.remove(name);
                    self.write_not_alive(name);
                    self.failed.insert(name.clone(), addr);
                    self.write_node("#failed", name, addr);
                }
                MemberEventKind::Reap => {
                    if self.failed.remove(name).is_some() {
                        self.write_not_alive(name);
                    }
                }
                MemberEventKind::Update => {}
            }
        }
    }

    fn write_node(&mut self, what: &str, name: &str, addr: SocketAddr) {
        // Writing to a string can't fail, here and below.
        let _ = writeln!(self.pending, "{what}: {name} {addr}");
    }

    fn write_not_alive(&mut self, name: &str) {
        let _ = writeln!(self.pending, "not-alive: {name}");
    }

    /// Writes the clocks that went on since they were last written.
    fn write_clocks(&mut self) {
        let (now, before) = (self.clocks, self.clocks_written);
        for (name, time, written) in [
            ("clock", now.member, before.member),
            ("event-clock", now.event, before.event),
            ("query-clock", now.query, before.query),
        ] {
            if time > written {
                let _ = writeln!(self.pending, "{name}: {time}");
            }
        }
        self.clocks_written = now;
    }

    fn plan_flush(&mut self, now: Instant) {
        let news = !self.pending.is_empty() || self.clocks != self.clocks_written;
        if news && self.flush_at.is_none() {
            self.flush_at = Some(now + FLUSH_INTERVAL);
        }
    }

    fn replace(&mut self) {
        self.pending.clear();
        for (name, addr) in std::mem::take(&mut self.alive) {
            self.write_node("alive", &name, addr);
            self.alive.insert(name, addr);
        }
        for (name, addr) in std::mem::take(&mut self.failed) {
            self.write_node("#failed", &name, addr);
            self.failed.insert(name, addr);
        }
        let Clocks {
            member,
            event,
            query,
        } = self.clocks;
        let _ = write!(
            self.pending,
            "clock: {member}\nevent-clock: {event}\nquery-clock: {query}\n"
        );
        if self.leaving {
            self.pending.push_str("leave\n");
        }
        let lines = std::mem::take(&mut self.pending).into_bytes();
        self.file = FileState::Sound;
        self.file_bytes = lines.len() as u64;
        self.compact_bytes = COMPACT_BYTES_MIN.max(2 * self.file_bytes);
        self.commands.push_back(SnapshotCommand::Replace(lines));
    }
}

#[cfg(test)]
mod tests;
