//! Nodes without sockets, and what others say to them.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serfling::cluster::{Cluster, NetworkCommand, NetworkEvent, StreamId};
use serfling::gossip::envelope::{Envelope, EnvelopeConfig};
use serfling::gossip::keyring::{Key, Keyring};
use serfling::gossip::message::{
    Alive, Message, NodeState, Ping, PushNode, Source, Suspect, Versions,
};
use serfling::gossip::stream::{StreamEnd, encode_push_pull};
use serfling::serf::message::{PushPullMessage, UserEventMessage};
use serfling::serf::{Serf, SerfConfig};

/// The address of a made-up node: a loopback address, so that nothing can leave the machine.
pub(crate) fn addr(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([127, a + 1, b, c], 7946))
}

/// A node without sockets.
pub(crate) fn serf(envelope: EnvelopeConfig) -> Serf {
    let mut config = SerfConfig::new("me", addr(0), [3; 32]);
    config.envelope = envelope;
    Serf::new(Instant::now(), config).expect("it starts")
}

/// How packets are wrapped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wrapping {
    Plain,
    Crc,
    Compressed,
    Encrypted,
}

impl Wrapping {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Crc, Self::Compressed, Self::Encrypted];

    pub(crate) fn envelope(self) -> EnvelopeConfig {
        EnvelopeConfig {
            keyring: matches!(self, Self::Encrypted)
                .then(|| Keyring::new(Key::new(&[7; 32]).unwrap())),
            compress: matches!(self, Self::Compressed),
            ..EnvelopeConfig::default()
        }
    }

    pub(crate) const fn protocol(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Crc | Self::Compressed | Self::Encrypted => 5,
        }
    }
}

/// A ping of a node that gossips: it brings news of nodes and an event, and is to be answered.
pub(crate) fn packets(wrapping: Wrapping, count: u32) -> Vec<Vec<u8>> {
    let envelope = Envelope::new(wrapping.envelope());
    let mut rng = StdRng::seed_from_u64(1);
    let mut packets = Vec::new();
    for number in 0..count {
        let source = Source::default();
        let seq = number;
        let node = "me";
        let mut messages = vec![Message::Ping(Ping { seq, node, source }).to_bytes()];
        for other in 0..8 {
            let name = format!("node-{:04}", (number * 8 + other) % 1000);
            messages.push(
                Message::Alive(Alive {
                    incarnation: 1 + number / 125,
                    node: &name,
                    addr: Some(addr(1 + other).ip()),
                    port: 7946,
                    meta: b"\xff\x81\xa4role\xa3web",
                    versions: Some(Versions::CURRENT),
                })
                .to_bytes(),
            );
        }
        let mut event = Vec::new();
        UserEventMessage {
            coalesce: false,
            ltime: u64::from(number) + 1,
            name: "deploy",
            payload: b"version 1.2.3",
        }
        .encode(&mut event);
        messages.push(Message::User(&event).to_bytes());
        let suspect = Suspect {
            incarnation: 0,
            node: "node-0000",
            from: "node-0001",
        };
        messages.push(Message::Suspect(suspect).to_bytes());
        envelope
            .seal_packets(&messages, wrapping.protocol(), &mut rng, |packet| {
                packets.push(packet);
            })
            .unwrap();
    }
    packets
}

/// What a node among so many says when it joins: of all of it others are to hear.
pub(crate) fn state(count: u32) -> Vec<u8> {
    let names: Vec<String> = (0..count)
        .map(|number| format!("node-{number:05}"))
        .collect();
    let nodes = names.iter().enumerate().map(|(number, name)| PushNode {
        name,
        addr: Some(addr(number as u32 + 1).ip()),
        port: 7946,
        meta: b"\xff\x82\xa2dc\xa4east\xa4role\xa3web",
        incarnation: 1,
        state: NodeState::Alive,
        versions: Some(Versions::CURRENT),
    });
    let user = PushPullMessage {
        ltime: 10,
        status_ltimes: names.iter().map(|name| (&**name, 1)).collect(),
        ..PushPullMessage::default()
    };
    let mut user_state = Vec::new();
    user.encode(&mut user_state);
    let mut message = Vec::new();
    encode_push_pull(true, nodes, &user_state, &mut message);
    message
}

/// Has a node take in a push/pull; returns the longest turn.
pub(crate) fn merge(serf: &mut Serf, number: u64, bytes: &[u8]) -> Duration {
    let now = Instant::now();
    let stream = StreamId::accepted(number);
    let from = addr(9);
    let mut longest = Duration::ZERO;
    let mut turn = |act: &mut dyn FnMut(&mut Serf)| {
        let begin = Instant::now();
        act(serf);
        while let Some(command) = serf.poll_network() {
            if let NetworkCommand::Write { bytes, .. } = &command {
                black_box(bytes.len());
            }
        }
        while let Some(output) = serf.poll_output() {
            black_box(output);
        }
        longest = longest.max(begin.elapsed());
        serf.poll_timeout() == Some(now)
    };
    turn(&mut |serf| serf.handle_network(now, NetworkEvent::Accepted { stream, from }));
    let mut more = false;
    for bytes in bytes.chunks(64 * 1024) {
        more = turn(&mut |serf| {
            serf.handle_network(now, NetworkEvent::Received { stream, bytes });
        });
    }
    while more {
        more = turn(&mut |serf| serf.handle_timeout(now));
    }
    longest
}

/// A push/pull of so many nodes, as it stands in a stream.
pub(crate) fn sealed(envelope: EnvelopeConfig, count: u32) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(1);
    Envelope::new(envelope).seal_stream(StreamEnd::Opener, &state(count), &mut rng)
}

/// Has a node take in packets, act on them, and say what is to be said.
pub(crate) fn take_packets(serf: &mut Serf, packets: &[Vec<u8>]) {
    let now = Instant::now();
    for payload in packets {
        let from = addr(9);
        serf.handle_network(now, NetworkEvent::Packet { from, payload });
        while let Some(command) = serf.poll_network() {
            black_box(command);
        }
        while let Some(output) = serf.poll_output() {
            black_box(output);
        }
    }
}
