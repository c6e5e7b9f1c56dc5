//! Conversations with the hub: bytes in, bytes out, a made-up clock.
//!
//! One module for each group of the review that this project began with.

mod access;
mod bad_input;
mod commands;
mod congestion;
mod lifecycle;
mod splits;
mod subscriptions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmpv::Value;

use super::{Config, Flushed, Hub, Peer, SessionId};
use crate::cluster::{Cluster, Standalone, StandaloneConfig};
use crate::log_ring::LogRing;

/// A hub in front of a cluster of one, and the time.
struct Scene<C = Standalone> {
    now: Instant,
    hub: Hub<C>,
    log: Arc<LogRing>,
    next_port: u16,
}

/// A header, and the body if there is one.
type Message = (Value, Option<Value>);

impl Scene {
    fn new() -> Self {
        Self::with(Config::default(), StandaloneConfig::new("n1"))
    }

    fn with_key(key: &str) -> Self {
        let config = Config {
            auth_key: Some(key.to_owned()),
            ..Config::default()
        };
        Self::with(config, StandaloneConfig::new("n1"))
    }

    fn with(config: Config, cluster: StandaloneConfig) -> Self {
        let now = Instant::now();
        Self::before(now, config, Standalone::new(now, cluster))
    }
}

impl<C: Cluster> Scene<C> {
    fn before(now: Instant, config: Config, cluster: C) -> Self {
        let log = Arc::new(LogRing::new());
        let mut hub = Hub::new(now, config, cluster, Arc::clone(&log));
        hub.handle_timeout(now);
        Self {
            now,
            hub,
            log,
            next_port: 40_000,
        }
    }

    /// A client that has connected and said nothing.
    fn connect(&mut self) -> SessionId {
        self.next_port += 1;
        let peer = Peer::Tcp(([127, 0, 0, 1], self.next_port).into());
        self.hub.accept(self.now, peer).unwrap()
    }

    /// A client that has performed the handshake.
    fn client(&mut self) -> SessionId {
        let id = self.connect();
        assert_eq!(
            self.ask(id, "handshake", 0, Some(map([("Version", 1.into())]))),
            ""
        );
        id
    }

    fn send(&mut self, id: SessionId, bytes: &[u8]) {
        self.hub.handle_bytes(self.now, id, bytes);
        while self.hub.has_ready() {
            self.hub.handle_ready(self.now);
        }
    }

    /// Everything that waits for the client, as it would be sent.
    fn receive(&mut self, id: SessionId) -> Vec<u8> {
        let bytes = self.hub.pending(id).to_vec();
        self.hub.handle_sent(id, bytes.len());
        while self.hub.has_ready() {
            self.hub.handle_ready(self.now);
        }
        bytes
    }

    /// Sends a request and returns the error of its answer, which must be the next thing that comes, without a body.
    fn ask(&mut self, id: SessionId, command: &str, seq: u64, body: Option<Value>) -> String {
        let (header, rest) = self.exchange(id, command, seq, body);
        assert_eq!(rest, None, "{command} has no body");
        text(&header, "Error")
    }

    /// Sends a request and returns the answer, header and body.
    fn exchange(&mut self, id: SessionId, command: &str, seq: u64, body: Option<Value>) -> Message {
        self.send(id, &request(command, seq, body));
        let mut values = self.values(id);
        assert!(!values.is_empty(), "{command} is answered");
        let header = values.remove(0);
        assert_eq!(number(&header, "Seq"), seq);
        assert!(values.len() <= 1, "{values:?}");
        (header, values.pop())
    }

    /// Everything that waits for the client, decoded.
    fn values(&mut self, id: SessionId) -> Vec<Value> {
        let bytes = self.receive(id);
        let mut rest = &bytes[..];
        let mut values = Vec::new();
        while !rest.is_empty() {
            values.push(rmpv::decode::read_value(&mut rest).unwrap());
        }
        values
    }

    /// Lets time pass; timers fire at their times.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.hub.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.hub.handle_timeout(self.now);
        }
        self.now = end;
        self.hub.handle_timeout(self.now);
        while self.hub.has_ready() {
            self.hub.handle_ready(self.now);
        }
    }

    /// Whether the hub wants the connection ended once it is flushed.
    fn is_ending(&mut self, id: SessionId) -> bool {
        matches!(
            self.hub.handle_flushed(self.now, id),
            Flushed::EndOurSide | Flushed::Close
        )
    }
}

fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(
        pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

fn request(command: &str, seq: u64, body: Option<Value>) -> Vec<u8> {
    let mut bytes = encode(&map([("Command", command.into()), ("Seq", seq.into())]));
    if let Some(body) = body {
        bytes.extend(encode(&body));
    }
    bytes
}

fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    let pairs = value.as_map().unwrap_or_else(|| panic!("a map: {value:?}"));
    let found = pairs.iter().find(|(have, _)| have.as_str() == Some(key));
    &found.unwrap_or_else(|| panic!("{key} in {value:?}")).1
}

fn text(value: &Value, key: &str) -> String {
    field(value, key).as_str().unwrap().to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    field(value, key).as_u64().unwrap()
}

/// Requests of every command with a plain body, for tests that want some of each.
fn every_request() -> Vec<(&'static str, Option<Value>)> {
    let key = || Some(map([("Key", "AAAAAAAAAAAAAAAAAAAAAA==".into())]));
    vec![
        (
            "event",
            Some(map([
                ("Name", "e".into()),
                ("Payload", Value::Binary(vec![1])),
                ("Coalesce", false.into()),
            ])),
        ),
        (
            "force-leave",
            Some(map([("Node", "nobody".into()), ("Prune", false.into())])),
        ),
        (
            "join",
            Some(map([
                ("Existing", Value::Array(vec![])),
                ("Replay", false.into()),
            ])),
        ),
        ("members", None),
        (
            "members-filtered",
            Some(map([
                ("Name", "n1".into()),
                ("Status", "".into()),
                ("Tags", Value::Nil),
            ])),
        ),
        ("stream", Some(map([("Type", "user:never".into())]))),
        ("stop", Some(map([("Stop", 999.into())]))),
        ("install-key", key()),
        ("use-key", key()),
        ("remove-key", key()),
        ("list-keys", None),
        (
            "tags",
            Some(map([
                ("Tags", map([("a", "1".into())])),
                ("DeleteTags", Value::Nil),
            ])),
        ),
        (
            "respond",
            Some(map([("ID", 77.into()), ("Payload", Value::Nil)])),
        ),
        ("stats", None),
        ("get-coordinate", Some(map([("Node", "n1".into())]))),
        (
            "query",
            Some(map([
                ("Name", "never".into()),
                ("FilterNodes", Value::Array(vec!["x".into()])),
            ])),
        ),
        ("handshake", Some(map([("Version", 1.into())]))),
        ("auth", Some(map([("AuthKey", "".into())]))),
    ]
}
