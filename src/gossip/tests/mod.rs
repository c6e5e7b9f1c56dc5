//! Conversations with a node of the gossip: packets, streams and time in; packets, streams and events out.

mod exchanges;
mod packets;
mod probes;
mod states;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::broadcast::Terms;
use super::envelope::{Envelope, EnvelopeConfig};
use super::message::{Alive, Message, Versions};
use super::packet::PacketScratch;
use super::timing::Timing;
use super::*;
use crate::cluster::{NetworkCommand, NetworkEvent, NodeInfo};

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7946))
}

/// A node under test, at 10.0.0.1, and the time.
struct Scene {
    now: Instant,
    gossip: Gossip,
    /// Opens what it sends.
    envelope: Envelope,
}

impl Scene {
    fn new() -> Self {
        Self::with(EnvelopeConfig::default())
    }

    fn with(envelope: EnvelopeConfig) -> Self {
        let now = Instant::now();
        let Versions { protocol, delegate } = Versions::CURRENT;
        let config = GossipConfig {
            node: NodeInfo::new("me".into(), addr(1), b"mine", protocol, delegate).into(),
            default_port: 7946,
            envelope: envelope.clone(),
            timing: Timing::LAN,
            catalog: None,
            seed: [1; 32],
        };
        Self {
            now,
            gossip: Gossip::new(now, config),
            envelope: Envelope::new(envelope),
        }
    }

    /// A node that knows so many others: `n2` at 10.0.0.2 and so on.
    fn among(count: u8) -> Self {
        Self::new().with_others(count)
    }

    /// The same, but it probes nobody.
    fn quietly_among(count: u8) -> Self {
        let mut scene = Self::new();
        scene.gossip.probe_armed = true;
        scene.with_others(count)
    }

    fn with_others(self, count: u8) -> Self {
        let mut scene = self;
        for last in 2..2 + count {
            let name = format!("n{last}");
            scene.hear(&Message::Alive(alive(&name, last, 1)));
        }
        scene.events();
        scene.packets();
        scene
    }

    /// A packet with one message comes in.
    fn hear(&mut self, message: &Message<'_>) {
        self.hear_packet(&message.to_bytes());
    }

    fn hear_packet(&mut self, payload: &[u8]) {
        let event = NetworkEvent::Packet {
            from: addr(99),
            payload,
        };
        self.gossip.handle_network(self.now, event);
    }

    /// Messages go out to these addresses since the last call, in their encoded form.
    fn packets(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut scratch = PacketScratch::default();
        let mut messages = Vec::new();
        while let Some(command) = self.gossip.poll_network() {
            if let NetworkCommand::SendPacket { to, payload } = command {
                let opened = self.envelope.open_packet(&payload, &mut scratch).unwrap();
                messages.extend(opened.map(|message| (to, message.to_vec())));
            }
        }
        messages
    }

    fn commands(&mut self) -> Vec<NetworkCommand> {
        std::iter::from_fn(|| self.gossip.poll_network()).collect()
    }

    fn events(&mut self) -> Vec<GossipEvent> {
        std::iter::from_fn(|| self.gossip.poll_event()).collect()
    }

    /// Lets time pass; timers fire at their times.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.gossip.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.gossip.handle_timeout(self.now);
        }
        self.now = end;
    }
}

fn alive(name: &str, last: u8, incarnation: u32) -> Alive<'_> {
    Alive {
        incarnation,
        node: name,
        addr: Some(addr(last).ip()),
        port: 7946,
        meta: b"",
        versions: Some(Versions::CURRENT),
    }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(9)
}
