//! An RPC client: asks, reads what comes, and holds the server to its promises.
//!
//! Responses come in the order of the requests, one for each; records only for what the client subscribed to or asked,
//! well-formed, and none after the end of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rmpv::Value;
use serfling::msgpack::frame::{DEPTH_MAX, Limits, Progress, Scanner};
use serfling::rpc::message::{Command, ResponseHeader};

/// A whole response is smaller than this, in bytes.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(crate) fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value));
    Value::Map(pairs.collect())
}

pub(crate) fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    let pairs = value.as_map().unwrap_or_else(|| panic!("no map: {value}"));
    let found = pairs.iter().find(|(have, _)| have.as_str() == Some(key));
    &found.unwrap_or_else(|| panic!("no {key} in {value}")).1
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let text = field(value, key).as_str();
    text.unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

/// A request that has no response yet.
#[derive(Debug)]
struct Waiting {
    seq: u64,
    command: Command,
    /// The stream that it ends.
    stops: Option<u64>,
}

/// What a client gets records of.
#[derive(Debug)]
pub(crate) enum Subscription {
    /// Events of the node.
    Events(EventStream),
    Monitor,
    /// A query of its own.
    Query(AskedQuery),
}

/// How far a stream is in the list of what its node told.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    /// The first record is of one of these, or none came yet.
    pub(crate) starts: (usize, usize),
    /// The user event that comes next.
    pub(crate) next: Option<usize>,
}

/// A query that the client asked.
#[derive(Debug)]
pub(crate) struct AskedQuery {
    name: String,
    timeout: Duration,
    /// When it is over, once the server has taken it.
    until: Option<Instant>,
    acks: BTreeSet<String>,
    responses: BTreeSet<String>,
}

/// What the client read, for the one who checks it against the rest of the world.
#[derive(Debug)]
pub(crate) enum Read {
    Response {
        seq: u64,
        command: Command,
        error: String,
        body: Option<Value>,
    },
    UserEvent {
        seq: u64,
        ltime: u64,
        name: String,
    },
    Query {
        id: u64,
        name: String,
    },
    /// A query is done, so many nodes having confirmed and answered it.
    Done {
        acks: usize,
        responses: usize,
    },
}

/// An RPC client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) node: usize,
    pub(crate) run: u32,
    inbox: Vec<u8>,
    /// Requests the server has not read.
    pub(crate) unsent: Vec<u8>,
    waiting: VecDeque<Waiting>,
    pub(crate) subscriptions: BTreeMap<u64, Subscription>,
    next_seq: u64,
    /// It reads nothing.
    pub(crate) stalled: bool,
    /// It was stalled once, so records may have been dropped.
    pub(crate) was_stalled: bool,
}

impl Client {
    pub(crate) fn new(node: usize, run: u32) -> Self {
        let mut client = Self {
            node,
            run,
            inbox: Vec::new(),
            unsent: Vec::new(),
            waiting: VecDeque::new(),
            subscriptions: BTreeMap::new(),
            next_seq: 0,
            stalled: false,
            was_stalled: false,
        };
        client.ask(Command::Handshake, Some(map([("Version", 1.into())])));
        client
    }

    /// Queues a request; returns its Seq.
    pub(crate) fn ask(&mut self, command: Command, body: Option<Value>) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let header = map([("Command", command.name().into()), ("Seq", seq.into())]);
        for value in [Some(header), body].into_iter().flatten() {
            rmpv::encode::write_value(&mut self.unsent, &value).expect("memory");
        }
        let stops = None;
        self.waiting.push_back(Waiting {
            seq,
            command,
            stops,
        });
        seq
    }

    pub(crate) fn subscribe(&mut self, told: usize) {
        let body = map([("Type", "*".into())]);
        let seq = self.ask(Command::Stream, Some(body));
        let starts = (told, usize::MAX);
        let stream = EventStream { starts, next: None };
        self.subscriptions.insert(seq, Subscription::Events(stream));
    }

    /// Ends a stream, if there is one.
    pub(crate) fn stop(&mut self) {
        let open = |(seq, subscription): (&u64, &Subscription)| {
            matches!(subscription, Subscription::Events(_)).then_some(*seq)
        };
        if let Some(stop) = self.subscriptions.iter().find_map(open) {
            self.ask(Command::Stop, Some(map([("Stop", stop.into())])));
            if let Some(waiting) = self.waiting.back_mut() {
                waiting.stops = Some(stop);
            }
        }
    }

    pub(crate) fn monitor(&mut self) {
        let body = map([("LogLevel", "DEBUG".into())]);
        let seq = self.ask(Command::Monitor, Some(body));
        self.subscriptions.insert(seq, Subscription::Monitor);
    }

    pub(crate) fn query(&mut self, timeout: Duration, name: &str, relay: u8) {
        let body = map([
            ("Name", name.into()),
            ("RequestAck", true.into()),
            ("RelayFactor", relay.into()),
            ("Timeout", (timeout.as_nanos() as u64).into()),
            ("Payload", Value::Binary(b"?".to_vec())),
        ]);
        let seq = self.ask(Command::Query, Some(body));
        let query = AskedQuery {
            name: name.to_owned(),
            timeout,
            until: None,
            acks: BTreeSet::new(),
            responses: BTreeSet::new(),
        };
        self.subscriptions.insert(seq, Subscription::Query(query));
    }

    /// The server took a query just now.
    pub(crate) fn query_taken(&mut self, now: Instant, seq: u64) {
        if let Some(Subscription::Query(query)) = self.subscriptions.get_mut(&seq) {
            query.until = Some(now + query.timeout);
        }
    }

    /// How many requests have no response.
    pub(crate) fn unanswered(&self) -> usize {
        self.waiting.len()
    }

    /// What is not over though it should be by now. Records may have been dropped if it did not read for a while.
    pub(crate) fn overdue(&self, now: Instant, dropped: u64) -> Option<String> {
        if let Some(waiting) = self.waiting.front() {
            return Some(format!("no response to {waiting:?}"));
        }
        if self.was_stalled && dropped > 0 {
            return None;
        }
        self.subscriptions
            .values()
            .find_map(|subscription| match subscription {
                Subscription::Query(query) if query.until.is_some_and(|until| until < now) => {
                    Some(format!("the query {} is not done", query.name))
                }
                _ => None,
            })
    }

    /// Takes in bytes of the server, to be [read](Self::read).
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// The next thing that came and matters.
    pub(crate) fn read(&mut self) -> Option<Read> {
        loop {
            if let Some(read) = self.read_one()? {
                return Some(read);
            }
        }
    }

    /// The length of a whole object at this place of the inbox.
    fn frame(&self, at: usize) -> Option<usize> {
        let rest = &self.inbox[at..];
        let limits = Limits {
            bytes_max: FRAME_BYTES_MAX,
            depth_max: DEPTH_MAX,
        };
        match Scanner::new(limits).scan(rest) {
            Ok(Progress::Complete(length)) => Some(length),
            Ok(Progress::Incomplete) => None,
            Err(error) => panic!("the server sends no MsgPack: {error}"),
        }
    }

    fn body(&self, at: usize) -> Option<(Value, usize)> {
        let end = at + self.frame(at)?;
        let value = rmpv::decode::read_value(&mut &self.inbox[at..end]).expect("MsgPack");
        Some((value, end))
    }

    /// Reads a response or record, if it is all there.
    fn read_one(&mut self) -> Option<Option<Read>> {
        let end = self.frame(0)?;
        let header: ResponseHeader<'_> =
            rmp_serde::from_slice(&self.inbox[..end]).expect("a header");
        let (seq, error) = (header.seq, header.error.0.to_owned());
        let answers = self.waiting.front().filter(|waiting| waiting.seq == seq);
        let Some(command) = answers.map(|waiting| waiting.command) else {
            assert_eq!(error, "", "a record with an error");
            let (body, end) = self.body(end)?;
            self.inbox.drain(..end);
            return Some(self.take_record(seq, &body));
        };
        let (body, end) = match self.body(end) {
            _ if !command.response_has_body() => (None, end),
            Some((body, end)) => (Some(body), end),
            None => return None,
        };
        self.inbox.drain(..end);
        let stopped = self.waiting.pop_front().and_then(|waiting| waiting.stops);
        if let Some(stopped) = stopped {
            self.subscriptions.remove(&stopped);
        }
        if !error.is_empty() {
            self.subscriptions.remove(&seq);
        }
        Some(Some(Read::Response {
            seq,
            command,
            error,
            body,
        }))
    }

    fn take_record(&mut self, seq: u64, body: &Value) -> Option<Read> {
        let waiting = &self.waiting;
        let subscription = self.subscriptions.get_mut(&seq).unwrap_or_else(|| {
            panic!("a record for {seq}, which is not open; {waiting:?} wait: {body}")
        });
        match subscription {
            Subscription::Events(_) => read_event(seq, body),
            Subscription::Monitor => {
                text(body, "Log");
                None
            }
            Subscription::Query(query) => {
                let from = text(body, "From").to_owned();
                let payload = match field(body, "Payload") {
                    Value::Nil => &[],
                    Value::Binary(bytes) => &bytes[..],
                    Value::String(text) => text.as_bytes(),
                    other => panic!("a payload that is none: {other}"),
                };
                let name = &query.name;
                match text(body, "Type") {
                    "ack" => {
                        assert_eq!(payload, b"", "{name}");
                        assert!(query.acks.insert(from), "{name} acknowledged twice: {body}");
                    }
                    "response" => {
                        assert_eq!(payload, format!("{name} {from}").as_bytes(), "{name}");
                        assert!(
                            query.responses.insert(from),
                            "{name} answered twice: {body}"
                        );
                    }
                    "done" => {
                        let (acks, responses) = (query.acks.len(), query.responses.len());
                        self.subscriptions.remove(&seq);
                        return Some(Read::Done { acks, responses });
                    }
                    other => panic!("a query record of type {other}"),
                }
                None
            }
        }
    }
}

fn read_event(seq: u64, body: &Value) -> Option<Read> {
    let ltime = || field(body, "LTime").as_u64().expect("a Lamport time");
    match text(body, "Event") {
        "user" => Some(Read::UserEvent {
            seq,
            ltime: ltime(),
            name: text(body, "Name").to_owned(),
        }),
        "query" => {
            ltime();
            let id = field(body, "ID").as_u64().expect("an ID");
            let name = text(body, "Name").to_owned();
            Some(Read::Query { id, name })
        }
        "member-join" | "member-leave" | "member-failed" | "member-update" | "member-reap" => {
            let members = field(body, "Members").as_array().expect("a list");
            assert!(!members.is_empty(), "an event of nobody");
            for member in members {
                text(member, "Name");
                text(member, "Status");
            }
            None
        }
        other => panic!("an event of type {other}"),
    }
}
