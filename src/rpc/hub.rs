//! The RPC server without its sockets: all sessions in front of one cluster.
//!
//! [`Hub`] owns the cluster, the sessions, who listens to what, and the timers. Bytes of a client go in with
//! [`Hub::handle_bytes`] and come out of [`Hub::pending`]; the cluster's outputs are turned into responses and records
//! inside, so after any `handle_…` everything that follows from it waits in the outboxes.
//!
//! Invariants:
//! - A client's requests are answered in the order sent, each once; while one takes time the later ones wait.
//! - All a client has (streams, monitor, queries, timers) goes when it goes.
//! - Responses are never dropped: a client is not read from while its outbox is past [`OUTBOX_HIGH_WATER_BYTES`].
//!   Records are dropped past [`Config::outbox_bytes_max`], counted and logged.
//! - Nothing a client does makes another wait, with one exception that is bounded: see the `congestion` module.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::congestion::Publishers;
use super::members::MembersCache;
use super::message::Command;
use super::session::{Access, Congestion, Life, Peer, Session, SessionId};
use super::sessions::Sessions;
use super::stats::Counters;
use super::subscriptions::{Subscriber, Subscriptions};
use crate::backlog;
use crate::cluster::{Cluster, Event, NetworkCommand, Operation, Outcome, QueryId, Ticket};
use crate::log_ring::LogRing;
use crate::timer_wheel::TimerWheel;
use log::{debug, info, warn};

/// A client with more than this to take is not read from, in bytes.
pub const OUTBOX_HIGH_WATER_BYTES: usize = 256 * 1024;
/// How long a client may take over what it is still sent at the end.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection stays to let its last bytes arrive.
const LINGER: Duration = Duration::from_secs(1);
/// Connections over the limit that get an answer at the same time; others are closed at once.
const REFUSED_MAX: usize = 64;
/// A connection is closed after this many wrong keys.
pub const FAILED_AUTHS_MAX: u8 = 16;

/// How the hub treats its clients.
#[derive(Debug, Clone)]
pub struct Config {
    /// The key clients must show; none when `None`.
    pub auth_key: Option<String>,
    /// How many clients there may be.
    pub clients_max: usize,
    /// Size of a request's header or body, in bytes.
    pub request_bytes_max: usize,
    /// How long a client may take for handshake and auth together.
    pub handshake_timeout: Duration,
    /// What may wait for a client to take it before its records are dropped, in bytes.
    pub outbox_bytes_max: usize,
    /// What happens to a client whose outbox is full.
    pub overflow: Overflow,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth_key: None,
            clients_max: 65_536,
            request_bytes_max: 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            outbox_bytes_max: 4 * 1024 * 1024,
            overflow: Overflow::Drop,
        }
    }
}

/// What happens to a client whose outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Its records are dropped and counted until there is room.
    Drop,
    /// It is disconnected.
    Disconnect,
}

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The hub is shutting down.
    #[error("shutting down")]
    ShuttingDown,
    /// There are too many clients, and too many that wait to be told.
    #[error("too many clients")]
    TooManyClients,
}

/// What the hub's owner has to say in `stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerStats {
    /// Event handlers: filter and command.
    pub event_handlers: Vec<(String, String)>,
    /// Counters of the section `handlers`, in the order of their names.
    pub handlers: Vec<(&'static str, u64)>,
}

/// What the hub's owner must know.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEvent {
    /// The node has left the cluster, as a client or the owner asked: time to stop.
    Left,
    /// Something happened, for event handlers. Told only after [`Hub::tell_events`].
    Event(Event),
    /// The cluster takes another node for this one: time to stop.
    Evicted {
        /// Why, for people.
        reason: String,
    },
    /// An operation that the owner started on the cluster has ended.
    Completed {
        /// What [`Cluster::start`] returned.
        ticket: Ticket,
        /// How it ended.
        outcome: Outcome,
    },
}

pub(super) enum Timer {
    /// Handshake and auth took too long, or nobody took leave.
    Deadline(SessionId),
    PendingQuery(SessionId, u64),
    Congestion(SessionId),
}

/// Whose operation a ticket is.
pub(super) struct Pending {
    /// `None` for the owner's own.
    pub(super) asker: Option<(SessionId, u64)>,
    pub(super) command: Command,
}

/// All sessions in front of one cluster.
pub struct Hub<C> {
    pub(super) config: Config,
    pub(super) cluster: C,
    pub(super) log: Arc<LogRing>,
    pub(super) sessions: Sessions,
    refused: usize,
    shutting_down: bool,
    pub(super) wheel: TimerWheel<Timer>,
    pub(super) subscriptions: Subscriptions,
    pub(super) monitors: Vec<SessionId>,
    /// Queries asked by clients: who gets the records.
    pub(super) asked: HashMap<QueryId, (SessionId, u64)>,
    pub(super) operations: HashMap<Ticket, Pending>,
    pub(super) publishers: Publishers,
    /// Bytes of records queued this turn.
    pub(super) fanned_out: usize,
    pub(super) members: MembersCache,
    pub(super) counters: Counters,
    pub(super) scratch: Vec<u8>,
    /// The last answer to `stats`, while the client at hand asks nothing else.
    pub(super) stats: Option<Vec<u8>>,
    /// Who wants the event at hand; kept for its memory.
    pub(super) subscribers: Vec<Subscriber>,
    /// Lines of the log from this number on are new to monitors.
    pub(super) shown: u64,
    pub(super) closing: Vec<SessionId>,
    pub(super) events: VecDeque<HubEvent>,
    pub(super) tell_events: bool,
    /// What the owner has to say in `stats`.
    pub(super) owner: OwnerStats,
}

impl<C: Cluster> Hub<C> {
    /// A hub without clients. Monitors show the lines of `log`.
    pub fn new(now: Instant, config: Config, cluster: C, log: Arc<LogRing>) -> Self {
        Self {
            config,
            cluster,
            log,
            sessions: Sessions::default(),
            refused: 0,
            shutting_down: false,
            wheel: TimerWheel::new(now),
            subscriptions: Subscriptions::default(),
            monitors: Vec::new(),
            asked: HashMap::new(),
            operations: HashMap::new(),
            publishers: Publishers::default(),
            fanned_out: 0,
            members: MembersCache::default(),
            counters: Counters::default(),
            scratch: Vec::new(),
            stats: None,
            subscribers: Vec::new(),
            shown: 0,
            closing: Vec::new(),
            events: VecDeque::new(),
            tell_events: false,
            owner: OwnerStats::default(),
        }
    }

    /// The cluster behind the hub.
    pub fn cluster(&self) -> &C {
        &self.cluster
    }

    /// The next thing the cluster asks of the network.
    pub fn poll_network(&mut self) -> Option<NetworkCommand> {
        self.cluster.poll_network()
    }

    /// Whether clients must show a key.
    #[must_use]
    pub fn has_auth_key(&self) -> bool {
        self.config.auth_key.is_some()
    }

    /// Changes the cluster from outside, as by a host program. What it has to tell reaches the clients.
    pub fn with_cluster<R>(&mut self, now: Instant, change: impl FnOnce(&mut C) -> R) -> R {
        let result = change(&mut self.cluster);
        self.settle(now);
        result
    }

    /// Has [`poll_event`](Self::poll_event) tell of cluster events too.
    pub fn tell_events(&mut self) {
        self.tell_events = true;
    }

    /// What `stats` shows of the owner.
    pub const fn owner_stats(&mut self) -> &mut OwnerStats {
        &mut self.owner
    }

    /// Starts a graceful leave on the owner's behalf; ends with [`HubEvent::Left`].
    pub fn leave(&mut self, now: Instant) {
        let ticket = self.cluster.start(now, Operation::Leave);
        self.operations.insert(
            ticket,
            Pending {
                asker: None,
                command: Command::Leave,
            },
        );
        self.settle(now);
    }

    /// Takes no more clients.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Takes in a new client.
    ///
    /// # Errors
    /// [`AcceptError`] when it is to be closed at once.
    pub fn accept(&mut self, now: Instant, peer: Peer) -> Result<SessionId, AcceptError> {
        if self.shutting_down {
            return Err(AcceptError::ShuttingDown);
        }
        let full = self.sessions.len() - self.refused >= self.config.clients_max;
        if full && self.refused >= REFUSED_MAX {
            return Err(AcceptError::TooManyClients);
        }
        let access = if full {
            Access::Refused
        } else {
            Access::AwaitHandshake
        };
        let id = self.sessions.insert(peer, access);
        let timeout = if full {
            LINGER
        } else {
            self.config.handshake_timeout
        };
        self.set_deadline(id, now + timeout);
        if full {
            self.refused += 1;
            self.counters.refused += 1;
            warn!(client = id.number(); "agent.ipc: Refusing client {peer}: {} clients are connected, the limit", self.config.clients_max);
        } else {
            self.counters.accepted += 1;
            info!(client = id.number(); "agent.ipc: Accepted client: {peer}");
        }
        self.show_log(now);
        Ok(id)
    }

    /// Takes in that a client is gone, whatever way it went, and lets go of all it had.
    pub fn handle_gone(&mut self, now: Instant, id: SessionId) {
        let Some(mut session) = self.sessions.remove(id) else {
            return;
        };
        debug!(client = id.number(); "agent.ipc: Client gone: {}", session.peer);
        if let Some(timer) = session.deadline {
            self.wheel.cancel(timer);
        }
        if session.access == Access::Refused {
            self.refused -= 1;
        }
        if let Some(extras) = session.extras.take() {
            for key in extras.streams.into_values() {
                self.subscriptions.remove(key);
            }
            self.counters.pending_queries -= extras.pending_queries.len() as u64;
            for pending in extras.pending_queries.into_values() {
                self.wheel.cancel(pending.timer);
            }
            for query in extras.asked {
                self.asked.remove(&query);
            }
            if let Congestion::Behind { timer, .. } = extras.congestion {
                self.wheel.cancel(timer);
                self.let_publishers_go();
            }
            self.monitors.retain(|monitor| *monitor != id);
        }
        self.settle(now);
    }

    /// Lets timers fire that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cluster.handle_timeout(now);
        self.sessions.trim();
        while let Some(timer) = self.wheel.pop_expired(now) {
            match timer {
                Timer::Deadline(id) => self.handle_deadline(id),
                Timer::PendingQuery(id, query) => {
                    if let Some(extras) =
                        self.session(id).and_then(|session| session.extras.as_mut())
                        && extras.pending_queries.remove(&query).is_some()
                    {
                        self.counters.pending_queries -= 1;
                    }
                }
                Timer::Congestion(id) => self.handle_congestion_timer(now, id),
            }
        }
        self.settle(now);
    }

    /// Shows monitors what was logged since, by whomever. To be called once a turn.
    pub fn handle_log(&mut self, now: Instant) {
        self.show_log(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.wheel.next_deadline(), self.cluster.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A client with something to send, once for each time something was added.
    pub fn poll_dirty(&mut self) -> Option<SessionId> {
        self.sessions.next_dirty()
    }

    /// A connection to close at once.
    pub fn poll_close(&mut self) -> Option<SessionId> {
        self.closing.pop()
    }

    /// The next thing the owner must know.
    pub fn poll_event(&mut self) -> Option<HubEvent> {
        backlog::pop(&mut self.events)
    }

    /// The bytes that wait for a client to take them.
    #[must_use]
    pub fn pending(&self, id: SessionId) -> &[u8] {
        self.peek(id)
            .map_or(&[], |session| session.outbox.pending())
    }

    /// Takes in that a client took bytes. The next requests may go on when that made room.
    pub fn handle_sent(&mut self, id: SessionId, count: usize) {
        let left = self.sessions.consume(id, count);
        if left < OUTBOX_HIGH_WATER_BYTES / 2
            && self
                .peek(id)
                .is_some_and(|session| !session.inbox.is_empty())
        {
            self.sessions.mark_ready(id);
        }
        self.note_taken(id, count, left);
    }

    /// What is left to do for a client once its outbox is empty.
    pub fn handle_flushed(&mut self, now: Instant, id: SessionId) -> Flushed {
        let Some(session) = self.session(id) else {
            return Flushed::Close;
        };
        match session.life {
            Life::Finishing if session.eof => Flushed::Close,
            Life::Finishing => {
                session.life = Life::Lingering;
                self.set_deadline(id, now + LINGER);
                Flushed::EndOurSide
            }
            Life::Lingering if session.eof => Flushed::Close,
            Life::Open | Life::Lingering => Flushed::Keep,
        }
    }

    /// How many clients there are.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.sessions.len()
    }

    /// Every client there is.
    pub fn clients(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.iter().map(|(id, _)| id)
    }

    pub(super) fn peek(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(id)
    }

    pub(super) fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id)
    }

    /// Ends the conversation once what waits is sent.
    pub(super) fn finish(&mut self, now: Instant, id: SessionId) {
        if let Some(session) = self.session(id)
            && session.life == Life::Open
        {
            session.life = Life::Finishing;
            session.inbox = Vec::new();
            session.scanner = None;
            self.sessions.mark_dirty(id);
            self.set_deadline(id, now + LAST_BYTES_TIMEOUT);
        }
    }

    fn set_deadline(&mut self, id: SessionId, at: Instant) {
        let timer = self.wheel.insert(at, Timer::Deadline(id));
        let old = self
            .session(id)
            .and_then(|session| session.deadline.replace(timer));
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }

    pub(super) fn clear_deadline(&mut self, id: SessionId) {
        let old = self.session(id).and_then(|session| session.deadline.take());
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }

    fn handle_deadline(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else {
            return;
        };
        session.deadline = None;
        let peer = session.peer;
        let greeting = session.life == Life::Open && session.access != Access::Refused;
        if greeting {
            self.counters.handshake_timeouts += 1;
            let limit = self.config.handshake_timeout;
            warn!(client = id.number(); "agent.ipc: Closing {peer}: no handshake and auth within {limit:?}");
        }
        self.closing.push(id);
    }

    /// Tells the clients what the cluster has to tell, until it has nothing left.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(output) = self.cluster.poll_output() {
            self.handle_output(now, output);
        }
        self.show_log(now);
    }
}

/// What is left to do for a client once its outbox is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing.
    Keep,
    /// End our side of the connection, and let the client end its own.
    EndOurSide,
    /// Close the connection.
    Close,
}
