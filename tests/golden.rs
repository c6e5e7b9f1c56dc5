//! Gossip of real Serf agents: read, understood, and written again byte for byte. See `tests/golden/README.md`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;

use rand::{TryCryptoRng, TryRng};
use serfling::cluster::Tags;
use serfling::gossip::envelope::{Envelope, EnvelopeConfig};
use serfling::gossip::keyring::{Key, Keyring, decode_base64};
use serfling::gossip::message::{ErrorMessage, Message, MessageType, PushNode};
use serfling::gossip::packet::PacketScratch;
use serfling::gossip::stream::{StreamEnd, StreamMessage, StreamReader, encode_push_pull};
use serfling::serf::coordinate::{decode_payload, encode_payload};
use serfling::serf::message::{
    ConflictResponse, Filter, JoinMessage, KeyRequest, KeyResponse, LeaveMessage,
    MessageType as SerfType, PushPullMessage, QueryMessage, QueryResponseMessage, RelayMessage,
    UserEventMessage, encode_node_filter, encode_tag_filter,
};

/// What was seen, so that a recording that lost something is noticed.
type Seen = BTreeSet<String>;

struct Scenario {
    recording: &'static str,
    compress: bool,
    /// In base64.
    key: Option<&'static str>,
}

impl Scenario {
    const fn plain(recording: &'static str) -> Self {
        Self {
            recording,
            compress: false,
            key: None,
        }
    }

    fn envelope(&self) -> Envelope {
        let key = |text| Key::new(&decode_base64(text).expect("base64")).expect("a key");
        Envelope::new(EnvelopeConfig {
            compress: self.compress,
            keyring: self.key.map(|text| Keyring::new(key(text))),
            ..EnvelopeConfig::default()
        })
    }

    /// The recorded lines: `packet` or `stream`, and the bytes.
    fn lines(&self) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        self.recording.lines().map(|line| {
            let (kind, hex) = line.split_once(' ').expect("two words");
            let byte =
                |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits");
            (kind, (0..hex.len()).step_by(2).map(byte).collect())
        })
    }
}

/// Gives the recorded nonce again.
struct Replay<'a>(&'a [u8]);

impl TryRng for Replay<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("nonces are taken as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("nonces are taken as bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0[..bytes.len()]);
        Ok(())
    }
}

impl TryCryptoRng for Replay<'_> {}

fn check_packet(scenario: &Scenario, packet: &[u8], seen: &mut Seen) {
    let envelope = scenario.envelope();
    let mut scratch = PacketScratch::default();
    let parts = envelope.open_packet(packet, &mut scratch).expect("opens");
    assert_eq!(parts.truncated(), 0);
    let messages: Vec<&[u8]> = parts.collect();
    for bytes in &messages {
        check_message(bytes, seen);
    }
    // The reference writes a checksum only where it knows the receiver.
    let sealed = [0, 5].map(|protocol_max| {
        let mut sealed = Vec::new();
        let mut nonce = Replay(packet.get(1..).unwrap_or_default());
        let keep = |packet| sealed = packet;
        let result = envelope.seal_packets(&messages, protocol_max, &mut nonce, keep);
        result.expect("fits");
        sealed
    });
    assert!(sealed.iter().any(|sealed| sealed == packet));
}

fn check_message(bytes: &[u8], seen: &mut Seen) {
    let message = Message::decode(bytes).expect("decodes");
    assert_eq!(message.to_bytes(), bytes, "{message:?}");
    let kind = MessageType::from_byte(bytes[0]).expect("a type");
    seen.insert(format!("{kind:?}"));
    match message {
        Message::User(body) => check_user(body, seen),
        Message::Alive(alive) => check_tags(alive.meta),
        Message::Ack(ack) if !ack.payload.is_empty() => {
            let coordinate = decode_payload(ack.payload).expect("a payload");
            let coordinate = coordinate.expect("of a known version");
            assert_eq!(encode_payload(&coordinate), ack.payload);
            seen.insert("Coordinate".to_owned());
        }
        _ => {}
    }
}

/// The reference writes tags in any order.
fn check_tags(meta: &[u8]) {
    let tags = Tags::from_meta(&meta.into()).expect("tags");
    let again = tags.to_meta();
    if meta.first() == Some(&255) {
        assert_eq!(again.len(), meta.len());
    }
    assert_eq!(Tags::from_meta(&again).expect("tags"), tags);
}

/// Encodes what was decoded and compares.
macro_rules! again {
    ($type:ident, $bytes:expr) => {{
        let message = $type::decode($bytes).expect("decodes");
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(out, $bytes, "{message:?}");
        message
    }};
}

fn check_user(bytes: &[u8], seen: &mut Seen) {
    let kind = SerfType::from_byte(bytes[0]).expect("a type of Serf");
    seen.insert(format!("Serf {kind:?}"));
    match kind {
        SerfType::Leave => drop(again!(LeaveMessage, bytes)),
        SerfType::Join => drop(again!(JoinMessage, bytes)),
        SerfType::UserEvent => drop(again!(UserEventMessage, bytes)),
        SerfType::Query => {
            let query = again!(QueryMessage, bytes);
            for filter in &query.filters {
                check_filter(filter, seen);
            }
            if query.name.starts_with("_serf_") && query.name.ends_with("key") {
                again!(KeyRequest, query.payload);
            }
        }
        SerfType::QueryResponse => {
            let response = again!(QueryResponseMessage, bytes);
            match response.payload.first().copied().map(SerfType::from_byte) {
                Some(Some(SerfType::KeyResponse)) => {
                    again!(KeyResponse, response.payload);
                    seen.insert("Serf KeyResponse".to_owned());
                }
                Some(Some(SerfType::ConflictResponse)) => {
                    let answer = ConflictResponse::decode(response.payload).expect("decodes");
                    assert!(answer.addr.is_some());
                    seen.insert("Serf ConflictResponse".to_owned());
                }
                _ => {}
            }
        }
        SerfType::Relay => {
            let relay = again!(RelayMessage, bytes);
            check_user(relay.message, seen);
        }
        _ => panic!("{kind:?} is no gossip"),
    }
}

fn check_filter(bytes: &[u8], seen: &mut Seen) {
    let again = match Filter::decode(bytes).expect("a filter") {
        Filter::Nodes(nodes) => {
            seen.insert("Filter of nodes".to_owned());
            encode_node_filter(&nodes.into_iter().map(str::to_owned).collect::<Vec<_>>())
        }
        Filter::Tag { tag, expression } => {
            seen.insert("Filter of tags".to_owned());
            encode_tag_filter(tag, expression)
        }
    };
    assert_eq!(again, bytes);
}

fn check_stream(scenario: &Scenario, bytes: &[u8], seen: &mut Seen) {
    let envelope = scenario.envelope();
    let mut reader = StreamReader::new(StreamEnd::Opener);
    let mut chunks = bytes.chunks(7);
    let message = chunks.find_map(|chunk| {
        let read = reader.handle_received(&envelope, chunk);
        read.expect("reads")
    });
    let mut plain = Vec::new();
    match message.expect("a message") {
        StreamMessage::PushPull(push_pull) => {
            let nodes: Vec<PushNode<'_>> = push_pull.nodes().map(|node| node.unwrap()).collect();
            for node in &nodes {
                seen.insert(format!("Node {:?}", node.state));
                check_tags(node.meta);
            }
            let state = push_pull.user_state();
            check_state(state);
            let (join, nodes) = (push_pull.is_join(), nodes.into_iter());
            seen.insert(format!("PushPull, join: {join}"));
            encode_push_pull(join, nodes, state, &mut plain);
        }
        StreamMessage::Error(error) => {
            seen.insert("Error".to_owned());
            ErrorMessage { error: &error }.encode(&mut plain);
        }
        StreamMessage::Ping { .. } | StreamMessage::Ack { .. } => {
            let kind = MessageType::from_byte(bytes[0]).expect("a type");
            seen.insert(format!("{kind:?} by stream"));
            let message = Message::decode(bytes).expect("decodes");
            message.encode(&mut plain);
        }
        StreamMessage::User(_) => panic!("Serf sends none"),
    }
    let mut nonce = Replay(bytes.get(6..).unwrap_or_default());
    let sealed = envelope.seal_stream(StreamEnd::Opener, &plain, &mut nonce);
    assert_eq!(sealed, bytes);
}

/// The reference writes its slots without events too.
fn check_state(bytes: &[u8]) {
    let state = PushPullMessage::decode(bytes).expect("decodes");
    let mut again = Vec::new();
    state.encode(&mut again);
    assert_eq!(PushPullMessage::decode(&again).expect("decodes"), state);
}

fn check(scenario: &Scenario) -> Seen {
    let mut seen = Seen::new();
    for (kind, bytes) in scenario.lines() {
        match kind {
            "packet" => check_packet(scenario, &bytes, &mut seen),
            "stream" => check_stream(scenario, &bytes, &mut seen),
            other => panic!("a line of kind {other}"),
        }
    }
    seen
}

fn assert_seen(seen: &Seen, expected: &[&str]) {
    for kind in expected {
        assert!(seen.contains(*kind), "no {kind} among {seen:?}");
    }
}

#[test]
fn agents_without_compression() {
    let seen = check(&Scenario::plain(include_str!("golden/plain.hex")));
    assert_seen(
        &seen,
        &[
            "Ack",
            "Alive",
            "Coordinate",
            "Dead",
            "Filter of nodes",
            "Filter of tags",
            "IndirectPing",
            "Node Alive",
            "Ping",
            "PushPull, join: true",
            "Serf Join",
            "Serf Leave",
            "Serf Query",
            "Serf QueryResponse",
            "Serf Relay",
            "Serf UserEvent",
            "Suspect",
        ],
    );
}

#[test]
fn agents_with_compression() {
    let seen = check(&Scenario {
        compress: true,
        ..Scenario::plain(include_str!("golden/compressed.hex"))
    });
    assert_seen(&seen, &["Alive", "Ping", "PushPull, join: true", "User"]);
}

#[test]
fn agents_with_encryption() {
    let seen = check(&Scenario {
        compress: true,
        key: Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ..Scenario::plain(include_str!("golden/encrypted.hex"))
    });
    assert_seen(&seen, &["Alive", "Ping", "PushPull, join: true", "User"]);
}

#[test]
fn agents_with_encryption_and_without_compression() {
    let seen = check(&Scenario {
        key: Some("AAECAwQFBgcICQoLDA0ODw=="),
        ..Scenario::plain(include_str!("golden/encrypted-uncompressed.hex"))
    });
    assert_seen(&seen, &["Alive", "Ping", "PushPull, join: true", "User"]);
}

#[test]
fn agents_of_an_old_protocol_say_their_role_only() {
    let seen = check(&Scenario::plain(include_str!("golden/protocol-2.hex")));
    assert_seen(&seen, &["Alive", "PushPull, join: true", "Serf Join"]);
}

#[test]
fn answers_to_a_peer() {
    let mut seen = check(&Scenario::plain(include_str!("golden/peer.hex")));
    seen.extend(check(&Scenario::plain(include_str!("golden/indirect.hex"))));
    assert_seen(
        &seen,
        &[
            "Ack by stream",
            "Error",
            "IndirectPing",
            "Nack",
            "Ping by stream",
            "PushPull, join: false",
            "Serf ConflictResponse",
            "Serf KeyResponse",
            "Serf Relay",
            "Suspect",
        ],
    );
}
