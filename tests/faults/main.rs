//! Faults in the real thing: agents of both kinds behind relays that lose packets and divide them, killed at random
//! moments, without room for their files, and signals while they leave.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../mixed/cluster.rs"]
#[allow(dead_code, reason = "this test program uses a part of it")]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod storage;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serfling::cluster::MemberStatus;

use self::cluster::{Node, wait_for_agreement, wait_for_status, wait_until};
use self::common::agent::{Kind, free_port};
use self::common::wait_for;

/// Stands before a node's gossip port: what others send to it passes here. The share that is lost is in percent.
struct Relay {
    port: u16,
    loss: Arc<AtomicU32>,
}

impl Relay {
    fn before(gossip_port: u16, seed: u64) -> Self {
        let port = free_port();
        let loss = Arc::new(AtomicU32::new(0));
        let node = SocketAddr::from(([127, 0, 0, 1], gossip_port));
        let packets = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let streams = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let share = Arc::clone(&loss);
        let mut rng = StdRng::seed_from_u64(seed);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            // Answers go to where the asking node says it is, so one way is enough.
            while let Ok((length, _)) = packets.recv_from(&mut buffer) {
                if rng.random_range(0..100) >= share.load(Ordering::Relaxed) {
                    let _ = packets.send_to(&buffer[..length], node);
                }
            }
        });
        let share = Arc::clone(&loss);
        std::thread::spawn(move || {
            for stream in streams.incoming().flatten() {
                // Streams lose nothing, unless everything is lost.
                if share.load(Ordering::Relaxed) < 100
                    && let Ok(onward) = TcpStream::connect(node)
                {
                    pass_on(&stream, &onward);
                    pass_on(&onward, &stream);
                }
            }
        });
        Self { port, loss }
    }

    fn lose(&self, percent: u32) {
        self.loss.store(percent, Ordering::Relaxed);
    }
}

fn pass_on(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Nodes of both kinds, each behind a relay.
fn relayed(kinds: &[Kind]) -> (Vec<Node>, Vec<Relay>) {
    let (mut nodes, mut relays): (Vec<Node>, Vec<Relay>) = (Vec::new(), Vec::new());
    for (number, kind) in kinds.iter().enumerate() {
        let ports = (free_port(), free_port());
        let relay = Relay::before(ports.1, number as u64);
        let advertise = format!("-advertise=127.0.0.1:{}", relay.port);
        let mut node = Node::start_at(*kind, &format!("n{number}"), ports, &[&advertise]);
        if let Some(first) = relays.first() {
            let (joined, error) = node.join(&[format!("127.0.0.1:{}", first.port)]);
            assert_eq!(joined, 1, "{error:?}");
        }
        nodes.push(node);
        relays.push(relay);
    }
    (nodes, relays)
}

use Kind::{Reference, Serfling};

#[test]
fn a_mixed_cluster_bears_loss_and_heals_after_a_partition() {
    let (mut nodes, relays) = relayed(&[Serfling, Reference, Serfling, Reference]);
    wait_for_agreement(&mut nodes, 4);
    relays.iter().for_each(|relay| relay.lose(20));
    for number in 0..10 {
        let name = format!("e{number}");
        nodes[0].client.user_event(&name, b"x", false).unwrap();
    }
    // All hear of all events: their clocks say so.
    wait_until("the events are everywhere", &mut nodes, |nodes| {
        nodes
            .iter_mut()
            .all(|node| node.stat("serf", "event_time") > 9)
    });
    // Two are cut off, one of each kind; they and the others fail for each other.
    relays[2..].iter().for_each(|relay| relay.lose(100));
    for cut in ["n2", "n3"] {
        wait_for_status(&mut nodes[..2], cut, Some(MemberStatus::Failed));
    }
    relays.iter().for_each(|relay| relay.lose(0));
    wait_for_agreement(&mut nodes, 4);
    for node in &mut nodes {
        assert!(node.client.members().is_ok(), "{} serves", node.name);
    }
}

/// Kills an agent again and again while events come, and says how often it did not come back by itself.
fn kills(kind: Kind, times: u64) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("-snapshot={}", folder.path().join("snapshot").display());
    let mut rng = StdRng::seed_from_u64(times);
    let mut nodes = vec![Node::start(Serfling, "stays", &[])];
    nodes.push(Node::joining(kind, "dies", &nodes[0], &[&snapshot]));
    wait_for_agreement(&mut nodes, 2);
    // What the snapshot holds is written within half a second.
    let written = || {
        let text = std::fs::read_to_string(folder.path().join("snapshot"));
        text.is_ok_and(|text| text.contains("alive: stays"))
    };
    // The reference writes what is there when more comes.
    wait_for("the snapshot is written", || {
        nodes[0].client.user_event("more", b"", false).unwrap();
        written()
    });
    let mut lost = 0;
    for round in 0..times {
        let count = rng.random_range(1..200);
        for number in 0..count {
            let name = format!("r{round}-{number}");
            nodes[0].client.user_event(&name, b"x", false).unwrap();
        }
        let mut dead = nodes.pop().unwrap();
        let ports = dead.ports();
        dead.agent.signal(Signal::KILL);
        dead.agent.wait_exit();
        let back = Node::start_at(kind, "dies", ports, &[&snapshot]);
        nodes.push(back);
        let mut alive = 0;
        for _ in 0..200 {
            alive = nodes[1].members().len();
            if alive == 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        lost += usize::from(alive != 2);
        if alive != 2 {
            let address = nodes[0].gossip_addr();
            nodes[1].join(&[address]);
        }
        wait_for_agreement(&mut nodes, 2);
    }
    lost
}

#[test]
fn killed_at_random_moments_a_node_finds_back_by_its_snapshot() {
    let lost = kills(Serfling, 6);
    println!(
        "the reference did not find back {} times of 6",
        kills(Reference, 6)
    );
    assert_eq!(lost, 0);
}

#[test]
fn signals_while_it_looks_for_others_and_while_it_leaves() {
    let nobody = format!("-retry-join=127.0.0.1:{}", free_port());
    for (signal, code) in [
        (Signal::INT, Some(0)),
        (Signal::TERM, Some(1)),
        (Signal::HUP, None),
    ] {
        let mut node = Node::start(Serfling, "alone", &[&nobody]);
        node.agent.signal(signal);
        match code {
            Some(_) => assert_eq!(node.agent.wait_exit().code(), code),
            None => assert!(node.client.members().is_ok()),
        }
    }
    // A second signal while it leaves ends it at once.
    let mut nodes = vec![Node::start(Serfling, "a", &[])];
    nodes.push(Node::joining(Serfling, "b", &nodes[0], &[]));
    wait_for_agreement(&mut nodes, 2);
    nodes[1].agent.signal(Signal::INT);
    wait_until("it begins to leave", &mut nodes[..1], |nodes| {
        nodes[0].status_of("b") != Some(MemberStatus::Alive)
    });
    nodes[1].agent.signal(Signal::TERM);
    assert!(nodes[1].agent.wait_exit().code().is_some());
}
