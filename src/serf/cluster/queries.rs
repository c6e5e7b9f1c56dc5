//! Queries: asked here and elsewhere, and their answers.
//!
//! A query goes to everybody; who matches its filters acknowledges and answers straight to the node that asks, and again
//! through a few others if that was asked for. Each node counts once. Source: hashicorp/serf, `serf/serf.go` (`Query`,
//! `handleQuery`, `handleQueryResponse`) and `serf/query.go`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::{debug, warn};
use rand::RngExt;
use regex::Regex;

use super::{QUERY_PROTOCOL_MIN, Serf, Timer};
use crate::cluster::{
    ClusterError, Event, MemberStatus, Output, QueryEvent, QueryId, QueryRequest, Tags,
};
use crate::gossip::Queue;
use crate::gossip::broadcast::Terms;
use crate::gossip::timing::power_of_ten;
use crate::serf::message::{
    FLAG_ACK, FLAG_NO_BROADCAST, Filter, QueryMessage, QueryResponseMessage, RelayMessage,
    encode_node_filter, encode_tag_filter,
};
use crate::serf::recent::Reception;

/// Names of queries that begin so are internal.
pub(super) const INTERNAL_PREFIX: &str = "_serf_";
/// The one internal query that clients may ask: everybody only acknowledges it.
const PING: &str = "ping";
/// A query lasts this many gossip intervals for each power of ten of the nodes (the reference's `QueryTimeoutMult`).
const TIMEOUT_GOSSIP_INTERVALS: u32 = 16;
/// From this memberlist protocol on, a node relays answers.
const RELAY_PROTOCOL_MIN: u8 = 5;
/// Queries that can be answered at once. Further ones are passed on, but not acted on.
const RECEIVED_MAX: usize = 16 * 1024;
/// Whoever answers is noted for at least this many, and four times the members in a larger cluster.
const ANSWERS_MIN: usize = 1024;

/// What becomes of the answers to a query that was asked here.
#[derive(Debug)]
pub(super) enum Asker {
    /// They are told.
    Client,
    /// They are the nodes' reports on a key operation.
    Keys,
    /// They say who this node's name belongs to.
    Conflict { answers: u32, ours: u32 },
}

/// A query that was asked here and is not done.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: u32,
    pub(super) asker: Asker,
    acks: HashSet<String>,
    answers: HashSet<String>,
    /// It is done before its time when so many have answered, and acknowledged it if that was asked for.
    enough: Option<usize>,
    wants_acks: bool,
}

impl Asked {
    fn is_enough(&self) -> bool {
        self.enough.is_some_and(|enough| {
            self.answers.len() >= enough && (!self.wants_acks || self.acks.len() >= enough)
        })
    }
}

/// A query that may be answered.
#[derive(Debug)]
pub(super) struct Received {
    deadline: Instant,
    /// Where the answer goes; `None` for a query that was asked here.
    source: Option<(SocketAddr, String)>,
    relay_factor: u8,
    answered: bool,
}

impl Serf {
    pub(super) fn ask_for_client(
        &mut self,
        now: Instant,
        request: QueryRequest,
    ) -> Result<QueryId, ClusterError> {
        if self.config.protocol < QUERY_PROTOCOL_MIN {
            return Err(ClusterError::NotSupported);
        }
        let ping =
            request.payload.is_none() && request.name.strip_prefix(INTERNAL_PREFIX) == Some(PING);
        if request.name.starts_with(INTERNAL_PREFIX) && !ping {
            return Err(ClusterError::ReservedQueryName);
        }
        self.ask(now, request, Asker::Client)
    }

    /// Asks everybody, this node included.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        request: QueryRequest,
        asker: Asker,
    ) -> Result<QueryId, ClusterError> {
        let timeout = request.timeout.unwrap_or_else(|| self.query_timeout());
        let nodes =
            (!request.filter_nodes.is_empty()).then(|| encode_node_filter(&request.filter_nodes));
        let tags = request.filter_tags.iter();
        let filters: Vec<Vec<u8>> = nodes
            .into_iter()
            .chain(tags.map(|(tag, expression)| encode_tag_filter(tag, expression)))
            .collect();
        let advertise = self.gossip.advertise();
        let source_node = self.config.name.clone();
        let message = QueryMessage {
            addr: advertise.ip(),
            filters: filters.iter().map(Vec::as_slice).collect(),
            flags: if request.request_ack { FLAG_ACK } else { 0 },
            id: self.rng.random_range(0..1 << 31),
            ltime: self.queries.clock().time(),
            name: &request.name,
            payload: request.payload.as_deref().unwrap_or_default(),
            port: advertise.port(),
            relay_factor: request.relay_factor,
            source_node: &source_node,
            timeout: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        let limit = self.config.query_bytes_max;
        if encoded.len() > limit {
            return Err(ClusterError::QueryTooLarge { limit });
        }
        let id = QueryId {
            ltime: message.ltime,
            id: message.id,
        };
        let asked = Asked {
            id: id.id,
            asker,
            acks: HashSet::new(),
            answers: HashSet::new(),
            enough: self
                .config
                .early_done
                .then(|| self.count_passing(&message.filters)),
            wants_acks: request.request_ack,
        };
        self.asked.insert(id.ltime, asked);
        let deadline = now.checked_add(timeout).unwrap_or(now);
        self.wheel.insert(deadline, Timer::QueryDone(id.ltime));
        self.hear_query(now, &message);
        self.gossip
            .broadcast(now, Queue::Queries, &encoded, Terms::default());
        Ok(id)
    }

    /// The reference's `DefaultQueryTimeout`.
    pub(super) fn query_timeout(&self) -> Duration {
        let powers = power_of_ten(self.gossip.present());
        self.config.timing.gossip_interval * TIMEOUT_GOSSIP_INTERVALS * powers
    }

    /// Acts on a query that was not heard before; says whether to pass it on.
    pub(super) fn hear_query(&mut self, now: Instant, query: &QueryMessage<'_>) -> bool {
        match self.queries.receive(query.ltime, query.id) {
            Reception::New => {}
            Reception::TooOld => {
                warn!(
                    "serf: received old query {} from time {} (current: {})",
                    query.name,
                    query.ltime,
                    self.queries.clock().time()
                );
                return false;
            }
            Reception::Repeated | Reception::BelowMinimum | Reception::Refused => return false,
        }
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.handle_query(now, query.ltime);
        }
        if self.passes(&query.filters) {
            self.act_on_query(now, query);
        }
        query.flags & FLAG_NO_BROADCAST == 0
    }

    fn act_on_query(&mut self, now: Instant, query: &QueryMessage<'_>) {
        let id = QueryId {
            ltime: query.ltime,
            id: query.id,
        };
        let here = query.source_node == self.config.name
            && SocketAddr::new(query.addr, query.port) == self.gossip.advertise();
        let deadline = now.checked_add(Duration::from_nanos(query.timeout));
        let deadline = deadline.unwrap_or(now);
        if self.received.len() >= RECEIVED_MAX {
            warn!(
                "serf: Too many queries wait for answers; '{}' is passed on only",
                query.name
            );
            return;
        }
        let source = SocketAddr::new(query.addr, query.port);
        let received = Received {
            deadline,
            source: (!here).then(|| (source, query.source_node.to_owned())),
            relay_factor: query.relay_factor,
            answered: false,
        };
        self.received.insert(id, received);
        self.wheel.insert(deadline, Timer::QueryPast(id));
        match query.name.strip_prefix(INTERNAL_PREFIX) {
            Some(internal) => self.act_on_internal_query(now, id, internal, query.payload),
            None => self.tell(
                now,
                Event::Query(QueryEvent {
                    id,
                    name: query.name.to_owned(),
                    payload: query.payload.to_vec(),
                    deadline,
                }),
            ),
        }
        if query.flags & FLAG_ACK != 0 {
            self.send_answer(now, id, FLAG_ACK, &[]);
        }
    }

    fn act_on_internal_query(&mut self, now: Instant, id: QueryId, name: &str, payload: &[u8]) {
        match name {
            PING => {}
            "conflict" => self.answer_conflict_query(now, id, payload),
            "install-key" | "use-key" | "remove-key" | "list-keys" => {
                self.act_on_key_query(now, id, name, payload);
            }
            _ => warn!("serf: Unhandled internal query '{name}'"),
        }
    }

    /// Whether all filters let this node answer.
    fn passes(&self, filters: &[&[u8]]) -> bool {
        passes(filters, &self.config.name, &self.config.tags)
    }

    /// How many living members all filters let answer.
    fn count_passing(&self, filters: &[&[u8]]) -> usize {
        self.membership
            .with_status(MemberStatus::Alive)
            .filter(|member| passes(filters, &member.name, &member.tags))
            .count()
    }

    /// Answers a query, once and in time.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        id: QueryId,
        payload: &[u8],
    ) -> Result<(), ClusterError> {
        let length = self.encode_answer(id, 0, payload).len();
        let Some(received) = self.received.get_mut(&id) else {
            return Err(ClusterError::UnknownQuery);
        };
        let limit = self.config.query_response_bytes_max;
        if length > limit {
            return Err(ClusterError::ResponseTooLarge { limit });
        }
        if received.answered {
            return Err(ClusterError::AlreadyResponded);
        }
        if received.deadline < now {
            return Err(ClusterError::ResponsePastDeadline);
        }
        received.answered = true;
        self.send_answer(now, id, 0, payload);
        Ok(())
    }

    pub(super) fn encode_answer(&self, id: QueryId, flags: u32, payload: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        QueryResponseMessage {
            flags,
            from: &self.config.name,
            id: id.id,
            ltime: id.ltime,
            payload,
        }
        .encode(&mut encoded);
        encoded
    }

    /// Sends an answer or acknowledgement to where the query came from.
    fn send_answer(&mut self, now: Instant, id: QueryId, flags: u32, payload: &[u8]) {
        let Some(received) = self.received.get(&id) else {
            return;
        };
        let relay_factor = received.relay_factor;
        let Some((to, node)) = received.source.clone() else {
            let from = self.config.name.clone();
            let answer = QueryResponseMessage {
                flags,
                from: &from,
                id: id.id,
                ltime: id.ltime,
                payload,
            };
            return self.hear_response(now, &answer);
        };
        let message = self.encode_answer(id, flags, payload);
        self.gossip.send_user(to, &message);
        self.relay(relay_factor, to, &node, &message);
    }

    /// Has a few others pass an answer on too.
    fn relay(&mut self, relay_factor: u8, to: SocketAddr, name: &str, message: &[u8]) {
        let count = usize::from(relay_factor);
        if count == 0 || self.membership.count() <= count {
            return;
        }
        let mut relayed = Vec::new();
        RelayMessage { to, name, message }.encode(&mut relayed);
        let limit = self.config.query_response_bytes_max;
        if relayed.len() > limit {
            warn!("serf: failed to relay an answer: it exceeds the limit of {limit} bytes");
            return;
        }
        let mut relays: Vec<SocketAddr> = self
            .membership
            .with_status(MemberStatus::Alive)
            .filter(|member| {
                *member.name != *self.config.name && member.protocol.max >= RELAY_PROTOCOL_MIN
            })
            .map(|member| SocketAddr::new(member.addr, member.port))
            .collect();
        for _ in 0..count.min(relays.len()) {
            let which = self.rng.random_range(0..relays.len());
            self.gossip.send_user(relays.swap_remove(which), &relayed);
        }
    }

    /// Somebody answers or acknowledges a query.
    pub(super) fn hear_response(&mut self, now: Instant, response: &QueryResponseMessage<'_>) {
        let QueryResponseMessage {
            from, id, ltime, ..
        } = *response;
        let answers_max = ANSWERS_MIN.max(4 * self.membership.count());
        let Some(asked) = self.asked.get_mut(&ltime).filter(|asked| asked.id == id) else {
            debug!("serf: reply for non-running query (LTime: {ltime}, ID: {id}) From: {from}");
            return;
        };
        let ack = response.flags & FLAG_ACK != 0;
        let heard = if ack {
            &mut asked.acks
        } else {
            &mut asked.answers
        };
        if heard.len() >= answers_max || !heard.insert(from.to_owned()) {
            return;
        }
        let query = QueryId { ltime, id };
        let enough = asked.is_enough();
        match &mut asked.asker {
            Asker::Client if ack => self.outputs.push_back(Output::QueryAck {
                query,
                from: from.to_owned(),
            }),
            Asker::Client => self.outputs.push_back(Output::QueryResponse {
                query,
                from: from.to_owned(),
                payload: response.payload.to_vec(),
            }),
            Asker::Keys | Asker::Conflict { .. } if ack => {}
            Asker::Keys => self.take_key_report(now, ltime, from, response.payload),
            Asker::Conflict { .. } => self.take_conflict_answer(ltime, response.payload),
        }
        if enough {
            self.query_done(now, ltime);
        }
    }

    /// A query asked here has reached its deadline.
    pub(super) fn query_done(&mut self, now: Instant, ltime: u64) {
        let Some(asked) = self.asked.remove(&ltime) else {
            return;
        };
        match asked.asker {
            Asker::Client => {
                let query = QueryId {
                    ltime,
                    id: asked.id,
                };
                self.outputs.push_back(Output::QueryDone { query });
            }
            Asker::Keys => self.end_key_operation(now),
            Asker::Conflict { answers, ours } => self.end_conflict(answers, ours),
        }
    }
}

/// Whether all filters let a node answer.
fn passes(filters: &[&[u8]], name: &str, tags: &Tags) -> bool {
    filters.iter().all(|filter| match Filter::decode(filter) {
        Ok(Filter::Nodes(nodes)) => nodes.contains(&name),
        Ok(Filter::Tag { tag, expression }) => match Regex::new(expression) {
            Ok(regex) => regex.is_match(tags.get(tag).unwrap_or_default()),
            Err(error) => {
                warn!("serf: failed to compile filter regex ({expression}): {error}");
                false
            }
        },
        Err(error) => {
            warn!("serf: failed to decode a query's filter: {error}");
            false
        }
    })
}
