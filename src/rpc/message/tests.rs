//! Bytes seen on the wire of the reference agent, read and written.

use super::*;

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmp_serde::encode::write_named(&mut bytes, value).unwrap();
    bytes
}

#[test]
fn response_header_to_a_handshake() {
    let bytes = b"\x82\xa5Error\xa0\xa3Seq\x00";
    let header = ResponseHeader {
        error: Text(""),
        seq: 0,
    };
    assert_eq!(encode(&header), bytes);
    assert_eq!(
        rmp_serde::from_slice::<ResponseHeader<'_>>(bytes).unwrap(),
        header
    );
}

#[test]
fn members_as_the_reference_sends_them() {
    let bytes: &[u8] =
        b"\x81\xa7Members\x91\x8b\xa4Addr\xc4\x04\x7f\x00\x00\x01\xabDelegateCur\x05\
        \xabDelegateMax\x05\xabDelegateMin\x02\xa4Name\xa2n1\xa4Port\xcdF\x1a\xabProtocolCur\x02\
        \xabProtocolMax\x05\xabProtocolMin\x01\xa6Status\xa5alive\xa4Tags\x82\xa1a\xa11\xa1b\xa12";
    let member = cluster::Member::alive("n1", Ipv4Addr::LOCALHOST.into(), 17946)
        .with_tags([("b", "2"), ("a", "1")].into_iter().collect());
    let response = MembersResponse {
        members: vec![Member::from(&member)],
    };
    assert_eq!(encode(&response), bytes);
    let decoded: MembersResponse<'_> = rmp_serde::from_slice(bytes).unwrap();
    assert_eq!(decoded.members[0].to_member().unwrap(), member);
}

#[test]
fn empty_payload_is_nil_and_records_read_back() {
    let bytes = b"\x85\xa8Coalesce\xc3\xa5Event\xa4user\xa5LTime\x02\xa4Name\xa1n\xa7Payload\xc0";
    let record = UserEventRecord {
        coalesce: true,
        event: Text("user"),
        ltime: 2,
        name: Text("n"),
        payload: Bytes(b""),
    };
    assert_eq!(encode(&record), bytes);
    assert_eq!(
        rmp_serde::from_slice::<UserEventRecord<'_>>(bytes).unwrap(),
        record
    );
}

#[test]
fn unknown_coordinate_has_a_nil_vector() {
    let bytes = encode(&CoordinateResponse::default());
    assert!(bytes.ends_with(b"\xa3Vec\xc0\xa2Ok\xc2"), "{bytes:?}");
    assert_eq!(
        rmp_serde::from_slice::<CoordinateResponse>(&bytes).unwrap(),
        CoordinateResponse::default()
    );
}

#[test]
fn refused_key_operation() {
    let bytes = b"\x85\xa4Keys\xc0\xa8Messages\x80\xa6NumErr\x00\xa8NumNodes\x00\xa7NumResp\x00";
    assert_eq!(encode(&KeyResponse::default()), bytes);
    assert_eq!(
        rmp_serde::from_slice::<KeyResponse<'_>>(bytes).unwrap(),
        KeyResponse::default()
    );
}

#[test]
fn decoding_is_liberal() {
    // Keys as bin and out of order, text as bin, bytes as str, an unknown nested key, a signed integer, nil.
    let bytes =
        b"\x84\xc4\x07Payload\xa2hi\xa4junk\x81\xa1x\x92\x01\xc0\xa4Name\xc4\x01n\xa8Coalesce\xc0";
    let request: EventRequest<'_> = rmp_serde::from_slice(bytes).unwrap();
    assert_eq!(
        request,
        EventRequest {
            coalesce: false,
            name: Text("n"),
            payload: Bytes(b"hi")
        }
    );
    let header: RequestHeader<'_> =
        rmp_serde::from_slice(b"\x82\xa3Seq\xd3\0\0\0\0\0\0\0\x07\xa7Command\xa4stop").unwrap();
    assert_eq!(
        header,
        RequestHeader {
            command: Text("stop"),
            seq: 7
        }
    );
    assert!(rmp_serde::from_slice::<RequestHeader<'_>>(b"\x81\xa3Seq\xff").is_err());
}

#[test]
fn bodies_may_come_as_arrays_in_field_order() {
    let stop: StopRequest = rmp_serde::from_slice(b"\x91\x05").unwrap();
    assert_eq!(stop.stop, 5);
}

#[test]
fn commands_know_their_names() {
    assert_eq!(Command::ALL.len(), 20);
    for command in Command::ALL {
        assert_eq!(Command::from_name(command.name()), Some(*command));
    }
    assert_eq!(Command::from_name("nope"), None);
}
