//! What nodes say, made up: the state that every node of a big cluster starts from, and a probe, for their sizes.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serfling::cluster::{Coordinate, Tags};
use serfling::gossip::envelope::{Envelope, EnvelopeConfig};
use serfling::gossip::message::{Ack, Message, NodeState, Ping, PushNode, Source, Versions};
use serfling::gossip::stream::{StreamEnd, encode_push_pull};
use serfling::serf::coordinate::encode_payload;
use serfling::serf::message::PushPullMessage;

use crate::world::World;

/// What a node among so many says in a push/pull, as it stands in a stream: all live, and say of themselves what nodes
/// of [`World::spawn`] do.
pub(crate) fn state(count: usize) -> Vec<u8> {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut numbers: Vec<usize> = (0..count).collect();
    // In order they would fill tables of names worse, or better, than as they come.
    numbers.shuffle(rng);
    let names: Vec<String> = numbers.iter().map(|node| format!("n{node}")).collect();
    let meta = Tags::new().to_meta();
    let nodes = numbers.iter().zip(&names).map(|(node, name)| {
        let addr = World::addr(*node);
        PushNode {
            name,
            addr: Some(addr.ip()),
            port: addr.port(),
            meta: &meta,
            incarnation: 1,
            state: NodeState::Alive,
            versions: Some(Versions::CURRENT),
        }
    });
    let user = PushPullMessage {
        ltime: count as u64,
        status_ltimes: names.iter().map(|name| (&**name, 1)).collect(),
        ..PushPullMessage::default()
    };
    let mut user_state = Vec::new();
    user.encode(&mut user_state);
    let mut message = Vec::new();
    encode_push_pull(false, nodes, &user_state, &mut message);
    let envelope = Envelope::new(EnvelopeConfig::default());
    envelope.seal_stream(StreamEnd::Opener, &message, rng)
}

/// How many bytes a ping and its ack take, with nothing taken along.
pub(crate) fn probe_bytes() -> usize {
    let source = World::addr(1);
    let ping = Message::Ping(Ping {
        seq: 1000,
        node: "n1000",
        source: Source {
            addr: Some(source.ip()),
            port: source.port(),
            node: "n1001",
        },
    });
    // A place like any other: numbers that don't compress.
    let coordinate = Coordinate {
        vec: (1..=8).map(|axis| 0.001 / f64::from(axis)).collect(),
        error: 0.123,
        adjustment: -0.000_123,
        height: 0.000_123,
    };
    let ack = Message::Ack(Ack {
        seq: 1000,
        payload: &encode_payload(&coordinate),
    });
    let envelope = Envelope::new(EnvelopeConfig::default());
    let mut bytes = 0;
    for message in [ping.to_bytes(), ack.to_bytes()] {
        let rng = &mut StdRng::seed_from_u64(1);
        envelope
            .seal_packets(&[message], 0, rng, |packet| bytes += packet.len())
            .expect("it is small");
    }
    bytes
}
