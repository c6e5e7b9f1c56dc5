//! What is known of the cluster: what the agent's records and answers said, put together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::Time;

use super::figures::Figures;
use super::rate::Rate;
use crate::client::{Stats, StreamEvent};
use crate::cluster::{Coordinate, Member, MemberEvent, MemberEventKind, MemberStatus};

/// How many lines the log keeps.
const LOG_LINES_MAX: usize = 1000;
/// How many members of one event are named.
const NAMES_MAX: usize = 8;
/// How much of a payload is kept to be shown, in bytes.
const PAYLOAD_BYTES_MAX: usize = 256;

/// A member, and how far it is.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) member: Member,
    /// From the agent's node to it and back, by their coordinates.
    pub(super) rtt: Option<Duration>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) at: Time,
    /// The word that the agent's stream has for it.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// How many members there are, by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) alive: usize,
    pub(super) failed: usize,
    pub(super) left: usize,
    pub(super) other: usize,
}

/// What is known of the cluster.
#[derive(Debug, Clone)]
pub(super) struct Knowledge {
    pub(super) members: BTreeMap<Arc<str>, Row>,
    pub(super) figures: Figures,
    pub(super) log: VecDeque<LogLine>,
    /// Lines that the log has had, with those that it no longer has.
    pub(super) lines_ever: u64,
    pub(super) events: Rate,
    pub(super) queries: Rate,
    own_coordinate: Option<Coordinate>,
}

impl Knowledge {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            members: BTreeMap::new(),
            figures: Figures::default(),
            log: VecDeque::new(),
            lines_ever: 0,
            events: Rate::new(now),
            queries: Rate::new(now),
            own_coordinate: None,
        }
    }

    /// A record of the agent's stream.
    pub(super) fn apply_event(&mut self, now: Instant, at: Time, event: &StreamEvent) {
        let (kind, text) = match event {
            StreamEvent::Member(event) => {
                self.events.count(now);
                self.apply_members(event);
                (event.kind.as_str(), names_of(event))
            }
            StreamEvent::User(event) => {
                self.events.count(now);
                ("user", name_and_payload(&event.name, &event.payload))
            }
            StreamEvent::Query { name, payload, .. } => {
                self.queries.count(now);
                ("query", name_and_payload(name, payload))
            }
        };
        if self.log.len() == LOG_LINES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(LogLine { at, kind, text });
        self.lines_ever += 1;
    }

    fn apply_members(&mut self, event: &MemberEvent) {
        for member in &event.members {
            if event.kind == MemberEventKind::Reap {
                self.members.remove(&member.name);
            } else {
                self.put(member.clone());
            }
        }
    }

    /// The list of all members.
    pub(super) fn apply_list(&mut self, members: Vec<Member>) {
        let mut before = std::mem::take(&mut self.members);
        for member in members {
            let rtt = before.remove(&member.name).and_then(|row| row.rtt);
            self.members
                .insert(Arc::clone(&member.name), Row { member, rtt });
        }
    }

    /// The answer to `stats`.
    pub(super) fn apply_stats(&mut self, now: Instant, stats: &Stats) {
        self.figures = Figures::read(stats, &self.figures, now);
    }

    /// Where a node is; the agent's own node first, for the others are seen from there.
    pub(super) fn apply_coordinate(&mut self, node: &str, coordinate: Option<Coordinate>) {
        if self.figures.name.as_deref() == Some(node) {
            self.own_coordinate = coordinate;
        } else if let Some(row) = self.members.get_mut(node) {
            row.rtt = self
                .own_coordinate
                .as_ref()
                .zip(coordinate)
                .and_then(|(own, other)| own.distance_to(&other));
        }
    }

    /// Other live members than the agent's own node, at most so many, from the one after `node` on and round again.
    pub(super) fn others_after(&self, node: Option<&str>, count: usize) -> Vec<Arc<str>> {
        let own = self.figures.name.as_deref();
        let is_after = |name: &str| node.is_none_or(|node| name > node);
        let live = || {
            let live = self.members.iter().filter(move |(name, row)| {
                row.member.status == MemberStatus::Alive && Some(&***name) != own
            });
            live.map(|(name, _)| name)
        };
        let after = live().filter(|name| is_after(name));
        let before = live().filter(|name| !is_after(name));
        after.chain(before).take(count).cloned().collect()
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for row in self.members.values() {
            match row.member.status {
                MemberStatus::Alive => census.alive += 1,
                MemberStatus::Failed => census.failed += 1,
                MemberStatus::Left => census.left += 1,
                MemberStatus::None | MemberStatus::Leaving => census.other += 1,
            }
        }
        census
    }

    fn put(&mut self, member: Member) {
        match self.members.get_mut(&member.name) {
            Some(row) => row.member = member,
            None => {
                let row = Row { member, rtt: None };
                self.members.insert(Arc::clone(&row.member.name), row);
            }
        }
    }
}

fn names_of(event: &MemberEvent) -> String {
    let names = event.members.iter().take(NAMES_MAX);
    let names: Vec<&str> = names.map(|member| &*member.name).collect();
    match event.members.len().saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn name_and_payload(name: &str, payload: &[u8]) -> String {
    if payload.is_empty() {
        return name.to_owned();
    }
    let shown = payload.get(..PAYLOAD_BYTES_MAX).unwrap_or(payload);
    let more = if shown.len() < payload.len() {
        "…"
    } else {
        ""
    };
    format!("{name} {}{more}", String::from_utf8_lossy(shown))
}
