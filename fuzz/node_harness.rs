//! A node among made-up others: every byte string is a conversation of well-formed messages, calls and pauses.
//!
//! Where `gossip_harness` throws bytes at a node, this one speaks its language, and so gets to states that bytes seldom
//! do: refutations, conflicts, key operations, leaves.

#![allow(dead_code, reason = "each target uses a part of it")]

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serfling::cluster::{
    Cluster, Event, Figure, KeyOperation, MemberStatus, NetworkCommand, NetworkEvent, Operation,
    Output, QueryId, QueryRequest, StreamId, Tags, Ticket,
};
use serfling::gossip::envelope::EnvelopeConfig;
use serfling::gossip::keyring::{Key, Keyring};
use serfling::gossip::message::{
    Ack, Alive, Dead, IndirectPing, Message, Nack, NodeState, Ping, PushNode, Source, Suspect,
    Versions,
};
use serfling::gossip::stream::encode_push_pull;
use serfling::serf::message::{
    FLAG_ACK, JoinMessage, KeyRequest, LeaveMessage, PushPullMessage, QueryMessage,
    QueryResponseMessage, RelayMessage, UserEventMessage, encode_node_filter, encode_tag_filter,
};
use serfling::serf::snapshot::{AfterLeave, Replay, Snapshot};
use serfling::serf::{FileCommand, Serf, SerfConfig};

const NAMES: [&str; 6] = ["n0", "n1", "n2", "n3", "n4", ""];
const TEXTS: [&str; 6] = [
    "",
    "deploy",
    "_serf_ping",
    "_serf_list-keys",
    "_serf_install-key",
    "_serf_conflict",
];
/// Operations in one conversation: more tell nothing new.
const STEPS_MAX: usize = 400;
/// Turns that one pause may take.
const TURNS_MAX: usize = 200_000;

/// Takes choices off the front of the input.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Small ones mostly, and the last ones there are.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=239 => byte.into(),
            240..=247 => u64::MAX,
            248..=251 => u64::MAX / 2,
            _ => u64::from(u32::MAX),
        }
    }
}

struct Scene {
    now: Instant,
    serf: Serf,
    started: HashSet<Ticket>,
    asked: HashSet<QueryId>,
    received: Vec<QueryId>,
    events: HashSet<(u64, String, Vec<u8>)>,
    version: u64,
    times: [u64; 3],
    streams: u64,
    left: bool,
}

fn addr(node: usize) -> SocketAddr {
    let [.., last] = node.to_be_bytes();
    SocketAddr::new(IpAddr::from([10, 0, 0, last]), 7946)
}

/// The node of the first name hears of all that the bytes stand for. It stays a member of its own cluster until it
/// leaves; clocks never go back; operations and queries end once; no event is told twice; what streams held goes.
pub(crate) fn node(data: &[u8]) {
    let mut choices = Choices(data);
    let mut scene = Scene::new(choices.byte());
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() {
            break;
        }
        scene.step(&mut choices);
        scene.drain();
        scene.check();
    }
    // Everything that was started ends.
    scene.wait(Duration::from_secs(700));
    assert!(
        scene.started.is_empty(),
        "operations that never end: {:?}",
        scene.started
    );
    assert!(
        scene.asked.is_empty(),
        "queries that are never done: {:?}",
        scene.asked
    );
    assert_eq!(scene.serf.gossip().held_bytes(), 0);
}

impl Scene {
    fn new(how: u8) -> Self {
        let now = Instant::now();
        let mut config = SerfConfig::new(NAMES[0], addr(0), [how; 32]);
        config.keyring_file = how & 1 != 0;
        config.tags_file = how & 2 != 0;
        config.early_done = how & 4 != 0;
        if how & 8 != 0 {
            let replay = Replay::new(AfterLeave::StayAway);
            config.snapshot = Some(Snapshot::new(now, replay, AfterLeave::StayAway));
        }
        if how & 16 != 0 {
            let key = Key::new(&[7; 16]).expect("a key");
            config.envelope = EnvelopeConfig {
                keyring: Some(Keyring::new(key)),
                // So that packets need not be encrypted here.
                verify_incoming: false,
                ..EnvelopeConfig::default()
            };
        }
        Self {
            now,
            serf: Serf::new(now, config).expect("it starts"),
            started: HashSet::new(),
            asked: HashSet::new(),
            received: Vec::new(),
            events: HashSet::new(),
            version: 0,
            times: [0; 3],
            streams: 0,
            left: false,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 16 {
            0..=3 => self.hear_of_node(choices),
            4 => self.hear_probe(choices),
            5 | 6 => self.hear_intent(choices),
            7 => self.hear_event(choices),
            8 => self.hear_query(choices),
            9 => self.hear_answer(choices),
            10 => self.compare(choices),
            11 | 12 => self.operate(choices),
            13 => self.ask(choices),
            14 => self.answer(choices),
            _ => {
                let long = choices.byte();
                self.wait(Duration::from_millis(u64::from(long) * u64::from(long)));
            }
        }
    }

    fn packet(&mut self, payload: &[u8]) {
        let from = addr(1);
        self.serf
            .handle_network(self.now, NetworkEvent::Packet { from, payload });
    }

    fn user(&mut self, message: &[u8]) {
        self.packet(&Message::User(message).to_bytes());
    }

    fn hear_of_node(&mut self, choices: &mut Choices<'_>) {
        let (node, from) = (choices.of(&NAMES), choices.of(&NAMES));
        let incarnation = choices.number() as u32;
        let message = match choices.byte() % 4 {
            0 | 1 => {
                let at = addr(usize::from(choices.byte() % 8));
                Message::Alive(Alive {
                    incarnation,
                    node,
                    addr: Some(at.ip()),
                    port: at.port(),
                    meta: choices.of(&[&b""[..], b"\xff\x81\xa4role\xa3web", b"\xff\xc1", b"db"]),
                    versions: choices.of(&[Some(Versions::CURRENT), None]),
                })
            }
            2 => Message::Suspect(Suspect {
                incarnation,
                node,
                from,
            }),
            _ => Message::Dead(Dead {
                incarnation,
                node,
                from,
            }),
        };
        self.packet(&message.to_bytes());
    }

    fn hear_probe(&mut self, choices: &mut Choices<'_>) {
        let seq = choices.byte().into();
        let node = choices.of(&NAMES);
        let source = Source {
            addr: Some(addr(2).ip()),
            port: choices.of(&[0, 7946]),
            node: "n2",
        };
        let message = match choices.byte() % 4 {
            0 => Message::Ping(Ping { seq, node, source }),
            1 => Message::IndirectPing(IndirectPing {
                seq,
                target: choices.of(&[Some(addr(3).ip()), None]),
                port: 7946,
                node,
                nack: true,
                source,
            }),
            2 => Message::Ack(Ack {
                seq,
                payload: choices.of(&[&b""[..], b"\x01\x80", b"\x01"]),
            }),
            _ => Message::Nack(Nack { seq }),
        };
        self.packet(&message.to_bytes());
    }

    fn hear_intent(&mut self, choices: &mut Choices<'_>) {
        let (node, ltime) = (choices.of(&NAMES), choices.number());
        let mut message = Vec::new();
        match choices.byte() % 3 {
            0 => JoinMessage { ltime, node }.encode(&mut message),
            kind => LeaveMessage {
                ltime,
                node,
                prune: kind == 2,
            }
            .encode(&mut message),
        }
        self.user(&message);
    }

    fn hear_event(&mut self, choices: &mut Choices<'_>) {
        let mut message = Vec::new();
        UserEventMessage {
            coalesce: choices.byte() & 1 != 0,
            ltime: choices.number(),
            name: choices.of(&TEXTS),
            payload: choices.of(&[&b""[..], b"1", b"2"]),
        }
        .encode(&mut message);
        self.user(&message);
    }

    fn hear_query(&mut self, choices: &mut Choices<'_>) {
        let filters = [
            encode_node_filter(&[NAMES[0].to_owned()]),
            encode_tag_filter("role", choices.of(&["web", "(", ""])),
        ];
        let key = Key::new(&[choices.byte(); 16]).expect("a key");
        let mut payload = Vec::new();
        KeyRequest {
            key: key.as_bytes(),
        }
        .encode(&mut payload);
        let source = addr(usize::from(choices.byte() % 3));
        let mut message = Vec::new();
        QueryMessage {
            addr: source.ip(),
            port: source.port(),
            filters: filters
                .iter()
                .take(usize::from(choices.byte() % 3))
                .map(Vec::as_slice)
                .collect(),
            flags: u32::from(choices.byte() % 4),
            id: choices.byte().into(),
            ltime: choices.number(),
            name: choices.of(&TEXTS),
            payload: &payload,
            relay_factor: choices.byte() % 4,
            source_node: choices.of(&NAMES),
            timeout: choices.of(&[0, 1_000_000_000, u64::MAX / 2]),
        }
        .encode(&mut message);
        self.user(&message);
    }

    fn hear_answer(&mut self, choices: &mut Choices<'_>) {
        let mut message = Vec::new();
        let asked = self.asked.iter().max().copied();
        let query = asked.unwrap_or_else(|| QueryId {
            ltime: choices.number(),
            id: 1,
        });
        QueryResponseMessage {
            flags: choices.of(&[0, FLAG_ACK]),
            from: choices.of(&NAMES),
            id: query.id,
            ltime: query.ltime,
            payload: choices.of(&[&b""[..], b"\x08\x81\xa6Result\xc3", b"\x06\x80"]),
        }
        .encode(&mut message);
        if choices.byte().is_multiple_of(4) {
            let mut relayed = Vec::new();
            RelayMessage {
                to: addr(2),
                name: "n2",
                message: &message,
            }
            .encode(&mut relayed);
            message = relayed;
        }
        self.user(&message);
    }

    /// A push/pull of another node, or a part of it.
    fn compare(&mut self, choices: &mut Choices<'_>) {
        let nodes: Vec<PushNode<'_>> = (0..choices.byte() % 6)
            .map(|_| PushNode {
                name: choices.of(&NAMES),
                addr: Some(addr(usize::from(choices.byte() % 8)).ip()),
                port: 7946,
                meta: b"",
                incarnation: choices.number() as u32,
                state: choices.of(&[
                    NodeState::Alive,
                    NodeState::Suspect,
                    NodeState::Dead,
                    NodeState::Left,
                ]),
                versions: choices.of(&[Some(Versions::CURRENT), None]),
            })
            .collect();
        let mut state = Vec::new();
        PushPullMessage {
            ltime: choices.number(),
            status_ltimes: (0..choices.byte() % 4)
                .map(|_| (choices.of(&NAMES), choices.number()))
                .collect(),
            left_members: (0..choices.byte() % 3)
                .map(|_| choices.of(&NAMES))
                .collect(),
            event_ltime: choices.number(),
            events: Vec::new(),
            query_ltime: choices.number(),
        }
        .encode(&mut state);
        let mut message = Vec::new();
        encode_push_pull(
            choices.byte() & 1 != 0,
            nodes.into_iter(),
            &state,
            &mut message,
        );
        let stream = StreamId::accepted(self.streams);
        self.streams += 1;
        let from = addr(2);
        let length = message.len() * usize::from(choices.of(&[4u8, 4, 4, 3])) / 4;
        self.serf
            .handle_network(self.now, NetworkEvent::Accepted { stream, from });
        let bytes = &message[..length];
        self.serf
            .handle_network(self.now, NetworkEvent::Received { stream, bytes });
        self.drain();
        self.serf.handle_network(
            self.now,
            NetworkEvent::Ended {
                stream,
                error: None,
            },
        );
    }

    fn operate(&mut self, choices: &mut Choices<'_>) {
        let key = Key::new(&[choices.byte() % 3; 16])
            .expect("a key")
            .to_base64();
        let operation = match choices.byte() % 12 {
            0 => Operation::Leave,
            1..=3 => {
                let addresses = vec![
                    choices
                        .of(&["10.0.0.1", "n1/10.0.0.1:7946", "host", "", ":"])
                        .to_owned(),
                ];
                Operation::Join {
                    addresses,
                    replay: choices.byte() & 1 != 0,
                }
            }
            4..=6 => Operation::ForceLeave {
                node: choices.of(&NAMES).to_owned(),
                prune: choices.byte() & 1 != 0,
            },
            7 | 8 => {
                let value = "x".repeat(usize::from(choices.byte()) * 4);
                Operation::SetTags([("role", value)].into_iter().collect::<Tags>())
            }
            9 => Operation::Key(KeyOperation::List),
            10 => Operation::Key(KeyOperation::Use(key)),
            _ => Operation::Key(KeyOperation::Install(key)),
        };
        self.left |= operation == Operation::Leave;
        let ticket = self.serf.start(self.now, operation);
        assert!(self.started.insert(ticket));
    }

    fn ask(&mut self, choices: &mut Choices<'_>) {
        if choices.byte() & 1 == 0 {
            let _ = self
                .serf
                .user_event(self.now, choices.of(&TEXTS), b"ours", false);
            return;
        }
        let request = QueryRequest {
            name: choices.of(&TEXTS).to_owned(),
            request_ack: choices.byte() & 1 != 0,
            relay_factor: choices.byte() % 4,
            timeout: choices.of(&[None, Some(Duration::from_secs(1))]),
            ..QueryRequest::default()
        };
        if let Ok(query) = self.serf.query(self.now, request) {
            assert!(self.asked.insert(query));
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let which = usize::from(choices.byte());
        if let Some(&query) = self.received.get(which % self.received.len().max(1)) {
            let _ = self.serf.respond(self.now, query, b"answer");
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(next) = self.serf.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.serf.handle_timeout(self.now);
            self.drain();
            turns += 1;
            assert!(turns < TURNS_MAX, "timers fire without end");
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(command) = self.serf.poll_network() {
            let now = self.now;
            match command {
                // Nobody is there.
                NetworkCommand::Connect { stream, .. } => {
                    let error = Some("connection refused".to_owned());
                    self.serf
                        .handle_network(now, NetworkEvent::Ended { stream, error });
                }
                NetworkCommand::Close { stream } => {
                    self.serf.handle_network(
                        now,
                        NetworkEvent::Ended {
                            stream,
                            error: None,
                        },
                    );
                }
                NetworkCommand::Resolve { request, .. } => {
                    let result = Ok(vec![addr(3).ip()]);
                    self.serf
                        .handle_network(now, NetworkEvent::Resolved { request, result });
                }
                NetworkCommand::SendPacket { .. }
                | NetworkCommand::Write { .. }
                | NetworkCommand::Reset { .. } => {}
            }
        }
        while let Some(file) = self.serf.poll_file() {
            match file {
                FileCommand::Keyring(_) => self.serf.keyring_written(self.now, Ok(())),
                FileCommand::Tags(_) => self.serf.tags_written(self.now, Err("full".into())),
                FileCommand::Snapshot(_) => self.serf.snapshot_failed(self.now),
            }
        }
        while let Some(output) = self.serf.poll_output() {
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Event(Event::User(event)) => {
                let event = (event.ltime, event.name, event.payload);
                assert!(self.events.insert(event.clone()), "told twice: {event:?}");
            }
            Output::Event(Event::Query(query)) => {
                assert!(!self.received.contains(&query.id), "asked twice");
                self.received.push(query.id);
            }
            Output::QueryAck { query, .. } | Output::QueryResponse { query, .. } => {
                assert!(
                    self.asked.contains(&query),
                    "a record after its query was done"
                );
            }
            Output::QueryDone { query } => assert!(self.asked.remove(&query), "done twice"),
            Output::Completed { ticket, .. } => {
                assert!(self.started.remove(&ticket), "ended twice")
            }
            Output::Event(Event::Member(_)) | Output::Evicted { .. } => {}
        }
    }

    fn check(&mut self) {
        let local = self.serf.local();
        assert_eq!(&*local.name, NAMES[0]);
        if !self.left {
            assert_eq!(local.status, MemberStatus::Alive);
        }
        let version = self.serf.members_version();
        assert!(version >= self.version);
        self.version = version;
        let mut times = [0; 3];
        self.serf.visit_stats(&mut |name, figure| {
            let clocks = ["member_time", "event_time", "query_time"];
            if let Some(which) = clocks.iter().position(|clock| *clock == name)
                && let Figure::Count(time) = figure
            {
                times[which] = time;
            }
        });
        assert!(
            times
                .iter()
                .zip(&self.times)
                .all(|(now, before)| now >= before)
        );
        self.times = times;
    }
}
