use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::cluster::Member;

fn written(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

#[test]
fn user_events_are_written_and_read() {
    let event = UserEventMessage {
        coalesce: false,
        ltime: 1,
        name: "n",
        payload: b"hi",
    };
    let bytes = written(|out| event.encode(out));
    assert_eq!(
        bytes,
        b"\x03\x84\xa2CC\xc2\xa5LTime\x01\xa4Name\xa1n\xa7Payload\xa2hi"
    );
    assert_eq!(UserEventMessage::decode(&bytes).expect("reads"), event);
}

#[test]
fn intents_are_written_and_read() {
    let (ltime, node, prune) = (200, "a", true);
    let join = JoinMessage { ltime, node };
    let bytes = written(|out| join.encode(out));
    assert_eq!(bytes, b"\x01\x82\xa5LTime\xcc\xc8\xa4Node\xa1a");
    assert_eq!(JoinMessage::decode(&bytes).expect("reads"), join);
    let leave = LeaveMessage { ltime, node, prune };
    let bytes = written(|out| leave.encode(out));
    assert_eq!(
        bytes,
        b"\x00\x83\xa5LTime\xcc\xc8\xa4Node\xa1a\xa5Prune\xc3"
    );
    assert_eq!(LeaveMessage::decode(&bytes).expect("reads"), leave);
    // Agents before 0.8.2 know no pruning.
    let old = LeaveMessage::decode(b"\x00\x82\xa5LTime\xcc\xc8\xa4Node\xa1a").expect("reads");
    assert!(!old.prune);
}

#[test]
fn queries_are_written_and_read() {
    for addr in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let nodes = encode_node_filter(&["a".to_owned()]);
        let tag = encode_tag_filter("role", "^web");
        let query = QueryMessage {
            addr,
            filters: vec![&nodes, &tag],
            flags: FLAG_ACK,
            id: 0x7fff_ffff,
            ltime: 3,
            name: "load",
            payload: b"\xff\xfe",
            port: 7946,
            relay_factor: 2,
            source_node: "a",
            timeout: 15_000_000_000,
        };
        let bytes = written(|out| query.encode(out));
        assert_eq!(QueryMessage::decode(&bytes).expect("reads"), query);
    }
}

#[test]
fn negative_timeouts_are_none() {
    let bytes = b"\x04\x82\xa4Addr\xa4\x7f\0\0\x01\xa7Timeout\xff";
    assert_eq!(QueryMessage::decode(bytes).expect("reads").timeout, 0);
}

#[test]
fn filters_are_read() {
    let nodes = encode_node_filter(&["a".to_owned(), "b".to_owned()]);
    let decoded = Filter::decode(&nodes).expect("reads");
    assert_eq!(decoded, Filter::Nodes(vec!["a", "b"]));
    let tag = encode_tag_filter("role", "^web");
    let expected = Filter::Tag {
        tag: "role",
        expression: "^web",
    };
    assert_eq!(Filter::decode(&tag).expect("reads"), expected);
    assert!(matches!(
        Filter::decode(b"\x07\x80"),
        Err(DecodeError::Type(7))
    ));
    assert!(matches!(Filter::decode(b""), Err(DecodeError::Empty)));
}

#[test]
fn responses_are_written_and_read() {
    let response = QueryResponseMessage {
        flags: FLAG_ACK,
        from: "b",
        id: 77,
        ltime: 3,
        payload: b"",
    };
    let bytes = written(|out| response.encode(out));
    let read = QueryResponseMessage::decode(&bytes).expect("reads");
    assert_eq!(read, response);
}

#[test]
fn relayed_messages_come_with_their_destination() {
    for to in ["127.0.0.1:7946", "[::1]:7946"] {
        let to: SocketAddr = to.parse().expect("an address");
        let relay = RelayMessage {
            to,
            name: "a",
            message: b"\x05\x80",
        };
        let bytes = written(|out| relay.encode(out));
        assert_eq!(RelayMessage::decode(&bytes).expect("reads"), relay);
    }
    // As Go writes it: a v4 address in 16 bytes.
    let bytes = b"\x09\x82\xa8DestAddr\x83\xa2IP\xb0\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\xa4Port\xcd\x1f\x0a\
        \xa4Zone\xa0\xa8DestName\xa1a\x05\x80";
    let relay = RelayMessage::decode(bytes).expect("reads");
    assert_eq!(relay.to, SocketAddr::from((Ipv4Addr::LOCALHOST, 7946)));
    assert_eq!((relay.name, relay.message), ("a", &b"\x05\x80"[..]));
}

#[test]
fn states_are_written_and_read() {
    let state = PushPullMessage {
        ltime: 5,
        status_ltimes: vec![("a", 1), ("b", 4)],
        left_members: vec!["b"],
        event_ltime: 9,
        events: vec![EventsAt {
            ltime: 8,
            events: vec![StoredEvent {
                name: "deploy",
                payload: b"1",
            }],
        }],
        query_ltime: 2,
    };
    let bytes = written(|out| state.encode(out));
    assert_eq!(PushPullMessage::decode(&bytes).expect("reads"), state);
}

#[test]
fn empty_slots_of_a_state_are_skipped() {
    let bytes = b"\x02\x82\xa6Events\x93\xc0\x82\xa6Events\x91\x81\xa4Name\xa1x\xa5LTime\x07\x82\xa6Events\xc0\xa5LTime\x08\xabLeftMembers\xc0";
    let state = PushPullMessage::decode(bytes).expect("reads");
    let times: Vec<u64> = state.events.iter().map(|slot| slot.ltime).collect();
    assert_eq!(times, [7]);
}

#[test]
fn key_messages_are_written_and_read() {
    let key = [255; 16];
    let bytes = written(|out| KeyRequest { key: &key }.encode(out));
    assert_eq!(KeyRequest::decode(&bytes).expect("reads").key, key);
    let response = KeyResponse {
        keys: vec!["a2V5".to_owned()],
        message: "hm".to_owned(),
        primary_key: "a2V5".to_owned(),
        result: true,
    };
    let bytes = written(|out| response.encode(out));
    assert_eq!(KeyResponse::decode(&bytes).expect("reads"), response);
}

#[test]
fn conflict_answers_say_where_a_node_is() {
    let member = Member::alive("a", IpAddr::V4(Ipv4Addr::LOCALHOST), 7946);
    let bytes = written(|out| ConflictResponse::encode(Some(&member), out));
    let addr = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7946)));
    assert_eq!(ConflictResponse::decode(&bytes).expect("reads").addr, addr);
    let bytes = written(|out| ConflictResponse::encode(None, out));
    assert_eq!(bytes, [6, 0xc0]);
    assert_eq!(ConflictResponse::decode(&bytes).expect("reads").addr, None);
}

#[test]
fn a_type_byte_tells_what_follows() {
    for byte in 0..=9 {
        let kind = MessageType::from_byte(byte).expect("a type");
        assert_eq!(kind as u8, byte);
    }
    assert_eq!(MessageType::from_byte(10), None);
    assert!(matches!(
        JoinMessage::decode(b"\x00\x80"),
        Err(DecodeError::Type(0))
    ));
    assert!(matches!(JoinMessage::decode(b""), Err(DecodeError::Empty)));
}

proptest! {
    #[test]
    fn garbage_never_panics(kind in 0u8..11, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut message = vec![kind];
        message.extend(bytes);
        let _ = JoinMessage::decode(&message);
        let _ = LeaveMessage::decode(&message);
        let _ = PushPullMessage::decode(&message);
        let _ = UserEventMessage::decode(&message);
        let _ = QueryMessage::decode(&message);
        let _ = QueryResponseMessage::decode(&message);
        let _ = ConflictResponse::decode(&message);
        let _ = KeyRequest::decode(&message);
        let _ = KeyResponse::decode(&message);
        let _ = RelayMessage::decode(&message);
        let _ = Filter::decode(&message);
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = |kind: MessageType| {
        let mut bytes = vec![kind as u8];
        bytes.extend_from_slice(b"\x82\xa1x");
        bytes.extend_from_slice(&[0x91; 60_000]);
        bytes
    };
    assert!(LeaveMessage::decode(&deep(MessageType::Leave)).is_err());
    assert!(PushPullMessage::decode(&deep(MessageType::PushPull)).is_err());
    assert!(QueryMessage::decode(&deep(MessageType::Query)).is_err());
    assert!(matches!(
        RelayMessage::decode(&deep(MessageType::Relay)),
        Err(DecodeError::RelayHeader)
    ));
}

#[test]
fn what_says_nothing_in_a_state_takes_no_room() {
    let mut bytes = b"\x02\x83\xa6Events\xdd\x00\x10\x00\x02".to_vec();
    bytes.extend(std::iter::repeat_n(0xc0, 1 << 20));
    bytes.extend_from_slice(b"\x82\xa6Events\x92\x80\x81\xa4Name\xa1n\xa5LTime\x07\x80");
    bytes.extend_from_slice(b"\xabLeftMembers\x92\xa0\xa1a\xacStatusLTimes\x82\xa0\x00\xa1a\x05");
    let state = PushPullMessage::decode(&bytes).expect("reads");
    let events = vec![StoredEvent {
        name: "n",
        payload: b"",
    }];
    let expected = PushPullMessage {
        status_ltimes: vec![("a", 5)],
        left_members: vec!["a"],
        events: vec![EventsAt { ltime: 7, events }],
        ..PushPullMessage::default()
    };
    assert_eq!(state, expected);

    let mut bytes = b"\x02\x81\xabLeftMembers\xdd\x00\x10\x00\x01".to_vec();
    bytes.extend(b"\xa1a".repeat((1 << 20) + 1));
    let error = PushPullMessage::decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("a list of more than 1048576"), "{error}");
}
