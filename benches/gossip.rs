//! What gossip costs: packets handled, whole states compared, memory per member.
//!
//! `cargo bench --bench gossip`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::ItemsCount;
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

fn main() {
    divan::main();
}

fn addr(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 7946))
}

fn serf(envelope: EnvelopeConfig) -> Serf {
    let mut config = SerfConfig::new("me", addr(0), [3; 32]);
    config.envelope = envelope;
    Serf::new(Instant::now(), config).expect("it starts")
}

#[derive(Debug, Clone, Copy)]
enum Wrapping {
    Plain,
    Crc,
    Compressed,
    Encrypted,
}

impl Wrapping {
    const ALL: [Self; 4] = [Self::Plain, Self::Crc, Self::Compressed, Self::Encrypted];

    fn envelope(self) -> EnvelopeConfig {
        EnvelopeConfig {
            keyring: matches!(self, Self::Encrypted)
                .then(|| Keyring::new(Key::new(&[7; 32]).unwrap())),
            compress: matches!(self, Self::Compressed),
            ..EnvelopeConfig::default()
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Crc | Self::Compressed | Self::Encrypted => 5,
        }
    }
}

/// A ping of a node that gossips: it brings news of nodes and an event, and is to be answered.
fn packets(wrapping: Wrapping, count: u32) -> Vec<Vec<u8>> {
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

/// Decoded, acted on, answered with whatever is to be passed on.
#[divan::bench(args = Wrapping::ALL)]
fn packet(bencher: Bencher<'_, '_>, wrapping: Wrapping) {
    const COUNT: u32 = 1000;
    let packets = packets(wrapping, COUNT);
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| serf(wrapping.envelope()))
        .bench_values(|mut serf| {
            let now = Instant::now();
            for payload in &packets {
                let from = addr(9);
                serf.handle_network(now, NetworkEvent::Packet { from, payload });
                while let Some(command) = serf.poll_network() {
                    black_box(command);
                }
                while let Some(output) = serf.poll_output() {
                    black_box(output);
                }
            }
            serf
        });
}

/// What a node among so many says in a push/pull.
fn state(count: u32) -> Vec<u8> {
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
    encode_push_pull(false, nodes, &user_state, &mut message);
    message
}

/// Has a node take in a push/pull; returns the longest turn.
fn merge(serf: &mut Serf, number: u64, bytes: &[u8]) -> Duration {
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

/// A push/pull of nodes that are new to the one that takes it in.
#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn merge_new(bencher: Bencher<'_, '_>, count: u32) {
    let bytes = sealed(
        EnvelopeConfig {
            compress: false,
            ..EnvelopeConfig::default()
        },
        count,
    );
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| serf(EnvelopeConfig::default()))
        .bench_values(|mut serf| {
            merge(&mut serf, 0, &bytes);
            serf
        });
}

/// A push/pull that brings nothing new, as most do.
#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn merge_known(bencher: Bencher<'_, '_>, count: u32) {
    let bytes = sealed(
        EnvelopeConfig {
            compress: false,
            ..EnvelopeConfig::default()
        },
        count,
    );
    let mut serf = serf(EnvelopeConfig::default());
    merge(&mut serf, 0, &bytes);
    let mut number = 0;
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        number += 1;
        merge(&mut serf, number, &bytes)
    });
}

fn sealed(envelope: EnvelopeConfig, count: u32) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(1);
    Envelope::new(envelope).seal_stream(StreamEnd::Opener, &state(count), &mut rng)
}

/// Not a time but the longest turn while 10,000 nodes are taken in, printed.
#[divan::bench(args = Wrapping::ALL, sample_count = 3)]
fn longest_turn(bencher: Bencher<'_, '_>, wrapping: Wrapping) {
    let bytes = sealed(wrapping.envelope(), 10_000);
    bencher
        .with_inputs(|| serf(wrapping.envelope()))
        .bench_values(|mut serf| {
            let new = merge(&mut serf, 0, &bytes);
            let known = merge(&mut serf, 1, &bytes);
            println!(
                "{wrapping:?}, {} KiB: longest turn {new:?} when all are new, {known:?} when none is",
                bytes.len() / 1024
            );
            serf
        });
}

/// Not a time but what a known member takes, printed: resident, and beyond its name and tags.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn memory_per_member(bencher: Bencher<'_, '_>) {
    const COUNT: u32 = 20_000;
    let bytes = sealed(
        EnvelopeConfig {
            compress: false,
            ..EnvelopeConfig::default()
        },
        COUNT,
    );
    // Name and tags of each, once: what any list of members must hold.
    let bare = "node-00000".len() + "dceastroleweb".len();
    bencher
        .with_inputs(|| serf(EnvelopeConfig::default()))
        .bench_values(|mut serf| {
            let before = resident();
            merge(&mut serf, 0, &bytes);
            // What is to be passed on is gone after a while.
            let mut now = Instant::now();
            for _ in 0..100_000 {
                let Some(next) = serf
                    .poll_timeout()
                    .filter(|_| serf.gossip().queued_news() > 0)
                else {
                    break;
                };
                now = now.max(next);
                serf.handle_timeout(now);
                while serf.poll_network().is_some() {}
                while serf.poll_output().is_some() {}
            }
            let each = (resident() - before) / COUNT as usize;
            println!(
                "{each} bytes resident for each of {COUNT} members, {} beyond name and tags",
                each - bare
            );
            serf
        });
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
