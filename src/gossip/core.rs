//! A node of the gossip: who is there, and what everybody is to hear.
//!
//! [`Gossip`] is memberlist without I/O and clock. Packets, streams and timers go in; network commands come out of
//! [`Gossip::poll_network`] and what the layer above must know out of [`Gossip::poll_event`]. Its parts each have a
//! file: [`super::probe`] asks nodes whether they live, [`super::state`] decides what becomes of the answers and of what
//! others say, [`super::packets`] reads and sends packets, [`super::exchange`] owns the streams, [`super::merge`] takes
//! in what other nodes know, [`super::join`] finds them.
//!
//! Work is bounded: a push/pull is merged in steps, each [`Gossip::handle_timeout`] doing one.
//!
//! A timer that fires late says something about this node, not about others. So lateness counts as ill health, the
//! probe of that moment gets no verdict, and suspicions wait until the other nodes had a chance to be heard.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::awareness::Awareness;
use super::broadcast::{BroadcastQueue, BroadcastToken, Terms};
use super::counters::GossipCounters;
use super::envelope::{Envelope, EnvelopeConfig};
use super::exchange::Streams;
use super::join::Joins;
use super::keyring::Keyring;
use super::merge::Merge;
use super::nodes::{Node, NodeId, NodeTable};
use super::packet::PacketScratch;
use super::packets::Relay;
use super::probe::Probe;
use super::timing::Timing;
use crate::backlog;
use crate::cluster::{Catalog, NetworkCommand, NetworkEvent, NodeInfo, StreamId};
use crate::timer_wheel::TimerWheel;

/// Most broadcasts in a queue of a small cluster; a larger one has room for two of each node.
pub const QUEUE_MIN: usize = 4096;
/// Most broadcasts in a queue while nobody is there to hear them: as many as the buffers of events reach back.
const QUEUE_ALONE: usize = 512;

/// What a node starts from.
#[derive(Debug, Clone)]
pub struct GossipConfig {
    /// Who the node is, where others find it, and what it says of itself, in at most 512 bytes.
    pub node: Arc<NodeInfo>,
    /// The gossip port of nodes that don't say theirs.
    pub default_port: u16,
    /// How packets and streams are wrapped.
    pub envelope: EnvelopeConfig,
    /// How often and how long.
    pub timing: Timing,
    /// Where nodes are described once for all nodes of this process, if there are several.
    pub catalog: Option<Catalog>,
    /// Seed of all randomness. Nobody must be able to foresee it: nonces come from it.
    pub seed: [u8; 32],
}

/// What the layer above must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipEvent {
    /// A node is new, or back.
    Alive(Arc<NodeInfo>),
    /// A node says something else of itself.
    Updated(Arc<NodeInfo>),
    /// A node is gone.
    Gone {
        /// Its name.
        name: Arc<str>,
        /// Whether it said so itself.
        left: bool,
    },
    /// Two nodes claim a name.
    Conflict {
        /// The name.
        name: Arc<str>,
        /// Where the one is that was known first.
        existing: SocketAddr,
        /// Where the other is.
        other: SocketAddr,
    },
    /// Another node sent a message of the layer above.
    Message(Vec<u8>),
    /// An exchange needs what the layer above knows: call [`Gossip::send_state`].
    StateWanted(StreamId),
    /// What the layer above of another node knows.
    StateReceived {
        /// As that node encoded it.
        state: Vec<u8>,
        /// Whether one of the two joins the other.
        join: bool,
    },
    /// A node answered a probe.
    Acked {
        /// Its name.
        name: Arc<str>,
        /// How long that took.
        round_trip: Duration,
        /// What it sent along.
        payload: Vec<u8>,
    },
    /// A broadcast was sent often enough, or replaced by another.
    BroadcastDone(BroadcastToken),
    /// A join has ended.
    Joined {
        /// What [`Gossip::join`] returned.
        join: u64,
        /// How many nodes answered.
        count: usize,
        /// What went wrong with the others, in the order of the addresses.
        failures: Vec<String>,
    },
}

/// Which messages go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Intents to join and to leave.
    Intents = 0,
    /// Queries.
    Queries = 1,
    /// User events.
    Events = 2,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timer {
    /// The next probe.
    Probe,
    /// A probe waited long enough for the node itself.
    ProbeTimeout(u32),
    /// A probe waited long enough.
    ProbeEnd(u32),
    /// The next round of gossip.
    Gossip,
    /// The next push/pull.
    PushPull,
    /// A node was suspected long enough.
    Suspicion(NodeId),
    /// A ping for another node had no answer.
    Relay(u32),
    /// A stream took too long.
    Stream(StreamId),
    /// A name took too long to look up.
    Resolve(u64),
}

/// A node of the gossip.
#[derive(Debug)]
pub struct Gossip {
    pub(super) name: Arc<str>,
    pub(super) local: NodeId,
    pub(super) default_port: u16,
    pub(super) timing: Timing,
    pub(super) envelope: Envelope,
    pub(super) rng: StdRng,
    pub(super) wheel: TimerWheel<Timer>,
    pub(super) nodes: NodeTable,
    pub(super) catalog: Option<Catalog>,
    /// Nodes other than this one that are not gone.
    pub(super) others_present: usize,
    pub(super) awareness: Awareness,
    pub(super) incarnation: u32,
    pub(super) sequence: u32,
    pub(super) left: bool,
    pub(super) membership_queue: BroadcastQueue,
    pub(super) queues: [BroadcastQueue; 3],
    pub(super) gossip_armed: bool,
    pub(super) gossiped_at: Instant,
    pub(super) push_pull_armed: bool,
    pub(super) probe: Option<Probe>,
    pub(super) probe_armed: bool,
    /// A probe was due while one was going on.
    pub(super) probe_missed: bool,
    /// No suspicion ends before this.
    pub(super) grace_until: Instant,
    pub(super) relays: HashMap<u32, Relay>,
    pub(super) ack_payload: Vec<u8>,
    pub(super) streams: Streams,
    pub(super) merges: VecDeque<Merge>,
    pub(super) joins: Joins,
    pub(super) counters: GossipCounters,
    pub(super) commands: VecDeque<NetworkCommand>,
    pub(super) events: VecDeque<GossipEvent>,
    pub(super) scratch: PacketScratch,
    /// The last time that came in.
    now: Instant,
}

impl Gossip {
    /// A node that knows itself only.
    #[must_use]
    pub fn new(now: Instant, config: GossipConfig) -> Self {
        let mut rng = StdRng::from_seed(config.seed);
        let name = Arc::clone(&config.node.name);
        let mut nodes = NodeTable::default();
        let local = nodes.insert(&mut rng, Node::new(config.node, 1));
        let awareness = Awareness::new(config.timing.awareness_max);
        Self {
            name,
            local,
            default_port: config.default_port,
            timing: config.timing,
            envelope: Envelope::new(config.envelope),
            rng,
            wheel: TimerWheel::new(now),
            nodes,
            catalog: config.catalog,
            others_present: 0,
            awareness,
            incarnation: 1,
            sequence: 0,
            left: false,
            membership_queue: BroadcastQueue::default(),
            queues: Default::default(),
            gossip_armed: false,
            gossiped_at: now,
            push_pull_armed: false,
            probe: None,
            probe_armed: false,
            probe_missed: false,
            grace_until: now,
            relays: HashMap::new(),
            ack_payload: Vec::new(),
            streams: Streams::default(),
            merges: VecDeque::new(),
            joins: Joins::default(),
            counters: GossipCounters::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            scratch: PacketScratch::default(),
            now,
        }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where others find this node.
    #[must_use]
    pub fn advertise(&self) -> SocketAddr {
        self.nodes
            .get(self.local)
            .map_or_else(|| ([0, 0, 0, 0], 0).into(), |node| node.info.socket_addr())
    }

    /// How many nodes there are, this one included, that are not gone.
    #[must_use]
    pub const fn present(&self) -> usize {
        self.others_present + 1
    }

    /// 0 for a healthy node, up to 7 for one that has trouble of its own.
    #[must_use]
    pub const fn health_score(&self) -> u32 {
        self.awareness.score()
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counters(&self) -> &GossipCounters {
        &self.counters
    }

    /// How often and how long.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The cluster's keys, if it is encrypted.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.envelope.keyring()
    }

    /// Changes the cluster's keys; what goes out from now on is encrypted with the first one.
    pub fn set_keyring(&mut self, keyring: Keyring) {
        self.envelope.set_keyring(Some(keyring));
    }

    /// What this node sends along when it answers pings.
    pub fn set_ack_payload(&mut self, payload: Vec<u8>) {
        self.ack_payload = payload;
    }

    /// How many messages wait in a queue.
    #[must_use]
    pub fn queued(&self, queue: Queue) -> usize {
        self.queues
            .get(queue as usize)
            .map_or(0, BroadcastQueue::len)
    }

    /// How many bytes are held for streams and states that are being merged.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.streams.held
    }

    /// How much news about nodes waits to be passed on.
    #[must_use]
    pub fn queued_news(&self) -> usize {
        self.membership_queue.len()
    }

    /// Has everybody hear a message of the layer above.
    pub fn broadcast(&mut self, now: Instant, queue: Queue, message: &[u8], terms: Terms) {
        self.now = now;
        let mut user = Vec::with_capacity(1 + message.len());
        super::message::Message::User(message).encode(&mut user);
        let limit = self.queue_limit();
        if let Some(queue) = self.queues.get_mut(queue as usize) {
            queue.push(user.into(), terms, limit);
        }
        self.take_finished();
        self.arm_gossip(now);
    }

    /// Most broadcasts in a queue.
    pub(super) fn queue_limit(&self) -> usize {
        if self.others_present == 0 {
            QUEUE_ALONE
        } else {
            QUEUE_MIN.max(2 * self.nodes.len())
        }
    }

    /// Tells of the broadcasts that have ended.
    pub(super) fn take_finished(&mut self) {
        let queues = self.queues.iter_mut().chain([&mut self.membership_queue]);
        self.counters.queue_drops = 0;
        for queue in queues {
            self.counters.queue_drops += queue.dropped();
            let finished = queue.take_finished().map(GossipEvent::BroadcastDone);
            self.events.extend(finished);
        }
    }

    /// Takes in what the network brought.
    pub fn handle_network(&mut self, now: Instant, event: NetworkEvent<'_>) {
        self.now = now;
        match event {
            NetworkEvent::Packet { from, payload } => self.handle_packet(now, from, payload),
            NetworkEvent::PacketFailed { to, error } => self.packet_failed(now, to, &error),
            NetworkEvent::Resolved { request, result } => self.resolved(now, request, result),
            NetworkEvent::Connected { stream } => self.connected(stream),
            NetworkEvent::Accepted { stream, from } => self.accepted(now, stream, from),
            NetworkEvent::Received { stream, bytes } => self.received(now, stream, bytes),
            NetworkEvent::Ended { stream, error } => self.ended(now, stream, error.as_deref()),
        }
    }

    /// Lets timers fire that are due, and goes on with what is to be merged. To be called after what came in was handled.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if let Some(due) = self.wheel.next_deadline() {
            self.note_lag(now, now.saturating_duration_since(due));
        }
        while let Some(timer) = self.wheel.pop_expired(now) {
            match timer {
                Timer::Probe => self.probe_due(now),
                Timer::ProbeTimeout(sequence) => self.probe_timed_out(now, sequence),
                Timer::ProbeEnd(sequence) => self.probe_ended(now, sequence),
                Timer::Gossip => self.gossip(now),
                Timer::PushPull => self.push_pull(now),
                Timer::Suspicion(node) => self.suspicion_ended(now, node),
                Timer::Relay(sequence) => self.relay_timed_out(sequence),
                Timer::Stream(stream) => self.stream_timed_out(now, stream),
                Timer::Resolve(attempt) => self.resolve_timed_out(now, attempt),
            }
        }
        if self.has_busy_streams() {
            self.continue_stream(now);
        } else {
            self.merge_some(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.merges.is_empty() && !self.has_busy_streams() {
            self.wheel.next_deadline()
        } else {
            Some(self.now)
        }
    }

    /// The next thing to ask of the network.
    pub fn poll_network(&mut self) -> Option<NetworkCommand> {
        backlog::pop(&mut self.commands)
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<GossipEvent> {
        backlog::pop(&mut self.events)
    }

    /// A turn came `lag` after it was due.
    fn note_lag(&mut self, now: Instant, lag: Duration) {
        if lag < self.timing.probe_timeout {
            return;
        }
        self.counters.late_turns += 1;
        log::warn!(
            "memberlist: this node was held up for {} ms; suspicions wait",
            lag.as_millis()
        );
        let intervals = lag.as_secs_f64() / self.timing.probe_interval.as_secs_f64();
        self.awareness.worsen(1 + intervals as u32);
        let shortest = self.timing.suspicion_min(self.nodes.len());
        self.grace_until = now + lag.min(shortest);
        self.give_up_probe();
    }

    /// Makes sure that probes and push/pulls go on once there is somebody else.
    pub(super) fn arm_for_company(&mut self, now: Instant) {
        if self.others_present == 0 || self.left {
            return;
        }
        // Each starts at a random moment, so that nodes which start together don't act together.
        if !self.probe_armed {
            self.probe_armed = true;
            let stagger = self.stagger(self.timing.probe_interval);
            self.wheel.insert(now + stagger, Timer::Probe);
        }
        if !self.push_pull_armed {
            self.push_pull_armed = true;
            let interval = self.timing.push_pull_interval(self.nodes.len());
            let stagger = self.stagger(self.timing.push_pull_interval);
            self.wheel.insert(now + interval + stagger, Timer::PushPull);
        }
        self.arm_gossip(now);
    }

    /// Makes sure that there is a round of gossip while there is something to say.
    pub(super) fn arm_gossip(&mut self, now: Instant) {
        let nothing =
            self.membership_queue.is_empty() && self.queues.iter().all(BroadcastQueue::is_empty);
        if nothing || self.gossip_armed || self.nodes.len() < 2 {
            return;
        }
        self.gossip_armed = true;
        let due = self.gossiped_at + self.timing.gossip_interval;
        self.wheel.insert(due.max(now), Timer::Gossip);
    }

    fn stagger(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(self.rng.random())
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}
