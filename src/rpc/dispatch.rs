//! Requests: what each command does, and its answer.
//!
//! Texts and order of checks are the reference's (`cmd/serf/command/agent/ipc.go`); clients match on them. A response
//! body goes out with an error too, for the commands that have one, or clients wait for it.

use std::fmt;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use subtle::ConstantTimeEq;

use super::encode::{push_body, push_error_header, push_header};
use super::filter::EventFilter;
use super::hub::{FAILED_AUTHS_MAX, Hub, Pending};
use super::input::Handled;
use super::members::Scanned;
use super::message::{
    AuthRequest, Command, Coordinate, CoordinateRequest, CoordinateResponse, EventRequest,
    ForceLeaveRequest, HandshakeRequest, JoinRequest, KeyRequest, MembersFilteredRequest,
    MonitorRequest, PROTOCOL_VERSION, QueryRequest, RequestHeader, RespondRequest, StopRequest,
    StreamRequest, TagsRequest,
};
use super::session::{Access, Expect, Held, Monitor, SessionId};
use super::subscriptions::Subscriber;
use crate::cluster::{self, Cluster, ClusterError, KeyOperation, Operation};
use crate::log_ring::Level;

const HANDSHAKE_REQUIRED: &str = "Handshake required";
const HANDSHAKE_DUPLICATE: &str = "Handshake already performed";
const VERSION_UNSUPPORTED: &str = "Unsupported IPC version";
const COMMAND_UNSUPPORTED: &str = "Unsupported command";
const AUTH_REQUIRED: &str = "Authentication required";
const AUTH_INVALID: &str = "Invalid authentication token";
const FILTER_INVALID: &str = "Invalid event filter";
const STREAM_EXISTS: &str = "Stream with given sequence exists";
const MONITOR_EXISTS: &str = "Monitor already exists";

/// `{"Members": []}`, the body of a refused `members-filtered`.
const NO_MEMBERS: &[u8] = b"\x81\xa7Members\x90";
/// Room for an answer to `stats`, as a rule, in bytes.
const STATS_BYTES: usize = 1024;
/// How many members are looked at for the work of one plain request.
const MEMBERS_PER_WORK: usize = 8;
/// How many bytes are copied for the work of one plain request.
const BYTES_PER_WORK: usize = 2048;

const DONE: Handled = Handled::Done { cost: 1 };

/// Decodes a request's body, or lets go of the client.
macro_rules! decode {
    ($hub:ident, $now:ident, $id:ident, $type:ty, $body:ident) => {
        match rmp_serde::from_slice::<$type>($body) {
            Ok(request) => request,
            Err(error) => {
                $hub.refuse(
                    $now,
                    $id,
                    format_args!("failed to decode request body: {error}"),
                );
                return Handled::Wait;
            }
        }
    };
}

impl<C: Cluster> Hub<C> {
    /// Takes in a request's header; requests without a body are carried out.
    pub(super) fn handle_header(
        &mut self,
        now: Instant,
        id: SessionId,
        header: RequestHeader<'_>,
    ) -> Handled {
        let limit = self.config.clients_max;
        let Some(session) = self.session(id) else {
            return Handled::Wait;
        };
        let (seq, peer) = (header.seq, session.peer);
        let command = Command::from_name(header.command.0);
        match session.access {
            Access::Refused => {
                self.respond_error(
                    id,
                    seq,
                    format_args!("Too many clients: the limit of {limit} is reached"),
                );
                self.finish(now, id);
                return Handled::Wait;
            }
            Access::AwaitHandshake if command != Some(Command::Handshake) => {
                self.respond_error(id, seq, HANDSHAKE_REQUIRED);
                self.finish(now, id);
                return Handled::Wait;
            }
            Access::AwaitAuth if !matches!(command, Some(Command::Auth | Command::Handshake)) => {
                warn!(client = id.number(); "agent.ipc: Client sending commands before auth: {peer}");
                if command.is_some_and(Command::request_has_body) {
                    session.expect = Expect::SkippedBody;
                }
                self.respond_error(id, seq, AUTH_REQUIRED);
                return DONE;
            }
            Access::AwaitHandshake | Access::AwaitAuth | Access::Granted => {}
        }
        let Some(command) = command else {
            warn!(client = id.number(); "agent.ipc: Closing client {peer}: command '{}' not recognized", header.command.0);
            self.respond_error(id, seq, COMMAND_UNSUPPORTED);
            self.finish(now, id);
            return Handled::Wait;
        };
        self.counters.requests += 1;
        if command != Command::Stats {
            self.stats = None;
        }
        if command.request_has_body() {
            session_expects(self, id, Expect::Body { command, seq });
            return Handled::Done { cost: 0 };
        }
        match command {
            Command::Members => self.members_command(id, seq),
            Command::Stats => {
                // Figures that are asked for several times at once are those of one moment.
                let body = self.stats.take().unwrap_or_else(|| {
                    let mut body = Vec::with_capacity(STATS_BYTES);
                    self.push_stats(&mut body);
                    body
                });
                self.respond(id, seq, |out| out.extend_from_slice(&body));
                self.stats = Some(body);
                DONE
            }
            Command::Leave => {
                info!("agent.ipc: Graceful leave triggered");
                self.start(now, id, command, seq, Operation::Leave)
            }
            // `ListKeys` alone is left.
            _ => {
                info!("agent: Initiating key listing");
                self.start(now, id, command, seq, Operation::Key(KeyOperation::List))
            }
        }
    }

    /// Carries out a request that has a body.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        id: SessionId,
        command: Command,
        seq: u64,
        body: &[u8],
    ) -> Handled {
        if command == Command::Event && self.publishers.must_wait() {
            self.publishers.wait(id);
            if let Some(session) = self.session(id) {
                session.held = Held::Congestion;
            }
            return Handled::Wait;
        }
        if command == Command::Event && self.has_fanned_out() {
            self.sessions.mark_ready(id);
            return Handled::Wait;
        }
        session_expects(self, id, Expect::Header);
        match command {
            Command::Handshake => {
                let request = decode!(self, now, id, HandshakeRequest, body);
                self.handshake_command(id, seq, request.version)
            }
            Command::Auth => {
                let request = decode!(self, now, id, AuthRequest<'_>, body);
                self.auth_command(now, id, seq, request.auth_key.0)
            }
            Command::Event => {
                let request = decode!(self, now, id, EventRequest<'_>, body);
                self.event_command(now, id, seq, request)
            }
            Command::ForceLeave => {
                let ForceLeaveRequest { node, prune } =
                    decode!(self, now, id, ForceLeaveRequest<'_>, body);
                let how = if prune { " (prune)" } else { "" };
                info!("agent: Force leaving node{how}: {}", node.0);
                self.start(
                    now,
                    id,
                    command,
                    seq,
                    Operation::ForceLeave {
                        node: node.0.to_owned(),
                        prune,
                    },
                )
            }
            Command::Join => {
                let JoinRequest { existing, replay } =
                    decode!(self, now, id, JoinRequest<'_>, body);
                let addresses: Vec<String> = existing
                    .0
                    .iter()
                    .map(|address| (*address).to_owned())
                    .collect();
                info!("agent: joining: [{}] replay: {replay}", addresses.join(" "));
                self.start(now, id, command, seq, Operation::Join { addresses, replay })
            }
            Command::MembersFiltered => {
                let request = decode!(self, now, id, MembersFilteredRequest<'_>, body);
                self.members_filtered_command(id, seq, &request)
            }
            Command::Stream => {
                let request = decode!(self, now, id, StreamRequest<'_>, body);
                self.stream_command(id, seq, request.r#type.0)
            }
            Command::Stop => {
                let request = decode!(self, now, id, StopRequest, body);
                self.end_subscription(id, request.stop);
                self.respond(id, seq, |_| {});
                DONE
            }
            Command::Monitor => {
                let request = decode!(self, now, id, MonitorRequest<'_>, body);
                self.monitor_command(now, id, seq, request.log_level.0)
            }
            Command::InstallKey | Command::UseKey | Command::RemoveKey => {
                let request = decode!(self, now, id, KeyRequest<'_>, body);
                let key = request.key.0.to_owned();
                let (operation, text) = match command {
                    Command::InstallKey => (KeyOperation::Install(key), "key installation"),
                    Command::UseKey => (KeyOperation::Use(key), "primary key change"),
                    _ => (KeyOperation::Remove(key), "key removal"),
                };
                info!("agent: Initiating {text}");
                self.start(now, id, command, seq, Operation::Key(operation))
            }
            Command::Tags => {
                let request = decode!(self, now, id, TagsRequest<'_>, body);
                let tags = self.changed_tags(&request);
                self.start(now, id, command, seq, Operation::SetTags(tags))
            }
            Command::Query => {
                let request = decode!(self, now, id, QueryRequest<'_>, body);
                self.query_command(now, id, seq, request)
            }
            Command::Respond => {
                let request = decode!(self, now, id, RespondRequest<'_>, body);
                self.respond_command(now, id, seq, request)
            }
            Command::GetCoordinate => {
                let request = decode!(self, now, id, CoordinateRequest<'_>, body);
                self.coordinate_command(id, seq, request.node.0)
            }
            // These have no body and never come here.
            Command::Members | Command::Leave | Command::ListKeys | Command::Stats => DONE,
        }
    }

    fn handshake_command(&mut self, id: SessionId, seq: u64, version: i32) -> Handled {
        let let_in = if self.config.auth_key.is_some() {
            Access::AwaitAuth
        } else {
            Access::Granted
        };
        let Some(session) = self.session(id) else {
            return Handled::Wait;
        };
        if version != PROTOCOL_VERSION {
            self.respond_error(id, seq, VERSION_UNSUPPORTED);
        } else if session.access != Access::AwaitHandshake {
            self.respond_error(id, seq, HANDSHAKE_DUPLICATE);
        } else {
            session.access = let_in;
            if let_in == Access::Granted {
                self.clear_deadline(id);
            }
            self.respond(id, seq, |_| {});
        }
        DONE
    }

    fn auth_command(&mut self, now: Instant, id: SessionId, seq: u64, key: &[u8]) -> Handled {
        let expected = self.config.auth_key.as_deref().unwrap_or_default();
        let matches: bool = expected.as_bytes().ct_eq(key).into();
        let Some(session) = self.session(id) else {
            return Handled::Wait;
        };
        let peer = session.peer;
        if matches {
            session.access = Access::Granted;
            self.clear_deadline(id);
            self.respond(id, seq, |_| {});
            return DONE;
        }
        session.failed_auths = session.failed_auths.saturating_add(1);
        let too_many = session.failed_auths >= FAILED_AUTHS_MAX;
        self.counters.auth_failures += 1;
        self.respond_error(id, seq, AUTH_INVALID);
        if too_many {
            warn!(client = id.number(); "agent.ipc: Closing client {peer}: {FAILED_AUTHS_MAX} wrong auth keys");
            self.finish(now, id);
            return Handled::Wait;
        }
        DONE
    }

    fn event_command(
        &mut self,
        now: Instant,
        id: SessionId,
        seq: u64,
        request: EventRequest<'_>,
    ) -> Handled {
        let EventRequest {
            coalesce,
            name,
            payload,
        } = request;
        debug!(
            "agent: Requesting user event send: {}. Coalesced: {coalesce}. Payload: {}",
            name.0,
            Quoted(payload.0)
        );
        match self.cluster.user_event(now, name.0, payload.0, coalesce) {
            Ok(()) => self.respond(id, seq, |_| {}),
            Err(error) => {
                warn!("agent: failed to send user event: {error}");
                self.respond_error(id, seq, error);
            }
        }
        // Subscribers hear of it before the next request is worked on: a burst shows its congestion at once.
        self.settle(now);
        DONE
    }

    fn members_command(&mut self, id: SessionId, seq: u64) -> Handled {
        let Some(out) = self.sessions.out(id) else {
            return Handled::Wait;
        };
        let before = out.len();
        push_header(out, seq);
        self.members.push_all(&self.cluster, out);
        Handled::Done {
            cost: 1 + (out.len() - before) / BYTES_PER_WORK,
        }
    }

    fn members_filtered_command(
        &mut self,
        id: SessionId,
        seq: u64,
        request: &MembersFilteredRequest<'_>,
    ) -> Handled {
        let Some(out) = self.sessions.out(id) else {
            return Handled::Wait;
        };
        let before = out.len();
        push_header(out, seq);
        let scanned = match self.members.push_filtered(&self.cluster, request, out) {
            Ok(Scanned::No) => 0,
            Ok(Scanned::All) => self.cluster.member_count() / MEMBERS_PER_WORK,
            Err(error) => {
                out.truncate(before);
                push_error_header(out, seq, &error.to_string());
                out.extend_from_slice(NO_MEMBERS);
                0
            }
        };
        Handled::Done {
            cost: 1 + scanned + out.len().saturating_sub(before) / BYTES_PER_WORK,
        }
    }

    fn stream_command(&mut self, id: SessionId, seq: u64, filters: &str) -> Handled {
        let filters = EventFilter::parse_list(filters);
        let Some(session) = self.session(id) else {
            return Handled::Wait;
        };
        let Ok(filters) = filters else {
            self.respond_error(id, seq, FILTER_INVALID);
            return DONE;
        };
        if session
            .extras
            .as_ref()
            .is_some_and(|extras| extras.streams.contains_key(&seq))
        {
            self.respond_error(id, seq, STREAM_EXISTS);
            return DONE;
        }
        let key = self
            .subscriptions
            .add(Subscriber { session: id, seq }, filters);
        if let Some(session) = self.session(id) {
            session.extras().streams.insert(seq, key);
        }
        self.respond(id, seq, |_| {});
        DONE
    }

    fn monitor_command(&mut self, now: Instant, id: SessionId, seq: u64, level: &str) -> Handled {
        let Some(session) = self.session(id) else {
            return Handled::Wait;
        };
        let Some(level) = Level::parse(level) else {
            self.respond_error(
                id,
                seq,
                format_args!("Unknown log level: {}", level.to_uppercase()),
            );
            return DONE;
        };
        if session.extras().monitor.is_some() {
            self.respond_error(id, seq, MONITOR_EXISTS);
            return DONE;
        }
        session.extras().monitor = Some(Monitor {
            seq,
            level,
            next: 0,
        });
        self.monitors.push(id);
        self.respond(id, seq, |_| {});
        self.show_log_to(now, id);
        DONE
    }

    /// This node's tags with a request's changes. A tag both set and deleted is set.
    fn changed_tags(&self, request: &TagsRequest<'_>) -> cluster::Tags {
        let mut tags = self.cluster.local().tags.clone();
        for tag in &request.delete_tags.0 {
            tags.remove(tag);
        }
        for (tag, value) in &request.tags.0 {
            tags.insert(tag.0, value.0);
        }
        tags
    }

    fn query_command(
        &mut self,
        now: Instant,
        id: SessionId,
        seq: u64,
        request: QueryRequest<'_>,
    ) -> Handled {
        let payload = request.payload.0;
        debug!(
            "agent: Requesting query send: {}. Payload: {}",
            request.name.0,
            Quoted(payload.unwrap_or_default())
        );
        let asked = cluster::QueryRequest {
            name: request.name.0.to_owned(),
            payload: payload.map(<[u8]>::to_vec),
            filter_nodes: request
                .filter_nodes
                .0
                .iter()
                .map(|node| (*node).to_owned())
                .collect(),
            filter_tags: request
                .filter_tags
                .0
                .iter()
                .map(|(tag, regex)| (tag.0.to_owned(), regex.0.to_owned()))
                .collect(),
            request_ack: request.request_ack,
            relay_factor: request.relay_factor,
            timeout: match request.timeout {
                0 => None,
                // A query that is over before it starts.
                nanos => Some(Duration::from_nanos(
                    u64::try_from(nanos).unwrap_or_default(),
                )),
            },
        };
        match self.cluster.query(now, asked) {
            Ok(query) => {
                self.asked.insert(query, (id, seq));
                if let Some(session) = self.session(id) {
                    session.extras().asked.insert(query);
                }
                self.respond(id, seq, |_| {});
            }
            Err(error) => {
                warn!("agent: failed to start user query: {error}");
                self.respond_error(id, seq, error);
            }
        }
        self.settle(now);
        DONE
    }

    fn respond_command(
        &mut self,
        now: Instant,
        id: SessionId,
        seq: u64,
        request: RespondRequest<'_>,
    ) -> Handled {
        let extras = self.peek(id).and_then(|session| session.extras.as_ref());
        let pending = extras
            .and_then(|extras| extras.pending_queries.get(&request.id))
            .copied();
        let result = match pending {
            Some(pending) => self.cluster.respond(now, pending.query, request.payload.0),
            None => Err(ClusterError::UnknownQuery),
        };
        match result {
            Ok(()) => self.respond(id, seq, |_| {}),
            Err(error) => self.respond_error(id, seq, error),
        }
        self.settle(now);
        DONE
    }

    fn coordinate_command(&mut self, id: SessionId, seq: u64, node: &str) -> Handled {
        let known = self.cluster.coordinate(node);
        let ok = known.is_some();
        let coord = known.map_or_else(Coordinate::default, |known| Coordinate {
            adjustment: known.adjustment,
            error: known.error,
            height: known.height,
            vec: Some(known.vec),
        });
        self.respond(id, seq, |out| {
            push_body(out, &CoordinateResponse { coord, ok })
        });
        DONE
    }

    /// Starts an operation; the client's later requests wait for its end.
    fn start(
        &mut self,
        now: Instant,
        id: SessionId,
        command: Command,
        seq: u64,
        operation: Operation,
    ) -> Handled {
        let ticket = self.cluster.start(now, operation);
        self.operations.insert(
            ticket,
            Pending {
                asker: Some((id, seq)),
                command,
            },
        );
        if let Some(session) = self.session(id) {
            session.held = Held::Operation;
        }
        // Often it has ended already.
        self.settle(now);
        DONE
    }

    /// Sends a response without error, and the body that `body` appends.
    pub(super) fn respond(&mut self, id: SessionId, seq: u64, body: impl FnOnce(&mut Vec<u8>)) {
        if let Some(out) = self.sessions.out(id) {
            push_header(out, seq);
            body(out);
        }
    }

    /// Sends a response that is an error, without a body.
    pub(super) fn respond_error(&mut self, id: SessionId, seq: u64, error: impl fmt::Display) {
        if let Some(out) = self.sessions.out(id) {
            push_error_header(out, seq, &error.to_string());
        }
    }
}

/// A payload as the log shows it.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        match std::str::from_utf8(self.0) {
            // Escaping looks at each character, and most payloads have nothing to escape.
            Ok(text) if self.0.iter().all(plain) => write!(f, "\"{text}\""),
            _ => write!(f, "{:?}", String::from_utf8_lossy(self.0)),
        }
    }
}

fn session_expects<C: Cluster>(hub: &mut Hub<C>, id: SessionId, expect: Expect) {
    if let Some(session) = hub.session(id) {
        session.expect = expect;
    }
}
