//! Who is asked, who helps, and what is made of silence.

use super::*;
use crate::cluster::StreamId;
use crate::gossip::message::{Ack, IndirectPing, Nack, NodeState, Ping, Source};

/// The pings among messages: to whom, and their numbers.
fn pings(messages: &[(SocketAddr, Vec<u8>)]) -> Vec<(SocketAddr, u32)> {
    let ping = |(to, message): &(SocketAddr, Vec<u8>)| match Message::decode(message) {
        Ok(Message::Ping(ping)) => Some((*to, ping.seq)),
        _ => None,
    };
    messages.iter().filter_map(ping).collect()
}

/// Waits for the next probe: who is asked, and its number.
fn next_probe(scene: &mut Scene) -> (SocketAddr, u32) {
    for _ in 0..40 {
        scene.wait(Duration::from_millis(50));
        if let [ping, ..] = pings(&scene.packets())[..] {
            return ping;
        }
    }
    panic!("nobody is probed");
}

fn ack(scene: &mut Scene, seq: u32, payload: &[u8]) {
    scene.hear(&Message::Ack(Ack { seq, payload }));
}

fn state(scene: &Scene, last: u8) -> NodeState {
    let id = scene.gossip.nodes.find(&format!("n{last}")).unwrap();
    scene.gossip.nodes.get(id).unwrap().state
}

fn last(addr: SocketAddr) -> u8 {
    match addr {
        SocketAddr::V4(addr) => addr.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    }
}

#[test]
fn an_answered_probe_tells_the_round_trip() {
    let mut scene = Scene::among(1);
    let (to, seq) = next_probe(&mut scene);
    assert_eq!(to, addr(2));
    scene.wait(Duration::from_millis(30));
    ack(&mut scene, seq, b"where");
    let events = scene.events();
    let [
        GossipEvent::Acked {
            name,
            round_trip,
            payload,
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((&**name, &payload[..]), ("n2", &b"where"[..]));
    assert!(*round_trip >= Duration::from_millis(30) && *round_trip < Duration::from_millis(90));
    let counters = scene.gossip.counters();
    let micros = u128::from(counters.probe_ack_micros);
    assert_eq!((counters.probe_acks, micros), (1, round_trip.as_micros()));
    // Once is enough, and an unknown number says nothing.
    ack(&mut scene, seq, b"again");
    ack(&mut scene, 12345, b"");
    assert_eq!(scene.events(), []);
}

#[test]
fn a_silent_node_is_asked_for_by_others_and_over_tcp_then_suspected() {
    let mut scene = Scene::among(6);
    let (target, seq) = next_probe(&mut scene);
    scene.wait(Duration::from_millis(500));
    let commands = scene.commands();
    let connects = |command: &&NetworkCommand| matches!(command, NetworkCommand::Connect { to, .. } if *to == target);
    assert_eq!(commands.iter().filter(connects).count(), 1);
    let mut helpers = 0;
    let mut scratch = PacketScratch::default();
    for command in &commands {
        if let NetworkCommand::SendPacket { to, payload } = command {
            for message in scene.envelope.open_packet(payload, &mut scratch).unwrap() {
                if let Ok(Message::IndirectPing(ping)) = Message::decode(message) {
                    assert_eq!((ping.seq, ping.target), (seq, Some(target.ip())));
                    assert!(ping.nack && *to != target && *to != addr(1));
                    helpers += 1;
                }
            }
        }
    }
    assert_eq!(helpers, 3);
    // Two of three helpers had no answer either; the third is silent, which says something about this node.
    for _ in 0..2 {
        scene.hear(&Message::Nack(Nack { seq }));
    }
    assert_eq!(state(&scene, last(target)), NodeState::Alive);
    scene.wait(Duration::from_millis(600));
    assert_eq!(state(&scene, last(target)), NodeState::Suspect);
    assert_eq!(scene.gossip.health_score(), 1);
    assert_eq!(scene.gossip.counters().probes_failed, 1);
}

#[test]
fn an_answer_through_others_is_an_answer() {
    let mut scene = Scene::among(6);
    let (target, seq) = next_probe(&mut scene);
    scene.wait(Duration::from_millis(550));
    ack(&mut scene, seq, b"");
    // It says nothing about the distance.
    assert_eq!(scene.events(), []);
    scene.wait(Duration::from_millis(600));
    assert_eq!(state(&scene, last(target)), NodeState::Alive);
}

#[test]
fn an_answer_over_tcp_is_an_answer() {
    let mut scene = Scene::among(1);
    let (target, seq) = next_probe(&mut scene);
    scene.wait(Duration::from_millis(500));
    let stream = StreamId::opened(0);
    assert!(
        scene
            .commands()
            .contains(&NetworkCommand::Connect { stream, to: target })
    );
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Connected { stream });
    assert!(matches!(
        &scene.commands()[..],
        [NetworkCommand::Write { .. }]
    ));
    let payload = &b""[..];
    let answer = Message::Ack(Ack { seq, payload }).to_bytes();
    let bytes = &scene
        .envelope
        .seal_stream(stream::StreamEnd::Accepter, &answer, &mut rng())[..];
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Received { stream, bytes });
    scene.wait(Duration::from_millis(700));
    assert_eq!(state(&scene, last(target)), NodeState::Alive);
    assert_eq!(scene.gossip.health_score(), 0);
}

#[test]
fn what_the_network_does_not_take_is_a_failed_ping() {
    let mut scene = Scene::among(6);
    let (to, _) = next_probe(&mut scene);
    let error = "network is unreachable".to_owned();
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::PacketFailed { to, error });
    // Others are asked at once.
    let asked = scene
        .packets()
        .into_iter()
        .filter(|(_, message)| matches!(Message::decode(message), Ok(Message::IndirectPing(_))));
    assert_eq!(asked.count(), 3);
    scene.wait(Duration::from_secs(1));
    assert_eq!(state(&scene, last(to)), NodeState::Suspect);
}

#[test]
fn a_late_turn_blames_nobody() {
    let mut scene = Scene::among(3);
    let (target, _) = next_probe(&mut scene);
    // The process stood still: all timers are due at once.
    scene.now += Duration::from_secs(100);
    scene.gossip.handle_timeout(scene.now);
    assert_eq!(state(&scene, last(target)), NodeState::Alive);
    assert_eq!(scene.gossip.counters().late_turns, 1);
    assert_eq!(scene.gossip.health_score(), 7);
}

#[test]
fn suspicions_wait_when_this_node_was_held_up() {
    let mut scene = Scene::among(3);
    let suspect = message::Suspect {
        incarnation: 1,
        node: "n2",
        from: "x",
    };
    scene.hear(&Message::Suspect(suspect));
    scene.now += Duration::from_secs(100);
    scene.gossip.handle_timeout(scene.now);
    assert_eq!(state(&scene, 2), NodeState::Suspect);
    // The other node had a chance to be heard; it did not use it.
    scene.wait(Duration::from_millis(4100));
    assert_eq!(state(&scene, 2), NodeState::Dead);
}

#[test]
fn pings_are_answered_to_where_they_say() {
    let mut scene = Scene::among(1);
    scene.gossip.set_ack_payload(b"here".to_vec());
    let source = Source {
        addr: Some(addr(5).ip()),
        port: 1234,
        node: "n5",
    };
    for (node, source, to) in [
        ("me", Source::default(), Some(addr(99))),
        ("", source, Some(SocketAddr::new(addr(5).ip(), 1234))),
        ("other", source, None),
    ] {
        scene.hear(&Message::Ping(Ping {
            seq: 7,
            node,
            source,
        }));
        let answers: Vec<_> = scene.packets().into_iter().take(1).collect();
        let payload = &b"here"[..];
        let expected = to.map(|to| (to, Message::Ack(Ack { seq: 7, payload }).to_bytes()));
        assert_eq!(answers, Vec::from_iter(expected));
    }
}

#[test]
fn pings_for_others_are_passed_on_and_their_silence_told() {
    let mut scene = Scene::among(1);
    let ask = Message::IndirectPing(IndirectPing {
        seq: 70,
        target: Some(addr(2).ip()),
        port: 7946,
        node: "n2",
        nack: true,
        source: Source {
            addr: Some(addr(5).ip()),
            port: 7946,
            node: "n5",
        },
    });
    let own = |scene: &mut Scene| {
        scene.hear(&ask);
        let asked = pings(&scene.packets());
        assert_eq!((asked.len(), asked[0].0), (1, addr(2)));
        asked[0].1
    };
    let seq = own(&mut scene);
    ack(&mut scene, seq, b"ignored");
    let payload = &b""[..];
    let answer = Message::Ack(Ack { seq: 70, payload }).to_bytes();
    assert!(scene.packets().contains(&(addr(5), answer)));
    scene.wait(Duration::from_millis(600));
    assert!(!scene.packets().iter().any(|(to, _)| *to == addr(5)));
    let seq = own(&mut scene);
    scene.wait(Duration::from_millis(600));
    let nack = Message::Nack(Nack { seq: 70 }).to_bytes();
    assert!(scene.packets().contains(&(addr(5), nack)));
    // Too late.
    ack(&mut scene, seq, b"");
    assert!(!scene.packets().iter().any(|(to, _)| *to == addr(5)));
}

#[test]
fn a_node_alone_sleeps() {
    let mut scene = Scene::new();
    assert_eq!(scene.gossip.poll_timeout(), None);
    scene
        .gossip
        .broadcast(scene.now, Queue::Events, b"x", Terms::default());
    assert_eq!(scene.gossip.poll_timeout(), None);
    // With company it wakes, and what waited goes out.
    scene.hear(&Message::Alive(alive("n2", 2, 1)));
    scene.wait(Duration::from_millis(200));
    assert!(
        scene
            .packets()
            .iter()
            .any(|(_, message)| message[..] == *b"\x08x")
    );
}
