use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::cluster::{QueryEvent, QueryId};

const CONFIG: CoalesceConfig = CoalesceConfig {
    period: Duration::from_millis(3000),
    quiescent: Duration::from_millis(1000),
};

fn member(name: &str) -> Member {
    Member::alive(name, IpAddr::V4(Ipv4Addr::LOCALHOST), 7946)
}

fn event(kind: MemberEventKind, names: &[&str]) -> Event {
    Event::Member(MemberEvent {
        kind,
        members: names.iter().map(|name| member(name)).collect(),
    })
}

fn user(name: &str, ltime: u64, payload: &str, coalesce: bool) -> Event {
    Event::User(UserEvent {
        ltime,
        name: name.to_owned(),
        payload: payload.as_bytes().to_vec(),
        coalesce,
    })
}

struct Talk {
    start: Instant,
    coalescer: Coalescer,
}

impl Talk {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            coalescer: Coalescer::new(CONFIG),
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn hold(&mut self, ms: u64, event: Event) {
        let now = self.at(ms);
        assert_eq!(self.coalescer.handle(now, event), None);
    }

    fn out(&mut self, ms: u64) -> Vec<Event> {
        let now = self.at(ms);
        std::iter::from_fn(|| self.coalescer.poll(now)).collect()
    }
}

use MemberEventKind::{Failed, Join, Leave, Reap, Update};

#[test]
fn a_burst_of_joins_becomes_one_event_when_quiet() {
    let mut talk = Talk::new();
    talk.hold(0, event(Join, &["b"]));
    talk.hold(500, event(Join, &["a", "c"]));
    assert_eq!(talk.coalescer.poll_timeout(), Some(talk.at(1500)));
    assert_eq!(talk.out(1499), []);
    assert_eq!(talk.out(1500), [event(Join, &["a", "b", "c"])]);
    assert_eq!(talk.coalescer.poll_timeout(), None);
}

#[test]
fn an_unending_burst_is_cut_at_the_period() {
    let mut talk = Talk::new();
    for ms in (0..3000).step_by(500) {
        talk.hold(ms, event(Join, &["a"]));
    }
    assert_eq!(talk.coalescer.poll_timeout(), Some(talk.at(3000)));
    assert_eq!(talk.out(2999), []);
    assert_eq!(talk.out(3000), [event(Join, &["a"])]);
}

#[test]
fn an_event_after_the_end_of_a_batch_starts_another() {
    let mut talk = Talk::new();
    talk.hold(0, event(Join, &["a"]));
    talk.hold(1000, event(Leave, &["a"]));
    assert_eq!(talk.out(1000), [event(Join, &["a"])]);
    assert_eq!(talk.out(2000), [event(Leave, &["a"])]);
}

#[test]
fn the_newest_event_of_a_member_wins_and_kinds_come_apart() {
    let mut talk = Talk::new();
    talk.hold(0, event(Join, &["a", "b", "c"]));
    talk.hold(1, event(Failed, &["a"]));
    talk.hold(2, event(Leave, &["b"]));
    talk.hold(3, event(Reap, &["b"]));
    let expected = [
        event(Join, &["c"]),
        event(Failed, &["a"]),
        event(Reap, &["b"]),
    ];
    assert_eq!(talk.out(2000), expected);
}

#[test]
fn what_was_told_last_is_not_told_again() {
    let mut talk = Talk::new();
    talk.hold(0, event(Join, &["a"]));
    assert_eq!(talk.out(1000), [event(Join, &["a"])]);
    talk.hold(2000, event(Failed, &["a"]));
    talk.hold(2001, event(Join, &["a"]));
    assert_eq!(talk.out(4000), []);
    talk.hold(5000, event(Failed, &["a"]));
    assert_eq!(talk.out(6000), [event(Failed, &["a"])]);
}

#[test]
fn updates_are_told_each_time_but_only_once() {
    let mut talk = Talk::new();
    talk.hold(0, event(Update, &["a"]));
    assert_eq!(talk.out(1000), [event(Update, &["a"])]);
    talk.hold(2000, event(Update, &["a"]));
    assert_eq!(talk.out(3000), [event(Update, &["a"])]);
    talk.hold(4000, event(Join, &["b"]));
    assert_eq!(talk.out(5000), [event(Join, &["b"])]);
}

#[test]
fn the_member_is_told_as_it_is_now() {
    let mut talk = Talk::new();
    talk.hold(0, event(Update, &["a"]));
    let mut tagged = member("a");
    tagged.tags.insert("role", "web");
    let newest = Event::Member(MemberEvent {
        kind: Update,
        members: vec![tagged],
    });
    talk.hold(1, newest.clone());
    assert_eq!(talk.out(2000), [newest]);
}

#[test]
fn a_reaped_member_is_forgotten() {
    let mut talk = Talk::new();
    talk.hold(0, event(Join, &["a"]));
    talk.out(1000);
    talk.hold(1000, event(Reap, &["a"]));
    assert_eq!(talk.out(2000), [event(Reap, &["a"])]);
    assert!(talk.coalescer.members.told.is_empty());
    assert!(talk.coalescer.members.newest.is_empty());
}

#[test]
fn only_the_newest_user_events_of_a_name_remain() {
    let mut talk = Talk::new();
    talk.hold(0, user("deploy", 5, "old", true));
    talk.hold(1, user("deploy", 7, "new", true));
    talk.hold(2, user("deploy", 7, "also new", true));
    talk.hold(3, user("deploy", 6, "late", true));
    talk.hold(4, user("backup", 1, "x", true));
    let expected = [
        user("backup", 1, "x", true),
        user("deploy", 7, "new", true),
        user("deploy", 7, "also new", true),
    ];
    assert_eq!(talk.out(2000), expected);
    assert_eq!(talk.out(9000), []);
}

#[test]
fn what_cannot_be_merged_passes_at_once() {
    let mut talk = Talk::new();
    let now = talk.at(0);
    let plain = user("deploy", 5, "x", false);
    assert_eq!(talk.coalescer.handle(now, plain.clone()), Some(plain));
    let query = Event::Query(QueryEvent {
        id: QueryId { ltime: 1, id: 2 },
        name: "load".to_owned(),
        payload: Vec::new(),
        deadline: now,
    });
    assert_eq!(talk.coalescer.handle(now, query.clone()), Some(query));
    assert_eq!(talk.coalescer.poll_timeout(), None);
}

#[test]
fn member_and_user_events_have_a_clock_each() {
    let mut talk = Talk::new();
    talk.hold(0, event(Join, &["a"]));
    talk.hold(700, user("deploy", 1, "", true));
    assert_eq!(talk.out(1000), [event(Join, &["a"])]);
    assert_eq!(talk.coalescer.poll_timeout(), Some(talk.at(1700)));
    assert_eq!(talk.out(1700), [user("deploy", 1, "", true)]);
}

#[test]
fn flush_gives_everything_out_at_once() {
    let mut talk = Talk::new();
    talk.hold(0, user("deploy", 1, "", true));
    talk.hold(0, event(Join, &["a"]));
    talk.coalescer.flush();
    assert_eq!(talk.coalescer.poll_timeout(), None);
    let expected = [event(Join, &["a"]), user("deploy", 1, "", true)];
    assert_eq!(talk.out(0), expected);
}

proptest! {
    /// Whatever comes when, nothing waits longer than the period, and a listener who applies the events ends with the
    /// last word on every member.
    #[test]
    fn a_listener_ends_with_the_last_word(
        steps in proptest::collection::vec((0u64..1500, 0usize..5, 0usize..3), 1..60)
    ) {
        let mut talk = Talk::new();
        let names = ["a", "b", "c"];
        let (mut truth, mut heard) = (BTreeMap::new(), BTreeMap::new());
        let mut ms = 0;
        let mut hear = |events: Vec<Event>| {
            for event in events {
                let Event::Member(event) = event else { continue };
                for member in event.members {
                    heard.insert(member.name, event.kind);
                }
            }
        };
        for (wait, kind, name) in steps {
            ms += wait;
            let kind = MemberEventKind::ALL[kind];
            talk.hold(ms, event(kind, &[names[name]]));
            truth.insert(names[name].to_owned(), kind);
            hear(talk.out(ms));
            let end = talk.coalescer.poll_timeout().expect("something is held back");
            prop_assert!(end > talk.at(ms) && end <= talk.at(ms + 1000));
        }
        hear(talk.out(ms + 1000));
        prop_assert_eq!(heard, truth);
    }
}
