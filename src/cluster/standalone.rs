//! A cluster of one.
//!
//! [`Standalone`] does truthfully what a Serf cluster does that has a single node: events and queries come back to it
//! with Lamport times, tags change it, keys work on its keyring. It does not gossip, so nobody can be joined. Embedders,
//! tests and benches may [put](Standalone::put_member) other members into it.

mod keys;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use regex::Regex;

use super::{
    Cluster, ClusterError, Coordinate, Event, Figure, JoinFailures, Member, MemberEvent,
    MemberEventKind, MemberStatus, NetworkCommand, NetworkEvent, Operation, Outcome, Output,
    QueryEvent, QueryId, QueryRequest, Tags, Ticket, UserEvent, VisitFigure,
};
use crate::gossip::keyring::Keyring;
use crate::gossip::timing::power_of_ten;
use crate::serf::coalesce::Coalescer;
use crate::serf::message::{
    QUERY_BYTES_MAX, QUERY_RESPONSE_BYTES_MAX, QueryMessage, QueryResponseMessage, TAGS_BYTES_MAX,
    USER_EVENT_BYTES_MAX, UserEventMessage, encode_node_filter, encode_tag_filter,
};
use crate::timer_wheel::TimerWheel;

/// Names of queries that begin so are internal.
const INTERNAL_QUERY_PREFIX: &str = "_serf_";
/// The one internal query that clients may ask: everybody only acknowledges it.
const PING_QUERY: &str = "_serf_ping";
/// Flag of a query that is to be acknowledged.
const FLAG_ACK: u32 = 1;
/// A query lasts this long for each power of ten of the members: 16 gossip intervals of 200 ms.
const QUERY_TIMEOUT_UNIT: Duration = Duration::from_millis(200 * 16);

/// What a [`Standalone`] starts from.
#[derive(Debug)]
pub struct StandaloneConfig {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub addr: IpAddr,
    /// Its gossip port.
    pub port: u16,
    /// Its tags.
    pub tags: Tags,
    /// Its keys; `None` without encryption.
    pub keyring: Option<Keyring>,
    /// Gathers bursts of events; `None` to tell each at once.
    pub coalescer: Option<Coalescer>,
    /// Seed of all randomness.
    pub seed: u64,
}

impl StandaloneConfig {
    /// A node of this name on the loopback address, without tags, keys and coalescing.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            addr: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 7946,
            tags: Tags::new(),
            keyring: None,
            coalescer: None,
            seed: 0,
        }
    }
}

/// A query asked here that is not done.
#[derive(Debug)]
struct RunningQuery {
    deadline: Instant,
    responded: bool,
}

/// A cluster of one.
#[derive(Debug)]
pub struct Standalone {
    local: Member,
    others: BTreeMap<Arc<str>, Member>,
    version: u64,
    keyring: Option<Keyring>,
    coalescer: Option<Coalescer>,
    rng: StdRng,
    member_clock: u64,
    event_clock: u64,
    query_clock: u64,
    queries: HashMap<QueryId, RunningQuery>,
    wheel: TimerWheel<QueryId>,
    next_ticket: u64,
    outputs: VecDeque<Output>,
    /// Where messages are encoded to be measured; kept for its memory.
    encoded: Vec<u8>,
    left: bool,
}

impl Standalone {
    /// A cluster of one, at this time.
    #[must_use]
    pub fn new(now: Instant, config: StandaloneConfig) -> Self {
        let local = Member::alive(config.name, config.addr, config.port).with_tags(config.tags);
        let mut cluster = Self {
            local: local.clone(),
            others: BTreeMap::new(),
            version: 1,
            keyring: config.keyring,
            coalescer: config.coalescer,
            rng: StdRng::seed_from_u64(config.seed),
            member_clock: 1,
            event_clock: 1,
            query_clock: 1,
            queries: HashMap::new(),
            wheel: TimerWheel::new(now),
            next_ticket: 0,
            outputs: VecDeque::new(),
            encoded: Vec::new(),
            left: false,
        };
        cluster.tell_member(now, MemberEventKind::Join, local);
        cluster
    }

    /// Puts a member into the cluster, or changes one, and tells of it.
    pub fn put_member(&mut self, now: Instant, member: Member) {
        let before = self
            .others
            .insert(member.name.clone(), member.clone())
            .map(|before| before.status);
        self.version += 1;
        let kind = match (member.status, before) {
            (MemberStatus::Left, _) => MemberEventKind::Leave,
            (MemberStatus::Failed, _) => MemberEventKind::Failed,
            (MemberStatus::Alive, Some(MemberStatus::Alive)) => MemberEventKind::Update,
            (MemberStatus::Alive, _) => MemberEventKind::Join,
            (MemberStatus::None | MemberStatus::Leaving, _) => return,
        };
        self.tell_member(now, kind, member);
    }

    /// Takes a member out of the cluster and tells of it. Says whether it was there.
    pub fn remove_member(&mut self, now: Instant, name: &str) -> bool {
        let Some(member) = self.others.remove(name) else {
            return false;
        };
        self.version += 1;
        self.tell_member(now, MemberEventKind::Reap, member);
        true
    }

    fn tell_member(&mut self, now: Instant, kind: MemberEventKind, member: Member) {
        self.tell(
            now,
            Event::Member(MemberEvent {
                kind,
                members: vec![member],
            }),
        );
    }

    fn tell(&mut self, now: Instant, event: Event) {
        match &mut self.coalescer {
            Some(coalescer) => {
                coalescer.handle_event(now, event);
                self.take_coalesced();
            }
            None => self.outputs.push_back(Output::Event(event)),
        }
    }

    fn take_coalesced(&mut self) {
        if let Some(coalescer) = &mut self.coalescer {
            self.outputs
                .extend(std::iter::from_fn(|| coalescer.poll()).map(Output::Event));
        }
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outputs
            .push_back(Output::Completed { ticket, outcome });
    }

    fn leave(&mut self, now: Instant) {
        if !self.left {
            self.left = true;
            self.member_clock += 1;
            self.local.status = MemberStatus::Left;
            self.version += 1;
            // There is no later moment to tell what was gathered.
            if let Some(mut coalescer) = self.coalescer.take() {
                coalescer.handle_event(now, leave_event(&self.local));
                coalescer.handle_timeout(now + crate::serf::coalesce::PERIOD);
                self.outputs
                    .extend(std::iter::from_fn(|| coalescer.poll()).map(Output::Event));
            } else {
                self.outputs
                    .push_back(Output::Event(leave_event(&self.local)));
            }
        }
    }

    /// Takes a failed member for one that left. Live ones would refute it, so they are left alone.
    fn force_leave(&mut self, now: Instant, node: &str, prune: bool) {
        self.member_clock += 1;
        let Some(member) = self.others.get_mut(node) else {
            return;
        };
        if member.status == MemberStatus::Alive {
            warn!("serf: force-leave of '{node}', which is alive and will refute it");
            return;
        }
        let left = member.status == MemberStatus::Failed;
        member.status = MemberStatus::Left;
        let member = member.clone();
        self.version += 1;
        if left {
            self.tell_member(now, MemberEventKind::Leave, member);
        }
        if prune {
            self.remove_member(now, node);
        }
    }

    fn set_tags(&mut self, now: Instant, tags: Tags) -> Result<(), ClusterError> {
        if tags.to_meta().len() > TAGS_BYTES_MAX {
            return Err(ClusterError::TagsTooLarge {
                limit: TAGS_BYTES_MAX,
            });
        }
        self.local = self.local.clone().with_tags(tags);
        self.version += 1;
        self.tell_member(now, MemberEventKind::Update, self.local.clone());
        Ok(())
    }

    /// The reference's `DefaultQueryTimeout`.
    fn default_query_timeout(&self) -> Duration {
        QUERY_TIMEOUT_UNIT * power_of_ten(self.member_count())
    }

    fn matches_filters(&self, request: &QueryRequest) -> bool {
        if !request.filter_nodes.is_empty()
            && !request
                .filter_nodes
                .iter()
                .any(|node| **node == *self.local.name)
        {
            return false;
        }
        request
            .filter_tags
            .iter()
            .all(|(tag, expression)| match Regex::new(expression) {
                Ok(regex) => regex.is_match(self.local.tags.get(tag).unwrap_or_default()),
                Err(error) => {
                    warn!("serf: failed to compile filter regex ({expression}): {error}");
                    false
                }
            })
    }

    /// The time of the next query.
    fn tick_query_clock(&mut self) -> u64 {
        let ltime = self.query_clock;
        self.query_clock += 1;
        ltime
    }
}

fn leave_event(member: &Member) -> Event {
    Event::Member(MemberEvent {
        kind: MemberEventKind::Leave,
        members: vec![member.clone()],
    })
}

impl Cluster for Standalone {
    fn local(&self) -> &Member {
        &self.local
    }

    fn members_version(&self) -> u64 {
        self.version
    }

    fn visit_members(&self, visit: &mut dyn FnMut(&Member)) {
        visit(&self.local);
        self.others.values().for_each(visit);
    }

    fn member_count(&self) -> usize {
        1 + self.others.len()
    }

    fn user_event(
        &mut self,
        now: Instant,
        name: &str,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<(), ClusterError> {
        let limit = USER_EVENT_BYTES_MAX;
        if name.len() + payload.len() > limit {
            return Err(ClusterError::EventTooLarge { limit });
        }
        let ltime = self.event_clock;
        let message = UserEventMessage {
            coalesce,
            ltime,
            name,
            payload,
        };
        self.encoded.clear();
        message.encode(&mut self.encoded);
        if self.encoded.len() > limit {
            return Err(ClusterError::EncodedEventTooLarge { limit });
        }
        self.event_clock += 1;
        let event = UserEvent {
            ltime,
            name: name.to_owned(),
            payload: payload.to_vec(),
            coalesce,
        };
        self.tell(now, Event::User(event));
        Ok(())
    }

    fn query(&mut self, now: Instant, request: QueryRequest) -> Result<QueryId, ClusterError> {
        let ping = request.name == PING_QUERY && request.payload.is_none();
        if request.name.starts_with(INTERNAL_QUERY_PREFIX) && !ping {
            return Err(ClusterError::ReservedQueryName);
        }
        let timeout = request
            .timeout
            .unwrap_or_else(|| self.default_query_timeout());
        let id = QueryId {
            ltime: self.query_clock,
            id: self.rng.random_range(0..1 << 31),
        };
        let mut filters = Vec::new();
        if !request.filter_nodes.is_empty() {
            filters.push(encode_node_filter(&request.filter_nodes));
        }
        filters.extend(
            request
                .filter_tags
                .iter()
                .map(|(tag, expression)| encode_tag_filter(tag, expression)),
        );
        let message = QueryMessage {
            addr: self.local.addr,
            filters: filters.iter().map(Vec::as_slice).collect(),
            flags: if request.request_ack { FLAG_ACK } else { 0 },
            id: id.id,
            ltime: id.ltime,
            name: &request.name,
            payload: request.payload.as_deref().unwrap_or_default(),
            port: self.local.port,
            relay_factor: request.relay_factor,
            source_node: &self.local.name,
            timeout: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        if encoded.len() > QUERY_BYTES_MAX {
            return Err(ClusterError::QueryTooLarge {
                limit: QUERY_BYTES_MAX,
            });
        }
        self.tick_query_clock();
        let deadline = now.checked_add(timeout).unwrap_or(now);
        self.queries.insert(
            id,
            RunningQuery {
                deadline,
                responded: false,
            },
        );
        self.wheel.insert(deadline, id);
        if self.matches_filters(&request) {
            if !ping {
                let payload = request.payload.unwrap_or_default();
                self.tell(
                    now,
                    Event::Query(QueryEvent {
                        id,
                        name: request.name,
                        payload,
                        deadline,
                    }),
                );
            }
            if request.request_ack {
                self.outputs.push_back(Output::QueryAck {
                    query: id,
                    from: self.local.name.to_string(),
                });
            }
        }
        Ok(id)
    }

    fn respond(
        &mut self,
        now: Instant,
        query: QueryId,
        payload: &[u8],
    ) -> Result<(), ClusterError> {
        let Some(running) = self.queries.get_mut(&query) else {
            return Err(ClusterError::UnknownQuery);
        };
        let mut encoded = Vec::new();
        let from = &self.local.name;
        QueryResponseMessage {
            flags: 0,
            from,
            id: query.id,
            ltime: query.ltime,
            payload,
        }
        .encode(&mut encoded);
        if encoded.len() > QUERY_RESPONSE_BYTES_MAX {
            return Err(ClusterError::ResponseTooLarge {
                limit: QUERY_RESPONSE_BYTES_MAX,
            });
        }
        if running.responded {
            return Err(ClusterError::AlreadyResponded);
        }
        if running.deadline < now {
            return Err(ClusterError::ResponsePastDeadline);
        }
        running.responded = true;
        self.outputs.push_back(Output::QueryResponse {
            query,
            from: from.to_string(),
            payload: payload.to_vec(),
        });
        Ok(())
    }

    fn start(&mut self, now: Instant, operation: Operation) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        match operation {
            Operation::Join { addresses, .. } => {
                let failure = |address: &String| {
                    format!(
                        "Failed to join {address}: this node does not gossip, so it can't join others"
                    )
                };
                let failures: Vec<String> = addresses.iter().map(failure).collect();
                let failures = (!failures.is_empty()).then_some(JoinFailures(failures));
                self.complete(ticket, Outcome::Joined { count: 0, failures });
            }
            Operation::Leave => {
                self.leave(now);
                self.complete(ticket, Outcome::Done(Ok(())));
            }
            Operation::ForceLeave { node, prune } => {
                self.force_leave(now, &node, prune);
                self.complete(ticket, Outcome::Done(Ok(())));
            }
            Operation::SetTags(tags) => {
                let result = self.set_tags(now, tags);
                self.complete(ticket, Outcome::Done(result));
            }
            Operation::Key(operation) => {
                let (report, error) = self.key_operation(operation);
                self.complete(ticket, Outcome::Keys { report, error });
            }
        }
        ticket
    }

    fn coordinate(&self, node: &str) -> Option<Coordinate> {
        (*node == *self.local.name).then(Coordinate::default)
    }

    fn visit_stats(&self, visit: &mut VisitFigure<'_>) {
        let count = |status| {
            self.others
                .values()
                .filter(|member| member.status == status)
                .count()
        };
        visit("coordinate_resets", Figure::Count(0));
        visit("encrypted", self.keyring.is_some().into());
        visit("event_queue", Figure::Count(0));
        visit("event_time", self.event_clock.into());
        visit("failed", count(MemberStatus::Failed).into());
        visit("health_score", Figure::Count(0));
        visit("intent_queue", Figure::Count(0));
        visit("left", count(MemberStatus::Left).into());
        visit("member_time", self.member_clock.into());
        visit("members", self.member_count().into());
        visit("query_queue", Figure::Count(0));
        visit("query_time", self.query_clock.into());
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(query) = self.wheel.pop_expired(now) {
            self.queries.remove(&query);
            self.outputs.push_back(Output::QueryDone { query });
        }
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.handle_timeout(now);
            self.take_coalesced();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let coalescer = self.coalescer.as_ref().and_then(Coalescer::poll_timeout);
        [self.wheel.next_deadline(), coalescer]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn handle_network(&mut self, _: Instant, _: NetworkEvent<'_>) {}

    fn poll_network(&mut self) -> Option<NetworkCommand> {
        None
    }
}

#[cfg(test)]
mod tests;
