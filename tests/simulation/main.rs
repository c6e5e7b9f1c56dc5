//! Whole clusters in one process, on a made-up network and clock.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod agenda;
mod disk;
mod keyrings;
mod network;
mod returns;
mod world;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serfling::cluster::{Cluster, Event, MemberEventKind, MemberStatus, Operation, Outcome};
use serfling::rpc::HubEvent;

use self::network::Network;
use self::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// A cluster of nodes that joined the first one, at rest.
fn cluster(seed: u64, count: usize) -> World {
    let mut world = World::new(seed);
    world.spawn(0);
    for node in 1..count {
        world.spawn(node);
        world.join(node, 0);
        world.run(Duration::from_millis(20));
    }
    // Whom gossip missed, a push/pull tells.
    world.run_until(90 * SECOND, World::converged);
    world
}

/// How often each running node has heard of a user event.
fn heard(world: &mut World, name: &str) -> Vec<usize> {
    let nodes: Vec<_> = world.running().collect();
    let is_it = |told: &&HubEvent| matches!(told, HubEvent::Event(Event::User(event)) if event.name == name);
    nodes
        .into_iter()
        .map(|node| world.node(node).told.iter().filter(is_it).count())
        .collect()
}

/// Whether a node took anybody for failed, after so many things that it told.
fn blamed(world: &mut World, node: usize, after: usize) -> bool {
    world.node(node).told[after..].iter().any(|told| {
        matches!(told, HubEvent::Event(Event::Member(event)) if event.kind == MemberEventKind::Failed)
    })
}

#[test]
fn a_hundred_nodes_join_hear_and_detect() {
    let mut world = cluster(1, 100);
    // An event reaches everybody once.
    world.with(7, |serf, now| {
        serf.user_event(now, "deploy", b"1.2.3", false).unwrap();
    });
    world.run(5 * SECOND);
    assert_eq!(heard(&mut world, "deploy"), vec![1; 100]);
    // Those killed are found out, within the bounds of suspicion among a hundred and a time around the ring.
    for node in [13, 42, 77] {
        world.kill(node);
    }
    for node in [13, 42, 77] {
        world.run_until(70 * SECOND, |world| {
            world.all_believe(node, MemberStatus::Failed)
        });
    }
    assert!(world.converged());
    // One comes back.
    world.spawn(42);
    world.join(42, 3);
    world.run_until(30 * SECOND, World::converged);
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut world = cluster(seed, 20);
        world.kill(3);
        world.run(20 * SECOND);
        (world.packets, world.bytes)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn nobody_fails_though_a_twentieth_of_all_is_lost() {
    let mut world = cluster(2, 30);
    world.network.loss = 0.05;
    world.run(120 * SECOND);
    assert!(world.converged());
    for node in 0..30 {
        assert!(
            !blamed(&mut world, node, 0),
            "n{node} took somebody for failed"
        );
    }
}

/// Probes that came to nothing, of all nodes.
fn failed_probes(world: &World) -> u64 {
    let failed = |node| world.serf(node).gossip().counters().probes_failed;
    world.running().map(failed).sum()
}

/// Streams lose too, so that the ping by stream, which comes when all packets of a probe were lost, is often too late.
#[test]
fn streams_of_a_lossy_network_are_late_and_whole() {
    let mut world = cluster(9, 30);
    let before = failed_probes(&world);
    world.network.loss = 0.2;
    world.run(120 * SECOND);
    let failed = failed_probes(&world) - before;
    // 3600 probes, of which 0.36 × 0.59³ have no answer by packets, and 0.59 of those none by stream.
    assert!((70..230).contains(&failed), "{failed} probes failed");
    // Push/pulls come through: one that starts has several segments, each way, and joins.
    world.spawn(30);
    world.join(30, 0);
    world.run_until(60 * SECOND, |world| world.serf(30).member_count() == 31);
}

#[test]
fn what_is_lost_of_a_stream_is_sent_again_ever_later() {
    let mut network = Network::new();
    let mut rng = StdRng::seed_from_u64(1);
    let mut late = |loss| {
        network.loss = loss;
        network.retransmission(&mut rng, SECOND)
    };
    assert_eq!(late(0.0), Some(Duration::ZERO));
    assert_eq!(late(1.0), None);
    let mut counts = [0; 4];
    for _ in 0..1000 {
        let seconds = late(0.5).map_or(u64::MAX, |late| late.as_secs());
        if let Some(which) = [0, 1, 3, 7].iter().position(|time| *time == seconds) {
            counts[which] += 1;
        }
    }
    for (which, expected) in [500, 250, 125, 62].into_iter().enumerate() {
        let count: i32 = counts[which];
        assert!((count - expected).abs() < 60, "{counts:?}");
    }
}

#[test]
fn who_leaves_is_left_and_nobody_waits_for_it() {
    let mut world = cluster(3, 20);
    let ticket = world.with(4, |serf, now| serf.start(now, Operation::Leave));
    world.run_until(90 * SECOND, |world| {
        world.all_believe(4, MemberStatus::Left)
    });
    world.run(3 * SECOND);
    let outcome = Outcome::Done(Ok(()));
    assert!(
        world
            .node(4)
            .told
            .contains(&HubEvent::Completed { ticket, outcome })
    );
    world.kill(4);
    world.run(60 * SECOND);
    assert!(world.all_believe(4, MemberStatus::Left));
}

#[test]
fn a_paused_node_is_suspected_and_refutes() {
    let mut world = cluster(4, 10);
    world.pause(5);
    world.run(3 * SECOND);
    world.resume(5);
    world.run(60 * SECOND);
    assert!(world.converged());
    for node in 0..10 {
        assert!(!blamed(&mut world, node, 0), "n{node}");
    }
}

#[test]
fn a_node_paused_for_long_blames_nobody_and_comes_back() {
    let mut world = cluster(5, 10);
    world.pause(5);
    world.run_until(60 * SECOND, |world| {
        (0..10)
            .filter(|node| *node != 5)
            .all(|node| world.status(node, 5) == Some(MemberStatus::Failed))
    });
    let before = world.node(5).told.len();
    world.resume(5);
    world.run_until(120 * SECOND, World::converged);
    assert!(!blamed(&mut world, 5, before));
}

#[test]
fn a_healed_partition_converges() {
    let mut world = cluster(6, 20);
    (0..10).for_each(|node| world.network.put(node, 2));
    world.run(90 * SECOND);
    assert_eq!(world.status(0, 15), Some(MemberStatus::Failed));
    assert_eq!(world.status(15, 0), Some(MemberStatus::Failed));
    world.network.heal();
    let took = world.run_until(600 * SECOND, World::converged);
    println!("converged {took:?} after the partition healed");
}

/// The time of day is asked for where a log line gets its date and where a person looks at a screen, and nowhere else: no
/// jump of the wall clock can matter to a cluster or a client.
#[test]
fn the_time_of_day_is_for_people_only() {
    const CLOCKS: [&str; 4] = ["SystemTime", "Timestamp::now", "Zoned::now", "UNIX_EPOCH"];
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut asks: Vec<_> = sources(&[source.into()])
        .into_iter()
        .filter(|(_, code)| CLOCKS.iter().any(|clock| code.contains(clock)))
        .map(|(file, _)| file.strip_prefix(source).unwrap().to_path_buf())
        .collect();
    asks.sort();
    let log = std::path::PathBuf::from("agent/log.rs");
    assert_eq!(asks, [log]);
}

/// The source files below some folders with their code, tests left out.
fn sources(folders: &[std::path::PathBuf]) -> Vec<(std::path::PathBuf, String)> {
    let mut folders = folders.to_vec();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("tests") => {}
                true => folders.push(path),
                false if path.ends_with("tests.rs") => {}
                false => files.push(path),
            }
        }
    }
    let code = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        (path, code.to_owned())
    };
    files.into_iter().map(code).collect()
}

/// The cores get their time as an argument, so that neither the wall clock's jumps nor a slow machine reach them.
#[test]
fn the_cores_read_no_clock_and_touch_no_socket_and_no_file() {
    const FORBIDDEN: [&str; 9] = [
        "Instant::now",
        "SystemTime",
        "Timestamp::now",
        "std::fs",
        "thread::spawn",
        "thread::sleep",
        "TcpStream",
        "UdpSocket",
        "rand::rng(",
    ];
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
    let folders = ["rpc", "gossip", "serf", "cluster", "msgpack"]
        .map(|folder| format!("{source}{folder}").into());
    let mut files = sources(&folders);
    for file in ["timer_wheel.rs", "log_ring.rs", "address.rs"] {
        let path = std::path::PathBuf::from(format!("{source}{file}"));
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        files.push((path, code.to_owned()));
    }
    assert!(files.len() > 50);
    for (file, code) in files {
        for word in FORBIDDEN {
            assert!(!code.contains(word), "{word} in {}", file.display());
        }
    }
}

#[test]
fn a_force_left_and_pruned_node_stays_away() {
    let mut world = cluster(8, 10);
    world.kill(9);
    world.run_until(60 * SECOND, |world| {
        world.all_believe(9, MemberStatus::Failed)
    });
    world.with(0, |serf, now| {
        let (node, prune) = ("n9".into(), true);
        serf.start(now, Operation::ForceLeave { node, prune });
    });
    world.run(10 * SECOND);
    for node in 0..9 {
        assert_eq!(world.status(node, 9), None);
    }
    // Push/pulls don't bring it back.
    world.run(300 * SECOND);
    for node in 0..9 {
        assert_eq!(world.status(node, 9), None);
    }
}
