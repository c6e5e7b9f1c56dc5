//! Probes: one node after the other is asked whether it lives, as SWIM does it with Lifeguard's additions.
//!
//! A node that does not answer a ping in time is asked through a few others and over TCP; if nothing helps until the
//! interval is over, it is suspected. Those who were asked for help say so when they had no answer either: who hears
//! nothing even from them has a problem of its own. Source: hashicorp/memberlist, `state.go` (`probeNode`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info, warn};

use super::core::{Gossip, GossipEvent, Timer};
use super::message::{Ack, IndirectPing, Message, Nack, NodeState, Suspect};
use super::nodes::NodeId;
use crate::cluster::StreamId;
use crate::timer_wheel::TimerKey;

/// From this memberlist protocol on, a node answers pings over TCP.
const TCP_PING_PROTOCOL_MIN: u8 = 3;
/// From this memberlist protocol on, a node sends nacks.
const NACK_PROTOCOL_MIN: u8 = 4;

/// The probe that is going on.
#[derive(Debug)]
pub(super) struct Probe {
    id: NodeId,
    name: Arc<str>,
    addr: SocketAddr,
    incarnation: u32,
    protocol_max: u8,
    sequence: u32,
    sent: Instant,
    /// Ends the wait for the node itself, and all waiting.
    timers: [TimerKey; 2],
    help: Option<Help>,
}

/// What others do for a probe.
#[derive(Debug, Default)]
struct Help {
    nacks_expected: u32,
    nacks: u32,
    /// The ping over TCP, while it goes on.
    stream: Option<StreamId>,
    /// It was answered.
    reached: bool,
}

impl Gossip {
    /// It is time for a probe.
    pub(super) fn probe_due(&mut self, now: Instant) {
        if self.left || self.others_present == 0 {
            self.probe_armed = false;
            return;
        }
        self.wheel
            .insert(now + self.timing.probe_interval, Timer::Probe);
        if self.probe.is_some() {
            self.probe_missed = true;
        } else {
            self.start_probe(now);
        }
    }

    fn start_probe(&mut self, now: Instant) {
        let gone_for = self.timing.gossip_to_the_dead;
        let Some(id) = self
            .nodes
            .next_to_probe(now, &mut self.rng, self.local, gone_for)
        else {
            return;
        };
        let sequence = self.next_sequence();
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let probe = Probe {
            id,
            name: Arc::clone(&node.info.name),
            addr: node.info.socket_addr(),
            incarnation: node.incarnation,
            protocol_max: node.info.protocol.max,
            sequence,
            sent: now,
            timers: [
                self.wheel.insert(
                    now + self.timing.probe_timeout,
                    Timer::ProbeTimeout(sequence),
                ),
                self.wheel.insert(
                    now + self.awareness.scale(self.timing.probe_interval),
                    Timer::ProbeEnd(sequence),
                ),
            ],
            help: None,
        };
        let suspected = node.state != NodeState::Alive;
        self.counters.probes += 1;
        let ping = self.ping(sequence, &probe.name);
        if suspected {
            // So that it can refute as soon as possible.
            let name = Arc::clone(&self.name);
            let suspect = Message::Suspect(Suspect {
                incarnation: probe.incarnation,
                node: &probe.name,
                from: &name,
            });
            self.send_to_node(id, &[ping, suspect.to_bytes()]);
        } else {
            self.send_message(probe.addr, &ping);
        }
        self.probe = Some(probe);
    }

    pub(super) fn probe_acked(&mut self, now: Instant, ack: &Ack<'_>) {
        let Some(probe) = self.probe.take_if(|probe| probe.sequence == ack.seq) else {
            return;
        };
        self.awareness.improve();
        // What came late or through others says nothing of the distance.
        if probe.help.is_none() {
            let round_trip = now.saturating_duration_since(probe.sent);
            self.counters.probe_acks += 1;
            self.counters.probe_ack_micros += u64::try_from(round_trip.as_micros()).unwrap_or(0);
            self.events.push_back(GossipEvent::Acked {
                name: Arc::clone(&probe.name),
                round_trip,
                payload: ack.payload.to_vec(),
            });
        }
        self.end_probe(now, &probe);
    }

    pub(super) fn handle_nack(&mut self, nack: Nack) {
        if let Some(probe) = &mut self.probe
            && probe.sequence == nack.seq
            && let Some(help) = &mut probe.help
        {
            help.nacks = help.nacks_expected.min(help.nacks + 1);
        }
    }

    /// The network did not take a packet. If it was the probe's, others are asked at once.
    pub(super) fn packet_failed(&mut self, now: Instant, to: SocketAddr, error: &str) {
        self.counters.packets_failed += 1;
        if self.counters.packets_failed.is_power_of_two() {
            log::error!("memberlist: Failed to send a packet to {to}: {error}");
        }
        let ping = self.probe.as_ref();
        if let Some(probe) = ping.filter(|probe| probe.addr == to && probe.help.is_none()) {
            let sequence = probe.sequence;
            self.ask_for_help(now, sequence);
        }
    }

    pub(super) fn probe_timed_out(&mut self, now: Instant, sequence: u32) {
        let waiting = self.probe.as_ref();
        if let Some(probe) =
            waiting.filter(|probe| probe.sequence == sequence && probe.help.is_none())
        {
            debug!(
                "memberlist: Failed UDP ping: {} (timeout reached)",
                probe.name
            );
            self.ask_for_help(now, sequence);
        }
    }

    /// Has others ping the node, and pings it over TCP.
    fn ask_for_help(&mut self, now: Instant, sequence: u32) {
        let Some(mut probe) = self.probe.take() else {
            return;
        };
        let (local, target) = (self.local, probe.id);
        let helpers = self
            .nodes
            .pick(&mut self.rng, self.timing.indirect_checks, |id, node| {
                id != local && id != target && node.state == NodeState::Alive
            });
        let mut help = Help::default();
        for id in helpers {
            let Some(helper) = self.nodes.get(id) else {
                continue;
            };
            let nack = helper.info.protocol.max >= NACK_PROTOCOL_MIN;
            help.nacks_expected += u32::from(nack);
            let to = helper.info.socket_addr();
            let message = Message::IndirectPing(IndirectPing {
                seq: sequence,
                target: Some(probe.addr.ip()),
                port: probe.addr.port(),
                node: &probe.name,
                nack,
                source: self.source(),
            });
            let message = message.to_bytes();
            self.send_message(to, &message);
        }
        if probe.protocol_max >= TCP_PING_PROTOCOL_MIN {
            let until = probe.sent + self.awareness.scale(self.timing.probe_interval);
            let ping = self.ping(sequence, &probe.name);
            help.stream = Some(self.open_ping(now, until, probe.addr, sequence, ping));
        }
        probe.help = Some(help);
        self.probe = Some(probe);
    }

    /// The ping over TCP was answered. The probe goes on: an answer by packet would be better news.
    pub(super) fn probe_reached(&mut self, sequence: u32) {
        if let Some(probe) = &mut self.probe
            && probe.sequence == sequence
            && let Some(help) = &mut probe.help
        {
            help.reached = true;
            help.stream = None;
        }
    }

    pub(super) fn probe_ended(&mut self, now: Instant, sequence: u32) {
        let Some(probe) = self.probe.take_if(|probe| probe.sequence == sequence) else {
            return;
        };
        let help = probe.help.as_ref();
        if help.is_some_and(|help| help.reached) {
            warn!(
                "memberlist: Was able to connect to {} over TCP but UDP probes failed, network may be misconfigured",
                probe.name
            );
            self.awareness.improve();
        } else {
            self.counters.probes_failed += 1;
            let (expected, nacks) = help.map_or((0, 0), |help| (help.nacks_expected, help.nacks));
            self.awareness.worsen(match expected {
                0 => 1,
                _ => expected - nacks,
            });
            info!(
                "memberlist: Suspect {} has failed, no acks received",
                probe.name
            );
            let from = Arc::clone(&self.name);
            let suspect = Suspect {
                incarnation: probe.incarnation,
                node: &probe.name,
                from: &from,
            };
            self.suspect_node(now, &suspect);
        }
        self.end_probe(now, &probe);
    }

    /// Forgets the probe that is going on, without a verdict.
    pub(super) fn give_up_probe(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.clean_up(&probe);
        }
    }

    fn end_probe(&mut self, now: Instant, probe: &Probe) {
        self.clean_up(probe);
        // A probe that took longer than the interval is followed by the next at once.
        if std::mem::take(&mut self.probe_missed) && !self.left {
            self.start_probe(now);
        }
    }

    fn clean_up(&mut self, probe: &Probe) {
        for timer in probe.timers {
            self.wheel.cancel(timer);
        }
        if let Some(stream) = probe.help.as_ref().and_then(|help| help.stream) {
            self.abandon_stream(stream);
        }
    }
}
