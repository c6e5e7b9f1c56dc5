//! What is fuzzed of the codecs: what was read is written, and read again it is the same.

#![allow(dead_code, reason = "each target uses a part of it")]

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serfling::address::{AddrParts, RpcAddr};
use serfling::agent::config::duration;
use serfling::agent::config::{Config, EventScript, PartialConfig};
use serfling::cluster::Tags;
use serfling::cluster::address::JoinAddress;
use serfling::gossip::envelope::{Envelope, EnvelopeConfig, Label};
use serfling::gossip::keyring::{Key, Keyring, decode_base64};
use serfling::gossip::message::Message;
use serfling::gossip::packet::PacketScratch;
use serfling::gossip::stream::{
    StreamEnd, StreamMessage, StreamReader, encode_push_pull, encode_user,
};
use serfling::rpc::filter::EventFilter;
use serfling::rpc::message::{
    AuthRequest, CoordinateRequest, CoordinateResponse, EventRequest, ForceLeaveRequest,
    HandshakeRequest, JoinRequest, JoinResponse, KeyRequest as RpcKeyRequest,
    KeyResponse as RpcKeyResponse, LogRecord, MemberEventRecord, MembersFilteredRequest,
    MembersResponse, MonitorRequest, QueryEventRecord, QueryRecord, QueryRequest, RequestHeader,
    RespondRequest, ResponseHeader, StatsResponse, StopRequest, StreamRequest, TagsRequest,
    UserEventRecord,
};
use serfling::serf::coordinate::{decode_payload, encode_payload};
use serfling::serf::message::{
    ConflictResponse, Filter, JoinMessage, KeyRequest, KeyResponse, LeaveMessage, PushPullMessage,
    QueryMessage, QueryResponseMessage, RelayMessage, UserEventMessage, encode_node_filter,
    encode_tag_filter,
};

/// What one packet or stream may be unpacked to, in bytes: memory follows what came.
const HELD_BYTES_MAX: usize = 33 * 1024 * 1024;

/// The envelope that a byte stands for: with label, keys, compression or none of it.
fn envelope(how: u8) -> Envelope {
    let label = if how & 1 != 0 { "fuzz" } else { "" };
    let key = Key::new(&[7; 16]).expect("a key");
    Envelope::new(EnvelopeConfig {
        label: Label::new(label).expect("a label"),
        keyring: (how & 2 != 0).then(|| Keyring::new(key)),
        compress: how & 4 != 0,
        verify_incoming: how & 8 == 0,
        ..EnvelopeConfig::default()
    })
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    value.serialize(&mut serializer).expect("it is written");
    bytes
}

/// Reads a request, response or record as each of these types in turn.
macro_rules! round_trips {
    ($data:expr, $($type:ty),* $(,)?) => {
        $(if let Ok(read) = rmp_serde::from_slice::<$type>($data) {
            let written = write(&read);
            let again = rmp_serde::from_slice::<$type>(&written).expect("what was written is read");
            assert_eq!(write(&again), written);
        })*
    };
}

/// Headers, requests, responses and records of the RPC protocol.
pub(crate) fn request(data: &[u8]) {
    round_trips!(
        data,
        RequestHeader<'_>,
        ResponseHeader<'_>,
        HandshakeRequest,
        AuthRequest<'_>,
        EventRequest<'_>,
        ForceLeaveRequest<'_>,
        JoinRequest<'_>,
        JoinResponse,
        MembersFilteredRequest<'_>,
        MembersResponse<'_>,
        RpcKeyRequest<'_>,
        RpcKeyResponse<'_>,
        StreamRequest<'_>,
        StopRequest,
        MonitorRequest<'_>,
        TagsRequest<'_>,
        QueryRequest<'_>,
        RespondRequest<'_>,
        CoordinateRequest<'_>,
        CoordinateResponse,
        StatsResponse<'_>,
        MemberEventRecord<'_>,
        UserEventRecord<'_>,
        QueryEventRecord<'_>,
        LogRecord<'_>,
        QueryRecord<'_>,
    );
}

/// A packet is opened or refused; its messages are sealed, opened, and the same. The first byte chooses the envelope.
pub(crate) fn packet(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else {
        return;
    };
    let envelope = envelope(how);
    let mut scratch = PacketScratch::default();
    let Ok(messages) = envelope.open_packet(bytes, &mut scratch) else {
        return;
    };
    assert!(messages.truncated() <= 255);
    let messages: Vec<&[u8]> = messages.collect();
    for message in &messages {
        gossip_message(message);
    }
    let mut rng = StdRng::seed_from_u64(how.into());
    let mut packets = Vec::new();
    let sealed =
        envelope.seal_packets(&messages, how >> 4, &mut rng, |packet| packets.push(packet));
    if sealed.is_err()
        || messages
            .iter()
            .any(|message| message.is_empty() || message.len() > 0xffff)
    {
        return;
    }
    let mut opened = Vec::new();
    for packet in &packets {
        let mut scratch = PacketScratch::default();
        let Ok(again) = envelope.open_packet(packet, &mut scratch) else {
            // Only a single message whose own first byte is that of a wrapper is not read as itself.
            assert_eq!(messages.len(), 1);
            return;
        };
        opened.extend(again.map(<[u8]>::to_vec));
    }
    let wraps = |message: &&[u8]| matches!(message.first(), Some(7 | 9 | 12 | 244));
    if messages.len() > 1 || !messages.iter().any(wraps) {
        assert_eq!(opened, messages);
    }
}

fn gossip_message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        let written = message.to_bytes();
        assert_eq!(Message::decode(&written).ok(), Some(message));
    }
}

/// What one end of a stream says reads the same however it is cut, and what is held follows what came. The first two
/// bytes choose the envelope, which end speaks, and the cuts.
pub(crate) fn stream(data: &[u8]) {
    let [how, cut, bytes @ ..] = data else {
        return;
    };
    let envelope = envelope(*how);
    let speaker = if how & 16 == 0 {
        StreamEnd::Opener
    } else {
        StreamEnd::Accepter
    };
    let whole = read_stream(&envelope, speaker, bytes, usize::MAX);
    let cut = read_stream(&envelope, speaker, bytes, usize::from(*cut) + 1);
    assert_eq!(whole, cut);
    if let Some(message) = whole {
        let mut rng = StdRng::seed_from_u64((*how).into());
        let sealed = envelope.seal_stream(speaker, &message, &mut rng);
        let again = read_stream(&envelope, speaker, &sealed, usize::MAX);
        assert_eq!(again, Some(message), "sealed and read again");
    }
}

/// The message of a stream, written anew; nothing when it is refused or not whole.
fn read_stream(
    envelope: &Envelope,
    speaker: StreamEnd,
    bytes: &[u8],
    step: usize,
) -> Option<Vec<u8>> {
    let mut reader = StreamReader::new(speaker);
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        let mut more = piece;
        loop {
            match reader.handle_received(envelope, more) {
                Ok(Some(message)) => return write_stream_message(message),
                Ok(None) => assert!(reader.held() <= HELD_BYTES_MAX),
                Err(_) => return None,
            }
            if !reader.is_busy() {
                break;
            }
            more = &[];
        }
    }
    None
}

fn write_stream_message(message: StreamMessage) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match message {
        StreamMessage::PushPull(mut push_pull) => {
            // Those that can't be read are left out.
            let nodes: Vec<_> = push_pull.nodes().filter_map(Result::ok).collect();
            encode_push_pull(
                push_pull.is_join(),
                nodes.into_iter(),
                push_pull.user_state(),
                &mut out,
            );
            let state = push_pull.user_state().to_vec();
            serf_message(&state);
            let mut count = push_pull.nodes_left();
            while push_pull.next_node().is_some() {
                count -= 1;
            }
            assert_eq!(count, 0);
        }
        StreamMessage::User(message) => {
            serf_message(&message);
            encode_user(&message, &mut out);
        }
        StreamMessage::Ping { .. } | StreamMessage::Ack { .. } | StreamMessage::Error(_) => {
            return None;
        }
    }
    Some(out)
}

/// Reads a message of Serf as each of its types; what is read is written, and the same when read again.
macro_rules! serf_round_trips {
    ($data:expr, $($type:ty),* $(,)?) => {
        $(if let Ok(read) = <$type>::decode($data) {
            let mut written = Vec::new();
            read.encode(&mut written);
            let again = <$type>::decode(&written).expect("what was written is read");
            assert_eq!(again, read);
        })*
    };
}

/// Messages of Serf, tags, filters and coordinates.
pub(crate) fn serf_message(data: &[u8]) {
    serf_round_trips!(
        data,
        JoinMessage<'_>,
        LeaveMessage<'_>,
        UserEventMessage<'_>,
        QueryMessage<'_>,
        QueryResponseMessage<'_>,
        RelayMessage<'_>,
        KeyRequest<'_>,
        KeyResponse,
        PushPullMessage<'_>,
    );
    let _ = ConflictResponse::decode(data);
    if let Ok(tags) = Tags::from_meta(&data.into()) {
        assert_eq!(Tags::from_meta(&tags.to_meta()).ok(), Some(tags));
    }
    match Filter::decode(data) {
        Ok(Filter::Nodes(nodes)) => {
            let nodes: Vec<String> = nodes.into_iter().map(str::to_owned).collect();
            let written = encode_node_filter(&nodes);
            assert!(matches!(Filter::decode(&written), Ok(Filter::Nodes(again)) if again == nodes));
        }
        Ok(Filter::Tag { tag, expression }) => {
            let written = encode_tag_filter(tag, expression);
            assert!(matches!(Filter::decode(&written), Ok(Filter::Tag { .. })));
        }
        Err(_) => {}
    }
    if let Ok(Some(coordinate)) = decode_payload(data) {
        // NaN differs from itself; written it is the same.
        let written = encode_payload(&coordinate);
        let again = decode_payload(&written).expect("what was written is read");
        assert_eq!(again.map(|again| encode_payload(&again)), Some(written));
    }
}

/// A configuration file is read or refused; what is refused names the line, and reading never waits for anything.
pub(crate) fn config(data: &[u8]) {
    let mut warnings = Vec::new();
    let read = PartialConfig::from_json(Path::new("fuzz.json"), data, &mut warnings);
    match read {
        Ok(mut config) => {
            // Addresses of interfaces and files are not looked at by loading.
            if config.node_name.is_empty() {
                "n1".clone_into(&mut config.node_name);
            }
            let _ = Config::load(config, &[]);
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz.json:"), "{error}"),
    }
}

/// Event handlers, filters, durations, addresses and keys, as people write them.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(duration) = duration::parse(text) {
        let shown = duration::format(duration);
        assert_eq!(duration::parse(&shown).ok(), Some(duration), "{shown}");
    }
    if let Ok(script) = EventScript::parse(text) {
        assert!(text.ends_with(&script.script));
        assert!(!script.filters.is_empty());
    }
    if let Ok(filters) = EventFilter::parse_list(text) {
        assert_eq!(filters.len(), text.split(',').count());
    }
    for port in [0, 7946] {
        if let Ok(parts) = AddrParts::parse(text, port) {
            let shown = parts.to_string();
            assert_eq!(AddrParts::parse(&shown, 1).ok(), Some(parts), "{shown}");
        }
        let _ = JoinAddress::parse(text, port);
    }
    if let Ok(address) = text.parse::<RpcAddr>() {
        let shown = address.to_string();
        // A host of that name can't be told from a path once its port is shown.
        let host = matches!(&address, RpcAddr::Tcp(parts) if parts.host == "unix");
        assert!(
            host || shown.parse::<RpcAddr>().ok() == Some(address),
            "{shown}"
        );
    }
    if let Ok(bytes) = decode_base64(text)
        && let Ok(key) = Key::new(&bytes)
    {
        assert_eq!(decode_base64(&key.to_base64()), Ok(bytes));
    }
}
