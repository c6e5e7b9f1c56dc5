use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::cluster::{Member, QueryEvent, QueryId, UserEvent};

/// As the reference wrote it: three nodes, of which one left and one was killed.
const OF_THE_REFERENCE: &[u8] = b"\
alive: a 127.0.0.1:26001\n\
alive: c c 127.0.0.1:26003\n\
alive: b 127.0.0.1:26002\n\
clock: 1\n\
event-clock: 1\n\
event-clock: 2\n\
event-clock: 3\n\
query-clock: 1\n\
clock: 2\n\
not-alive: c c\n\
not-alive: b\n";

fn replay(bytes: &[u8], after_leave: AfterLeave) -> Snapshot {
    let mut replay = Replay::new(after_leave);
    replay.handle_bytes(bytes);
    Snapshot::new(Instant::now(), replay, after_leave)
}

fn recovered(bytes: &[u8]) -> Recovered {
    replay(bytes, AfterLeave::StayAway).recovered()
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn alive(names: &[(&str, u16)]) -> Vec<(Arc<str>, SocketAddr)> {
    names
        .iter()
        .map(|(name, port)| ((*name).into(), addr(*port)))
        .collect()
}

fn member_event(kind: MemberEventKind, name: &str, port: u16) -> Event {
    let members = vec![Member::alive(name, IpAddr::V4(Ipv4Addr::LOCALHOST), port)];
    Event::Member(MemberEvent { kind, members })
}

fn user_event(ltime: u64) -> Event {
    Event::User(UserEvent {
        ltime,
        name: "deploy".to_owned(),
        payload: Vec::new(),
        coalesce: false,
    })
}

fn query_event(now: Instant, ltime: u64) -> Event {
    Event::Query(QueryEvent {
        id: QueryId { ltime, id: 1 },
        name: "load".to_owned(),
        payload: Vec::new(),
        deadline: now,
    })
}

/// A snapshot with a file in memory.
struct Node {
    now: Instant,
    snapshot: Snapshot,
    file: Vec<u8>,
    appends: usize,
    replaces: usize,
    syncs: usize,
}

impl Node {
    fn new(file: &[u8], after_leave: AfterLeave) -> Self {
        let snapshot = replay(file, after_leave);
        let mut node = Self {
            now: Instant::now(),
            snapshot,
            file: file.to_vec(),
            appends: 0,
            replaces: 0,
            syncs: 0,
        };
        node.pass(Duration::ZERO);
        node
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.snapshot.handle_timeout(self.now);
        self.write();
    }

    fn write(&mut self) {
        while let Some(command) = self.snapshot.poll_command() {
            match command {
                SnapshotCommand::Append(lines) => {
                    self.file.extend(lines);
                    self.appends += 1;
                }
                SnapshotCommand::Replace(lines) => {
                    self.file = lines;
                    self.replaces += 1;
                }
                SnapshotCommand::Sync => self.syncs += 1,
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        self.snapshot.handle_event(self.now, event);
        self.write();
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.file).expect("a snapshot is text")
    }
}

use MemberEventKind::{Failed, Join, Leave, Reap};

#[test]
fn a_file_of_the_reference_is_understood() {
    let snapshot = replay(OF_THE_REFERENCE, AfterLeave::StayAway);
    let expected = Recovered {
        alive: alive(&[("a", 26001)]),
        failed: Vec::new(),
        clock: 2,
        event_clock: 3,
        query_clock: 1,
    };
    assert_eq!(snapshot.recovered(), expected);
    assert_eq!(snapshot.poll_timeout(), None);
}

#[test]
fn comments_and_coordinates_are_skipped() {
    let text = b"# hand-made\ncoordinate: {\"Vec\":[0]}\nalive: a 127.0.0.1:1\n";
    let snapshot = replay(text, AfterLeave::StayAway);
    assert_eq!(snapshot.recovered().alive, alive(&[("a", 1)]));
    assert_eq!(snapshot.poll_timeout(), None);
}

#[test]
fn a_leave_voids_what_came_before() {
    let text = b"alive: a 127.0.0.1:1\nclock: 7\nevent-clock: 8\nleave\nclock: 9\n";
    let stays_away = recovered(text);
    assert_eq!(
        (stays_away.alive, stays_away.clock, stays_away.event_clock),
        (Vec::new(), 9, 0)
    );
    let rejoins = replay(text, AfterLeave::Rejoin).recovered();
    assert_eq!(
        (rejoins.alive, rejoins.clock, rejoins.event_clock),
        (alive(&[("a", 1)]), 9, 8)
    );
}

#[test]
fn a_torn_last_line_is_ignored_and_the_file_replaced() {
    let mut node = Node::new(
        b"alive: a 127.0.0.1:1\nalive: b 127.0.0",
        AfterLeave::Rejoin,
    );
    assert_eq!(node.replaces, 1);
    node.hear(&member_event(Join, "c", 3));
    node.pass(FLUSH_INTERVAL);
    assert_eq!(recovered(&node.file).alive, alive(&[("a", 1), ("c", 3)]));
}

#[test]
fn lost_data_that_became_zeros_is_ignored() {
    let mut text = b"alive: a 127.0.0.1:1\n".to_vec();
    text.extend([0; 10_000]);
    text.extend(b"alive: b 127.0.0.1:2\nclock: 4\nalive: \0\0\0\0 127.0.0.1:3\n\0\0\0");
    let node = Node::new(&text, AfterLeave::StayAway);
    let found = node.snapshot.recovered();
    assert_eq!(found.alive, alive(&[("a", 1), ("b", 2)]));
    assert_eq!(found.clock, 4);
    assert_eq!((node.replaces, node.file.contains(&0)), (1, false));
}

#[test]
fn nonsense_is_ignored() {
    for nonsense in [
        "alive: b",
        "alive: b 127.0.0.1",
        "alive:b 127.0.0.1:1",
        "clock: -1",
        "clock: 99999999999999999999",
        "event-clock: x",
        "leaves",
        "",
    ] {
        let text = format!("alive: a 127.0.0.1:1\nclock: 5\n{nonsense}\n");
        let snapshot = replay(text.as_bytes(), AfterLeave::StayAway);
        assert_eq!(
            snapshot.recovered(),
            recovered(b"alive: a 127.0.0.1:1\nclock: 5\n")
        );
        assert!(snapshot.poll_timeout().is_some(), "{nonsense}");
    }
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let mut replay = Replay::new(AfterLeave::StayAway);
    for _ in 0..1000 {
        replay.handle_bytes(&[b'x'; 1000]);
    }
    replay.handle_bytes(b"\nalive: a 127.0.0.1:1\n");
    let snapshot = Snapshot::new(Instant::now(), replay, AfterLeave::StayAway);
    assert_eq!(snapshot.recovered().alive, alive(&[("a", 1)]));
}

#[test]
fn events_are_appended_together_with_the_last_clocks() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "a", 1));
    node.hear(&member_event(Join, "b b", 2));
    for ltime in 1..=5 {
        node.hear(&user_event(ltime));
    }
    let query = query_event(node.now, 9);
    node.hear(&query);
    node.snapshot.handle_member_time(node.now, 4);
    node.pass(FLUSH_INTERVAL - Duration::from_millis(1));
    assert_eq!(node.text(), "");
    node.pass(Duration::from_millis(1));
    let expected =
        "alive: a 127.0.0.1:1\nalive: b b 127.0.0.1:2\nclock: 3\nevent-clock: 5\nquery-clock: 9\n";
    assert_eq!((node.text(), node.appends), (expected, 1));
    assert_eq!(node.snapshot.poll_timeout(), None);
}

#[test]
fn nothing_new_is_not_written() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "a", 1));
    node.hear(&user_event(5));
    node.pass(FLUSH_INTERVAL);
    node.hear(&member_event(Join, "a", 1));
    node.hear(&user_event(4));
    node.snapshot.handle_member_time(node.now, 1);
    assert_eq!(node.snapshot.poll_timeout(), None);
    assert_eq!(node.appends, 1);
}

#[test]
fn failed_nodes_are_remembered_until_reaped() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    for name in ["a", "b", "c"] {
        node.hear(&member_event(Join, name, 1));
        node.hear(&member_event(Failed, name, 1));
    }
    node.hear(&member_event(Join, "b", 2));
    node.hear(&member_event(Reap, "c", 1));
    node.pass(FLUSH_INTERVAL);
    let found = recovered(&node.file);
    assert_eq!(found.alive, alive(&[("b", 2)]));
    assert_eq!(found.failed, alive(&[("a", 1)]));
    // The reference sees the same without the failed ones.
    let plain: Vec<&str> = node
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let plain = recovered((plain.join("\n") + "\n").as_bytes());
    assert_eq!((plain.alive, plain.failed), (found.alive, Vec::new()));
}

#[test]
fn a_leave_is_written_at_once_and_nothing_after_it_counts() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "a", 1));
    node.hear(&user_event(3));
    node.snapshot.handle_leave(node.now);
    node.write();
    assert!(node.text().contains("leave\n"));
    assert_eq!(node.syncs, 1);
    node.hear(&member_event(Join, "b", 1));
    node.snapshot.handle_member_time(node.now, 10);
    node.pass(FLUSH_INTERVAL);
    assert_eq!(recovered(&node.file), Recovered::default());
}

#[test]
fn a_node_that_means_to_come_back_keeps_its_nodes() {
    let mut node = Node::new(b"", AfterLeave::Rejoin);
    node.hear(&member_event(Join, "a", 1));
    node.snapshot.handle_leave(node.now);
    node.write();
    let again = replay(&node.file, AfterLeave::Rejoin);
    assert_eq!(again.recovered().alive, alive(&[("a", 1)]));
    assert_eq!(recovered(&node.file), Recovered::default());
}

#[test]
fn a_large_file_is_compacted() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "keep", 1));
    for round in 0..4000_u16 {
        node.hear(&member_event(Join, "flapping", round));
        node.hear(&member_event(Failed, "flapping", round));
        node.pass(FLUSH_INTERVAL);
        assert!(node.file.len() as u64 <= COMPACT_BYTES_MIN);
    }
    assert!((1..10).contains(&node.replaces), "{}", node.replaces);
    assert_eq!(recovered(&node.file).alive, alive(&[("keep", 1)]));
    assert_eq!(recovered(&node.file).failed, alive(&[("flapping", 3999)]));
}

#[test]
fn a_large_cluster_is_not_compacted_all_the_time() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    let long = "x".repeat(200);
    for n in 0..5000 {
        node.hear(&member_event(Join, &format!("{long}{n}"), 1));
    }
    node.pass(FLUSH_INTERVAL);
    let before = node.replaces;
    for ltime in 1..100 {
        node.hear(&user_event(ltime));
        node.pass(FLUSH_INTERVAL);
    }
    assert_eq!(node.replaces, before);
}

#[test]
fn a_failed_write_is_repaired_later() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "a", 1));
    node.now += FLUSH_INTERVAL;
    node.snapshot.handle_timeout(node.now);
    // Half of it was written, and there is no room for another file either.
    node.file.extend(b"alive: a 127");
    for replaces in [false, true] {
        let command = node.snapshot.poll_command();
        let is_replace = matches!(command, Some(SnapshotCommand::Replace(_)));
        assert_eq!(is_replace, replaces);
        node.snapshot.handle_write_error(node.now);
    }
    assert_eq!(node.snapshot.poll_command(), None);
    node.hear(&member_event(Join, "b", 2));
    node.pass(RETRY_INTERVAL - Duration::from_millis(1));
    assert_eq!(node.text(), "alive: a 127");
    node.pass(Duration::from_millis(1));
    assert_eq!(recovered(&node.file).alive, alive(&[("a", 1), ("b", 2)]));
    node.hear(&member_event(Join, "c", 3));
    node.pass(FLUSH_INTERVAL);
    assert_eq!((node.replaces, node.appends), (1, 1));
}

#[test]
fn a_failed_append_is_repaired_at_once_where_that_is_possible() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "a", 1));
    node.now += FLUSH_INTERVAL;
    node.snapshot.handle_timeout(node.now);
    assert!(node.snapshot.poll_command().is_some());
    node.snapshot.handle_write_error(node.now);
    node.write();
    assert_eq!(recovered(&node.file).alive, alive(&[("a", 1)]));
    // It is sound again.
    node.hear(&member_event(Join, "b", 2));
    node.pass(FLUSH_INTERVAL);
    assert_eq!((node.replaces, node.appends), (1, 1));
}

#[test]
fn before_a_stop_a_failed_write_is_repaired_without_waiting() {
    let mut node = Node::new(b"alive: a 127", AfterLeave::StayAway);
    node.hear(&member_event(Join, "a", 1));
    node.now += FLUSH_INTERVAL;
    node.snapshot.handle_timeout(node.now);
    while node.snapshot.poll_command().is_some() {
        node.snapshot.handle_write_error(node.now);
    }
    node.snapshot.flush(node.now);
    node.write();
    assert_eq!(recovered(&node.file).alive, alive(&[("a", 1)]));
    assert_eq!(node.syncs, 1);
}

#[test]
fn names_with_line_breaks_forge_no_lines() {
    let mut node = Node::new(b"", AfterLeave::StayAway);
    node.hear(&member_event(Join, "x 127.0.0.1:1\nclock: 99\nalive: y", 1));
    node.pass(FLUSH_INTERVAL);
    assert_eq!(node.text(), "");
}

proptest! {
    /// However a file is damaged and cut into pieces, reading it never panics, and what is written after is sound.
    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(0), Just(b' '), Just(b':'), any::<u8>()], 0..300
        ),
        at in 0usize..300,
    ) {
        let mut replay = Replay::new(AfterLeave::StayAway);
        let (head, tail) = bytes.split_at(at.min(bytes.len()));
        replay.handle_bytes(head);
        replay.handle_bytes(tail);
        drop(replay);
        let mut node = Node::new(&bytes, AfterLeave::StayAway);
        node.hear(&member_event(Join, "a", 1));
        node.pass(FLUSH_INTERVAL);
        prop_assert!(recovered(&node.file).alive.contains(&("a".into(), addr(1))));
    }

    /// A restart at any time finds what a listener of the same events knows.
    #[test]
    fn a_restart_finds_the_cluster(
        events in proptest::collection::vec((0usize..4, 0usize..4, 0u64..3), 0..60),
    ) {
        let mut node = Node::new(b"", AfterLeave::StayAway);
        let mut expected = BTreeMap::new();
        for (kind, name, passes) in events {
            let name = ["a", "b", "c", "d"][name];
            let kind = [Join, Failed, Leave, Reap][kind];
            node.hear(&member_event(kind, name, 1));
            match kind {
                Join => { expected.insert(name.into(), addr(1)); }
                Reap => {}
                _ => { expected.remove(name); }
            }
            node.pass(Duration::from_millis(passes * 300));
        }
        node.snapshot.flush(node.now);
        node.write();
        let found: BTreeMap<_, _> = recovered(&node.file).alive.into_iter().collect();
        prop_assert_eq!(found, expected);
    }
}
