//! Streams: whole states are compared over them, and nodes pinged whose packets don't get through.
//!
//! A stream that this node opened says one thing and waits for the answer; one that another node opened is read until it
//! has said one thing, answered and closed. Each has a deadline, the bytes held for all of them have a bound, and of
//! too many accepted streams the one goes first that has said nothing for longest. Source: hashicorp/memberlist, `net.go`
//! (`handleConn`, `sendAndReceiveState`, `sendPingAndWaitForAck`).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, error, warn};

use super::core::{Gossip, GossipEvent, Timer};
use super::merge::Merge;
use super::message::{Ack, ErrorMessage, Message, NodeState};
use super::stream::{PushPull, StreamEnd, StreamMessage, StreamReader, encode_push_pull};
use crate::cluster::{NetworkCommand, StreamId};
use crate::timer_wheel::TimerKey;

/// Streams of other nodes that are open at once.
pub const ACCEPTED_MAX: usize = 512;
/// Push/pulls that are answered and merged at once (memberlist's `maxPushPullRequests`).
pub const PUSH_PULLS_MAX: usize = 128;
/// States larger than this are read, answered and merged in turns of their own, in bytes.
const LARGE_STATE_BYTES: usize = 64 * 1024;
/// Most that is held for all streams and push/pulls together, in bytes.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why states are compared.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Because it is time, with this node.
    Periodic(Arc<str>),
    /// Because this node joins: an attempt of [`super::join`].
    Join(u64),
    /// Because the node at this address began.
    Answer(SocketAddr),
}

#[derive(Debug)]
enum Role {
    /// This node compares states.
    Exchange(Purpose),
    /// This node pings.
    Ping { sequence: u32, ping: Vec<u8> },
    /// Another node has said nothing whole yet.
    Accepted,
    /// Another node's state came, ours is to be sent.
    Answering(Box<PushPull>),
    /// Everything is said; what was written is on its way.
    Closing,
}

#[derive(Debug)]
struct Stream {
    role: Role,
    reader: StreamReader,
    peer: SocketAddr,
    connected: bool,
    timer: TimerKey,
    since: Instant,
    /// Bytes held for it.
    held: usize,
    silent: bool,
}

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: HashMap<StreamId, Stream>,
    opened: u64,
    accepted: usize,
    answering: usize,
    /// Streams with more to do, which wait for the next turn.
    busy: VecDeque<StreamId>,
    /// How often this node's state was sent.
    pub(super) states_sent: u64,
    /// Bytes held for streams and merges.
    pub(super) held: usize,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }
}

impl Gossip {
    /// Compares states with another node.
    pub(super) fn open_exchange(
        &mut self,
        now: Instant,
        to: SocketAddr,
        purpose: Purpose,
    ) -> StreamId {
        let until = now + self.timing.stream_timeout;
        self.open(now, until, to, Role::Exchange(purpose))
    }

    /// Pings a node over a stream.
    pub(super) fn open_ping(
        &mut self,
        now: Instant,
        until: Instant,
        to: SocketAddr,
        sequence: u32,
        ping: Vec<u8>,
    ) -> StreamId {
        self.open(now, until, to, Role::Ping { sequence, ping })
    }

    fn open(&mut self, now: Instant, until: Instant, to: SocketAddr, role: Role) -> StreamId {
        let id = StreamId::opened(self.streams.opened);
        self.streams.opened += 1;
        self.counters.streams_opened += 1;
        self.add_stream(now, until, id, to, role);
        self.commands
            .push_back(NetworkCommand::Connect { stream: id, to });
        id
    }

    fn add_stream(
        &mut self,
        now: Instant,
        until: Instant,
        id: StreamId,
        peer: SocketAddr,
        role: Role,
    ) {
        let accepted = id.is_accepted();
        let stream = Stream {
            role,
            reader: StreamReader::new(if accepted {
                StreamEnd::Opener
            } else {
                StreamEnd::Accepter
            }),
            peer,
            connected: accepted,
            timer: self.wheel.insert(until, Timer::Stream(id)),
            since: now,
            held: 0,
            silent: true,
        };
        self.streams.streams.insert(id, stream);
    }

    fn remove_stream(&mut self, id: StreamId) -> Option<Role> {
        let stream = self.streams.streams.remove(&id)?;
        self.wheel.cancel(stream.timer);
        self.streams.held -= stream.held;
        if id.is_accepted() {
            self.streams.accepted -= 1;
        }
        if let Role::Answering(push_pull) = &stream.role {
            self.streams.held -= push_pull.held();
            self.streams.answering -= 1;
        }
        Some(stream.role)
    }

    /// Ends a stream at once and forgets it.
    pub(super) fn abandon_stream(&mut self, id: StreamId) {
        if self.remove_stream(id).is_some() {
            self.commands
                .push_back(NetworkCommand::Reset { stream: id });
        }
    }

    /// Ends a stream once everything is written.
    fn close_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.streams.get_mut(&id) {
            self.streams.held -= std::mem::take(&mut stream.held);
            stream.role = Role::Closing;
            stream.reader = StreamReader::new(StreamEnd::Accepter);
            self.commands
                .push_back(NetworkCommand::Close { stream: id });
        }
    }

    fn write(&mut self, id: StreamId, message: &[u8]) {
        let speaker = if id.is_accepted() {
            StreamEnd::Accepter
        } else {
            StreamEnd::Opener
        };
        let bytes = self.envelope.seal_stream(speaker, message, &mut self.rng);
        self.counters.stream_bytes_out += bytes.len() as u64;
        self.commands
            .push_back(NetworkCommand::Write { stream: id, bytes });
    }

    pub(super) fn connected(&mut self, id: StreamId) {
        let Some(stream) = self.streams.streams.get_mut(&id) else {
            return;
        };
        stream.connected = true;
        match &mut stream.role {
            Role::Exchange(_) => self.events.push_back(GossipEvent::StateWanted(id)),
            Role::Ping { ping, .. } => {
                let ping = std::mem::take(ping);
                self.write(id, &ping);
            }
            Role::Accepted | Role::Answering(_) | Role::Closing => {}
        }
    }

    pub(super) fn accepted(&mut self, now: Instant, id: StreamId, from: SocketAddr) {
        self.counters.streams_accepted += 1;
        if self.streams.accepted >= ACCEPTED_MAX {
            self.counters.streams_refused += 1;
            let silent = self
                .streams
                .streams
                .iter()
                .filter(|(id, stream)| id.is_accepted() && stream.silent)
                .min_by_key(|(_, stream)| stream.since)
                .map(|(id, _)| *id);
            let Some(silent) = silent else {
                self.commands
                    .push_back(NetworkCommand::Reset { stream: id });
                return;
            };
            self.abandon_stream(silent);
        }
        self.streams.accepted += 1;
        let until = now + self.timing.stream_timeout;
        self.add_stream(now, until, id, from, Role::Accepted);
    }

    pub(super) fn received(&mut self, now: Instant, id: StreamId, bytes: &[u8]) {
        let Some(stream) = self.streams.streams.get_mut(&id) else {
            return;
        };
        stream.silent = false;
        if matches!(stream.role, Role::Answering(_) | Role::Closing) {
            return;
        }
        let result = stream.reader.handle_received(&self.envelope, bytes);
        let held = stream.reader.held();
        self.streams.held = self.streams.held + held - stream.held;
        stream.held = held;
        match result {
            Ok(None) if self.streams.held > HELD_BYTES_MAX => {
                self.fail(now, id, "too much is held for streams");
            }
            Ok(None) => {
                let busy = stream.reader.is_busy() && !self.streams.busy.contains(&id);
                self.streams.busy.extend(busy.then_some(id));
            }
            Ok(Some(message)) => self.handle_stream_message(now, id, message),
            Err(error) => self.fail(now, id, &error.to_string()),
        }
    }

    fn is_busy(&self, id: StreamId) -> bool {
        let stream = self.streams.streams.get(&id);
        stream.is_some_and(|stream| stream.reader.is_busy())
    }

    /// Whether there are streams with more to do.
    pub(super) fn has_busy_streams(&self) -> bool {
        !self.streams.busy.is_empty()
    }

    /// Goes on with the stream that has waited longest.
    pub(super) fn continue_stream(&mut self, now: Instant) {
        let Some(id) = self.streams.busy.pop_front() else {
            return;
        };
        let role = self.streams.streams.get(&id).map(|stream| &stream.role);
        if matches!(role, Some(Role::Answering(_))) {
            self.events.push_back(GossipEvent::StateWanted(id));
        } else {
            self.received(now, id, &[]);
        }
    }

    fn handle_stream_message(&mut self, now: Instant, id: StreamId, message: StreamMessage) {
        let Some(stream) = self.streams.streams.get(&id) else {
            return;
        };
        match (&stream.role, message) {
            (Role::Exchange(purpose), StreamMessage::PushPull(push_pull)) => {
                let purpose = purpose.clone();
                self.close_stream(id);
                self.start_merge(now, push_pull, purpose);
            }
            (Role::Exchange(_), StreamMessage::Error(error)) => {
                self.fail(now, id, &format!("remote error: {error}"));
            }
            (Role::Ping { sequence, .. }, StreamMessage::Ack { seq }) if seq == *sequence => {
                self.close_stream(id);
                self.probe_reached(seq);
            }
            (Role::Accepted, StreamMessage::PushPull(push_pull)) => {
                self.answer_push_pull(now, id, push_pull);
            }
            (Role::Accepted, StreamMessage::User(message)) => {
                self.events.push_back(GossipEvent::Message(message));
                self.close_stream(id);
            }
            (Role::Accepted, StreamMessage::Ping { seq, node }) => {
                if node.is_empty() || *node == *self.name {
                    let ack = Message::Ack(Ack { seq, payload: &[] }).to_bytes();
                    self.write(id, &ack);
                } else {
                    let from = stream.peer;
                    warn!("memberlist: Got ping for unexpected node {node} from={from}");
                }
                self.close_stream(id);
            }
            (_, message) => {
                let error = format!("a message that is not expected there: {}", message.name());
                self.fail(now, id, &error);
            }
        }
    }

    fn answer_push_pull(&mut self, now: Instant, id: StreamId, push_pull: PushPull) {
        if self.streams.answering + self.merges.len() >= PUSH_PULLS_MAX {
            self.fail(now, id, "too many pending push/pull requests");
            return;
        }
        if let Some(stream) = self.streams.streams.get_mut(&id) {
            self.streams.answering += 1;
            self.streams.held += push_pull.held();
            let large = push_pull.held() > LARGE_STATE_BYTES;
            stream.role = Role::Answering(Box::new(push_pull));
            if large {
                self.streams.busy.push_back(id);
            } else {
                self.events.push_back(GossipEvent::StateWanted(id));
            }
        }
    }

    /// Sends this node's state, and `user_state` of the layer above, to whom [`GossipEvent::StateWanted`] asked for it.
    pub fn send_state(&mut self, now: Instant, id: StreamId, user_state: &[u8]) {
        let Some(stream) = self.streams.streams.get_mut(&id) else {
            return;
        };
        let join = match &stream.role {
            Role::Exchange(purpose) => matches!(purpose, Purpose::Join(_)),
            Role::Answering(push_pull) => push_pull.is_join(),
            Role::Ping { .. } | Role::Accepted | Role::Closing => return,
        };
        let mut message = Vec::new();
        let nodes = self.nodes.iter().map(|node| node.push_node());
        encode_push_pull(join, nodes, user_state, &mut message);
        self.write(id, &message);
        self.streams.states_sent += 1;
        let Some(stream) = self.streams.streams.get_mut(&id) else {
            return;
        };
        let from = stream.peer;
        if matches!(stream.role, Role::Answering(_))
            && let Role::Answering(push_pull) = std::mem::replace(&mut stream.role, Role::Closing)
        {
            self.streams.answering -= 1;
            self.streams.held -= push_pull.held();
            self.close_stream(id);
            self.start_merge(now, *push_pull, Purpose::Answer(from));
        }
    }

    fn start_merge(&mut self, now: Instant, push_pull: PushPull, purpose: Purpose) {
        let held = self.streams.held + push_pull.held();
        if held > HELD_BYTES_MAX || self.merges.len() >= PUSH_PULLS_MAX {
            self.exchange_failed(now, purpose, "too much is being merged");
            return;
        }
        self.streams.held = held;
        self.merges.push_back(Merge::new(push_pull, purpose));
    }

    pub(super) fn ended(&mut self, now: Instant, id: StreamId, error: Option<&str>) {
        // What came before the end counts.
        while self.is_busy(id) {
            self.received(now, id, &[]);
        }
        let Some(stream) = self.streams.streams.get(&id) else {
            return;
        };
        match &stream.role {
            Role::Closing => drop(self.remove_stream(id)),
            // It said nothing: somebody looked whether the port is open.
            Role::Accepted if stream.silent && error.is_none() => {
                self.remove_stream(id);
            }
            _ if !stream.connected => {
                let error = format!(
                    "dial tcp {}: connect: {}",
                    stream.peer,
                    error.unwrap_or("it was closed")
                );
                self.failed(now, id, &error);
            }
            Role::Exchange(_) if error.is_none() => self.failed(
                now,
                id,
                "EOF: it closed the connection without an answer; it may have other keys, or another label",
            ),
            _ => self.failed(now, id, error.unwrap_or("EOF")),
        }
    }

    pub(super) fn stream_timed_out(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.streams.get(&id) else {
            return;
        };
        if matches!(stream.role, Role::Closing) {
            self.abandon_stream(id);
            return;
        }
        let error = if stream.connected {
            "i/o timeout".to_owned()
        } else {
            format!("dial tcp {}: i/o timeout", stream.peer)
        };
        self.commands
            .push_back(NetworkCommand::Reset { stream: id });
        self.failed(now, id, &error);
    }

    /// Something is wrong with what came on a stream: whoever opened it is told, and it is closed.
    fn fail(&mut self, now: Instant, id: StreamId, error: &str) {
        let Some(stream) = self.streams.streams.get(&id) else {
            return;
        };
        if matches!(stream.role, Role::Accepted) {
            let from = stream.peer;
            self.counters.streams_failed += 1;
            if self.counters.streams_failed.is_power_of_two() {
                error!(
                    "memberlist: failed to receive: {error} from={from} (the {}th stream that failed)",
                    self.counters.streams_failed
                );
            }
            let mut message = Vec::new();
            ErrorMessage { error }.encode(&mut message);
            self.write(id, &message);
            self.close_stream(id);
        } else {
            self.commands
                .push_back(NetworkCommand::Reset { stream: id });
            self.failed(now, id, error);
        }
    }

    /// A stream is gone before it has served its purpose.
    fn failed(&mut self, now: Instant, id: StreamId, error: &str) {
        let from = self.streams.streams.get(&id).map(|stream| stream.peer);
        let (Some(role), Some(from)) = (self.remove_stream(id), from) else {
            return;
        };
        self.counters.streams_failed += 1;
        match role {
            Role::Exchange(purpose) => self.exchange_failed(now, purpose, error),
            Role::Ping { .. } => debug!("memberlist: Failed fallback TCP ping: {error}"),
            Role::Accepted | Role::Answering(_) => {
                debug!("memberlist: failed to receive: {error} from={from}");
            }
            Role::Closing => {}
        }
    }

    /// States could not be compared.
    pub(super) fn exchange_failed(&mut self, now: Instant, purpose: Purpose, error: &str) {
        match purpose {
            Purpose::Periodic(node) => {
                error!("memberlist: Push/Pull with {node} failed: {error}");
            }
            Purpose::Join(attempt) => self.attempt_failed(now, attempt, error),
            Purpose::Answer(from) => {
                error!("memberlist: Failed push/pull merge: {error} from={from}");
            }
        }
    }

    /// It is time to compare states with another node.
    pub(super) fn push_pull(&mut self, now: Instant) {
        if self.left || self.others_present == 0 {
            self.push_pull_armed = false;
            return;
        }
        let interval = self.timing.push_pull_interval(self.nodes.len());
        self.wheel.insert(now + interval, Timer::PushPull);
        let local = self.local;
        let picked = self.nodes.pick(&mut self.rng, 1, |id, node| {
            id != local && node.state == NodeState::Alive
        });
        if let Some(node) = picked.first().and_then(|id| self.nodes.get(*id)) {
            let (to, name) = (node.info.socket_addr(), Arc::clone(&node.info.name));
            self.open_exchange(now, to, Purpose::Periodic(name));
        }
    }
}
