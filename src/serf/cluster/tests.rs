//! A node's promises, by what comes in and goes out: what clusters of many do is for the simulation to show.

use super::*;
use crate::cluster::{JoinFailures, KeyOperation, KeyReport, MemberStatus, QueryEvent, StreamId};
use crate::gossip::envelope::Envelope;
use crate::gossip::keyring::{Key, Keyring};
use crate::gossip::message::{Alive, Dead, Message, Versions};
use crate::gossip::packet::PacketScratch;
use crate::gossip::stream::{StreamEnd, encode_push_pull};
use crate::serf::coalesce::{PERIOD, QUIESCENT_PERIOD};
use crate::serf::message::{
    ConflictResponse, EventsAt, FLAG_ACK, JoinMessage, KeyRequest, KeyResponse, LeaveMessage,
    PushPullMessage, QueryMessage, QueryResponseMessage, StoredEvent,
};
use crate::serf::snapshot::{AfterLeave, Replay, SnapshotCommand};

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7946))
}

/// A node under test, `me` at 10.0.0.1, and the time.
struct Scene {
    now: Instant,
    serf: Serf,
    envelope: Envelope,
    streams: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SerfConfig)) -> Self {
        let now = Instant::now();
        let mut config = SerfConfig::new("me", addr(1), [2; 32]);
        config.envelope.compress = false;
        change(&mut config);
        let envelope = Envelope::new(config.envelope.clone());
        let serf = Serf::new(now, config).unwrap();
        Self {
            now,
            serf,
            envelope,
            streams: 0,
        }
    }

    fn hear_gossip(&mut self, message: &Message<'_>) {
        let mut packets = Vec::new();
        let mut rng = StdRng::seed_from_u64(5);
        self.envelope
            .seal_packets(&[message.to_bytes()], 5, &mut rng, |packet| {
                packets.push(packet)
            })
            .unwrap();
        for payload in &packets {
            let from = addr(99);
            self.serf
                .handle_network(self.now, NetworkEvent::Packet { from, payload });
        }
    }

    /// Another node is there.
    fn meet(&mut self, name: &str, last: u8) {
        self.hear_alive(name, last, 1);
    }

    fn hear_alive(&mut self, name: &str, last: u8, incarnation: u32) {
        self.hear_gossip(&Message::Alive(Alive {
            incarnation,
            node: name,
            addr: Some(addr(last).ip()),
            port: 7946,
            meta: b"\xff\x80",
            versions: Some(Versions::CURRENT),
        }));
    }

    fn hear(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut message = Vec::new();
        encode(&mut message);
        self.hear_gossip(&Message::User(&message));
    }

    /// Another node compares what it knows.
    fn compare(&mut self, join: bool, state: &PushPullMessage<'_>) {
        let stream = StreamId::accepted(self.streams);
        self.streams += 1;
        let from = addr(50);
        let mut user = Vec::new();
        state.encode(&mut user);
        let mut message = Vec::new();
        encode_push_pull(join, [].into_iter(), &user, &mut message);
        let mut rng = StdRng::seed_from_u64(6);
        let bytes = &self
            .envelope
            .seal_stream(StreamEnd::Opener, &message, &mut rng);
        let now = self.now;
        self.serf
            .handle_network(now, NetworkEvent::Accepted { stream, from });
        self.serf
            .handle_network(now, NetworkEvent::Received { stream, bytes });
        self.wait(Duration::ZERO);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.serf.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.serf.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.serf.poll_output()).collect()
    }

    /// Serf's own messages that went out in packets, by address.
    fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut scratch = PacketScratch::default();
        let mut sent = Vec::new();
        while let Some(command) = self.serf.poll_network() {
            let NetworkCommand::SendPacket { to, payload } = command else {
                continue;
            };
            for message in self.envelope.open_packet(&payload, &mut scratch).unwrap() {
                if let Ok(Message::User(message)) = Message::decode(message) {
                    sent.push((to, message.to_vec()));
                }
            }
        }
        sent
    }

    fn start(&mut self, operation: Operation) -> Ticket {
        self.serf.start(self.now, operation)
    }

    fn outcome(&mut self, ticket: Ticket) -> Option<Outcome> {
        self.outputs().into_iter().find_map(|output| match output {
            Output::Completed {
                ticket: of,
                outcome,
            } if of == ticket => Some(outcome),
            _ => None,
        })
    }

    fn status(&self, name: &str) -> Option<MemberStatus> {
        let mut status = None;
        self.serf.visit_members(&mut |member| {
            if *member.name == *name {
                status = Some(member.status);
            }
        });
        status
    }

    fn user_events(&mut self) -> Vec<(u64, String)> {
        let event = |output| match output {
            Output::Event(Event::User(event)) => Some((event.ltime, event.name)),
            _ => None,
        };
        self.outputs().into_iter().filter_map(event).collect()
    }
}

fn user_event<'a>(ltime: u64, name: &'a str) -> UserEventMessage<'a> {
    let (coalesce, payload) = (false, &b"x"[..]);
    UserEventMessage {
        coalesce,
        ltime,
        name,
        payload,
    }
}

fn query<'a>(name: &'a str, payload: &'a [u8], flags: u32) -> QueryMessage<'a> {
    QueryMessage {
        addr: addr(2).ip(),
        filters: Vec::new(),
        flags,
        id: 77,
        ltime: 9,
        name,
        payload,
        port: 7946,
        relay_factor: 0,
        source_node: "n2",
        timeout: 5_000_000_000,
    }
}

fn answer(from: &str, query: QueryId, payload: &[u8], flags: u32) -> impl FnOnce(&mut Vec<u8>) {
    let (from, payload) = (from.to_owned(), payload.to_vec());
    move |out| {
        QueryResponseMessage {
            flags,
            from: &from,
            id: query.id,
            ltime: query.ltime,
            payload: &payload,
        }
        .encode(out);
    }
}

#[test]
fn an_event_is_told_and_passed_on_once() {
    let mut scene = Scene::new();
    scene.meet("n2", 2);
    scene.outputs();
    for _ in 0..3 {
        scene.hear(|out| user_event(5, "deploy").encode(out));
    }
    assert_eq!(scene.user_events(), [(5, "deploy".to_owned())]);
    scene.wait(Duration::from_secs(3));
    let mut expected = Vec::new();
    user_event(5, "deploy").encode(&mut expected);
    let passed_on = scene
        .sent()
        .into_iter()
        .filter(|(_, sent)| *sent == expected);
    // As often as any broadcast between two nodes, and not thrice.
    assert_eq!(passed_on.count(), 4);
}

#[test]
fn events_of_a_push_pull_are_told_in_lamport_order_and_old_ones_not_when_joining() {
    let at = |ltime, name| EventsAt {
        ltime,
        events: vec![StoredEvent { name, payload: b"" }],
    };
    let state = |events| PushPullMessage {
        event_ltime: 10,
        events,
        ..PushPullMessage::default()
    };
    let mut scene = Scene::new();
    scene.compare(false, &state(vec![at(7, "c"), at(3, "a"), at(5, "b")]));
    let told: Vec<_> = scene.user_events().into_iter().map(|(at, _)| at).collect();
    assert_eq!(told, [3, 5, 7]);
    // Somebody who joins does not want to hear what was before, whoever opens the stream.
    let mut scene = Scene::new();
    let addresses = vec!["10.0.0.9".to_owned()];
    let replay = false;
    scene.start(Operation::Join { addresses, replay });
    scene.compare(true, &state(vec![at(3, "a")]));
    assert_eq!(scene.user_events(), []);
    scene.hear(|out| user_event(9, "before").encode(out));
    scene.hear(|out| user_event(10, "after").encode(out));
    assert_eq!(scene.user_events(), [(10, "after".to_owned())]);
}

#[test]
fn events_too_large_are_refused_with_the_limit() {
    let mut scene = Scene::new();
    let now = scene.now;
    let event = |serf: &mut Serf, length| serf.user_event(now, "x", &vec![0; length], false);
    let limit = 512;
    assert_eq!(
        event(&mut scene.serf, 512),
        Err(ClusterError::EventTooLarge { limit })
    );
    assert_eq!(
        event(&mut scene.serf, 500),
        Err(ClusterError::EncodedEventTooLarge { limit })
    );
    assert_eq!(event(&mut scene.serf, 400), Ok(()));
    assert_eq!(scene.serf.events.clock().time(), 2);
}

#[test]
fn a_query_of_another_node_is_told_acknowledged_and_answered() {
    let mut scene = Scene::new();
    scene.meet("n2", 2);
    scene.outputs();
    scene.sent();
    scene.hear(|out| query("load", b"?", FLAG_ACK).encode(out));
    let outputs = scene.outputs();
    let [Output::Event(Event::Query(QueryEvent { id, name, .. }))] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!((id.ltime, id.id, &**name), (9, 77, "load"));
    let id = *id;
    let mut ack = Vec::new();
    answer("me", id, b"", FLAG_ACK)(&mut ack);
    assert!(scene.sent().contains(&(addr(2), ack)));
    let now = scene.now;
    assert_eq!(scene.serf.respond(now, id, b"0.7"), Ok(()));
    let mut said = Vec::new();
    answer("me", id, b"0.7", 0)(&mut said);
    assert_eq!(scene.sent(), [(addr(2), said)]);
    let again = scene.serf.respond(now, id, b"0.8");
    assert_eq!(again, Err(ClusterError::AlreadyResponded));
    scene.wait(Duration::from_secs(6));
    let late = scene.serf.respond(scene.now, id, b"0.8");
    assert_eq!(late, Err(ClusterError::UnknownQuery));
}

#[test]
fn answers_to_a_query_are_told_once_each_and_done_ends_it() {
    let mut scene = Scene::new();
    for last in [2, 3] {
        scene.meet(&format!("n{last}"), last);
    }
    scene.outputs();
    let request = QueryRequest {
        name: "load".into(),
        payload: Some(Vec::new()),
        filter_nodes: vec!["n2".into(), "n3".into()],
        request_ack: true,
        timeout: Some(Duration::from_secs(1)),
        ..QueryRequest::default()
    };
    let id = scene.serf.query(scene.now, request).unwrap();
    // This node is not asked.
    assert_eq!(scene.outputs(), []);
    let other = QueryId { id: 1, ..id };
    for _ in 0..2 {
        scene.hear(answer("n2", id, b"", FLAG_ACK));
        scene.hear(answer("n2", id, b"1", 0));
        scene.hear(answer("n3", other, b"2", 0));
    }
    let (from, payload) = ("n2".to_owned(), b"1".to_vec());
    assert_eq!(
        scene.outputs(),
        [
            Output::QueryAck {
                query: id,
                from: from.clone()
            },
            Output::QueryResponse {
                query: id,
                from,
                payload
            },
        ]
    );
    scene.wait(Duration::from_secs(2));
    assert_eq!(scene.outputs(), [Output::QueryDone { query: id }]);
    scene.hear(answer("n3", id, b"late", 0));
    assert_eq!(scene.outputs(), []);
}

#[test]
fn a_query_can_be_done_once_everybody_has_answered() {
    for request_ack in [false, true] {
        let mut scene = Scene::with(|config| config.early_done = true);
        scene.meet("n2", 2);
        scene.meet("n3", 3);
        scene.outputs();
        let request = QueryRequest {
            name: "load".into(),
            payload: Some(Vec::new()),
            filter_nodes: vec!["n2".into(), "n3".into(), "gone".into()],
            request_ack,
            timeout: Some(Duration::from_secs(1)),
            ..QueryRequest::default()
        };
        let id = scene.serf.query(scene.now, request).unwrap();
        let done = Output::QueryDone { query: id };
        scene.hear(answer("n2", id, b"1", 0));
        scene.hear(answer("n2", id, b"", FLAG_ACK));
        scene.hear(answer("n3", id, b"2", 0));
        assert_eq!(scene.outputs().contains(&done), !request_ack);
        scene.hear(answer("n3", id, b"", FLAG_ACK));
        assert_eq!(scene.outputs().contains(&done), request_ack);
        // It is done once.
        scene.wait(Duration::from_secs(2));
        assert_eq!(scene.outputs(), []);
    }
}

#[test]
fn an_old_protocol_has_a_role_alone_and_no_queries() {
    let mut scene = Scene::with(|config| {
        config.protocol = 2;
        config.tags = [("role", "web"), ("dc", "east")].into_iter().collect();
    });
    let request = QueryRequest::default();
    let refused = scene.serf.query(scene.now, request);
    assert_eq!(refused, Err(ClusterError::NotSupported));
    scene.meet("n2", 2);
    scene.wait(Duration::from_millis(300));
    assert_eq!(*encode_meta(&scene.serf.config.tags, 2), *b"web");
    let ticket = scene.start(Operation::Key(KeyOperation::List));
    let (report, error) = (KeyReport::default(), Some(ClusterError::NotSupported));
    assert_eq!(scene.outcome(ticket), Some(Outcome::Keys { report, error }));
}

#[test]
fn a_leave_said_of_this_node_is_refuted_until_it_leaves() {
    let mut scene = Scene::new();
    scene.meet("n2", 2);
    scene.hear(|out| {
        LeaveMessage {
            ltime: 30,
            node: "me",
            prune: false,
        }
        .encode(out);
    });
    assert_eq!(scene.status("me"), Some(MemberStatus::Alive));
    scene.wait(Duration::from_secs(1));
    let mut refutation = Vec::new();
    JoinMessage {
        ltime: 31,
        node: "me",
    }
    .encode(&mut refutation);
    assert!(scene.sent().iter().any(|(_, sent)| *sent == refutation));
    let ticket = scene.start(Operation::Leave);
    let second = scene.start(Operation::Leave);
    let in_progress = Outcome::Done(Err(ClusterError::LeaveInProgress));
    assert_eq!(scene.outcome(second), Some(in_progress));
    assert_eq!(scene.status("me"), Some(MemberStatus::Leaving));
    scene.wait(Duration::from_secs(12));
    assert_eq!(scene.outcome(ticket), Some(Outcome::Done(Ok(()))));
    assert_eq!(scene.status("me"), Some(MemberStatus::Left));
    let ticket = scene.start(Operation::Leave);
    assert_eq!(scene.outcome(ticket), Some(Outcome::Done(Ok(()))));
    let (addresses, replay) = (vec!["10.0.0.9".to_owned()], false);
    let ticket = scene.start(Operation::Join { addresses, replay });
    let failures = Some(JoinFailures(vec![
        "Serf can't Join after Leave or Shutdown".into(),
    ]));
    let count = 0;
    assert_eq!(
        scene.outcome(ticket),
        Some(Outcome::Joined { count, failures })
    );
}

#[test]
fn who_is_alone_leaves_at_once_and_tells_what_was_gathered() {
    let mut scene = Scene::with(|config| {
        config.coalescer = Some(Coalescer::new(PERIOD, QUIESCENT_PERIOD));
    });
    let ticket = scene.start(Operation::Leave);
    scene.wait(Duration::from_millis(5));
    let outputs = scene.outputs();
    let leave = outputs.iter().position(|output| {
        matches!(output, Output::Event(Event::Member(event)) if event.kind == MemberEventKind::Leave)
    });
    let outcome = Outcome::Done(Ok(()));
    let done = Output::Completed { ticket, outcome };
    assert_eq!(
        outputs.iter().position(|output| *output == done),
        Some(outputs.len() - 1)
    );
    assert!(leave.is_some());
}

#[test]
fn a_removal_that_nobody_hears_of_times_out_later_in_larger_clusters() {
    for (others, seconds) in [(2, 5), (20, 10)] {
        let mut scene = Scene::new();
        for last in 2..2 + others {
            scene.meet(&format!("n{last}"), last);
        }
        // Nothing goes out, as if the loop were busy with more important things.
        for queue in [Queue::Intents] {
            for number in 0..4000u32 {
                let now = scene.now;
                let filler = [number.to_be_bytes(), [9; 4]].concat();
                scene
                    .serf
                    .gossip
                    .broadcast(now, queue, &filler.repeat(20), Terms::default());
            }
        }
        let (node, prune) = ("n2".to_owned(), false);
        let ticket = scene.start(Operation::ForceLeave { node, prune });
        assert_eq!(scene.serf.broadcast_timeout(), Duration::from_secs(seconds));
        // It goes first all the same.
        scene.wait(Duration::from_secs(seconds) - Duration::from_millis(1));
        assert_eq!(scene.outcome(ticket), Some(Outcome::Done(Ok(()))));
    }
}

#[test]
fn of_what_a_node_intends_only_the_last_is_passed_on() {
    let mut scene = Scene::new();
    scene.meet("n2", 2);
    scene.meet("n3", 3);
    for ltime in 10..30 {
        let node = if ltime % 2 == 0 { "n2" } else { "n3" };
        scene.hear(|out| JoinMessage { ltime, node }.encode(out));
    }
    assert_eq!(scene.serf.gossip.queued(Queue::Intents), 2);
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 16]).unwrap()
}

/// A key query of another node's, and this node's answer to it.
fn key_answer(scene: &mut Scene, name: &str, key: &[u8], id: u32) -> Option<KeyResponse> {
    let mut payload = Vec::new();
    KeyRequest { key }.encode(&mut payload);
    let name = format!("_serf_{name}");
    scene.hear(|out| {
        QueryMessage {
            id,
            ltime: 9,
            ..query(&name, &payload, 0)
        }
        .encode(out);
    });
    said(scene)
}

/// What this node says to a key query.
fn said(scene: &mut Scene) -> Option<KeyResponse> {
    scene.sent().iter().find_map(|(to, message)| {
        let response = QueryResponseMessage::decode(message).ok()?;
        assert_eq!(*to, addr(2));
        KeyResponse::decode(response.payload).ok()
    })
}

fn encrypted(keyring_file: bool) -> Scene {
    Scene::with(|config| {
        let mut ring = Keyring::new(key(1));
        ring.install(key(2));
        config.envelope.keyring = Some(ring);
        config.keyring_file = keyring_file;
    })
}

#[test]
fn key_queries_change_the_ring_and_write_it_only_on_change() {
    let mut scene = encrypted(true);
    let done = |answer: Option<KeyResponse>| answer.map(|answer| (answer.result, answer.message));
    // What is there already needs no writing.
    let known = key_answer(&mut scene, "install-key", key(2).as_bytes(), 1);
    assert_eq!(done(known), Some((true, String::new())));
    assert_eq!(scene.serf.poll_file(), None);
    // News are answered once they are on disk.
    assert_eq!(
        key_answer(&mut scene, "install-key", key(3).as_bytes(), 2),
        None
    );
    let Some(FileCommand::Keyring(json)) = scene.serf.poll_file() else {
        panic!("nothing to write");
    };
    assert_eq!(Keyring::from_json(&json).unwrap().keys().len(), 3);
    scene.serf.keyring_written(scene.now, Ok(()));
    assert_eq!(done(said(&mut scene)), Some((true, String::new())));
    assert_eq!(
        key_answer(&mut scene, "use-key", key(3).as_bytes(), 3),
        None
    );
    scene
        .serf
        .keyring_written(scene.now, Err("no space left".into()));
    scene
        .envelope
        .set_keyring(Some(Keyring::from_json(&json).unwrap()));
    let text = "Failed to write keyring file: no space left".to_owned();
    assert_eq!(done(said(&mut scene)), Some((false, text)));
    // Asked again, what is in use already is written, not taken for done.
    while scene.serf.poll_file().is_some() {}
    assert_eq!(
        key_answer(&mut scene, "use-key", key(3).as_bytes(), 5),
        None
    );
    assert!(matches!(
        scene.serf.poll_file(),
        Some(FileCommand::Keyring(_))
    ));
    scene.serf.keyring_written(scene.now, Ok(()));
    assert_eq!(done(said(&mut scene)), Some((true, String::new())));
    let known = key_answer(&mut scene, "use-key", key(3).as_bytes(), 6);
    assert_eq!(done(known), Some((true, String::new())));
    let refused = key_answer(&mut scene, "install-key", b"short", 4);
    let text = "key size must be 16, 24 or 32 bytes".to_owned();
    assert_eq!(done(refused), Some((false, text)));
}

#[test]
fn a_list_of_keys_too_long_for_an_answer_is_cut_and_says_so() {
    let mut scene = Scene::with(|config| {
        let mut ring = Keyring::new(key(0));
        for byte in 1..100 {
            ring.install(key(byte));
        }
        config.envelope.keyring = Some(ring);
    });
    let answer = key_answer(&mut scene, "list-keys", b"", 1).unwrap();
    let shown = answer.keys.len();
    assert!(shown > 25 && shown < 40, "{shown}");
    assert_eq!(
        answer.message,
        format!("truncated key list response, showing first {shown} of 100 keys")
    );
    assert_eq!(
        (answer.result, answer.primary_key),
        (true, key(0).to_base64())
    );
}

#[test]
fn key_operations_run_one_after_the_other_and_count_who_answered() {
    let mut scene = encrypted(false);
    scene.meet("n2", 2);
    scene.outputs();
    let first = scene.start(Operation::Key(KeyOperation::Install(key(3).to_base64())));
    let second = scene.start(Operation::Key(KeyOperation::List));
    assert_eq!(scene.outcome(first), None);
    // The other does not answer: the time is over for the first, and the second begins.
    scene.wait(Duration::from_secs(4));
    let outputs = scene.outputs();
    let report = KeyReport {
        nodes: 2,
        responses: 1,
        ..KeyReport::default()
    };
    let (responses, nodes) = (1, 2);
    let error = Some(ClusterError::KeyUnanswered { responses, nodes });
    let outcome = Outcome::Keys { report, error };
    assert!(
        outputs.contains(&Output::Completed {
            ticket: first,
            outcome
        }),
        "{outputs:?}"
    );
    let id = scene
        .serf
        .asked
        .iter()
        .map(|(ltime, asked)| (*ltime, asked.id))
        .next();
    let (ltime, id) = id.expect("it is asked");
    let mut payload = Vec::new();
    KeyResponse {
        keys: vec![key(1).to_base64()],
        result: true,
        ..KeyResponse::default()
    }
    .encode(&mut payload);
    scene.hear(answer("n2", QueryId { ltime, id }, &payload, 0));
    let Some(Outcome::Keys {
        report,
        error: None,
    }) = scene.outcome(second)
    else {
        panic!("the second has not ended well");
    };
    let mut keys = vec![
        (key(1).to_base64(), 2),
        (key(2).to_base64(), 1),
        (key(3).to_base64(), 1),
    ];
    keys.sort();
    assert_eq!(report.keys, Some(keys));
}

#[test]
fn tags_change_only_once_they_are_written() {
    let mut scene = Scene::with(|config| config.tags_file = true);
    let tags: Tags = [("role", "web")].into_iter().collect();
    let ticket = scene.start(Operation::SetTags(tags.clone()));
    assert_eq!(
        scene.serf.poll_file(),
        Some(FileCommand::Tags(tags.clone()))
    );
    assert!(scene.serf.local().tags.is_empty());
    scene.serf.tags_written(scene.now, Err("read-only".into()));
    let error = "read-only".to_owned();
    let refused = Outcome::Done(Err(ClusterError::TagsNotWritten { error }));
    assert_eq!(scene.outcome(ticket), Some(refused));
    let ticket = scene.start(Operation::SetTags(tags.clone()));
    scene.serf.tags_written(scene.now, Ok(()));
    assert_eq!(scene.outcome(ticket), Some(Outcome::Done(Ok(()))));
    assert_eq!(scene.serf.local().tags, tags);
    // Too many are not even written.
    while scene.serf.poll_file().is_some() {}
    let long: Tags = [("long", "x".repeat(600))].into_iter().collect();
    let ticket = scene.start(Operation::SetTags(long));
    let limit = TAGS_BYTES_MAX;
    let refused = Outcome::Done(Err(ClusterError::TagsTooLarge { limit }));
    assert_eq!(
        (scene.outcome(ticket), scene.serf.poll_file()),
        (Some(refused), None)
    );
}

#[test]
fn the_minority_in_a_name_conflict_is_told_to_go() {
    for (known_as, evicted) in [(1, false), (66, true)] {
        let mut scene = Scene::new();
        for last in [2, 3] {
            scene.meet(&format!("n{last}"), last);
        }
        scene.outputs();
        scene.meet("me", 66);
        let asked = scene
            .serf
            .asked
            .iter()
            .map(|(ltime, asked)| (*ltime, asked.id))
            .next();
        let (ltime, id) = asked.expect("the cluster is asked");
        let member = Member::alive("me", addr(known_as).ip(), 7946);
        let mut payload = Vec::new();
        ConflictResponse::encode(Some(&member), &mut payload);
        for from in ["n2", "n3"] {
            scene.hear(answer(from, QueryId { ltime, id }, &payload, 0));
        }
        // Once is enough.
        scene.meet("me", 66);
        assert_eq!(scene.serf.asked.len(), 1);
        scene.wait(Duration::from_secs(10));
        let gone = |output: &Output| matches!(output, Output::Evicted { .. });
        assert_eq!(scene.outputs().iter().any(gone), evicted);
    }
}

#[test]
fn conflict_queries_are_answered_by_everybody_else() {
    let mut scene = Scene::new();
    scene.meet("n3", 3);
    scene.sent();
    for (id, name, known) in [(1, "n3", Some(addr(3))), (2, "nobody", None)] {
        scene.hear(|out| {
            QueryMessage {
                id,
                ..query("_serf_conflict", name.as_bytes(), 0)
            }
            .encode(out);
        });
        let sent = scene.sent();
        let response = sent
            .iter()
            .find_map(|(_, message)| QueryResponseMessage::decode(message).ok());
        let response = ConflictResponse::decode(response.unwrap().payload).unwrap();
        assert_eq!(response.addr, known);
    }
    scene.hear(|out| {
        QueryMessage {
            id: 3,
            ..query("_serf_conflict", b"me", 0)
        }
        .encode(out)
    });
    assert_eq!(scene.sent(), []);
}

/// The streams that a node wants, and to which port.
fn dialled(scene: &mut Scene) -> Vec<(StreamId, u16)> {
    std::iter::from_fn(|| scene.serf.poll_network())
        .filter_map(|command| match command {
            NetworkCommand::Connect { stream, to } => Some((stream, to.port())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_snapshot_s_nodes_that_are_missing_are_looked_for_though_others_are_there() {
    let now = Instant::now();
    let mut replay = Replay::new(AfterLeave::StayAway);
    replay.handle_bytes(b"alive: a 10.0.0.7:1\n#failed: b 10.0.0.8:2\n");
    let mut scene = Scene::with(|config| {
        config.snapshot = Some(Snapshot::new(now, replay, AfterLeave::StayAway));
    });
    let mut incarnation = 0;
    let mut looks_for_b = |scene: &mut Scene| {
        (0..200).any(|_| {
            // It refutes that it is dead, so this node is never alone.
            incarnation += 1;
            scene.hear_alive("a", 7, incarnation);
            scene.wait(Duration::from_secs(3));
            dialled(scene).into_iter().any(|(_, port)| port == 2)
        })
    };
    // Its first tries come to nothing.
    let now = scene.now;
    for _ in 0..2 {
        for (stream, _) in dialled(&mut scene) {
            let error = Some("connection refused".to_owned());
            let ended = NetworkEvent::Ended { stream, error };
            scene.serf.handle_network(now, ended);
        }
    }
    assert!(looks_for_b(&mut scene));
    // Once it has been a member it is for the membership to say.
    scene.meet("b", 8);
    scene.hear(|out| {
        LeaveMessage {
            ltime: 90,
            node: "b",
            prune: true,
        }
        .encode(out);
    });
    scene.wait(Duration::from_secs(90));
    assert!(scene.serf.membership.get("b").is_none());
    dialled(&mut scene);
    assert!(!looks_for_b(&mut scene));
}

#[test]
fn a_snapshot_s_nodes_are_looked_for_again_and_again() {
    let now = Instant::now();
    let mut replay = Replay::new(AfterLeave::StayAway);
    replay.handle_bytes(
        b"alive: me 10.0.0.1:7946\nalive: a 10.0.0.7:1\n#failed: b 10.0.0.8:2\nevent-clock: 40\n",
    );
    let mut scene = Scene::with(|config| {
        config.snapshot = Some(Snapshot::new(now, replay, AfterLeave::StayAway));
    });
    assert_eq!(scene.serf.events.clock().time(), 41);
    let mut ports = Vec::new();
    for _ in 0..2 {
        let tries = dialled(&mut scene);
        for (stream, port) in tries {
            ports.push(port);
            let error = Some("connection refused".to_owned());
            let now = scene.now;
            scene
                .serf
                .handle_network(now, NetworkEvent::Ended { stream, error });
        }
    }
    // Those that were alive first.
    assert_eq!(ports, [1, 2]);
    scene.wait(Duration::from_secs(31));
    let mut again: Vec<u16> = dialled(&mut scene)
        .into_iter()
        .map(|(_, port)| port)
        .collect();
    again.sort_unstable();
    assert_eq!(again, [1, 2]);
    // What is new is written down, and a failure is no loss.
    scene.meet("c", 3);
    scene.wait(Duration::from_secs(1));
    let mut lines = Vec::new();
    while let Some(FileCommand::Snapshot(command)) = scene.serf.poll_file() {
        if let SnapshotCommand::Append(bytes) | SnapshotCommand::Replace(bytes) = command {
            lines.extend(bytes);
        }
    }
    assert!(
        String::from_utf8(lines)
            .unwrap()
            .contains("alive: c 10.0.0.3:7946\n")
    );
    scene.serf.snapshot_failed(scene.now);
    scene.wait(Duration::from_secs(31));
    let replaced = std::iter::from_fn(|| scene.serf.poll_file())
        .any(|file| matches!(file, FileCommand::Snapshot(SnapshotCommand::Replace(_))));
    assert!(replaced);
}

#[test]
fn coordinates_can_be_off() {
    let scene = Scene::with(|config| config.coordinates = false);
    assert_eq!(scene.serf.coordinate("me"), None);
    let mut keys = Vec::new();
    scene.serf.visit_stats(&mut |key, _| keys.push(key));
    assert!(!keys.contains(&"coordinate_resets"));
    let scene = Scene::new();
    assert_eq!(scene.serf.coordinate("me"), Some(Coordinate::default()));
    assert_eq!(scene.serf.coordinate("other"), None);
}

#[test]
fn events_and_queries_go_on_after_absurd_times() {
    use crate::serf::clock::{LTIME_MAX, REACH};
    for ltime in [LTIME_MAX, LTIME_MAX + REACH, u64::MAX] {
        let mut scene = Scene::new();
        scene.meet("n2", 2);
        let far = QueryMessage {
            ltime,
            ..query("far", b"", 0)
        };
        scene.hear(|out| user_event(ltime, "far").encode(out));
        scene.hear(|out| far.encode(out));
        scene.outputs();
        let now = scene.now;
        scene.serf.user_event(now, "ours", b"", false).unwrap();
        assert_eq!(scene.user_events().len(), 1, "{ltime}");
        let mut ask = || scene.serf.query(now, QueryRequest::default()).unwrap();
        let asked = [ask(), ask()];
        scene.wait(Duration::from_secs(60));
        let done = |query: &QueryId| Output::QueryDone { query: *query };
        let outputs = scene.outputs();
        assert!(
            asked.iter().all(|query| outputs.contains(&done(query))),
            "{ltime}"
        );
    }
}

/// What a node says that knows `node` as left since `ltime`.
fn left_elsewhere(node: &str, ltime: u64) -> PushPullMessage<'_> {
    PushPullMessage {
        ltime: ltime + 1,
        status_ltimes: vec![(node, ltime)],
        left_members: vec![node],
        ..PushPullMessage::default()
    }
}

#[test]
fn who_lives_is_not_leaving_for_those_who_know_it_as_left() {
    let mut scene = Scene::new();
    scene.meet("n2", 2);
    scene.compare(false, &left_elsewhere("n2", 7));
    assert_eq!(scene.status("n2"), Some(MemberStatus::Alive));
    // This node itself says that it lives.
    scene.sent();
    scene.compare(false, &left_elsewhere("me", 9));
    scene.wait(Duration::from_secs(1));
    let join = |(_, message): &(SocketAddr, Vec<u8>)| matches!(JoinMessage::decode(message), Ok(join) if join.node == "me");
    assert!(scene.sent().iter().any(join));
}

#[test]
fn comparing_the_same_twice_makes_no_time_pass() {
    let mut scene = Scene::new();
    scene.meet("n2", 2);
    scene.hear_gossip(&Message::Dead(Dead {
        incarnation: 1,
        node: "n2",
        from: "n3",
    }));
    assert_eq!(scene.status("n2"), Some(MemberStatus::Failed));
    scene.compare(false, &left_elsewhere("n2", 7));
    assert_eq!(scene.status("n2"), Some(MemberStatus::Left));
    let time = |scene: &Scene| scene.serf.membership.clock().time();
    let before = time(&scene);
    // As it comes from a node that has heard it from here.
    for _ in 0..3 {
        let ltime = before - 1;
        scene.compare(false, &left_elsewhere("n2", ltime));
    }
    assert_eq!(time(&scene), before);
}
