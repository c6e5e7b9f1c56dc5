use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::envelope::{EnvelopeConfig, Label};
use super::super::keyring::{Key, Keyring};
use super::super::message::{Ack, NodeState, Ping, Source, Suspect, Versions};
use super::*;
use crate::msgpack::raw::RawWriter;

fn plain() -> EnvelopeConfig {
    EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    }
}

fn encrypted() -> EnvelopeConfig {
    EnvelopeConfig {
        keyring: Some(Keyring::new(Key::new(&[1; 16]).unwrap())),
        ..plain()
    }
}

fn seal(config: EnvelopeConfig, speaker: StreamEnd, message: &[u8]) -> Vec<u8> {
    Envelope::new(config).seal_stream(speaker, message, &mut StdRng::seed_from_u64(1))
}

/// What a reader makes of a whole stream.
fn read(
    config: EnvelopeConfig,
    speaker: StreamEnd,
    bytes: &[u8],
) -> Result<Option<StreamMessage>, StreamError> {
    let mut reader = StreamReader::new(speaker);
    let message = reader.handle_received(&Envelope::new(config), bytes)?;
    if message.is_none() {
        reader.handle_ended()?;
    }
    Ok(message)
}

fn read_accepted(config: EnvelopeConfig, bytes: &[u8]) -> Result<StreamMessage, StreamError> {
    read(config, StreamEnd::Opener, bytes).map(|message| message.expect("a message"))
}

/// The error, as it is logged.
fn refusal(config: EnvelopeConfig, bytes: &[u8]) -> String {
    read_accepted(config, bytes).unwrap_err().to_string()
}

fn node(name: &str) -> PushNode<'_> {
    PushNode {
        name,
        addr: Some([10, 0, 0, 1].into()),
        port: 7946,
        meta: b"\xff\x80",
        incarnation: 300,
        state: NodeState::Left,
        versions: Some(Versions::CURRENT),
    }
}

fn push_pull(names: &[&str], user_state: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let nodes = names.iter().map(|name| node(name));
    encode_push_pull(true, nodes, user_state, &mut out);
    out
}

fn ping() -> Vec<u8> {
    Message::Ping(Ping {
        seq: 77,
        node: "n1",
        source: Source::default(),
    })
    .to_bytes()
}

#[test]
fn a_push_pull_gives_its_nodes_one_by_one() {
    let bytes = push_pull(&["a", "b", "c"], b"state");
    let StreamMessage::PushPull(mut push_pull) = read_accepted(plain(), &bytes).unwrap() else {
        panic!("no push/pull");
    };
    assert!(push_pull.is_join());
    let names: Vec<_> = push_pull.nodes().map(|node| node.unwrap().name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(push_pull.next_node().unwrap().unwrap(), node("a"));
    assert_eq!(push_pull.next_node().unwrap().unwrap(), node("b"));
    assert_eq!((push_pull.nodes_left(), push_pull.nodes().count()), (1, 1));
    assert_eq!(push_pull.next_node().unwrap().unwrap(), node("c"));
    assert!(push_pull.next_node().is_none());
    assert_eq!(push_pull.user_state(), b"state");
}

#[test]
fn a_bad_node_does_no_harm_to_the_others() {
    let mut bytes = Vec::new();
    let header = PushPullHeader {
        nodes: 3,
        ..PushPullHeader::default()
    };
    header.encode(&mut bytes);
    node("a").encode(&mut bytes);
    RawWriter(&mut bytes).map(1).raw("Name").raw(b"\xff");
    node("c").encode(&mut bytes);
    let StreamMessage::PushPull(mut push_pull) = read_accepted(plain(), &bytes).unwrap() else {
        panic!("no push/pull");
    };
    assert!(push_pull.next_node().unwrap().is_ok());
    let error = push_pull.next_node().unwrap().unwrap_err();
    assert!(error.to_string().contains("Name is not UTF-8"), "{error}");
    assert_eq!(push_pull.next_node().unwrap().unwrap().name, "c");
    assert!(push_pull.user_state().is_empty());
}

#[test]
fn every_message_of_streams_reads() {
    let mut user = Vec::new();
    encode_user(b"hello", &mut user);
    assert!(matches!(
        read_accepted(plain(), &user).unwrap(),
        StreamMessage::User(bytes) if bytes == b"hello"
    ));
    assert!(matches!(
        read_accepted(plain(), &ping()).unwrap(),
        StreamMessage::Ping { seq: 77, node } if node == "n1"
    ));
    let ack = Message::Ack(Ack {
        seq: 9,
        payload: b"",
    });
    assert!(matches!(
        read_accepted(plain(), &ack.to_bytes()).unwrap(),
        StreamMessage::Ack { seq: 9 }
    ));
    let mut error = Vec::new();
    let message = ErrorMessage { error: "no" };
    message.encode(&mut error);
    assert!(matches!(
        read_accepted(plain(), &error).unwrap(),
        StreamMessage::Error(text) if text == "no"
    ));
    let suspect = Message::Suspect(Suspect::default()).to_bytes();
    assert!(refusal(plain(), &suspect).contains("type 3 is not expected"));
    assert!(refusal(plain(), b"\xfe").contains("type 254 is not expected"));
}

#[test]
fn encryption_is_asked_for_and_given() {
    let bytes = seal(encrypted(), StreamEnd::Opener, &ping());
    assert_eq!(bytes[0], 10);
    assert!(read_accepted(encrypted(), &bytes).is_ok());
    assert_eq!(
        refusal(plain(), &bytes),
        "Remote state is encrypted and encryption is not configured"
    );
    assert_eq!(
        refusal(encrypted(), &ping()),
        "Encryption is configured but remote state is not encrypted"
    );
    let lenient = EnvelopeConfig {
        verify_incoming: false,
        ..encrypted()
    };
    assert!(read_accepted(lenient.clone(), &ping()).is_ok());
    assert!(read_accepted(lenient, &bytes).is_ok());
    let mut damaged = bytes.clone();
    damaged[20] ^= 1;
    assert!(refusal(encrypted(), &damaged).contains("No installed keys"));
    // The tag covers the length: a byte more is not just a byte more.
    let mut longer = bytes;
    longer[4] += 1;
    longer.push(0);
    assert!(refusal(encrypted(), &longer).contains("No installed keys"));
    let nothing = seal(encrypted(), StreamEnd::Opener, b"");
    assert!(refusal(encrypted(), &nothing).contains("missing message type byte"));
}

#[test]
fn only_the_opener_says_the_label() {
    for config in [plain(), encrypted()] {
        let blue = EnvelopeConfig {
            label: Label::new("blue").unwrap(),
            ..config.clone()
        };
        let request = seal(blue.clone(), StreamEnd::Opener, &ping());
        assert_eq!(request[..6], *b"\xf4\x04blue");
        assert!(read_accepted(blue.clone(), &request).is_ok());
        assert!(refusal(config.clone(), &request).contains("unacceptable label \"blue\""));
        let unlabeled = seal(config, StreamEnd::Opener, &ping());
        assert!(refusal(blue.clone(), &unlabeled).contains("unacceptable label \"\""));
        let answer = seal(blue.clone(), StreamEnd::Accepter, &ping());
        assert_eq!(answer, request[6..]);
        let read = read(blue, StreamEnd::Accepter, &answer).unwrap();
        assert!(matches!(read, Some(StreamMessage::Ping { .. })));
    }
}

#[test]
fn silence_is_no_error_and_half_a_message_is() {
    assert!(matches!(read(plain(), StreamEnd::Opener, b""), Ok(None)));
    let whole = push_pull(&["a"], b"state");
    for length in 1..whole.len() {
        let read = read(plain(), StreamEnd::Opener, &whole[..length]);
        assert!(matches!(read, Err(StreamError::Truncated)), "{length}");
        // Once it is unwrapped, it cannot become whole any more.
        let bytes = seal(encrypted(), StreamEnd::Opener, &whole[..length]);
        let mut reader = StreamReader::new(StreamEnd::Opener);
        let result = reader.handle_received(&Envelope::new(encrypted()), &bytes);
        assert!(matches!(result, Err(StreamError::Truncated)), "{length}");
    }
}

#[test]
fn what_is_announced_too_large_is_refused_before_it_comes() {
    assert!(matches!(
        read_accepted(encrypted(), b"\x0a\x01\x40\x00\x01"),
        Err(StreamError::TooLarge(ENCRYPTED_BYTES_MAX))
    ));
    let header = |nodes, user_state_len| {
        let mut out = Vec::new();
        let header = PushPullHeader {
            nodes,
            user_state_len,
            join: false,
        };
        header.encode(&mut out);
        out
    };
    assert!(matches!(
        read_accepted(plain(), &header(NODES_MAX + 1, 0)),
        Err(StreamError::TooManyNodes(1_048_577))
    ));
    assert!(matches!(
        read_accepted(plain(), &header(0, USER_BYTES_MAX as u64 + 1)),
        Err(StreamError::TooLarge(USER_BYTES_MAX))
    ));
    assert!(matches!(
        read_accepted(plain(), b"\x06\x81\xa5Nodes\xff"),
        Err(StreamError::Message(_))
    ));
    assert!(matches!(
        read_accepted(
            plain(),
            b"\x08\x81\xaaUserMsgLen\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
        ),
        Err(StreamError::TooLarge(USER_BYTES_MAX))
    ));
    assert!(matches!(
        read_accepted(plain(), b"\x09\x81\xa3Buf\xdb\x7f\xff\xff\xff"),
        Err(StreamError::Frame(_))
    ));
    assert!(matches!(
        read_accepted(plain(), b"\x06\xdd\xff\xff\xff\xff"),
        Err(StreamError::Frame(_))
    ));
}

#[test]
fn a_stream_without_end_is_cut_off() {
    // Nodes that are fine each, and too much together.
    let mut reader = StreamReader::new(StreamEnd::Opener);
    let envelope = Envelope::new(plain());
    let mut bytes = Vec::new();
    let header = PushPullHeader {
        nodes: NODES_MAX,
        ..PushPullHeader::default()
    };
    header.encode(&mut bytes);
    reader.handle_received(&envelope, &bytes).unwrap();
    let mut node = Vec::new();
    RawWriter(&mut node).map(1).raw("Meta").raw(vec![0; 60_000]);
    let result = (0..NODES_MAX).find_map(|_| reader.handle_received(&envelope, &node).err());
    assert!(matches!(
        result,
        Some(StreamError::TooLarge(STREAM_BYTES_MAX))
    ));
}

#[test]
fn memory_follows_what_came() {
    let mut reader = StreamReader::new(StreamEnd::Opener);
    let mut bytes = Vec::new();
    let header = PushPullHeader {
        nodes: NODES_MAX,
        user_state_len: USER_BYTES_MAX as u64,
        join: true,
    };
    header.encode(&mut bytes);
    let result = reader.handle_received(&Envelope::new(plain()), &bytes);
    assert!(matches!(result, Ok(None)));
    assert!(reader.bytes.capacity() <= 2 * bytes.len());
    let mut reader = StreamReader::new(StreamEnd::Opener);
    let result = reader.handle_received(&Envelope::new(encrypted()), b"\x0a\x01\0\0\0rest");
    assert!(matches!(result, Ok(None)));
    assert!(reader.bytes.capacity() <= 64);
}

#[test]
fn compression_is_undone_once() {
    let config = EnvelopeConfig::default();
    let message = push_pull(&["same"; 50], b"");
    let bytes = seal(config.clone(), StreamEnd::Opener, &message);
    assert!(bytes[0] == 9 && bytes.len() < message.len() / 4);
    let StreamMessage::PushPull(push_pull) = read_accepted(plain(), &bytes).unwrap() else {
        panic!("no push/pull");
    };
    assert_eq!(push_pull.nodes_left(), 50);
    let twice = seal(config, StreamEnd::Opener, &[9; 100]);
    assert!(refusal(plain(), &twice).contains("type 9 is not expected"));
}

fn configs() -> impl Strategy<Value = EnvelopeConfig> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(label, keys, compress)| {
        EnvelopeConfig {
            label: Label::new(if label { "blue" } else { "" }).unwrap(),
            compress,
            ..if keys { encrypted() } else { plain() }
        }
    })
}

proptest! {
    #[test]
    fn any_split_reads_the_same(
        config in configs(),
        names in proptest::collection::vec("[a-z]{1,50}", 0..20),
        user_state in proptest::collection::vec(any::<u8>(), 0..500),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let envelope = Envelope::new(config);
        let message = push_pull(&names, &user_state);
        let bytes = envelope.seal_stream(StreamEnd::Opener, &message, &mut StdRng::seed_from_u64(1));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let mut reader = StreamReader::new(StreamEnd::Opener);
        let mut at = 0;
        for cut in cuts {
            let early = reader.handle_received(&envelope, &bytes[at..cut]).unwrap();
            prop_assert!(early.is_none());
            at = cut;
        }
        let last = [&bytes[at..], b"more"].concat();
        let Some(StreamMessage::PushPull(push_pull)) = reader.handle_received(&envelope, &last).unwrap() else {
            panic!("no push/pull");
        };
        let read: Vec<_> = push_pull.nodes().map(|node| node.unwrap().name).collect();
        prop_assert_eq!(read, names);
        prop_assert_eq!(push_pull.user_state(), user_state);
        prop_assert!(reader.handle_received(&envelope, b"more").unwrap().is_none());
        prop_assert!(reader.handle_ended().is_ok());
    }

    #[test]
    fn no_bytes_break_it(
        config in configs(),
        kind in prop_oneof![Just(None), (0u8..15).prop_map(Some), Just(Some(244))],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [kind.map_or(vec![], |kind| vec![kind]), bytes].concat();
        if let Ok(Some(StreamMessage::PushPull(mut push_pull))) = read(config, StreamEnd::Opener, &bytes) {
            while push_pull.next_node().is_some() {}
        }
    }
}
