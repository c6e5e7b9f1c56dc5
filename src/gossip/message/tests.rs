use proptest::prelude::*;

use super::*;

#[test]
fn a_ping_reads_in_any_form() {
    let bytes = b"\x00\x84\xa4Node\xc4\x02n1\xa4junk\x93\x01\x80\xc0\xa5SeqNo\xd3\0\0\0\0\0\0\x01\0\xaaSourceAddr\xc0";
    let Message::Ping(ping) = Message::decode(bytes).unwrap() else {
        panic!("no ping");
    };
    assert_eq!((ping.seq, ping.node), (256, "n1"));
    assert_eq!(ping.source, Source::default());
}

#[test]
fn errors_name_the_field() {
    let text = |bytes: &[u8]| Message::decode(bytes).unwrap_err().to_string();
    assert_eq!(text(b""), "missing message type byte");
    assert_eq!(text(b"\x06"), "message type 6 is not expected here");
    assert_eq!(text(b"\x63"), "message type 99 is not expected here");
    assert!(text(b"\x00\x81\xa4Node\xa1\xff").contains("Node is not UTF-8"));
    assert!(text(b"\x05\x81\xa4From\xa1\xff").contains("From is not UTF-8"));
    assert!(text(b"\x04\x81\xa4Addr\xa3abc").contains("Addr has 3 bytes, expected 4 or 16"));
    assert!(text(b"\x01\x81\xa6Target\xa1a").contains("Target has 1 bytes"));
    let error = PushNode::decode(b"\x81\xa5State\x04").unwrap_err();
    assert!(error.to_string().contains("State is 4"));
}

#[test]
fn short_versions_are_none() {
    let alive = |vsn: &[u8]| {
        let mut bytes = b"\x04\x81\xa3Vsn".to_vec();
        RawWriter(&mut bytes).raw(vsn);
        match Message::decode(&bytes).unwrap() {
            Message::Alive(alive) => alive.versions,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(alive(b""), None);
    assert_eq!(alive(&[1, 5, 2, 2, 5]), None);
    assert_eq!(alive(&[1, 5, 2, 2, 5, 5]), Some(Versions::CURRENT));
    assert_eq!(alive(&[1, 5, 2, 2, 5, 5, 9]), Some(Versions::CURRENT));
}

/// Each kind of message, borrowing from what made it.
fn with_any_message(fields: &Fields, check: impl Fn(Message<'_>) -> Result<(), TestCaseError>) {
    let Fields {
        number,
        port,
        addr,
        node,
        other,
        bytes,
        vsn,
        nack,
    } = fields;
    let source = Source {
        addr: *addr,
        port: *port,
        node: other,
    };
    let messages = [
        Message::Ping(Ping {
            seq: *number,
            node,
            source,
        }),
        Message::IndirectPing(IndirectPing {
            seq: *number,
            target: *addr,
            port: *port,
            node,
            nack: *nack,
            source,
        }),
        Message::Ack(Ack {
            seq: *number,
            payload: bytes,
        }),
        Message::Nack(Nack { seq: *number }),
        Message::Suspect(Suspect {
            incarnation: *number,
            node,
            from: other,
        }),
        Message::Alive(Alive {
            incarnation: *number,
            node,
            addr: *addr,
            port: *port,
            meta: bytes,
            versions: vsn.as_ref().and_then(|vsn| Versions::from_bytes(vsn)),
        }),
        Message::Dead(Dead {
            incarnation: *number,
            node,
            from: other,
        }),
        Message::User(bytes),
    ];
    for message in messages {
        check(message).unwrap();
    }
}

#[derive(Debug)]
struct Fields {
    number: u32,
    port: u16,
    addr: Option<IpAddr>,
    node: String,
    other: String,
    bytes: Vec<u8>,
    vsn: Option<[u8; 6]>,
    nack: bool,
}

fn any_fields() -> impl Strategy<Value = Fields> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        Just(vec![7; 65_536])
    ];
    // IPv4 in IPv6 form comes back as IPv4.
    let addr = proptest::option::of(any::<IpAddr>().prop_map(|addr| addr.to_canonical()));
    let vsn = proptest::option::of(any::<[u8; 6]>());
    (
        (any::<u32>(), any::<u16>(), addr, ".{0,70}"),
        (".{0,40}", bytes, vsn, any::<bool>()),
    )
        .prop_map(
            |((number, port, addr, node), (other, bytes, vsn, nack))| Fields {
                number,
                port,
                addr,
                node,
                other,
                bytes,
                vsn,
                nack,
            },
        )
}

/// Finds fault with what the reference's decoder would not take, or its encoder would not write.
fn check_form(mut bytes: &[u8]) -> Result<(), TestCaseError> {
    let body = bytes;
    let rmpv::Value::Map(entries) = rmpv::decode::read_value(&mut bytes).unwrap() else {
        panic!("no map");
    };
    prop_assert!(bytes.is_empty(), "bytes after the map");
    let keys: Vec<_> = entries.iter().map(|(key, _)| key.as_str()).collect();
    prop_assert!(keys.is_sorted(), "{keys:?}");
    for (_, value) in &entries {
        // Raw bytes that happen to be text, or not, but never bin.
        let plain = matches!(value, rmpv::Value::String(_))
            || value.is_u64()
            || value.is_bool()
            || value.is_nil();
        prop_assert!(plain, "{value:?} in {body:x?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_reads_back(fields in any_fields()) {
        with_any_message(&fields, |message| {
            let bytes = message.to_bytes();
            prop_assert_eq!(Message::decode(&bytes).unwrap(), message);
            if !matches!(message, Message::User(_)) {
                check_form(&bytes[1..])?;
            }
            Ok(())
        });
        let node = PushNode {
            name: &fields.node,
            addr: fields.addr,
            port: fields.port,
            meta: &fields.bytes,
            incarnation: fields.number,
            state: NodeState::Dead,
            versions: None,
        };
        let mut bytes = Vec::new();
        node.encode(&mut bytes);
        prop_assert_eq!(PushNode::decode(&bytes).unwrap(), node);
        check_form(&bytes)?;
    }

    #[test]
    fn torn_messages_are_errors(fields in any_fields(), at in any::<proptest::sample::Index>()) {
        with_any_message(&fields, |message| {
            let bytes = message.to_bytes();
            let torn = &bytes[..at.index(bytes.len())];
            prop_assert!(matches!(message, Message::User(_)) || Message::decode(torn).is_err());
            Ok(())
        });
    }

    #[test]
    fn no_bytes_break_it(kind in 0u8..15, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let bytes = [vec![kind], bytes].concat();
        let _ = Message::decode(&bytes);
        let _ = PushNode::decode(&bytes);
        let _ = PushPullHeader::decode(&bytes);
        let _ = UserHeader::decode(&bytes);
        let _ = ErrorMessage::decode(&bytes);
    }
}

#[test]
fn deep_nesting_in_an_unknown_field_is_an_error() {
    let mut bytes = b"\x00\x82\xa1x".to_vec();
    bytes.extend_from_slice(&[0x91; 60_000]);
    let error = Message::decode(&bytes).unwrap_err();
    assert!(error.to_string().contains("depth limit"), "{error}");
}
