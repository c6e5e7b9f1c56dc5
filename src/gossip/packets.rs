//! Packets: what comes in is handed to whom it concerns, what goes out takes broadcasts along.
//!
//! A packet has room for 1400 bytes. News about nodes go first, but where messages of the layer above wait, a share
//! of the room is theirs: in a large cluster in turmoil events would else never get through. Source:
//! hashicorp/memberlist, `net.go` and `state.go` (`gossip`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use super::broadcast::BroadcastQueue;
use super::core::{Gossip, GossipEvent, Timer};
use super::message::{Ack, IndirectPing, Message, Nack, NodeState, Ping, Source};
use super::nodes::{Node, NodeId};
use super::packet::{COMPOUND_ENTRY_BYTES, PacketError};
use super::state::Hearing;
use crate::cluster::NetworkCommand;
use crate::timer_wheel::TimerKey;

/// Pings for other nodes that are waited for at once.
const RELAYS_MAX: usize = 1024;
/// While messages of the layer above wait, one part in so many of each packet is theirs.
const USER_SHARE: usize = 4;
/// Memory kept between packets for opening them, in bytes.
const SCRATCH_KEPT_MAX: usize = 16 * 1024;

/// A ping made for another node.
#[derive(Debug)]
pub(super) struct Relay {
    /// What that node calls it.
    sequence: u32,
    to: SocketAddr,
    /// Whether it wants to hear when there is no answer.
    nack: bool,
    timer: TimerKey,
}

/// Whether messages count as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Yes,
    No,
}

impl Gossip {
    pub(super) fn handle_packet(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.counters.packets_in += 1;
        self.counters.bytes_in += packet.len() as u64;
        let mut scratch = std::mem::take(&mut self.scratch);
        match self.envelope.open_packet(packet, &mut scratch) {
            Ok(messages) => {
                let truncated = messages.truncated();
                // Opening borrowed the envelope only; the messages borrow the scratch.
                for message in messages {
                    self.handle_message(now, from, message);
                }
                if truncated > 0 {
                    self.counters.malformed += 1;
                    warn!(
                        "memberlist: Compound request had {truncated} truncated messages from={from}"
                    );
                }
            }
            Err(error) => self.refuse_packet(from, &error),
        }
        scratch.shrink(SCRATCH_KEPT_MAX);
        self.scratch = scratch;
    }

    fn refuse_packet(&mut self, from: SocketAddr, error: &PacketError) {
        let counter = match error {
            PacketError::Label(_) => &mut self.counters.label_errors,
            PacketError::Decrypt(_) => &mut self.counters.decrypt_errors,
            PacketError::Checksum { .. } => &mut self.counters.checksum_errors,
            PacketError::Decompress(_) | PacketError::Truncated | PacketError::Empty => {
                &mut self.counters.malformed
            }
        };
        *counter += 1;
        // Whoever can send packets could else fill the log.
        if counter.is_power_of_two() {
            log::error!("memberlist: {error} from={from} (the {counter}th packet of this kind)");
        }
    }

    fn handle_message(&mut self, now: Instant, from: SocketAddr, message: &[u8]) {
        match Message::decode(message) {
            Ok(Message::Ping(ping)) => self.handle_ping(from, &ping),
            Ok(Message::IndirectPing(ping)) => self.handle_indirect_ping(now, from, &ping),
            Ok(Message::Ack(ack)) => self.handle_ack(now, &ack),
            Ok(Message::Nack(nack)) => self.handle_nack(nack),
            Ok(Message::Alive(alive)) => self.alive_node(now, &alive, Hearing::News),
            Ok(Message::Suspect(suspect)) => self.suspect_node(now, &suspect),
            Ok(Message::Dead(dead)) => self.dead_node(now, &dead, None),
            Ok(Message::User(message)) => {
                let message = GossipEvent::Message(message.to_vec());
                self.events.push_back(message);
            }
            Err(error) => {
                self.counters.malformed += 1;
                if self.counters.malformed.is_power_of_two() {
                    log::error!(
                        "memberlist: {error} from={from} (the {}th of this kind)",
                        self.counters.malformed
                    );
                }
            }
        }
    }

    fn handle_ping(&mut self, from: SocketAddr, ping: &Ping<'_>) {
        if !ping.node.is_empty() && *ping.node != *self.name {
            warn!(
                "memberlist: Got ping for unexpected node '{}' from={from}",
                ping.node
            );
            return;
        }
        let ack = Message::Ack(Ack {
            seq: ping.seq,
            payload: &self.ack_payload,
        });
        let ack = ack.to_bytes();
        self.send_message(answer_to(&ping.source, from), &ack);
    }

    fn handle_indirect_ping(&mut self, now: Instant, from: SocketAddr, ping: &IndirectPing<'_>) {
        let Some(target) = ping.target else {
            self.counters.malformed += 1;
            return;
        };
        if self.relays.len() >= RELAYS_MAX {
            debug!("memberlist: Too many indirect pings at once, from={from}");
            return;
        }
        let port = match ping.port {
            0 => self.default_port,
            port => port,
        };
        let sequence = self.next_sequence();
        let relay = Relay {
            sequence: ping.seq,
            to: answer_to(&ping.source, from),
            nack: ping.nack,
            timer: self
                .wheel
                .insert(now + self.timing.probe_timeout, Timer::Relay(sequence)),
        };
        self.relays.insert(sequence, relay);
        let message = self.ping(sequence, ping.node);
        self.send_message(SocketAddr::new(target, port), &message);
    }

    /// A ping of this node's, encoded.
    pub(super) fn ping(&self, sequence: u32, node: &str) -> Vec<u8> {
        let ping = Ping {
            seq: sequence,
            node,
            source: self.source(),
        };
        Message::Ping(ping).to_bytes()
    }

    /// Where answers to this node go.
    pub(super) fn source(&self) -> Source<'_> {
        let advertise = self.advertise();
        Source {
            addr: Some(advertise.ip()),
            port: advertise.port(),
            node: &self.name,
        }
    }

    fn handle_ack(&mut self, now: Instant, ack: &Ack<'_>) {
        if let Some(relay) = self.relays.remove(&ack.seq) {
            self.wheel.cancel(relay.timer);
            let answer = Message::Ack(Ack {
                seq: relay.sequence,
                payload: &[],
            });
            self.send_message(relay.to, &answer.to_bytes());
        } else {
            self.probe_acked(now, ack);
        }
    }

    pub(super) fn relay_timed_out(&mut self, sequence: u32) {
        if let Some(relay) = self.relays.remove(&sequence)
            && relay.nack
        {
            let answer = Message::Nack(Nack {
                seq: relay.sequence,
            });
            self.send_message(relay.to, &answer.to_bytes());
        }
    }

    /// A round of gossip: what everybody is to hear, to a few.
    pub(super) fn gossip(&mut self, now: Instant) {
        self.gossip_armed = false;
        self.gossiped_at = now;
        let dead_for = self.timing.gossip_to_the_dead;
        let local = self.local;
        let targets = self
            .nodes
            .pick(&mut self.rng, self.timing.gossip_nodes, |id, node| {
                id != local
                    && match node.state {
                        NodeState::Alive | NodeState::Suspect => true,
                        NodeState::Dead => node.gone_for(now) <= dead_for,
                        NodeState::Left => false,
                    }
            });
        let anybody = !targets.is_empty();
        for id in targets {
            let gone = self.nodes.get(id).is_some_and(Node::is_gone);
            // A node that is gone most likely hears nothing, so that it is not to use up what others have to hear.
            let count = if gone { Count::No } else { Count::Yes };
            let messages = self.broadcasts(self.envelope.packet_room(), count);
            if messages.is_empty() {
                break;
            }
            self.send_to_node(id, &messages);
        }
        self.take_finished();
        if anybody {
            self.arm_gossip(now);
        }
    }

    /// Messages that everybody is to hear, for the room there is.
    fn broadcasts(&mut self, room: usize, count: Count) -> Vec<Arc<[u8]>> {
        let mut messages = Vec::new();
        let limit = self.timing.retransmit_limit(self.nodes.len());
        let users_wait = self.queues.iter().any(|queue| !queue.is_empty());
        let reserved = if users_wait { room / USER_SHARE } else { 0 };
        let mut take = |queue: &mut BroadcastQueue, room| match count {
            Count::Yes => queue.take(room, COMPOUND_ENTRY_BYTES, limit, &mut messages),
            Count::No => queue.peek(room, COMPOUND_ENTRY_BYTES, &mut messages),
        };
        let mut left = room - take(&mut self.membership_queue, room - reserved);
        for queue in &mut self.queues {
            left -= take(queue, left);
        }
        messages
    }

    /// Sends a message to an address, with as many broadcasts as fit.
    pub(super) fn send_message(&mut self, to: SocketAddr, message: &[u8]) {
        let room = self.envelope.packet_room();
        let room = room.saturating_sub(message.len() + COMPOUND_ENTRY_BYTES);
        let mut messages: Vec<Arc<[u8]>> = vec![message.into()];
        messages.extend(self.broadcasts(room, Count::Yes));
        self.take_finished();
        // memberlist knows the receiver's version only where it gossips.
        self.send_packet(to, &messages, 0);
    }

    /// Sends a message of the layer above to an address, on its own.
    pub fn send_user(&mut self, to: SocketAddr, message: &[u8]) {
        let message = Message::User(message).to_bytes();
        self.send_packet(to, &[message], 0);
    }

    /// Sends messages to a node in one packet.
    pub(super) fn send_to_node<M: AsRef<[u8]>>(&mut self, id: NodeId, messages: &[M]) {
        if let Some(node) = self.nodes.get(id) {
            let (to, protocol_max) = (node.info.socket_addr(), node.info.protocol.max);
            self.send_packet(to, messages, protocol_max);
        }
    }

    fn send_packet<M: AsRef<[u8]>>(&mut self, to: SocketAddr, messages: &[M], protocol_max: u8) {
        let (commands, counters) = (&mut self.commands, &mut self.counters);
        let send = |payload: Vec<u8>| {
            counters.packets_out += 1;
            counters.bytes_out += payload.len() as u64;
            commands.push_back(NetworkCommand::SendPacket { to, payload });
        };
        let sealed = self
            .envelope
            .seal_packets(messages, protocol_max, &mut self.rng, send);
        if let Err(error) = sealed {
            log::error!("memberlist: Failed to send to {to}: {error}");
        }
    }
}

/// Where an answer goes: to where the asking node says, if it says it all.
fn answer_to(source: &Source<'_>, from: SocketAddr) -> SocketAddr {
    match source.addr {
        Some(ip) if source.port != 0 => SocketAddr::new(ip, source.port),
        _ => from,
    }
}
