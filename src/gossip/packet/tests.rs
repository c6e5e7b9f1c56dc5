use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::encryption::EncryptionVersion;
use super::super::envelope::{EnvelopeConfig, Label};
use super::super::keyring::{Key, Keyring};
use super::*;

const PROTOCOL_MAX: u8 = 5;

fn keyring(byte: u8) -> Option<Keyring> {
    Some(Keyring::new(Key::new(&[byte; 32]).unwrap()))
}

fn plain() -> EnvelopeConfig {
    EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    }
}

fn encrypted() -> EnvelopeConfig {
    EnvelopeConfig {
        keyring: keyring(1),
        ..plain()
    }
}

fn labeled(label: &str, config: EnvelopeConfig) -> EnvelopeConfig {
    EnvelopeConfig {
        label: Label::new(label).unwrap(),
        ..config
    }
}

fn seal(config: EnvelopeConfig, messages: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rng = StdRng::seed_from_u64(1);
    Envelope::new(config)
        .seal_packets(messages, PROTOCOL_MAX, &mut rng, |packet| {
            packets.push(packet);
        })
        .unwrap();
    packets
}

fn open(config: EnvelopeConfig, packet: &[u8]) -> Result<(Vec<Vec<u8>>, usize), PacketError> {
    let mut scratch = PacketScratch::default();
    let envelope = Envelope::new(config);
    let messages = envelope.open_packet(packet, &mut scratch)?;
    let truncated = messages.truncated();
    Ok((messages.map(<[u8]>::to_vec).collect(), truncated))
}

/// The error, as it is logged.
fn refusal(config: EnvelopeConfig, packet: &[u8]) -> String {
    open(config, packet).unwrap_err().to_string()
}

#[test]
fn one_message_goes_as_it_is_behind_its_checksum() {
    let [packet] = &seal(plain(), &[b"\x08hello"])[..] else {
        panic!("one packet");
    };
    assert_eq!(packet[0], 12);
    assert_eq!(&packet[5..], b"\x08hello");
    assert_eq!(open(plain(), packet).unwrap().0, [b"\x08hello"]);
    // Whoever may not know checksums gets none.
    let mut packets = Vec::new();
    let mut rng = StdRng::seed_from_u64(1);
    Envelope::new(plain())
        .seal_packets(&[b"\x08hello"], 4, &mut rng, |packet| packets.push(packet))
        .unwrap();
    assert_eq!(packets, [b"\x08hello"]);
}

#[test]
fn several_messages_go_together() {
    let packets = seal(plain(), &[b"\x08a", b"", b"\x08ccc"]);
    assert_eq!(
        packets[0][5..],
        *b"\x07\x03\x00\x02\x00\x00\x00\x04\x08a\x08ccc"
    );
    let (messages, truncated) = open(plain(), &packets[0]).unwrap();
    assert_eq!(messages, [&b"\x08a"[..], b"", b"\x08ccc"]);
    assert_eq!(truncated, 0);
}

#[test]
fn more_messages_than_a_packet_counts_take_another_packet() {
    for (count, packets) in [(1, 1), (255, 1), (256, 2), (511, 3)] {
        let sealed = seal(plain(), &vec![&b"\x08m"[..]; count]);
        assert_eq!(sealed.len(), packets);
        let opened = sealed
            .iter()
            .map(|packet| open(plain(), packet).unwrap().0.len());
        assert_eq!(opened.sum::<usize>(), count);
    }
    assert_eq!(seal(plain(), &[]), Vec::<Vec<u8>>::new());
}

#[test]
fn a_message_that_no_packet_can_hold_is_refused() {
    let message = vec![8; PACKET_BYTES_MAX + 1];
    let mut rng = StdRng::seed_from_u64(1);
    let result =
        Envelope::new(plain()).seal_packets(&[&b"\x08"[..], &message], 5, &mut rng, |_| {
            panic!("no packet");
        });
    assert_eq!(result, Err(MessageTooLarge(65_508)));
}

#[test]
fn what_is_whole_of_a_truncated_compound_counts() {
    let packet = b"\x07\x03\x00\x02\x00\x03\x00\x01\x08a\x08b";
    let (messages, truncated) = open(plain(), packet).unwrap();
    assert_eq!(messages, [b"\x08a"]);
    assert_eq!(truncated, 2);
    for packet in [&b"\x07"[..], b"\x07\x01", b"\x07\x02\x00\x00\x00"] {
        assert!(matches!(open(plain(), packet), Err(PacketError::Truncated)));
    }
    assert_eq!(open(plain(), b"\x07\x00").unwrap(), (vec![], 0));
}

#[test]
fn a_checksum_must_be_right() {
    let mut packet = seal(plain(), &[b"\x08hello"]).remove(0);
    packet[7] ^= 1;
    assert!(matches!(
        open(plain(), &packet),
        Err(PacketError::Checksum { .. })
    ));
    // Too short to be a checksum: the message's type is the fault.
    assert_eq!(open(plain(), b"\x0c\0\0\0").unwrap().0, [b"\x0c\0\0\0"]);
    assert!(matches!(
        open(plain(), b"\x0c\0\0\0\0"),
        Err(PacketError::Empty)
    ));
    assert!(matches!(open(plain(), b""), Err(PacketError::Empty)));
}

#[test]
fn with_keys_nothing_else_is_taken() {
    let [packet] = &seal(encrypted(), &[b"\x08hello"])[..] else {
        panic!("one packet");
    };
    assert_eq!((packet[0], packet.len()), (1, 29 + 5 + 6));
    assert_eq!(open(encrypted(), packet).unwrap().0, [b"\x08hello"]);
    assert!(refusal(encrypted(), b"\x08hello").contains("unsupported encryption version 8"));
    assert!(refusal(encrypted(), b"").contains("cannot decrypt empty payload"));
    let other = EnvelopeConfig {
        keyring: keyring(2),
        ..plain()
    };
    assert!(refusal(other, packet).contains("No installed keys"));
    // Without keys it is garbage, which shows when the message is read.
    assert_eq!(open(plain(), packet).unwrap().0, [&packet[..]]);
}

#[test]
fn the_switches_for_going_over_to_encryption_work() {
    let incoming = EnvelopeConfig {
        verify_incoming: false,
        ..encrypted()
    };
    assert_eq!(open(incoming.clone(), b"\x08a").unwrap().0, [b"\x08a"]);
    let sealed = seal(encrypted(), &[b"\x08a"]).remove(0);
    assert_eq!(open(incoming, &sealed).unwrap().0, [b"\x08a"]);
    let outgoing = EnvelopeConfig {
        verify_outgoing: false,
        ..encrypted()
    };
    assert_eq!(seal(outgoing, &[b"\x08a"]), seal(plain(), &[b"\x08a"]));
}

#[test]
fn labels_keep_clusters_apart() {
    for config in [plain(), encrypted()] {
        let blue = labeled("blue", config.clone());
        let packet = seal(blue.clone(), &[b"\x08a"]).remove(0);
        assert_eq!(packet[..6], *b"\xf4\x04blue");
        assert_eq!(open(blue.clone(), &packet).unwrap().0, [b"\x08a"]);
        for stranger in [config.clone(), labeled("red", config.clone())] {
            assert!(refusal(stranger, &packet).contains("unacceptable label \"blue\""));
        }
        let without = seal(config.clone(), &[b"\x08a"]).remove(0);
        assert!(refusal(blue.clone(), &without).contains("unacceptable label \"\""));
        let checked_before = EnvelopeConfig {
            skip_inbound_label_check: true,
            ..blue
        };
        assert!(refusal(checked_before.clone(), &packet).contains("double label"));
        // The label is still what the tag covers.
        assert!(open(checked_before, &packet[6..]).is_ok());
    }
    assert!(refusal(plain(), b"\xf4").contains("truncated"));
    assert!(refusal(plain(), b"\xf4\x02a").contains("truncated"));
    assert!(refusal(plain(), b"\xf4\x00a").contains("cannot be empty"));
    assert!(Label::new(&"x".repeat(256)).is_err());
}

#[test]
fn what_gets_smaller_is_compressed() {
    let message = [&b"\x08"[..], &[b'x'; 500]].concat();
    let packet = seal(EnvelopeConfig::default(), &[&message]).remove(0);
    assert_eq!(packet[5], 9);
    assert!(packet.len() < 100);
    assert_eq!(open(plain(), &packet).unwrap().0, [message]);
}

#[test]
fn compression_is_bounded_and_opened_once() {
    let bomb = compress(&vec![8; DECOMPRESSED_BYTES_MAX + 1]).unwrap();
    assert!(refusal(plain(), &bomb).contains("larger than limit (65536)"));
    let empty = b"\x09\x82\xa4Algo\x00\xa3Buf\xa3\x00\x03\x02";
    assert!(refusal(plain(), empty).contains("decompressed message is empty"));
    let twice = compress(&[&b"\x09"[..], &[0; 100]].concat()).unwrap();
    assert_eq!(open(plain(), &twice).unwrap().0[0][0], 9);
    let nested = b"\x07\x01\x00\x04\x07\x01\x00\x00";
    assert_eq!(open(plain(), nested).unwrap().0, [b"\x07\x01\x00\x00"]);
}

fn configs() -> impl Strategy<Value = EnvelopeConfig> {
    let labels = prop_oneof![Just(String::new()), "[a-z]{1,20}", Just("l".repeat(255))];
    (
        labels,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(label, keys, compress, padded, verify_outgoing)| EnvelopeConfig {
                label: Label::new(&label).unwrap(),
                keyring: keyring(1).filter(|_| keys),
                encryption: if padded {
                    EncryptionVersion::Padded
                } else {
                    EncryptionVersion::Plain
                },
                compress,
                verify_incoming: verify_outgoing,
                verify_outgoing,
                skip_inbound_label_check: false,
            },
        )
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        config in configs(),
        // Compressible now and then.
        messages in proptest::collection::vec(proptest::collection::vec(8u8..12, 0..40), 1..300),
        protocol_max in 0u8..6,
    ) {
        // An empty packet is nothing to open, and one message is not told from a part by its type.
        let messages: Vec<Vec<u8>> = messages.into_iter().map(|message| [vec![8], message].concat()).collect();
        let envelope = Envelope::new(config);
        let mut packets = Vec::new();
        let mut rng = StdRng::seed_from_u64(1);
        envelope.seal_packets(&messages, protocol_max, &mut rng, |packet| packets.push(packet)).unwrap();
        let mut scratch = PacketScratch::default();
        let mut opened = Vec::new();
        for packet in &packets {
            let parts = envelope.open_packet(packet, &mut scratch).unwrap();
            prop_assert_eq!(parts.truncated(), 0);
            opened.extend(parts.map(<[u8]>::to_vec));
        }
        prop_assert_eq!(opened, messages);
    }

    #[test]
    fn what_fits_the_room_fits_the_budget(config in configs(), seed in any::<u64>()) {
        let envelope = Envelope::new(config);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut left = envelope.packet_room();
        let mut messages = Vec::new();
        while left > COMPOUND_ENTRY_BYTES {
            let mut message = vec![0; (left - COMPOUND_ENTRY_BYTES).min(97)];
            rng.fill_bytes(&mut message);
            left -= message.len() + COMPOUND_ENTRY_BYTES;
            messages.push(message);
        }
        let mut lengths = Vec::new();
        envelope.seal_packets(&messages, 5, &mut rng, |packet| lengths.push(packet.len())).unwrap();
        prop_assert_eq!(lengths.len(), 1);
        prop_assert!(lengths[0] <= PACKET_BYTES_BUDGET);
    }

    #[test]
    fn no_bytes_break_it(
        config in configs(),
        packet in proptest::collection::vec(any::<u8>(), 0..200),
        kind in prop_oneof![Just(None), (0u8..15).prop_map(Some), Just(Some(244))],
    ) {
        let packet = [kind.map_or(vec![], |kind| vec![kind]), packet].concat();
        if let Ok((messages, _)) = open(config, &packet) {
            prop_assert!(messages.concat().len() <= DECOMPRESSED_BYTES_MAX);
        }
    }

    #[test]
    fn damage_never_goes_unnoticed(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let mut packet = seal(encrypted(), &[b"\x08hello", b"\x08again"]).remove(0);
        let at = at.index(packet.len());
        packet[at] ^= 1 << bit;
        // The first byte is the version, which the tag does not cover but the padding gives away.
        prop_assert!(open(encrypted(), &packet).is_err());
    }
}
