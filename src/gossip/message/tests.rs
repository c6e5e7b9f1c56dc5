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
