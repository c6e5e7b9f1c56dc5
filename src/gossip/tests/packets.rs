//! What is in a packet, and what bad ones do.

use proptest::prelude::*;

use super::*;
use crate::gossip::message::{Dead, Ping, Source};
use crate::gossip::packet::PACKET_BYTES_BUDGET;

#[test]
fn messages_of_the_layer_above_keep_a_share() {
    let mut scene = Scene::new();
    // More news about nodes than fit into a packet.
    for last in 2..200 {
        let name = format!("a-rather-long-name-for-a-node-{last}");
        scene.hear(&Message::Alive(alive(&name, last, 1)));
    }
    scene
        .gossip
        .broadcast(scene.now, Queue::Events, b"event", Terms::default());
    scene
        .gossip
        .broadcast(scene.now, Queue::Queries, b"query", Terms::default());
    scene
        .gossip
        .broadcast(scene.now, Queue::Intents, b"intent", Terms::default());
    scene.wait(Duration::from_millis(200));
    let sent = scene.packets();
    let to = sent[0].0;
    let first: Vec<_> = sent.iter().filter(|(other, _)| *other == to).collect();
    assert!(first.len() > 10);
    for message in [&b"\x08event"[..], b"\x08query", b"\x08intent"] {
        assert!(first.iter().any(|(_, sent)| sent == message));
    }
}

#[test]
fn the_dead_use_up_nothing_that_the_living_have_to_hear() {
    let mut scene = Scene::quietly_among(3);
    for node in ["n3", "n4"] {
        scene.hear(&Message::Dead(Dead {
            incarnation: 1,
            node,
            from: "x",
        }));
    }
    // News of their death has gone round.
    scene.wait(Duration::from_secs(5));
    scene.packets();
    scene
        .gossip
        .broadcast(scene.now, Queue::Events, b"event", Terms::default());
    scene.wait(Duration::from_secs(5));
    let sent = scene.packets();
    let count = |to| {
        let heard =
            |(other, message): &&(SocketAddr, Vec<u8>)| *other == to && *message == b"\x08event";
        sent.iter().filter(heard).count()
    };
    assert_eq!(count(addr(2)) as u32, Timing::LAN.retransmit_limit(4));
    assert!(count(addr(3)) > 0 && count(addr(4)) > 0);
}

#[test]
fn packets_keep_to_the_budget_and_take_broadcasts_along() {
    let mut scene = Scene::with(EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    });
    for last in 2..100 {
        scene.hear(&Message::Alive(alive(&format!("n{last}"), last, 1)));
    }
    scene.commands();
    let source = Source::default();
    scene.hear(&Message::Ping(Ping {
        seq: 7,
        node: "me",
        source,
    }));
    let commands = scene.commands();
    let [NetworkCommand::SendPacket { to, payload }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(*to, addr(99));
    assert!(payload.len() > PACKET_BYTES_BUDGET - 100 && payload.len() <= PACKET_BYTES_BUDGET);
    let mut scratch = PacketScratch::default();
    let messages = scene.envelope.open_packet(payload, &mut scratch).unwrap();
    assert!(messages.count() > 10);
}

#[test]
fn every_reason_to_refuse_a_packet_is_counted() {
    let mut scene = Scene::new();
    for packet in [
        &[244, 1, b'x', 0][..],
        &[12, 0, 0, 0, 0, 8],
        &[7],
        &[99],
        &[],
        &[0, 1],
    ] {
        scene.hear_packet(packet);
    }
    let counters = scene.gossip.counters();
    assert_eq!(
        (
            counters.label_errors,
            counters.checksum_errors,
            counters.malformed
        ),
        (1, 1, 4)
    );
    assert_eq!(counters.packets_in, 6);
    assert_eq!(scene.events(), []);
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
        kinds in proptest::collection::vec(0u8..14, 20),
    ) {
        let mut scene = Scene::among(3);
        for (mut packet, kind) in packets.into_iter().zip(kinds) {
            scene.hear_packet(&packet);
            packet.insert(0, kind);
            scene.hear_packet(&packet);
        }
        scene.wait(Duration::from_secs(2));
        prop_assert!(scene.gossip.present() >= 1);
    }
}
