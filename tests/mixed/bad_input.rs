//! Bad input at the gossip port costs memory that is bounded, and the cluster nothing.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serfling::cluster::MemberStatus;
use serfling::gossip::ACCEPTED_MAX;

use crate::cluster::{Node, wait_for_agreement, wait_until};
use crate::common::agent::Kind;

use Kind::{Reference, Serfling};

fn pair() -> [Node; 2] {
    // The local profile gives streams a second only.
    let a = Node::start(Reference, "a", &["-profile=lan"]);
    let b = Node::joining(Serfling, "b", &a, &["-profile=lan"]);
    let mut nodes = [a, b];
    wait_for_agreement(&mut nodes, 2);
    nodes
}

fn assert_unharmed(nodes: &mut [Node; 2]) {
    nodes[0]
        .client
        .user_event("still", b"there", false)
        .unwrap();
    wait_until("events still pass", nodes, |nodes| {
        nodes[1].agent.log().contains("user-event: still")
    });
    wait_for_agreement(nodes, 2);
    assert_eq!(nodes[1].status_of("a"), Some(MemberStatus::Alive));
    assert!(!nodes[0].agent.log().contains("EventMemberFailed"));
}

/// Packets that look right at first and then go wrong in many ways.
fn damaged(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..rng.random_range(0..200))
        .map(|_| rng.random())
        .collect();
    match rng.random_range(0..6) {
        0 => bytes.insert(0, rng.random_range(0..14)),
        // Checksums, compounds, compression and labels that announce more than there is.
        1 => bytes.splice(0..0, [12, 1, 2, 3, 4]).for_each(drop),
        2 => bytes.splice(0..0, [7, 255]).for_each(drop),
        3 => bytes
            .splice(0..0, *b"\x09\x82\xa4Algo\x00\xa3Buf\xdb\xff\xff\xff\xff")
            .for_each(drop),
        4 => bytes.splice(0..0, [244, 200]).for_each(drop),
        _ => {}
    }
    bytes
}

#[test]
fn garbage_and_damaged_packets_are_counted_and_forgotten() {
    let mut nodes = pair();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = nodes[1].gossip_addr();
    let before = nodes[1].agent.status_kib("VmRSS");
    let mut rng = StdRng::seed_from_u64(1);
    for batch in 0..100 {
        for _ in 0..100 {
            socket.send_to(&damaged(&mut rng), &to).unwrap();
        }
        // Kept within what the system holds: this is about decoding.
        wait_until("they are read", &mut nodes[1..], |nodes| {
            nodes[0].stat("gossip", "packets_in") > batch * 80
        });
    }
    assert!(nodes[1].stat("gossip", "malformed") > 1000);
    assert!(nodes[1].stat("gossip", "checksum_errors") > 100);
    assert!(nodes[1].stat("gossip", "label_errors") > 100);
    let grown = nodes[1].agent.status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB more");
    assert_unharmed(&mut nodes);
}

#[test]
fn streams_that_announce_stall_or_never_end_are_bounded() {
    let mut nodes = pair();
    let to = nodes[1].gossip_addr();
    let before = nodes[1].agent.status_kib("VmRSS");
    // Lengths of 4 GiB: encrypted, compressed, nodes and user state.
    let announcements: [&[u8]; 4] = [
        b"\x0a\xff\xff\xff\xff",
        b"\x09\x82\xa4Algo\x00\xa3Buf\xdb\xff\xff\xff\xff",
        b"\x06\x83\xa4Join\xc3\xa5Nodes\xce\xff\xff\xff\xff\xacUserStateLen\x00",
        b"\x06\x83\xa4Join\xc3\xa5Nodes\x00\xacUserStateLen\xce\xff\xff\xff\xff",
    ];
    let mut open = Vec::new();
    for announcement in announcements {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(&to).unwrap();
            stream.write_all(announcement).unwrap();
            open.push(stream);
        }
    }
    // Bytes that never make a whole message, as fast as they go.
    let mut endless = TcpStream::connect(&to).unwrap();
    endless
        .write_all(b"\x08\x81\xaaUserMsgLen\xce\x01\x00\x00\x00")
        .unwrap();
    let flood = vec![0; 64 * 1024];
    for _ in 0..128 {
        if endless.write_all(&flood).is_err() {
            break;
        }
    }
    wait_until("they are closed", &mut nodes[1..], |nodes| {
        nodes[0].stat("gossip", "streams_failed") >= 60
    });
    let grown = nodes[1].agent.status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB more");
    drop((open, endless));
    assert_unharmed(&mut nodes);
}

#[test]
fn thousands_of_silent_streams_keep_nobody_out() {
    let mut nodes = pair();
    let to = nodes[1].gossip_addr();
    let before = nodes[1].agent.status_kib("VmRSS");
    let mut silent = Vec::new();
    for _ in 0..2 * ACCEPTED_MAX {
        silent.push(TcpStream::connect(&to).unwrap());
    }
    wait_until("some had to go", &mut nodes[1..], |nodes| {
        nodes[0].stat("gossip", "streams_refused") >= ACCEPTED_MAX as u64 / 2
    });
    // Whoever says something is heard.
    let mut other = Node::joining(Reference, "other", &nodes[1], &[]);
    wait_until("another joins", &mut nodes, |nodes| {
        nodes[1].status_of("other") == Some(MemberStatus::Alive)
    });
    let grown = nodes[1].agent.status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    drop(silent);
    other.client.leave().unwrap();
    other.agent.wait_exit();
    assert_unharmed(&mut nodes);
}

#[test]
fn an_error_is_told_to_whom_it_concerns() {
    let nodes = pair();
    let mut stream = TcpStream::connect(nodes[1].gossip_addr()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(&[99, 1, 2, 3]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // Type 13, or the same compressed.
    assert!(matches!(answer.first(), Some(9 | 13)), "{answer:?}");
}

#[test]
fn replayed_packets_change_nothing() {
    let mut nodes = pair();
    // What b would say of itself, had it left: of an incarnation that is over.
    let dead = b"\x05\x83\xa4From\xa1b\xabIncarnation\x00\xa4Node\xa1b";
    let suspect = b"\x03\x83\xa4From\xa1x\xabIncarnation\x00\xa4Node\xa1a";
    let last = b"\x05\x83\xa4From\xa1x\xabIncarnation\xce\xff\xff\xff\xff\xa4Node\xa1a";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        for packet in [&dead[..], suspect, last] {
            socket.send_to(packet, nodes[1].gossip_addr()).unwrap();
        }
    }
    wait_until("they are read", &mut nodes[1..], |nodes| {
        nodes[0].stat("gossip", "packets_in") > 300
    });
    assert_unharmed(&mut nodes);
}
