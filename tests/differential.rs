//! The same exchanges with the reference agent and with ours, compared byte for byte.
//!
//! Both agents run on the same ports, one after the other, so answers need next to no masking: maps that the reference
//! sends in random order (tags, keys, messages, statistics) are sorted on both sides, statistics and log lines are
//! compared by their shape. Where we are better on purpose, an exchange says what each of the two answers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use rmpv::Value;

use common::agent::{Agent, Kind};
use common::raw::{RawClient, encode, field, map, request};
use common::{PATIENCE, wait_for};

/// How an agent is started for a script.
#[derive(Clone, Copy)]
struct Setup {
    arguments: &'static [&'static str],
    config: Option<&'static str>,
}

const PLAIN: Setup = Setup {
    arguments: &["-tag", "role=web", "-tag", "dc=east"],
    config: None,
};
const WITH_KEY: Setup = Setup {
    arguments: &[],
    config: Some(r#"{"rpc_auth": "secret"}"#),
};
const ENCRYPTED: Setup = Setup {
    arguments: &["-encrypt=AAAAAAAAAAAAAAAAAAAAAA=="],
    config: None,
};

/// How long the reference is listened to before it is taken to have said all, as a rule.
const SETTLE: Duration = Duration::from_millis(120);
/// How long to listen for what should not come.
const QUIET: Duration = Duration::from_millis(40);

/// One thing said to an agent.
struct Step {
    name: String,
    bytes: Vec<u8>,
    awaited: Awaited,
    settle: Duration,
    differs: Option<Difference>,
}

/// What the reference is waited for, however long it takes, before the time to settle begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// So many objects.
    Objects(usize),
    /// A query's last record.
    Done,
}

impl Awaited {
    fn has_come(self, objects: &[Value]) -> bool {
        match self {
            Self::Objects(count) => objects.len() >= count,
            Self::Done => objects
                .iter()
                .any(|object| field(object, "Type").and_then(Value::as_str) == Some("done")),
        }
    }
}

/// What each answers where they differ on purpose: a check of the objects that came, and whether the connection ended.
struct Difference {
    reference: fn(&[Value], bool) -> bool,
    serfling: fn(&[Value], bool) -> bool,
}

/// A conversation on one connection, step by step.
#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    seq: u64,
}

impl Script {
    fn after_handshake() -> Self {
        let mut script = Self::default();
        script.call("handshake", Some(map([("Version", 1.into())])));
        script
    }

    fn raw(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> &mut Self {
        let name = name.to_owned();
        self.steps.push(Step {
            name,
            bytes: bytes.into(),
            awaited: Awaited::Objects(0),
            settle: SETTLE,
            differs: None,
        });
        self
    }

    fn call(&mut self, command: &str, body: Option<Value>) -> &mut Self {
        self.seq += 1;
        let name = format!(
            "{command} {}",
            body.as_ref().map_or(String::new(), ToString::to_string)
        );
        let bytes = request(command, self.seq, body.as_ref());
        self.raw(name.get(..name.len().min(160)).unwrap_or(command), bytes)
            .awaits(Awaited::Objects(1))
    }

    /// The step before brings this.
    fn awaits(&mut self, awaited: Awaited) -> &mut Self {
        if let Some(step) = self.steps.last_mut() {
            step.awaited = awaited;
        }
        self
    }

    /// The step before ends a query.
    fn until_done(&mut self) -> &mut Self {
        self.awaits(Awaited::Done)
    }

    /// The step before takes the reference this long.
    fn within(&mut self, settle: Duration) -> &mut Self {
        if let Some(step) = self.steps.last_mut() {
            step.settle = settle;
        }
        self
    }

    /// The step before is answered differently on purpose.
    fn differs(
        &mut self,
        reference: fn(&[Value], bool) -> bool,
        serfling: fn(&[Value], bool) -> bool,
    ) -> &mut Self {
        if let Some(step) = self.steps.last_mut() {
            step.differs = Some(Difference {
                reference,
                serfling,
            });
        }
        self
    }
}

/// What an agent answered to a step.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    objects: Vec<Value>,
    ended: bool,
}

/// Sorts what the reference sends in random order, and takes out what is never the same twice.
fn masked(value: &Value, within: &str) -> Value {
    match value {
        Value::Map(pairs) => {
            let mut pairs: Vec<(Value, Value)> = pairs
                .iter()
                .map(|(key, value)| {
                    let name = key.as_str().unwrap_or_default();
                    let value = match name {
                        "Log" => shape_of_line(value),
                        _ => masked(value, name),
                    };
                    (key.clone(), value)
                })
                .collect();
            let is_stats = pairs.iter().any(|(key, _)| key.as_str() == Some("runtime"));
            if is_stats {
                return stats_shape(&pairs);
            }
            if matches!(within, "Tags" | "Keys" | "Messages") {
                pairs.sort_by_key(|(key, _)| key.to_string());
            }
            Value::Map(pairs)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(item, "")).collect()),
        Value::String(text) => {
            // What the system says of a failure is in the words of each.
            let text = text.as_str().unwrap_or_default();
            if let Some((start, _)) = text.split_once("lookup ") {
                return format!("{start}lookup").into();
            }
            if text.starts_with("Failed to compile regex: ") {
                return "Failed to compile regex".into();
            }
            value.clone()
        }
        other => other.clone(),
    }
}

/// The sections and keys that the reference has, without those values that are of the moment.
fn stats_shape(pairs: &[(Value, Value)]) -> Value {
    let mut shape = Vec::new();
    for (section, values) in pairs {
        let name = section.as_str().unwrap_or_default();
        if name.starts_with("rpc") || name == "gossip" || name == "handlers" {
            continue;
        }
        for (key, value) in values.as_map().into_iter().flatten() {
            let key = key.as_str().unwrap_or_default();
            let steady = matches!(
                key,
                "os" | "arch" | "cpu_count" | "members" | "failed" | "left" | "encrypted" | "name"
            ) || name == "tags"
                || (key.ends_with("_time"));
            let shown = if steady {
                value.to_string()
            } else {
                String::new()
            };
            shape.push(format!("{name}.{key}={shown}"));
        }
    }
    shape.sort();
    Value::Array(shape.into_iter().map(Value::from).collect())
}

/// `2026/11/23 15:18:48 [INFO] agent: …` by its shape.
fn shape_of_line(line: &Value) -> Value {
    let shape =
        regex::Regex::new(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(TRACE|DEBUG|INFO|WARN|ERR)\] \S")
            .expect("a regex");
    let line = line.as_str().unwrap_or_default();
    assert!(shape.is_match(line), "{line}");
    "a line".into()
}

fn answers(agent: &Agent, script: &Script, expected: Option<&[Answer]>) -> Vec<Answer> {
    let mut client = RawClient::connect(agent.rpc_port);
    let mut answers = Vec::new();
    for (number, step) in script.steps.iter().enumerate() {
        use std::io::Write;
        // An agent that has ended the conversation does not listen any more.
        let _ = client.stream.write_all(&step.bytes);
        let mut objects = Vec::new();
        match expected
            .and_then(|expected| expected.get(number))
            .filter(|_| step.differs.is_none())
        {
            // The reference has shown how much is to come.
            Some(expected) => {
                while objects.len() < expected.objects.len()
                    && let Some((value, _)) = client.try_read(PATIENCE)
                {
                    objects.push(value);
                }
                while let Some((value, _)) = client.try_read(QUIET) {
                    objects.push(value);
                }
            }
            None => {
                let patience = |objects: &[Value]| {
                    if step.awaited.has_come(objects) {
                        step.settle
                    } else {
                        PATIENCE
                    }
                };
                while let Some((value, _)) = client.try_read(patience(&objects)) {
                    objects.push(value);
                    drop_reply_from_nobody(&mut objects);
                }
            }
        }
        let ended = has_ended(&mut client);
        answers.push(Answer { objects, ended });
    }
    answers
}

/// The reference may tell of acks and answers from nobody at a query's deadline: it reads from channels that were closed a
/// moment before its own timer.
fn drop_reply_from_nobody(objects: &mut Vec<Value>) {
    let slip = objects.last().is_some_and(|record| {
        let kind = field(record, "Type").and_then(Value::as_str);
        let from = field(record, "From").and_then(Value::as_str);
        matches!(kind, Some("ack" | "response")) && from == Some("")
    });
    if slip {
        // With its header.
        objects.truncate(objects.len().saturating_sub(2));
    }
}

fn has_ended(client: &mut RawClient) -> bool {
    let mut byte = [0; 1];
    client
        .stream
        .set_read_timeout(Some(QUIET))
        .expect("a timeout");
    match client.stream.peek(&mut byte) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn compare(setup: Setup, scripts: &[(&str, Script)]) {
    let mut failures = Vec::new();
    let mut compared = 0;
    for (title, script) in scripts {
        let mut agent = Agent::start_with(Kind::Reference, setup.arguments, setup.config, None);
        let reference = answers(&agent, script, None);
        let ports = (agent.rpc_port, agent.gossip_port);
        agent.child.kill().expect("it is ended");
        agent.wait_exit();
        let agent = start_on(ports, setup);
        let ours = answers(&agent, script, Some(&reference));
        for ((step, theirs), ours) in script.steps.iter().zip(&reference).zip(&ours) {
            compared += 1;
            let name = format!("{title}: {}", step.name);
            match &step.differs {
                Some(difference) => {
                    if !(difference.reference)(&theirs.objects, theirs.ended) {
                        failures.push(format!(
                            "{name}\n  the reference no longer differs so: {theirs:?}"
                        ));
                    }
                    if !(difference.serfling)(&ours.objects, ours.ended) {
                        failures.push(format!("{name}\n  we do not differ so: {ours:?}"));
                    }
                }
                None => {
                    let bytes = |answer: &Answer| {
                        answer
                            .objects
                            .iter()
                            .map(|value| encode(&masked(value, "")))
                            .collect::<Vec<_>>()
                    };
                    if bytes(theirs) != bytes(ours) || theirs.ended != ours.ended {
                        failures.push(format!(
                            "{name}\n  reference: {theirs:?}\n  ours:      {ours:?}"
                        ));
                    }
                }
            }
        }
    }
    println!("{compared} exchanges compared");
    assert!(
        failures.is_empty(),
        "{} of {compared} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Our agent on the ports that the reference had.
fn start_on((rpc_port, gossip_port): (u16, u16), setup: Setup) -> Agent {
    let rpc = format!("-rpc-addr=127.0.0.1:{rpc_port}");
    let bind = format!("-bind=127.0.0.1:{gossip_port}");
    let mut arguments = setup.arguments.to_vec();
    arguments.extend([rpc.as_str(), bind.as_str()]);
    wait_for("the port is free again", || {
        std::net::TcpListener::bind(("127.0.0.1", rpc_port)).is_ok()
    });
    Agent::start_at(
        Kind::Serfling,
        &arguments,
        setup.config,
        None,
        (rpc_port, gossip_port),
    )
}

fn key(text: &str) -> Option<Value> {
    Some(map([("Key", text.into())]))
}

fn tags(pairs: &[(&str, &str)]) -> Value {
    Value::Map(
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
    )
}

fn filter(name: &str, status: &str, by_tags: &[(&str, &str)]) -> Option<Value> {
    Some(map([
        ("Name", name.into()),
        ("Status", status.into()),
        ("Tags", tags(by_tags)),
    ]))
}

fn event(name: &str, payload: usize, coalesce: bool) -> Option<Value> {
    let payload = if payload == 0 {
        Value::Nil
    } else {
        Value::Binary(vec![b'x'; payload])
    };
    Some(map([
        ("Name", name.into()),
        ("Payload", payload),
        ("Coalesce", coalesce.into()),
    ]))
}

fn query(name: &str, more: &[(&str, Value)]) -> Option<Value> {
    let mut pairs = vec![("Name".into(), name.into())];
    if !more.iter().any(|(key, _)| *key == "Timeout") {
        pairs.push(("Timeout".into(), 300_000_000.into()));
    }
    pairs.extend(
        more.iter()
            .map(|(key, value)| ((*key).into(), value.clone())),
    );
    Some(Value::Map(pairs))
}

#[test]
fn requests_of_every_command() {
    let mut members = Script::after_handshake();
    members.call("members", None);
    for (name, status, by_tags) in [
        ("", "", &[][..]),
        ("n1", "alive", &[("role", "web")]),
        ("n.", "", &[("role", "w.*"), ("dc", "east")]),
        ("zz", "", &[]),
        ("", "failed|left", &[]),
        ("n", "", &[]),
        ("", "", &[("role", "")]),
        ("", "", &[("missing", "")]),
        ("", "", &[("role", "db")]),
    ] {
        members.call("members-filtered", filter(name, status, by_tags));
    }
    members.call(
        "members-filtered",
        Some(map([
            ("Tags", Value::Nil),
            ("Name", Value::Nil),
            ("Status", Value::Nil),
        ])),
    );
    members.call("members-filtered", Some(map([])));
    members.call("stats", None);
    for node in ["n1", "zz", ""] {
        members.call("get-coordinate", Some(map([("Node", node.into())])));
    }
    for (name, payload) in [
        ("e", 0),
        ("e", 10),
        ("", 0),
        ("e", 470),
        ("e", 500),
        ("e", 511),
        ("e", 512),
        ("e", 5000),
    ] {
        members.call("event", event(name, payload, false));
    }
    for node in ["nobody", "", "n1"] {
        for prune in [false, true] {
            if node != "n1" || !prune {
                members.call(
                    "force-leave",
                    Some(map([("Node", node.into()), ("Prune", prune.into())])),
                );
            }
        }
    }

    let mut join = Script::after_handshake();
    let existing = |addresses: &[&str]| {
        Value::Array(addresses.iter().map(|address| (*address).into()).collect())
    };
    for addresses in [&[][..], &["127.0.0.1:1"], &["127.0.0.1:1", "127.0.0.1:2"]] {
        join.call(
            "join",
            Some(map([
                ("Existing", existing(addresses)),
                ("Replay", false.into()),
            ])),
        );
        join.within(Duration::from_millis(600));
    }
    join.call(
        "join",
        Some(map([("Existing", Value::Nil), ("Replay", true.into())])),
    );
    join.call(
        "join",
        Some(map([
            ("Existing", existing(&["nosuch.invalid:7946"])),
            ("Replay", false.into()),
        ])),
    );
    join.within(Duration::from_secs(3));

    let mut tagging = Script::after_handshake();
    let deletions = |keys: &[&str]| Value::Array(keys.iter().map(|key| (*key).into()).collect());
    for (set, delete) in [
        (&[("a", "1")][..], &[][..]),
        (&[("a", "2"), ("b", "3")], &["b", "dc"]),
        (&[], &["a", "nothing"]),
        (&[], &[]),
        (&[("", "empty")], &[]),
    ] {
        tagging.call(
            "tags",
            Some(map([
                ("Tags", tags(set)),
                ("DeleteTags", deletions(delete)),
            ])),
        );
        tagging.call("members", None);
    }
    let large = "x".repeat(600);
    tagging.call(
        "tags",
        Some(map([
            ("Tags", tags(&[("large", &large)])),
            ("DeleteTags", Value::Nil),
        ])),
    );
    tagging.call("members", None);

    let mut keys = Script::after_handshake();
    for command in ["install-key", "use-key", "remove-key"] {
        for text in [
            "",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "xx!",
            "AAA",
            "A===",
            "AAAA AAAA",
        ] {
            keys.call(command, key(text))
                .within(Duration::from_millis(250));
        }
    }
    keys.call("list-keys", None)
        .within(Duration::from_millis(250));
    compare(
        PLAIN,
        &[
            ("members", members),
            ("join", join),
            ("tags", tagging),
            ("keys", keys),
        ],
    );
}

#[test]
fn order_of_the_conversation() {
    let version = |version: i64| Some(map([("Version", version.into())]));
    let auth = |key: &str| Some(map([("AuthKey", key.into())]));
    let mut scripts = Vec::new();
    for command in ["members", "stats", "leave", "nope"] {
        let mut script = Script::default();
        script.call(command, None);
        scripts.push(("before the handshake", script));
    }
    let mut script = Script::default();
    script
        .call("handshake", version(0))
        .call("handshake", version(2))
        .call("handshake", version(1));
    script
        .call("handshake", version(1))
        .call("handshake", version(7));
    script
        .call("auth", auth(""))
        .call("auth", auth("x"))
        .call("members", None);
    script
        .call("stop", Some(map([("Stop", 99.into())])))
        .call("nope", None);
    scripts.push(("handshake", script));
    for (name, bytes) in [
        ("a reserved byte", &b"\xc1"[..]),
        ("a number for a header", b"\x05"),
        ("a list for a header", b"\x91\x05"),
    ] {
        let mut script = Script::after_handshake();
        script.raw(name, bytes);
        scripts.push(("garbage", script));
    }
    compare(PLAIN, &scripts);

    let mut script = Script::after_handshake();
    for command in ["members", "stats", "list-keys", "leave"] {
        script.call(command, None);
    }
    script
        .call("auth", auth("wrong"))
        .call("auth", auth(""))
        .call("nope", None);
    script.call("event", event("e", 1, false)).differs(
        |objects, _| objects.len() == 2 && objects[0] == objects[1],
        |objects, _| objects.len() == 1,
    );
    script
        .call("auth", auth("secret"))
        .call("members", None)
        .call("auth", auth("wrong"))
        .call("members", None);
    let mut early = Script::default();
    early.call("auth", auth("secret"));
    compare(WITH_KEY, &[("auth", script), ("auth first", early)]);
}

#[test]
fn encodings_of_requests() {
    let scripts = [
        (
            "keys in another order",
            &b"\x82\xa3Seq\x05\xa7Command\xa7members"[..],
        ),
        (
            "unknown keys",
            b"\x84\xa1x\xc0\xa3Seq\x05\xa4nest\x81\xa1a\x92\x01\x80\xa7Command\xa7members",
        ),
        (
            "a wide number",
            b"\x82\xa7Command\xa7members\xa3Seq\xcf\x00\x00\x00\x00\x00\x00\x00\x07",
        ),
        (
            "a signed number",
            b"\x82\xa7Command\xa7members\xa3Seq\xd3\x00\x00\x00\x00\x00\x00\x00\x07",
        ),
        (
            "a great number",
            b"\x82\xa7Command\xa7members\xa3Seq\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        (
            "a long form of text",
            b"\x82\xa7Command\xda\x00\x07members\xa3Seq\x07",
        ),
        (
            "text of 8 bits' length",
            b"\x82\xa7Command\xd9\x07members\xa3Seq\x07",
        ),
        (
            "text for bytes",
            b"\x82\xa7Command\xa5event\xa3Seq\x08\x82\xa4Name\xa1n\xa7Payload\xa2hi",
        ),
        (
            "nil for everything",
            b"\x82\xa7Command\xa5event\xa3Seq\x08\x83\xa4Name\xc0\xa7Payload\xc0\xa8Coalesce\xc0",
        ),
        ("an empty body", b"\x82\xa7Command\xa5event\xa3Seq\x08\x80"),
        (
            "two requests at once",
            b"\x82\xa7Command\xa7members\xa3Seq\x01\x82\xa7Command\xa7members\xa3Seq\x02",
        ),
    ]
    .map(|(name, bytes)| {
        let mut script = Script::after_handshake();
        script.raw(name, bytes);
        (name, script)
    });
    compare(PLAIN, &scripts);
    let mut split = Script::after_handshake();
    split
        .raw("half a request", b"\x82\xa7Command\xa7mem")
        .raw("and the other half", b"bers\xa3Seq\x03");
    compare(PLAIN, &[("split", split)]);
}

#[test]
fn streams_monitors_and_queries() {
    let stream = |filter: &str| Some(map([("Type", filter.into())]));
    let mut events = Script::after_handshake();
    for filters in ["bogus", "user,", " user", "user:a,bogus", "member-"] {
        events.call("stream", stream(filters));
    }
    events.call("stream", stream("user:a,user:b,member-update"));
    let again = events.seq;
    events.raw(
        "the same Seq again",
        request("stream", again, stream("user").as_ref()),
    );
    events
        .call("event", event("a", 3, false))
        .call("event", event("c", 3, false))
        .call("event", event("b", 0, false));
    events
        .call("event", event("a", 3, true))
        .within(Duration::from_millis(1500));
    events.call(
        "tags",
        Some(map([
            ("Tags", tags(&[("x", "1")])),
            ("DeleteTags", Value::Nil),
        ])),
    );
    events.within(Duration::from_millis(1500));
    events
        .call("stop", Some(map([("Stop", again.into())])))
        .call("event", event("a", 3, false));

    let mut names = Script::after_handshake();
    names
        .call("stream", stream(""))
        .within(Duration::from_millis(1500));
    names.call("event", event("a", 1, false));

    let mut queries = Script::after_handshake();
    queries.call("query", query("_serf_nope", &[]));
    queries.call(
        "query",
        query("_serf_ping", &[("Payload", Value::Binary(vec![1]))]),
    );
    queries.call(
        "query",
        query("large", &[("Payload", Value::Binary(vec![1; 1024]))]),
    );
    queries.call("query", query("q", &[])).until_done();
    queries
        .call("query", query("_serf_ping", &[("RequestAck", true.into())]))
        .until_done();
    queries
        .call(
            "query",
            query("q", &[("FilterNodes", Value::Array(vec!["other".into()]))]),
        )
        .until_done();
    queries
        .call(
            "query",
            query(
                "q",
                &[
                    ("FilterTags", tags(&[("role", "^db")])),
                    ("RequestAck", true.into()),
                ],
            ),
        )
        .until_done();
    queries
        .call(
            "query",
            query(
                "q",
                &[
                    ("FilterTags", tags(&[("role", "(")])),
                    ("RequestAck", true.into()),
                ],
            ),
        )
        .until_done();
    queries
        .call(
            "query",
            query(
                "q",
                &[
                    ("FilterTags", tags(&[("role", "e")])),
                    ("RequestAck", true.into()),
                ],
            ),
        )
        .until_done();
    queries
        .call(
            "query",
            query(
                "q",
                &[("RelayFactor", 3.into()), ("RequestAck", true.into())],
            ),
        )
        .until_done();

    let mut answers = Script::after_handshake();
    let respond = |id: u64, payload: usize| {
        Some(map([
            ("ID", id.into()),
            ("Payload", Value::Binary(vec![b'y'; payload])),
        ]))
    };
    answers.call("respond", respond(1, 3));
    answers.call("stream", stream("query:q"));
    answers
        .call(
            "query",
            query(
                "q",
                &[
                    ("Payload", Value::Binary(vec![1, 2])),
                    ("Timeout", 2_000_000_000.into()),
                ],
            ),
        )
        .awaits(Awaited::Objects(3));
    answers
        .call("respond", respond(1, 1100))
        .call("respond", respond(1, 3))
        .awaits(Awaited::Objects(3));
    answers.call("respond", respond(1, 3)).until_done();
    answers
        .call("respond", respond(1, 3))
        .call("respond", respond(2, 3));
    answers.call("query", query("other", &[])).until_done();
    answers.call("query", query("q", &[])).until_done();

    let mut monitor = Script::after_handshake();
    let level = |level: &str| Some(map([("LogLevel", level.into())]));
    for bad in ["bogus", "", "error", "information"] {
        monitor.call("monitor", level(bad));
    }
    monitor
        .call("monitor", level("err"))
        .call("monitor", level("debug"));
    let seq = monitor.seq - 1;
    monitor
        .call("stop", Some(map([("Stop", seq.into())])))
        .call("monitor", level("Warn"));
    compare(
        PLAIN,
        &[
            ("events", events),
            ("all events", names),
            ("queries", queries),
            ("answers", answers),
            ("monitor", monitor),
        ],
    );
}

#[test]
fn keys_of_an_encrypted_agent() {
    let mut script = Script::after_handshake();
    let (one, two) = (
        "AAAAAAAAAAAAAAAAAAAAAA==",
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    );
    let wait = Duration::from_millis(250);
    script.call("list-keys", None).within(wait);
    for (command, text) in [
        ("install-key", "AAAA"),
        ("install-key", two),
        ("install-key", two),
        ("use-key", "AgICAgICAgICAgICAgICAg=="),
        ("remove-key", one),
        ("use-key", two),
        ("remove-key", two),
        ("remove-key", one),
        ("remove-key", one),
    ] {
        script.call(command, key(text)).within(wait);
        script.call("list-keys", None).within(wait);
    }
    script.call("stats", None);
    compare(ENCRYPTED, &[("keys", script)]);
}

#[test]
fn better_on_purpose() {
    let mut anchored = Script::after_handshake();
    anchored
        .call("members-filtered", filter("n|zz", "", &[]))
        .differs(
            |objects, _| objects[1].to_string().contains("n1"),
            |objects, ended| !ended && !objects[1].to_string().contains("n1"),
        );
    let mut invalid = Script::after_handshake();
    invalid
        .call("members-filtered", filter("[", "", &[]))
        .differs(
            |objects, ended| objects.is_empty() && ended,
            |objects, ended| {
                objects.len() == 2
                    && objects[0].to_string().contains("Failed to compile regex")
                    && !ended
            },
        );
    compare(
        PLAIN,
        &[
            ("alternations are anchored whole", anchored),
            ("a wrong expression is answered", invalid),
        ],
    );
}
