//! [`Serf`]: a node of a Serf cluster, as the RPC server and an embedding program see it.
//!
//! It puts Serf's parts on top of [`Gossip`]: what gossip finds out about nodes becomes
//! [`Membership`], messages become events and queries, each told once. It does no I/O: the network is asked
//! through the [`Cluster`] trait, and what is to be kept on disk comes out of [`Serf::poll_file`], for whoever owns the
//! files.
//!
//! Invariants: after every call all that gossip and membership had to tell is told; every operation and every query
//! asked here ends exactly once.

mod conflict;
mod departure;
mod files;
mod joins;
mod keys;
mod messages;
mod queries;
mod resources;
mod sync;

pub use files::FileCommand;
pub use resources::SerfResources;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::departure::Waiting;
use self::files::Files;
use self::joins::JoinState;
use self::keys::KeyState;
use self::queries::{Asked, Received};
use super::coalesce::Coalescer;
use super::coordinate::{CoordinateClient, encode_payload};
use super::membership::{Membership, Retention};
use super::message::{
    QUERY_BYTES_MAX, QUERY_RESPONSE_BYTES_MAX, TAGS_BYTES_MAX, USER_EVENT_BYTES_MAX,
    UserEventMessage,
};
use super::recent::RecentBuffer;
use super::snapshot::Snapshot;
use crate::backlog;
use crate::cluster::{
    Catalog, Cluster, ClusterError, Coordinate, Event, Member, MemberEvent, MemberEventKind,
    MemberStatus, NetworkCommand, NetworkEvent, NodeInfo, Operation, Outcome, Output, QueryId,
    QueryRequest, Tags, Ticket, UserEvent, VersionRange, VisitFigure,
};
use crate::gossip::broadcast::{BroadcastToken, Terms};
use crate::gossip::envelope::EnvelopeConfig;
use crate::gossip::timing::{Timing, power_of_ten};
use crate::gossip::{Gossip, GossipConfig, GossipEvent, Queue};
use crate::timer_wheel::TimerWheel;

/// Between looks at who is gone for long.
const REAP_INTERVAL: Duration = Duration::from_secs(15);
/// How long a node that left stays for others to hear of it.
const LEAVE_PROPAGATE_DELAY: Duration = Duration::from_secs(1);
/// From this Serf protocol on, tags are more than a role.
const TAGS_PROTOCOL_MIN: u8 = 3;
/// From this Serf protocol on, there are queries.
const QUERY_PROTOCOL_MIN: u8 = 4;

/// What a node starts from.
#[derive(Debug)]
pub struct SerfConfig {
    /// The node's name, unique in the cluster.
    pub name: String,
    /// Where others find it.
    pub advertise: SocketAddr,
    /// The gossip port of nodes that don't say theirs.
    pub default_port: u16,
    /// Its tags.
    pub tags: Tags,
    /// The version of Serf's protocol that it speaks, 2 to 5.
    pub protocol: u8,
    /// How often and how long, in gossip.
    pub timing: Timing,
    /// How packets and streams are wrapped: label, keys, compression.
    pub envelope: EnvelopeConfig,
    /// Gathers bursts of events; `None` to tell each at once.
    pub coalescer: Option<Coalescer>,
    /// What is known from before a restart, and is to be known after the next.
    pub snapshot: Option<Snapshot>,
    /// Addresses of nodes to look for while nobody else is there.
    pub seeds: Vec<String>,
    /// Whether changes of the keyring are to be written to a file, by [`Serf::poll_file`].
    pub keyring_file: bool,
    /// Whether changes of the tags are.
    pub tags_file: bool,
    /// Longest user event on the wire, in bytes.
    pub user_event_bytes_max: usize,
    /// Longest query on the wire, in bytes.
    pub query_bytes_max: usize,
    /// Longest answer to a query on the wire, in bytes.
    pub query_response_bytes_max: usize,
    /// Between attempts to reach failed nodes again.
    pub reconnect_interval: Duration,
    /// How long failed nodes are tried again.
    pub reconnect_timeout: Duration,
    /// How long left nodes are remembered.
    pub tombstone_timeout: Duration,
    /// How long it may take to tell everybody of a leave or of new tags, in a cluster of up to nine nodes.
    pub broadcast_timeout: Duration,
    /// Whether the cluster is asked who a name belongs to when another node claims this one's.
    pub resolve_conflicts: bool,
    /// Whether a query that is asked here is done as soon as every living node that it is for has answered, and
    /// acknowledged it if that was asked for; otherwise, as with the reference, at its deadline only.
    pub early_done: bool,
    /// Whether this node takes part in network coordinates.
    pub coordinates: bool,
    /// Where nodes are described once for all nodes of this process, if there are several.
    pub catalog: Option<Catalog>,
    /// Seed of all randomness. Nobody must be able to foresee it: nonces come from it.
    pub seed: [u8; 32],
}

impl SerfConfig {
    /// A node of this name at this address, with the reference's defaults for a local network.
    #[must_use]
    pub fn new(name: impl Into<String>, advertise: SocketAddr, seed: [u8; 32]) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            name: name.into(),
            advertise,
            default_port: advertise.port(),
            tags: Tags::new(),
            protocol: VersionRange::SERF.cur,
            timing: Timing::LAN,
            envelope: EnvelopeConfig::default(),
            coalescer: None,
            snapshot: None,
            seeds: Vec::new(),
            keyring_file: false,
            tags_file: false,
            user_event_bytes_max: USER_EVENT_BYTES_MAX,
            query_bytes_max: QUERY_BYTES_MAX,
            query_response_bytes_max: QUERY_RESPONSE_BYTES_MAX,
            reconnect_interval: Duration::from_secs(30),
            reconnect_timeout: DAY,
            tombstone_timeout: DAY,
            broadcast_timeout: Duration::from_secs(5),
            resolve_conflicts: true,
            early_done: false,
            coordinates: true,
            catalog: None,
            seed,
        }
    }

    fn node(&self, meta: &[u8]) -> NodeInfo {
        let name = self.name.as_str().into();
        let mut delegate = VersionRange::SERF;
        delegate.cur = self.protocol;
        NodeInfo::new(
            name,
            self.advertise,
            meta,
            VersionRange::MEMBERLIST,
            delegate,
        )
    }
}

/// Why a node cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerfError {
    /// The tags do not fit into what gossip carries.
    #[error("Encoded length of tags exceeds limit of {TAGS_BYTES_MAX} bytes: they take {0}")]
    TagsTooLarge(usize),
}

/// Whether the node is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Present,
    Leaving,
    Left,
}

#[derive(Debug)]
enum Timer {
    Reap,
    Reconnect,
    /// A query asked here has reached its deadline; its Lamport time.
    QueryDone(u64),
    /// A query that came can be answered no longer.
    QueryPast(QueryId),
    /// Everybody should have heard of it by now.
    BroadcastTimeout(BroadcastToken),
    /// Others have had time to hear that this node left.
    LeavePropagated,
}

/// A user event that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeardEvent {
    name: String,
    payload: Vec<u8>,
}

/// A node of a Serf cluster.
#[derive(Debug)]
pub struct Serf {
    config: SerfConfig,
    /// As it was at start: what [`Cluster::local`] falls back on.
    initial: Member,
    gossip: Gossip,
    membership: Membership,
    life: Life,
    events: RecentBuffer<HeardEvent>,
    queries: RecentBuffer<u32>,
    coordinates: Option<CoordinateClient>,
    /// Queries asked here that are not done, by Lamport time.
    asked: HashMap<u64, Asked>,
    /// Queries that may be answered.
    received: HashMap<QueryId, Received>,
    joins: JoinState,
    keys: KeyState,
    waiting: HashMap<BroadcastToken, Waiting>,
    conflict_running: bool,
    /// The leave that goes on.
    leave: Option<Ticket>,
    next_ticket: u64,
    next_token: u64,
    rng: StdRng,
    wheel: TimerWheel<Timer>,
    files: Files,
    outputs: VecDeque<Output>,
    /// Where messages are encoded; kept for its memory.
    encoded: Vec<u8>,
}

impl Serf {
    /// A node that is alone as yet. If its snapshot knows others, it looks for them.
    ///
    /// # Errors
    /// [`SerfError`].
    pub fn new(now: Instant, config: SerfConfig) -> Result<Self, SerfError> {
        let meta = encode_meta(&config.tags, config.protocol);
        if meta.len() > TAGS_BYTES_MAX {
            return Err(SerfError::TagsTooLarge(meta.len()));
        }
        let node = Catalog::share_in(config.catalog.as_ref(), config.node(&meta));
        let mut rng = StdRng::from_seed(config.seed);
        let gossip = Gossip::new(
            now,
            GossipConfig {
                node: Arc::clone(&node),
                default_port: config.default_port,
                envelope: config.envelope.clone(),
                timing: config.timing.clone(),
                catalog: config.catalog.clone(),
                seed: rng.random(),
            },
        );
        let initial = alive(node);
        let retention = Retention {
            failed: config.reconnect_timeout,
            left: config.tombstone_timeout,
            leaving: config.broadcast_timeout + LEAVE_PROPAGATE_DELAY,
        };
        let coordinates = config
            .coordinates
            .then(|| CoordinateClient::new(StdRng::from_seed(rng.random())));
        let mut wheel = TimerWheel::new(now);
        wheel.insert(now + REAP_INTERVAL, Timer::Reap);
        wheel.insert(now + config.reconnect_interval, Timer::Reconnect);
        let mut serf = Self {
            membership: Membership::new(initial.clone(), retention),
            initial,
            gossip,
            life: Life::Present,
            events: RecentBuffer::default(),
            queries: RecentBuffer::default(),
            coordinates,
            asked: HashMap::new(),
            received: HashMap::new(),
            joins: JoinState::default(),
            keys: KeyState::default(),
            waiting: HashMap::new(),
            conflict_running: false,
            leave: None,
            next_ticket: 0,
            next_token: 0,
            rng,
            wheel,
            files: Files::default(),
            outputs: VecDeque::new(),
            encoded: Vec::new(),
            config,
        };
        serf.refresh_ack_payload();
        serf.recover(now);
        serf.settle(now);
        Ok(serf)
    }

    /// The gossip below, for its counters.
    #[must_use]
    pub const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Takes in all that gossip and membership have to tell.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.gossip.poll_event() {
            self.handle_gossip(now, event);
        }
        while let Some(event) = self.membership.poll_event() {
            self.tell_member_event(now, event);
        }
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.handle_member_time(now, self.membership.clock().time());
        }
    }

    fn handle_gossip(&mut self, now: Instant, event: GossipEvent) {
        match event {
            GossipEvent::Alive(node) => self.membership.handle_alive(now, alive(node)),
            GossipEvent::Updated(node) => self.membership.handle_update(alive(node)),
            GossipEvent::Gone { name, left } => self.handle_gone(now, &name, left),
            GossipEvent::Conflict {
                name,
                existing,
                other,
            } => self.handle_conflict(now, &name, existing, other),
            GossipEvent::Message(message) => self.handle_message(now, &message),
            GossipEvent::StateWanted(stream) => {
                let state = self.local_state();
                self.gossip.send_state(now, stream, &state);
            }
            GossipEvent::StateReceived { state, join } => self.merge_state(now, &state, join),
            GossipEvent::Acked {
                name,
                round_trip,
                payload,
            } => self.handle_acked(&name, round_trip, &payload),
            GossipEvent::BroadcastDone(token) => self.broadcast_ended(now, token, true),
            GossipEvent::Joined {
                join,
                count,
                failures,
            } => self.joined(now, join, count, failures),
        }
        // In the order in which it happened: what became of members before what comes next.
        while let Some(event) = self.membership.poll_event() {
            self.tell_member_event(now, event);
        }
    }

    fn tell_member_event(&mut self, now: Instant, event: MemberEvent) {
        for member in &event.members {
            let NodeInfo { name, addr, .. } = &**member;
            match event.kind {
                MemberEventKind::Join => info!("serf: EventMemberJoin: {name} {addr}"),
                MemberEventKind::Leave => info!("serf: EventMemberLeave: {name} {addr}"),
                MemberEventKind::Failed => info!("serf: EventMemberFailed: {name} {addr}"),
                MemberEventKind::Update => info!("serf: EventMemberUpdate: {name}"),
                MemberEventKind::Reap => {
                    info!("serf: EventMemberReap: {name}");
                    if let Some(coordinates) = &mut self.coordinates {
                        coordinates.forget(name);
                    }
                    self.joins.forget(name);
                }
            }
        }
        self.tell(now, Event::Member(event));
    }

    fn tell(&mut self, now: Instant, event: Event) {
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.handle_event(now, &event);
        }
        match &mut self.config.coalescer {
            Some(coalescer) => {
                coalescer.handle_event(now, event);
                self.take_coalesced();
            }
            None => self.outputs.push_back(Output::Event(event)),
        }
    }

    fn take_coalesced(&mut self) {
        if let Some(coalescer) = &mut self.config.coalescer {
            self.outputs
                .extend(std::iter::from_fn(|| coalescer.poll()).map(Output::Event));
        }
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outputs
            .push_back(Output::Completed { ticket, outcome });
    }

    fn new_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// How long everybody may take to hear of something: longer in larger clusters.
    fn broadcast_timeout(&self) -> Duration {
        self.config.broadcast_timeout * power_of_ten(self.gossip.present()).max(1)
    }

    fn refresh_ack_payload(&mut self) {
        if let Some(coordinates) = &self.coordinates {
            self.gossip
                .set_ack_payload(encode_payload(coordinates.own()));
        }
    }
}

/// What gossip knows of a node, as a member.
const fn alive(node: Arc<NodeInfo>) -> Member {
    Member::new(node, MemberStatus::Alive)
}

/// What a node says of itself in gossip. Before tags there was a role alone.
fn encode_meta(tags: &Tags, protocol: u8) -> Arc<[u8]> {
    if protocol < TAGS_PROTOCOL_MIN {
        tags.get("role").unwrap_or_default().as_bytes().into()
    } else {
        tags.to_meta()
    }
}

impl Cluster for Serf {
    fn local(&self) -> &Member {
        self.membership.local().unwrap_or(&self.initial)
    }

    fn members_version(&self) -> u64 {
        self.membership.version()
    }

    fn visit_members(&self, visit: &mut dyn FnMut(&Member)) {
        self.membership.iter().for_each(visit);
    }

    fn member_count(&self) -> usize {
        self.membership.count()
    }

    fn user_event(
        &mut self,
        now: Instant,
        name: &str,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<(), ClusterError> {
        let limit = self.config.user_event_bytes_max;
        if name.len() + payload.len() > limit {
            return Err(ClusterError::EventTooLarge { limit });
        }
        let ltime = self.events.clock().time();
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        UserEventMessage {
            coalesce,
            ltime,
            name,
            payload,
        }
        .encode(&mut encoded);
        let result = if encoded.len() > limit {
            Err(ClusterError::EncodedEventTooLarge { limit })
        } else {
            self.events.clock_mut().tick();
            let event = UserEvent {
                ltime,
                name: name.to_owned(),
                payload: payload.to_vec(),
                coalesce,
            };
            self.hear_user_event(now, event);
            self.gossip
                .broadcast(now, Queue::Events, &encoded, Terms::default());
            Ok(())
        };
        self.encoded = encoded;
        self.settle(now);
        result
    }

    fn query(&mut self, now: Instant, request: QueryRequest) -> Result<QueryId, ClusterError> {
        let result = self.ask_for_client(now, request);
        self.settle(now);
        result
    }

    fn respond(
        &mut self,
        now: Instant,
        query: QueryId,
        payload: &[u8],
    ) -> Result<(), ClusterError> {
        let result = self.answer(now, query, payload);
        self.settle(now);
        result
    }

    fn start(&mut self, now: Instant, operation: Operation) -> Ticket {
        let ticket = self.new_ticket();
        match operation {
            Operation::Join { addresses, replay } => {
                self.start_join(now, ticket, &addresses, replay);
            }
            Operation::Leave => self.start_leave(now, ticket),
            Operation::ForceLeave { node, prune } => self.force_leave(now, ticket, &node, prune),
            Operation::SetTags(tags) => self.start_set_tags(now, ticket, tags),
            Operation::Key(operation) => self.start_key_operation(now, ticket, operation),
        }
        self.settle(now);
        ticket
    }

    fn coordinate(&self, node: &str) -> Option<Coordinate> {
        let coordinates = self.coordinates.as_ref()?;
        if node == self.config.name {
            return Some(coordinates.own().clone());
        }
        coordinates.peer(node).cloned()
    }

    fn visit_stats(&self, visit: &mut VisitFigure<'_>) {
        if let Some(coordinates) = &self.coordinates {
            visit("coordinate_resets", coordinates.resets().into());
        }
        visit("encrypted", self.gossip.keyring().is_some().into());
        visit("event_queue", self.gossip.queued(Queue::Events).into());
        visit("event_time", self.events.clock().time().into());
        visit("failed", self.membership.failed().into());
        visit("health_score", self.gossip.health_score().into());
        visit("intent_queue", self.gossip.queued(Queue::Intents).into());
        visit("left", self.membership.left().into());
        visit("member_time", self.membership.clock().time().into());
        visit("members", self.membership.count().into());
        visit("query_queue", self.gossip.queued(Queue::Queries).into());
        visit("query_time", self.queries.clock().time().into());
    }

    fn visit_counters(&self, visit: &mut VisitFigure<'_>) {
        self.gossip
            .counters()
            .visit(|name, count| visit(name, count.into()));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.gossip.handle_timeout(now);
        while let Some(timer) = self.wheel.pop_expired(now) {
            match timer {
                Timer::Reap => {
                    self.wheel.insert(now + REAP_INTERVAL, Timer::Reap);
                    self.membership.reap(now);
                }
                Timer::Reconnect => self.reconnect_due(now),
                Timer::QueryDone(ltime) => self.query_done(now, ltime),
                Timer::QueryPast(query) => drop(self.received.remove(&query)),
                Timer::BroadcastTimeout(token) => self.broadcast_ended(now, token, false),
                Timer::LeavePropagated => self.end_leave(now),
            }
        }
        if let Some(coalescer) = &mut self.config.coalescer {
            coalescer.handle_timeout(now);
            self.take_coalesced();
        }
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.handle_timeout(now);
        }
        self.settle(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let coalescer = self.config.coalescer.as_ref();
        let snapshot = self.config.snapshot.as_ref();
        [
            self.gossip.poll_timeout(),
            self.wheel.next_deadline(),
            coalescer.and_then(Coalescer::poll_timeout),
            snapshot.and_then(Snapshot::poll_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn poll_output(&mut self) -> Option<Output> {
        backlog::pop(&mut self.outputs)
    }

    fn handle_network(&mut self, now: Instant, event: NetworkEvent<'_>) {
        self.gossip.handle_network(now, event);
        self.settle(now);
    }

    fn poll_network(&mut self) -> Option<NetworkCommand> {
        self.gossip.poll_network()
    }
}

#[cfg(test)]
mod tests;
