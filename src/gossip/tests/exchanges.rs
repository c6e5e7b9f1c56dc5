//! Streams: joins, push/pulls, and those that bring nothing good.

use super::*;
use crate::cluster::{StreamId, VersionRange};
use crate::gossip::message::{NodeState, PushNode};
use crate::gossip::stream::{StreamEnd, StreamMessage, StreamReader, encode_push_pull};

fn node(name: &str, last: u8) -> PushNode<'_> {
    PushNode {
        name,
        addr: Some(addr(last).ip()),
        port: 7946,
        meta: b"theirs",
        incarnation: 1,
        state: NodeState::Alive,
        versions: Some(Versions::CURRENT),
    }
}

fn push_pull(scene: &Scene, speaker: StreamEnd, join: bool, nodes: &[PushNode<'_>]) -> Vec<u8> {
    let mut message = Vec::new();
    encode_push_pull(join, nodes.iter().copied(), b"state", &mut message);
    scene.envelope.seal_stream(speaker, &message, &mut rng())
}

fn receive(scene: &mut Scene, stream: StreamId, bytes: &[u8]) {
    let event = NetworkEvent::Received { stream, bytes };
    scene.gossip.handle_network(scene.now, event);
}

fn accept(scene: &mut Scene, number: u64) -> StreamId {
    let stream = StreamId::accepted(number);
    let from = addr(50);
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Accepted { stream, from });
    stream
}

/// What was written on a stream.
fn written(commands: &[NetworkCommand], id: StreamId) -> Vec<u8> {
    let bytes = commands.iter().filter_map(|command| match command {
        NetworkCommand::Write { stream, bytes } if *stream == id => Some(bytes.clone()),
        _ => None,
    });
    bytes.flatten().collect()
}

fn read(scene: &Scene, speaker: StreamEnd, bytes: &[u8]) -> StreamMessage {
    let mut reader = StreamReader::new(speaker);
    reader
        .handle_received(&scene.envelope, bytes)
        .unwrap()
        .unwrap()
}

/// What is told in one of the next turns.
fn later(scene: &mut Scene) -> GossipEvent {
    loop {
        scene.gossip.handle_timeout(scene.now);
        if let Some(event) = scene.gossip.poll_event() {
            return event;
        }
    }
}

#[test]
fn a_join_compares_states_and_is_told() {
    let mut scene = Scene::new();
    let join = scene
        .gossip
        .join(scene.now, &["n9/10.0.0.9".into(), "bad:port".into()]);
    let stream = StreamId::opened(0);
    assert_eq!(
        scene.commands(),
        [NetworkCommand::Connect {
            stream,
            to: addr(9)
        }]
    );
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Connected { stream });
    assert_eq!(scene.events(), [GossipEvent::StateWanted(stream)]);
    scene.gossip.send_state(scene.now, stream, b"my state");
    let sent = written(&scene.commands(), stream);
    let StreamMessage::PushPull(mine) = read(&scene, StreamEnd::Opener, &sent) else {
        panic!("no push/pull");
    };
    assert!(mine.is_join());
    assert_eq!(mine.user_state(), b"my state");
    assert_eq!(mine.nodes().count(), 1);
    let theirs = push_pull(
        &scene,
        StreamEnd::Accepter,
        true,
        &[node("n9", 9), node("n8", 8)],
    );
    // In pieces, as networks have it.
    for bytes in theirs.chunks(7) {
        receive(&mut scene, stream, bytes);
    }
    assert_eq!(scene.commands(), [NetworkCommand::Close { stream }]);
    scene.wait(Duration::ZERO);
    let events = scene.events();
    assert!(
        matches!(&events[..2], [GossipEvent::Alive(a), GossipEvent::Alive(b)]
        if &*a.name == "n9" && &*b.name == "n8")
    );
    assert_eq!(
        events[2..],
        [
            GossipEvent::StateReceived { state: b"state".to_vec(), join: true },
            GossipEvent::Joined {
                join,
                count: 1,
                failures: vec![
                    "Failed to resolve bad:port: expected host, host:port, [IPv6]:port or name/host:port".into()
                ],
            },
        ]
    );
    scene.gossip.handle_network(
        scene.now,
        NetworkEvent::Ended {
            stream,
            error: None,
        },
    );
    assert_eq!(scene.gossip.streams.held, 0);
}

/// Joins `n9` and takes in what it knows: itself and `n8`.
fn join_two(scene: &mut Scene, number: u64) {
    scene.gossip.join(scene.now, &["n9/10.0.0.9".into()]);
    let stream = StreamId::opened(number);
    let connected = NetworkEvent::Connected { stream };
    scene.gossip.handle_network(scene.now, connected);
    scene.gossip.send_state(scene.now, stream, b"mine");
    let nodes = [node("n9", 9), node("n8", 8)];
    let theirs = push_pull(scene, StreamEnd::Accepter, true, &nodes);
    receive(scene, stream, &theirs);
    scene.wait(Duration::ZERO);
    assert!(scene.gossip.present() >= 3);
}

#[test]
fn a_newcomer_tells_nobody_what_its_join_brings() {
    let mut scene = Scene::new();
    join_two(&mut scene, 0);
    assert_eq!(scene.gossip.queued_news(), 0);
    // What comes later is news to others.
    scene.hear(&Message::Alive(alive("n7", 7, 1)));
    assert_eq!(scene.gossip.queued_news(), 1);
}

#[test]
fn who_is_known_to_others_tells_them_what_its_join_brings() {
    let mut scene = Scene::quietly_among(1);
    scene.wait(Duration::from_secs(5));
    assert_eq!(scene.gossip.queued_news(), 0);
    join_two(&mut scene, 0);
    assert_eq!(scene.gossip.queued_news(), 2);
    // Of such that have its state it may not know yet.
    let mut scene = Scene::new();
    let stream = accept(&mut scene, 0);
    let theirs = push_pull(&scene, StreamEnd::Opener, true, &[]);
    receive(&mut scene, stream, &theirs);
    scene.gossip.send_state(scene.now, stream, b"mine");
    join_two(&mut scene, 0);
    assert_eq!(scene.gossip.queued_news(), 2);
}

#[test]
fn who_is_joined_tells_of_the_newcomer() {
    // Who does not join knows this node, and so it is the newcomer.
    for (join, news) in [(true, 1), (false, 0)] {
        let mut scene = Scene::new();
        let stream = accept(&mut scene, 0);
        let theirs = push_pull(&scene, StreamEnd::Opener, join, &[node("n9", 9)]);
        receive(&mut scene, stream, &theirs);
        scene.gossip.send_state(scene.now, stream, b"mine");
        scene.wait(Duration::ZERO);
        assert_eq!(
            (scene.gossip.queued_news(), scene.gossip.present()),
            (news, 2)
        );
    }
}

#[test]
fn a_host_name_is_looked_up_and_all_its_addresses_tried() {
    let mut scene = Scene::new();
    let join = scene.gossip.join(scene.now, &["db.example:80".into()]);
    let host = "db.example".into();
    assert_eq!(
        scene.commands(),
        [NetworkCommand::Resolve { request: 0, host }]
    );
    let result = Ok(vec![addr(7).ip(), addr(8).ip()]);
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Resolved { request: 0, result });
    for (number, last) in [(0, 7), (1, 8)] {
        let (stream, to) = (
            StreamId::opened(number),
            SocketAddr::new(addr(last).ip(), 80),
        );
        assert_eq!(scene.commands(), [NetworkCommand::Connect { stream, to }]);
        let error = Some("connection refused".to_owned());
        scene
            .gossip
            .handle_network(scene.now, NetworkEvent::Ended { stream, error });
    }
    let failures = [7, 8].map(|last| {
        format!(
            "Failed to join 10.0.0.{last}: dial tcp 10.0.0.{last}:80: connect: connection refused"
        )
    });
    let (count, failures) = (0, failures.to_vec());
    assert_eq!(
        scene.events(),
        [GossipEvent::Joined {
            join,
            count,
            failures
        }]
    );
}

#[test]
fn names_and_nodes_that_are_silent_time_out() {
    let mut scene = Scene::new();
    scene
        .gossip
        .join(scene.now, &["db.example".into(), "10.0.0.9".into()]);
    scene.wait(Duration::from_secs(11));
    let events = scene.events();
    let [
        GossipEvent::Joined {
            count: 0, failures, ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        failures[..],
        [
            "Failed to resolve db.example: i/o timeout",
            "Failed to join 10.0.0.9: dial tcp 10.0.0.9:7946: i/o timeout",
        ]
    );
    // The late answer finds nobody.
    let result = Ok(vec![addr(7).ip()]);
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Resolved { request: 0, result });
    scene.commands();
    scene.wait(Duration::from_secs(1));
    assert_eq!((scene.commands(), scene.events()), (vec![], vec![]));
}

#[test]
fn a_push_pull_is_answered_then_merged_in_steps() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..1000).map(|number| format!("x{number}")).collect();
    let nodes: Vec<PushNode<'_>> = names.iter().map(|name| node(name, 9)).collect();
    let stream = accept(&mut scene, 0);
    let bytes = push_pull(&scene, StreamEnd::Opener, false, &nodes);
    receive(&mut scene, stream, &bytes);
    // Large ones are answered in a turn of their own.
    assert_eq!(scene.events(), []);
    assert_eq!(later(&mut scene), GossipEvent::StateWanted(stream));
    scene.gossip.send_state(scene.now, stream, b"mine");
    let commands = scene.commands();
    assert_eq!(commands.last(), Some(&NetworkCommand::Close { stream }));
    let answer = read(&scene, StreamEnd::Accepter, &written(&commands, stream));
    assert!(matches!(answer, StreamMessage::PushPull(answer) if !answer.is_join()));
    let mut most = 0;
    let mut all = 0;
    while scene.gossip.poll_timeout() == Some(scene.now) {
        scene.gossip.handle_timeout(scene.now);
        let alive = |event: &GossipEvent| matches!(event, GossipEvent::Alive(_));
        let step = scene.events().into_iter().filter(alive).count();
        most = most.max(step);
        all += step;
    }
    assert_eq!((most, all), (NODES_PER_TURN, 1000));
    assert_eq!(
        (scene.gossip.present(), scene.gossip.streams.held),
        (1001, 0)
    );
    // The same once more changes nothing.
    let stream = accept(&mut scene, 1);
    receive(&mut scene, stream, &bytes);
    assert_eq!(later(&mut scene), GossipEvent::StateWanted(stream));
    scene.gossip.send_state(scene.now, stream, b"mine");
    scene.wait(Duration::ZERO);
    assert!(matches!(
        &scene.events()[..],
        [GossipEvent::StateReceived { .. }]
    ));
}

#[test]
fn nodes_that_nobody_understands_are_not_merged() {
    let mut scene = Scene::new();
    let mut foreign = node("n9", 9);
    let range = VersionRange {
        min: 7,
        max: 9,
        cur: 8,
    };
    foreign.versions = Some(Versions {
        protocol: range,
        ..Versions::CURRENT
    });
    let stream = accept(&mut scene, 0);
    let bytes = push_pull(&scene, StreamEnd::Opener, true, &[foreign, node("n8", 8)]);
    receive(&mut scene, stream, &bytes);
    scene.events();
    scene.gossip.send_state(scene.now, stream, b"");
    scene.wait(Duration::from_millis(1));
    assert_eq!((scene.events(), scene.gossip.present()), (vec![], 1));
    assert_eq!(scene.gossip.streams.held, 0);
}

#[test]
fn what_others_take_for_dead_is_suspected_first() {
    let mut scene = Scene::among(1);
    let mut dead = node("n2", 2);
    dead.state = NodeState::Dead;
    let stream = accept(&mut scene, 0);
    let bytes = push_pull(&scene, StreamEnd::Opener, false, &[dead]);
    receive(&mut scene, stream, &bytes);
    scene.gossip.send_state(scene.now, stream, b"");
    scene.wait(Duration::ZERO);
    let id = scene.gossip.nodes.find("n2").unwrap();
    assert_eq!(
        scene.gossip.nodes.get(id).unwrap().state,
        NodeState::Suspect
    );
}

#[test]
fn a_stream_that_stalls_is_ended_and_told_why() {
    let mut scene = Scene::new();
    let stream = accept(&mut scene, 0);
    receive(&mut scene, stream, &[6]);
    scene.wait(Duration::from_secs(11));
    assert_eq!(scene.commands(), [NetworkCommand::Reset { stream }]);
    assert_eq!(scene.gossip.counters().streams_failed, 1);
    let stream = accept(&mut scene, 1);
    receive(&mut scene, stream, &[99]);
    let commands = scene.commands();
    let answer = read(&scene, StreamEnd::Accepter, &written(&commands, stream));
    assert!(matches!(answer, StreamMessage::Error(_)));
    // Whoever does not read the answer is not waited for longer than that.
    scene.wait(Duration::from_secs(11));
    assert_eq!(scene.commands(), [NetworkCommand::Reset { stream }]);
}

#[test]
fn of_too_many_streams_the_one_silent_for_longest_goes() {
    let mut scene = Scene::new();
    let talker = accept(&mut scene, 0);
    receive(&mut scene, talker, &[6]);
    for number in 1..ACCEPTED_MAX as u64 {
        scene.now += Duration::from_micros(1);
        accept(&mut scene, number);
    }
    assert_eq!(scene.commands(), []);
    accept(&mut scene, 1000);
    let stream = StreamId::accepted(1);
    assert_eq!(scene.commands(), [NetworkCommand::Reset { stream }]);
    assert_eq!(scene.gossip.counters().streams_refused, 1);
}

#[test]
fn push_pulls_at_once_are_capped() {
    let mut scene = Scene::new();
    let bytes = push_pull(&scene, StreamEnd::Opener, false, &[node("n9", 9)]);
    for number in 0..PUSH_PULLS_MAX as u64 + 5 {
        let stream = accept(&mut scene, number);
        receive(&mut scene, stream, &bytes);
    }
    let wanted = scene.events().len();
    assert_eq!(wanted, PUSH_PULLS_MAX);
    assert_eq!(scene.gossip.counters().streams_failed, 5);
}

#[test]
fn what_streams_hold_is_bounded() {
    let mut scene = Scene::new();
    // Each announces 16 MiB and sends most of it.
    let header = b"\x08\x81\xaaUserMsgLen\xce\x01\x00\x00\x00";
    let flood = vec![0; 1024 * 1024];
    for number in 0..10 {
        let stream = accept(&mut scene, number);
        receive(&mut scene, stream, header);
        for _ in 0..15 {
            receive(&mut scene, stream, &flood);
            assert!(scene.gossip.streams.held <= HELD_BYTES_MAX + flood.len());
        }
    }
    assert!(scene.gossip.counters().streams_failed >= 5);
    scene.wait(Duration::from_secs(11));
    assert_eq!(scene.gossip.streams.held, 0);
}

#[test]
fn a_large_encrypted_state_is_read_in_turns_though_the_other_end_is_gone() {
    let key = keyring::Key::new(&[5; 16]).unwrap();
    let mut scene = Scene::with(EnvelopeConfig {
        keyring: Some(keyring::Keyring::new(key)),
        ..EnvelopeConfig::default()
    });
    let names: Vec<String> = (0..10_000).map(|number| format!("x{number}")).collect();
    let nodes: Vec<PushNode<'_>> = names.iter().map(|name| node(name, 9)).collect();
    scene.gossip.join(scene.now, &["10.0.0.9".into()]);
    let stream = StreamId::opened(0);
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Connected { stream });
    scene.gossip.send_state(scene.now, stream, b"");
    let bytes = push_pull(&scene, StreamEnd::Accepter, true, &nodes);
    receive(&mut scene, stream, &bytes);
    // Not all of it in one turn.
    assert!(scene.gossip.poll_timeout() == Some(scene.now) && scene.gossip.merges.is_empty());
    let error = None;
    scene
        .gossip
        .handle_network(scene.now, NetworkEvent::Ended { stream, error });
    scene.wait(Duration::ZERO);
    assert_eq!(scene.gossip.present(), 10_001);
    assert_eq!(scene.gossip.streams.held, 0);
}
