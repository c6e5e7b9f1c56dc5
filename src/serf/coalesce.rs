//! Gathers events that come in bursts, so that streams and handlers hear of each change once.
//!
//! Member events are gathered by member, user events that allow it by name. A gathering ends when nothing has come for
//! the quiescent period, or the whole period is over; then what is left of it is told. Other events are not held.
//!
//! Source: hashicorp/serf, `serf/coalesce*.go`. Unlike there, what was told is not kept longer than needed to know what
//! not to repeat.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{Event, Member, MemberEvent, MemberEventKind, UserEvent};

/// How long a gathering may last (the reference's agent).
pub const PERIOD: Duration = Duration::from_secs(3);
/// How long nothing may come in before it ends.
pub const QUIESCENT_PERIOD: Duration = Duration::from_secs(1);

/// When a gathering ends.
#[derive(Debug, Clone, Copy)]
struct Window {
    period: Duration,
    quiescent: Duration,
    /// The end at the latest, and the end if nothing more comes.
    ends: Option<(Instant, Instant)>,
}

impl Window {
    fn extend(&mut self, now: Instant) {
        let latest = self.ends.map_or(now + self.period, |(latest, _)| latest);
        self.ends = Some((latest, now + self.quiescent));
    }

    fn end(&self) -> Option<Instant> {
        self.ends.map(|(latest, quiet)| latest.min(quiet))
    }

    /// Whether the gathering ends now.
    fn close(&mut self, now: Instant) -> bool {
        let over = self.end().is_some_and(|end| end <= now);
        if over {
            self.ends = None;
        }
        over
    }
}

/// Gathers events that come in bursts.
#[derive(Debug)]
pub struct Coalescer {
    member_window: Window,
    /// The newest event of each member.
    members: BTreeMap<Arc<str>, (MemberEventKind, Member)>,
    /// What was last told of each member.
    told: HashMap<Arc<str>, MemberEventKind>,
    user_window: Window,
    /// The newest events of each name: all of the newest Lamport time.
    users: BTreeMap<String, Vec<UserEvent>>,
    ready: VecDeque<Event>,
}

impl Coalescer {
    /// A coalescer with these periods.
    #[must_use]
    pub fn new(period: Duration, quiescent: Duration) -> Self {
        let window = Window {
            period,
            quiescent,
            ends: None,
        };
        Self {
            member_window: window,
            members: BTreeMap::new(),
            told: HashMap::new(),
            user_window: window,
            users: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// Takes in an event.
    pub fn handle_event(&mut self, now: Instant, event: Event) {
        // An event after a gathering's end is none of its.
        self.handle_timeout(now);
        match event {
            Event::Member(event) => {
                self.member_window.extend(now);
                for member in event.members {
                    self.members
                        .insert(member.name.clone(), (event.kind, member));
                }
            }
            Event::User(event) if event.coalesce => {
                self.user_window.extend(now);
                let newest = self.users.entry(event.name.clone()).or_default();
                match newest.first().map_or(0, |have| have.ltime) {
                    ltime if ltime < event.ltime => *newest = vec![event],
                    ltime if ltime == event.ltime => newest.push(event),
                    _ => {}
                }
            }
            other => self.ready.push_back(other),
        }
    }

    /// Ends gatherings whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.member_window.close(now) {
            self.tell_members();
        }
        if self.user_window.close(now) {
            let events = std::mem::take(&mut self.users).into_values().flatten();
            self.ready.extend(events.map(Event::User));
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.member_window.end(), self.user_window.end()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next event to tell.
    pub fn poll(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Tells one event of each kind, with all members it happened to.
    fn tell_members(&mut self) {
        let mut by_kind: [Vec<Member>; MemberEventKind::ALL.len()] = Default::default();
        for (name, (kind, member)) in std::mem::take(&mut self.members) {
            let before = if kind == MemberEventKind::Reap {
                self.told.remove(&name)
            } else {
                self.told.insert(name, kind)
            };
            // A member that went and came back in between has changed nothing.
            let same = before == Some(kind) && kind != MemberEventKind::Update;
            if !same && let Some(members) = by_kind.get_mut(kind.index()) {
                members.push(member);
            }
        }
        for (kind, members) in MemberEventKind::ALL.into_iter().zip(by_kind) {
            if !members.is_empty() {
                self.ready
                    .push_back(Event::Member(MemberEvent { kind, members }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn member(kind: MemberEventKind, name: &str) -> Event {
        let members = vec![Member::alive(name, Ipv4Addr::LOCALHOST.into(), 1)];
        Event::Member(MemberEvent { kind, members })
    }

    fn user(ltime: u64, name: &str, coalesce: bool) -> Event {
        Event::User(UserEvent {
            ltime,
            name: name.into(),
            payload: vec![ltime as u8],
            coalesce,
        })
    }

    fn told(coalescer: &mut Coalescer) -> Vec<String> {
        let names = |event: Event| match event {
            Event::Member(event) => {
                let names: Vec<_> = event.members.iter().map(|member| &*member.name).collect();
                format!("{} {}", event.kind.as_str(), names.join(","))
            }
            Event::User(event) => format!("{} {}", event.name, event.ltime),
            Event::Query(event) => event.name,
        };
        std::iter::from_fn(|| coalescer.poll()).map(names).collect()
    }

    #[test]
    fn a_burst_of_member_events_is_one_event_of_each_kind() {
        let start = Instant::now();
        let mut coalescer = Coalescer::new(PERIOD, QUIESCENT_PERIOD);
        for (kind, name) in [
            (MemberEventKind::Join, "a"),
            (MemberEventKind::Join, "b"),
            (MemberEventKind::Failed, "a"),
            (MemberEventKind::Join, "c"),
        ] {
            coalescer.handle_event(start, member(kind, name));
        }
        assert_eq!(told(&mut coalescer), Vec::<String>::new());
        assert_eq!(coalescer.poll_timeout(), Some(start + QUIESCENT_PERIOD));
        coalescer.handle_timeout(start + QUIESCENT_PERIOD);
        assert_eq!(told(&mut coalescer), ["member-join b,c", "member-failed a"]);
        assert_eq!(coalescer.poll_timeout(), None);
    }

    #[test]
    fn a_member_that_went_and_came_back_is_not_told_of_again() {
        let start = Instant::now();
        let mut coalescer = Coalescer::new(PERIOD, QUIESCENT_PERIOD);
        coalescer.handle_event(start, member(MemberEventKind::Join, "a"));
        coalescer.handle_timeout(start + PERIOD);
        assert_eq!(told(&mut coalescer), ["member-join a"]);
        coalescer.handle_event(start + PERIOD, member(MemberEventKind::Failed, "a"));
        coalescer.handle_event(start + PERIOD, member(MemberEventKind::Join, "a"));
        coalescer.handle_timeout(start + PERIOD * 2);
        assert_eq!(told(&mut coalescer), Vec::<String>::new());
        // Updates are told each time, and once each.
        for round in 2..4 {
            coalescer.handle_event(start + PERIOD * round, member(MemberEventKind::Update, "a"));
            coalescer.handle_timeout(start + PERIOD * (round + 1));
            assert_eq!(told(&mut coalescer), ["member-update a"]);
        }
    }

    #[test]
    fn user_events_that_allow_it_keep_their_newest() {
        let start = Instant::now();
        let mut coalescer = Coalescer::new(PERIOD, QUIESCENT_PERIOD);
        for event in [
            user(1, "x", true),
            user(3, "x", true),
            user(2, "x", true),
            user(3, "x", true),
            user(9, "y", false),
        ] {
            coalescer.handle_event(start, event);
        }
        assert_eq!(told(&mut coalescer), ["y 9"]);
        coalescer.handle_timeout(start + QUIESCENT_PERIOD);
        assert_eq!(told(&mut coalescer), ["x 3", "x 3"]);
    }

    #[test]
    fn a_gathering_ends_in_spite_of_new_events() {
        let start = Instant::now();
        let mut coalescer = Coalescer::new(PERIOD, QUIESCENT_PERIOD);
        for tenth in 0..30 {
            let now = start + Duration::from_millis(tenth * 100);
            coalescer.handle_event(now, user(tenth, "x", true));
            coalescer.handle_timeout(now);
        }
        assert_eq!(told(&mut coalescer), Vec::<String>::new());
        coalescer.handle_timeout(start + PERIOD);
        assert_eq!(told(&mut coalescer), ["x 29"]);
    }
}
