//! Merges bursts of events, so that handlers run once for many members and only for the newest user event of a name.
//!
//! A coalescer holds back what it can merge for at most the coalesce period, less when nothing more comes for the
//! quiescent period, and lets everything else through at once. Member events and user events have a clock each, as in
//! the reference, whose two coalescers sit one behind the other (`serf/coalesce*.go`).
//!
//! Invariants: whatever was held back is given out or replaced by something newer; after a batch nothing of it is
//! kept but the last kind of event told of each member that still exists. The reference keeps whole batches, so that
//! it tells old updates again with each later batch and its memory grows; here they are told once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::cluster::{Event, Member, MemberEvent, MemberEventKind, UserEvent};

/// How long events are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoalesceConfig {
    /// No event waits longer than this.
    pub period: Duration,
    /// A batch ends when no event came for this long.
    pub quiescent: Duration,
}

impl Default for CoalesceConfig {
    /// The agent's periods (`command/agent/command.go` of the reference).
    fn default() -> Self {
        Self {
            period: Duration::from_secs(3),
            quiescent: Duration::from_secs(1),
        }
    }
}

/// Holds back member events and user events that ask for it.
#[derive(Debug, Default)]
pub struct Coalescer {
    config: CoalesceConfig,
    members: MemberBatch,
    member_window: Window,
    users: UserBatch,
    user_window: Window,
    ready: VecDeque<Event>,
}

impl Coalescer {
    /// A coalescer with nothing in it.
    #[must_use]
    pub fn new(config: CoalesceConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Takes an event in. What can't be merged comes back at once; the rest comes out of [`poll`](Self::poll).
    pub fn handle(&mut self, now: Instant, event: Event) -> Option<Event> {
        self.end_batches(now);
        match event {
            Event::Member(event) => {
                self.member_window.extend(now, self.config);
                self.members.merge(event);
                None
            }
            Event::User(event) if event.coalesce => {
                self.user_window.extend(now, self.config);
                self.users.merge(event);
                None
            }
            event @ (Event::User(_) | Event::Query(_)) => Some(event),
        }
    }

    /// The next merged event that is due. Poll until `None` after every [`handle`](Self::handle), after
    /// [`flush`](Self::flush) and when [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        self.end_batches(now);
        self.ready.pop_front()
    }

    /// When [`poll`](Self::poll) will have something, if nothing more comes in until then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.member_window.end(), self.user_window.end()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends all batches now, for an agent that is about to stop.
    pub fn flush(&mut self) {
        self.member_window = Window::default();
        self.members.drain_into(&mut self.ready);
        self.user_window = Window::default();
        self.users.drain_into(&mut self.ready);
    }

    fn end_batches(&mut self, now: Instant) {
        if self.member_window.take_if_over(now) {
            self.members.drain_into(&mut self.ready);
        }
        if self.user_window.take_if_over(now) {
            self.users.drain_into(&mut self.ready);
        }
    }
}

/// When the current batch ends.
#[derive(Debug, Default)]
struct Window(Option<Ends>);

#[derive(Debug, Clone, Copy)]
struct Ends {
    at_latest: Instant,
    when_quiet: Instant,
}

impl Window {
    fn extend(&mut self, now: Instant, config: CoalesceConfig) {
        let at_latest = match self.0 {
            Some(ends) => ends.at_latest,
            None => now + config.period,
        };
        self.0 = Some(Ends {
            at_latest,
            when_quiet: now + config.quiescent,
        });
    }

    fn end(&self) -> Option<Instant> {
        self.0.map(|ends| ends.at_latest.min(ends.when_quiet))
    }

    fn take_if_over(&mut self, now: Instant) -> bool {
        let over = self.end().is_some_and(|end| end <= now);
        if over {
            self.0 = None;
        }
        over
    }
}

/// The newest event of each member, and what was told of it last.
#[derive(Debug, Default)]
struct MemberBatch {
    newest: BTreeMap<String, (MemberEventKind, Member)>,
    told: HashMap<String, MemberEventKind>,
}

impl MemberBatch {
    fn merge(&mut self, event: MemberEvent) {
        for member in event.members {
            self.newest
                .insert(member.name.clone(), (event.kind, member));
        }
    }

    /// One event a kind, members in the order of their names. What was told of a member last is not told again,
    /// except for updates, each of which is news.
    fn drain_into(&mut self, ready: &mut VecDeque<Event>) {
        let mut by_kind = MemberEventKind::ALL.map(|kind| MemberEvent {
            kind,
            members: Vec::new(),
        });
        for (name, (kind, member)) in std::mem::take(&mut self.newest) {
            let told = self.told.get(&name).copied();
            if told == Some(kind) && kind != MemberEventKind::Update {
                continue;
            }
            if kind == MemberEventKind::Reap {
                self.told.remove(&name);
            } else {
                self.told.insert(name, kind);
            }
            by_kind[kind.index()].members.push(member);
        }
        let full = by_kind.into_iter().filter(|e| !e.members.is_empty());
        ready.extend(full.map(Event::Member));
    }
}

/// The user events of each name that have the newest Lamport time.
#[derive(Debug, Default)]
struct UserBatch(BTreeMap<String, Vec<UserEvent>>);

impl UserBatch {
    fn merge(&mut self, event: UserEvent) {
        let same_name = self.0.entry(event.name.clone()).or_default();
        match same_name.first().map(|newest| newest.ltime) {
            Some(newest) if event.ltime < newest => return,
            Some(newest) if event.ltime > newest => same_name.clear(),
            _ => {}
        }
        same_name.push(event);
    }

    fn drain_into(&mut self, ready: &mut VecDeque<Event>) {
        let events = std::mem::take(&mut self.0).into_values().flatten();
        ready.extend(events.map(Event::User));
    }
}

#[cfg(test)]
mod tests;
