//! What the cluster and the log have to tell, made into responses and records.
//!
//! An event is encoded once, whoever listens. A record that finds no room is dropped, counted and, now and then, logged;
//! the line about it goes to the log and to other monitors, never to the client it is about.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::congestion::BEHIND_BYTES;
use super::encode::{QueryRecordTemplate, Record, push_body, push_error_header, push_header};
use super::hub::{Hub, HubEvent, Overflow, Pending, Timer};
use super::message::{
    Bytes, Command, JoinResponse, KeyResponse, LogRecord, Member, MemberEventRecord, Pairs,
    QueryRecord, Text, UserEventRecord,
};
use super::session::{Congestion, PendingQuery, SessionId};
use super::sessions::Pushed;
use super::subscriptions::Subscriber;
use crate::cluster::{
    Cluster, ClusterError, Event, KeyReport, Outcome, Output, QueryEvent, QueryId,
};

/// The log tells of a client's dropped records at most this often.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(5);
/// Lines that may wait in the ring before monitors are shown them: a part of what the ring holds.
const LOG_LINES_WAITING_MAX: u64 = 256;

impl<C: Cluster> Hub<C> {
    /// Tells whoever is concerned of a cluster's output.
    pub(super) fn handle_output(&mut self, now: Instant, output: Output) {
        match output {
            Output::Event(event) => self.deliver_event(now, event),
            Output::QueryAck { query, from } => {
                self.deliver_query_record(now, query, "ack", &from, &[])
            }
            Output::QueryResponse {
                query,
                from,
                payload,
            } => {
                self.deliver_query_record(now, query, "response", &from, &payload);
            }
            Output::QueryDone { query } => {
                self.deliver_query_record(now, query, "done", "", &[]);
                if let Some((id, _)) = self.asked.remove(&query)
                    && let Some(extras) =
                        self.session(id).and_then(|session| session.extras.as_mut())
                {
                    extras.asked.remove(&query);
                }
            }
            Output::Completed { ticket, outcome } => {
                if let Some(pending) = self.operations.remove(&ticket) {
                    self.handle_outcome(&pending, outcome);
                } else {
                    let event = HubEvent::Completed { ticket, outcome };
                    self.events.push_back(event);
                }
            }
            Output::Evicted { reason } => self.events.push_back(HubEvent::Evicted { reason }),
        }
    }

    fn handle_outcome(&mut self, pending: &Pending, outcome: Outcome) {
        log_outcome(pending.command, &outcome);
        let left = pending.command == Command::Leave
            && !matches!(outcome, Outcome::Done(Err(ClusterError::LeaveInProgress)));
        if let Some((id, seq)) = pending.asker {
            match outcome {
                Outcome::Done(Ok(())) => self.respond(id, seq, |_| {}),
                Outcome::Done(Err(error)) => self.respond_error(id, seq, error),
                Outcome::Joined { count, failures } => {
                    let num = i32::try_from(count).unwrap_or(i32::MAX);
                    let error = failures
                        .map(|failures| failures.to_string())
                        .unwrap_or_default();
                    self.respond_with_body(id, seq, &error, |out| {
                        push_body(out, &JoinResponse { num })
                    });
                }
                Outcome::Keys { report, error } => {
                    let error = error.map(|error| error.to_string()).unwrap_or_default();
                    self.respond_with_body(id, seq, &error, |out| push_key_report(out, &report));
                }
            }
            self.release(id);
        }
        if left {
            self.events.push_back(HubEvent::Left);
        }
    }

    fn respond_with_body(
        &mut self,
        id: SessionId,
        seq: u64,
        error: &str,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(out) = self.sessions.out(id) {
            if error.is_empty() {
                push_header(out, seq);
            } else {
                push_error_header(out, seq, error);
            }
            body(out);
        }
    }

    fn deliver_event(&mut self, now: Instant, event: Event) {
        info!("agent: Received event: {event}");
        self.counters.events += 1;
        if !self.subscriptions.is_empty() {
            let mut subscribers = std::mem::take(&mut self.subscribers);
            self.subscriptions
                .for_each(&event, |subscriber| subscribers.push(subscriber));
            self.deliver_to(now, &event, &subscribers);
            subscribers.clear();
            self.subscribers = subscribers;
        }
        if self.tell_events {
            self.events.push_back(HubEvent::Event(event));
        }
    }

    fn deliver_to(&mut self, now: Instant, event: &Event, subscribers: &[Subscriber]) {
        if subscribers.is_empty() {
            return;
        }
        let mut record = Record::new(std::mem::take(&mut self.scratch));
        match event {
            Event::Query(event) => {
                let template = QueryRecordTemplate::new(event);
                for subscriber in subscribers {
                    if let Some(id) = self.register_query(now, subscriber.session, event) {
                        record.set_body(|out| template.push(id, out));
                        self.send_record(now, *subscriber, &mut record);
                    }
                }
            }
            Event::User(event) => {
                let body = UserEventRecord {
                    coalesce: event.coalesce,
                    event: Text("user"),
                    ltime: event.ltime,
                    name: Text(&event.name),
                    payload: Bytes(&event.payload),
                };
                record.set_body(|out| push_body(out, &body));
                subscribers
                    .iter()
                    .for_each(|subscriber| self.send_record(now, *subscriber, &mut record));
            }
            Event::Member(event) => {
                let body = MemberEventRecord {
                    event: Text(event.kind.as_str()),
                    members: event.members.iter().map(Member::from).collect(),
                };
                record.set_body(|out| push_body(out, &body));
                subscribers
                    .iter()
                    .for_each(|subscriber| self.send_record(now, *subscriber, &mut record));
            }
        }
        self.scratch = record.into_memory();
    }

    /// Gives a query an ID for this client; it can be answered until its deadline.
    fn register_query(&mut self, now: Instant, id: SessionId, event: &QueryEvent) -> Option<u64> {
        let extras = self.sessions.get_mut(id)?.extras();
        extras.last_query += 1;
        let number = extras.last_query;
        if event.deadline > now {
            let timer = self
                .wheel
                .insert(event.deadline, Timer::PendingQuery(id, number));
            extras.pending_queries.insert(
                number,
                PendingQuery {
                    query: event.id,
                    timer,
                },
            );
            self.counters.pending_queries += 1;
        }
        Some(number)
    }

    fn deliver_query_record(
        &mut self,
        now: Instant,
        query: QueryId,
        kind: &str,
        from: &str,
        payload: &[u8],
    ) {
        let Some(&(session, seq)) = self.asked.get(&query) else {
            return;
        };
        let body = QueryRecord {
            from: Text(from),
            payload: Bytes(payload),
            r#type: Text(kind),
        };
        let mut record = Record::new(std::mem::take(&mut self.scratch));
        record.set_body(|out| push_body(out, &body));
        self.send_record(now, Subscriber { session, seq }, &mut record);
        self.scratch = record.into_memory();
    }

    /// Sends a record, if there is room.
    fn send_record(&mut self, now: Instant, to: Subscriber, record: &mut Record) {
        let (record, limit) = (record.for_seq(to.seq), self.config.outbox_bytes_max);
        match self.sessions.push_record(to.session, record, limit) {
            Pushed::Queued { waiting } => {
                self.counters.records += 1;
                self.fanned_out += record.len();
                if waiting > BEHIND_BYTES {
                    self.note_behind(now, to.session);
                }
            }
            Pushed::Full => self.drop_record(now, to),
            Pushed::Gone => {}
        }
    }

    fn drop_record(&mut self, now: Instant, to: Subscriber) {
        let Subscriber { session: id, seq } = to;
        self.counters.dropped += 1;
        let overflow = self.config.overflow;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let peer = session.peer;
        let extras = session.extras();
        if extras.streams.contains_key(&seq) {
            self.counters.dropped_events += 1;
        } else if extras.monitor.is_some_and(|monitor| monitor.seq == seq) {
            self.counters.dropped_lines += 1;
        } else {
            self.counters.dropped_answers += 1;
        }
        extras.dropped += 1;
        let untold = extras.dropped - extras.dropped_told;
        if overflow == Overflow::Disconnect {
            if extras.dropped == 1 {
                warn!(client = id.number(); "agent.ipc: Closing client {peer}: it does not read, and its queue is full");
                self.closing.push(id);
            }
        } else if extras
            .told_at
            .is_none_or(|told| now.duration_since(told) >= DROPS_TOLD_EVERY)
        {
            extras.told_at = Some(now);
            extras.dropped_told = extras.dropped;
            warn!(client = id.number(); "agent.ipc: Dropping records to {peer}: its queue is full, {untold} dropped since last told");
        }
    }

    /// Ends a stream or monitor, if there is one of that Seq. Nothing follows for it.
    pub(super) fn end_subscription(&mut self, id: SessionId, seq: u64) {
        let Some(extras) = self.session(id).and_then(|session| session.extras.as_mut()) else {
            return;
        };
        if extras.monitor.is_some_and(|monitor| monitor.seq == seq) {
            extras.monitor = None;
            self.monitors.retain(|monitor| *monitor != id);
        }
        let extras = self.session(id).and_then(|session| session.extras.as_mut());
        if let Some(key) = extras.and_then(|extras| extras.streams.remove(&seq)) {
            self.subscriptions.remove(key);
        }
    }

    /// Shows new lines of the log to the monitors.
    pub(super) fn show_log(&mut self, now: Instant) {
        if self.monitors.is_empty() {
            return;
        }
        let next = self.log.next_number();
        if next == self.shown {
            return;
        }
        self.shown = next;
        let monitors = std::mem::take(&mut self.monitors);
        for id in &monitors {
            self.show_log_to(now, *id);
        }
        self.monitors = monitors;
    }

    /// Shows new lines when so many wait that the ring might forget some.
    pub(super) fn show_log_before_it_wraps(&mut self, now: Instant) {
        if !self.monitors.is_empty() && self.log.next_number() - self.shown >= LOG_LINES_WAITING_MAX
        {
            self.show_log(now);
        }
    }

    /// Shows a monitor every line it has not been shown and is to see.
    pub(super) fn show_log_to(&mut self, now: Instant, id: SessionId) {
        let extras = self
            .sessions
            .get_mut(id)
            .and_then(|session| session.extras.as_mut());
        let Some(monitor) = extras.and_then(|extras| extras.monitor.as_mut()) else {
            return;
        };
        let (seq, level) = (monitor.seq, monitor.level);
        let lines = self.log.since(monitor.next);
        if let Some(last) = lines.last() {
            monitor.next = last.number + 1;
        }
        let mut record = Record::new(Vec::new());
        for line in lines {
            // A line about this very client would come of every line sent to it.
            if line.level >= level && line.about != Some(id.number()) {
                let log = Text(&line.text);
                record.set_body(|out| push_body(out, &LogRecord { log }));
                self.send_record(now, Subscriber { session: id, seq }, &mut record);
            }
        }
    }

    /// Takes in that a subscriber has much to take; publishers wait for it while it reads.
    fn note_behind(&mut self, now: Instant, id: SessionId) {
        let extras = self
            .sessions
            .get_mut(id)
            .and_then(|session| session.extras.as_mut());
        let Some(extras) = extras else { return };
        if extras.congestion == Congestion::Clear {
            let timer = self
                .wheel
                .insert(now + super::congestion::PATIENCE, Timer::Congestion(id));
            extras.congestion = Congestion::Behind { timer, taken: 0 };
            self.publishers.fell_behind();
        }
    }
}

fn push_key_report(out: &mut Vec<u8>, report: &KeyReport) {
    let keys = report.keys.as_ref();
    let body = KeyResponse {
        keys: keys.map(|keys| {
            keys.iter()
                .map(|(key, count)| (&**key, *count))
                .collect::<Pairs<'_, u64>>()
        }),
        messages: report
            .messages
            .iter()
            .map(|(node, text)| (&**node, Text(text)))
            .collect(),
        num_err: report.errors,
        num_nodes: report.nodes,
        num_resp: report.responses,
    };
    push_body(out, &body);
}

fn log_outcome(command: Command, outcome: &Outcome) {
    match outcome {
        Outcome::Joined { count, failures } => {
            if *count > 0 {
                info!("agent: joined: {count} nodes");
            }
            if let Some(failures) = failures {
                warn!("agent: error joining: {}", failures.to_string().trim_end());
            }
        }
        Outcome::Done(Err(error)) => warn!("agent: {} failed: {error}", command.name()),
        Outcome::Done(Ok(())) | Outcome::Keys { .. } => {}
    }
}
