//! Who is in the cluster: joins, leaves, failures, returns, force-leave, prune, name conflicts.

use rustix::process::Signal;
use serfling::cluster::MemberStatus;

use crate::cluster::{Node, connect, wait_for_agreement, wait_for_status, wait_until};
use crate::common::agent::{Agent, Kind, free_port};

use Kind::{Reference, Serfling};

/// The kinds of two nodes, the one that joins last.
const PAIRS: [(Kind, Kind); 2] = [(Reference, Serfling), (Serfling, Reference)];

#[test]
fn two_nodes_go_through_everything() {
    for (first, second) in PAIRS {
        let a = Node::start(first, "a", &["-tag", "role=web"]);
        let b = Node::joining(second, "b", &a, &["-tag", "dc=east"]);
        let ports = b.ports();
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        let [mut a, b] = nodes;
        // Gone without a word, and back.
        drop(b);
        wait_for_status(
            std::slice::from_mut(&mut a),
            "b",
            Some(MemberStatus::Failed),
        );
        let join = format!("-join={}", a.gossip_addr());
        let b = Node::start_at(second, "b", ports, &[&join]);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        // Gone with a word, and back.
        let [mut a, mut b] = nodes;
        b.client.leave().unwrap();
        b.agent.wait_exit();
        wait_for_status(std::slice::from_mut(&mut a), "b", Some(MemberStatus::Left));
        drop(b);
        let b = Node::start_at(second, "b", ports, &[&join]);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        // Gone, forced out, and forgotten.
        let [mut a, b] = nodes;
        drop(b);
        wait_for_status(
            std::slice::from_mut(&mut a),
            "b",
            Some(MemberStatus::Failed),
        );
        a.client.force_leave("b", false).unwrap();
        wait_for_status(std::slice::from_mut(&mut a), "b", Some(MemberStatus::Left));
        a.client.force_leave("b", true).unwrap();
        wait_for_status(std::slice::from_mut(&mut a), "b", None);
    }
}

#[test]
fn five_nodes_agree_on_tags_failures_and_who_left() {
    // In the local profile a message is repeated twice only, and may reach nobody but the dead.
    let profile = "-profile=lan";
    let first = Node::start(Reference, "n0", &[profile]);
    let mut nodes = vec![first];
    for (number, kind) in [(1, Serfling), (2, Reference), (3, Serfling), (4, Reference)] {
        // Through a node of either kind.
        let through = &nodes[number - 1];
        let arguments = [profile, "-tag", "x=1"];
        let node = Node::joining(kind, &format!("n{number}"), through, &arguments);
        nodes.push(node);
    }
    wait_for_agreement(&mut nodes, 5);
    for node in &mut nodes {
        node.client
            .update_tags(&[("name", &node.name), ("y", "2")], &["x"])
            .unwrap();
    }
    wait_until("the tags are known", &mut nodes, |nodes| {
        nodes.iter_mut().all(|node| {
            node.members().iter().all(|(name, member)| {
                member.tags.get("name") == Some(name) && member.tags.get("x").is_none()
            })
        })
    });
    wait_for_agreement(&mut nodes, 5);
    // One of each kind dies, one of each kind leaves.
    drop(nodes.remove(4));
    drop(nodes.remove(3));
    wait_for_status(&mut nodes, "n4", Some(MemberStatus::Failed));
    wait_for_status(&mut nodes, "n3", Some(MemberStatus::Failed));
    // A force-leave reaches everybody, and so does a prune.
    nodes[1].client.force_leave("n4", false).unwrap();
    wait_for_status(&mut nodes, "n4", Some(MemberStatus::Left));
    nodes[0].client.force_leave("n3", true).unwrap();
    wait_for_status(&mut nodes, "n3", None);
    nodes[1].client.force_leave("n4", true).unwrap();
    wait_for_status(&mut nodes, "n4", None);
    let mut leaver = nodes.remove(1);
    leaver.client.leave().unwrap();
    wait_for_status(&mut nodes, "n1", Some(MemberStatus::Left));
    let mut leaver = nodes.remove(1);
    leaver.client.leave().unwrap();
    wait_for_status(&mut nodes, "n2", Some(MemberStatus::Left));
}

#[test]
fn who_is_stopped_for_a_while_refutes() {
    for kind in Kind::BOTH {
        let a = Node::start(Reference, "a", &[]);
        let b = Node::joining(Serfling, "b", &a, &[]);
        let c = Node::joining(kind, "c", &a, &[]);
        let mut nodes = [a, b, c];
        wait_for_agreement(&mut nodes, 3);
        nodes[2].agent.signal(Signal::STOP);
        wait_until("it is suspected", &mut nodes[..2], |nodes| {
            nodes
                .iter()
                .any(|node| node.agent.log().contains("Suspect c has failed"))
        });
        nodes[2].agent.signal(Signal::CONT);
        wait_until("it refutes", &mut nodes[2..], |nodes| {
            nodes[0].agent.log().contains("Refuting a suspect message")
        });
        wait_for_agreement(&mut nodes, 3);
        for node in &nodes {
            assert!(!node.agent.log().contains("EventMemberFailed"));
        }
    }
}

#[test]
fn a_name_that_two_claim_stays_with_whom_most_know() {
    for kind in Kind::BOTH {
        let a = Node::start(Reference, "a", &[]);
        let b = Node::joining(Serfling, "b", &a, &[]);
        let c = Node::joining(Reference, "c", &a, &[]);
        let mut nodes = [a, b, c];
        wait_for_agreement(&mut nodes, 3);
        // It has somebody else's name, and has to go.
        let join = format!("-join={}", nodes[0].gossip_addr());
        let mut other = Agent::start_at(
            kind,
            &["-node=b", "-profile=local", "-log-level=debug", &join],
            None,
            None,
            (free_port(), free_port()),
        );
        let status = other.wait_exit();
        println!("{kind:?} ended with {status}");
        assert!(other.log().contains("minority in name conflict resolution"));
        wait_for_agreement(&mut nodes, 3);
    }
}

#[test]
fn a_node_that_is_not_there_yet_is_tried_again() {
    let ports = (free_port(), free_port());
    let retry = format!("-retry-join=127.0.0.1:{}", ports.1);
    let ours = Node::start(Serfling, "ours", &[&retry, "-retry-interval=1s"]);
    wait_until("a try has failed", &mut [ours], |nodes| {
        nodes[0].agent.log().contains("agent: Join failed")
    });
    let ours = Node::start(Serfling, "ours", &[&retry, "-retry-interval=1s"]);
    let reference = Node::start_at(Reference, "reference", ports, &[]);
    wait_for_agreement(&mut [ours, reference], 2);
}

#[test]
fn a_join_that_fails_ends_the_agent_as_the_reference_s_does() {
    let nobody = format!("-join=127.0.0.1:{}", free_port());
    for kind in Kind::BOTH {
        let output = std::process::Command::new(kind.program())
            .args(["agent", "-node=x", &nobody])
            .arg(format!("-bind=127.0.0.1:{}", free_port()))
            .arg(format!("-rpc-addr=127.0.0.1:{}", free_port()))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{kind:?}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("connection refused"), "{kind:?}: {said}");
    }
}

#[test]
fn joins_over_rpc_count_and_complain_alike() {
    let target = Node::start(Reference, "target", &[]);
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut answers = Vec::new();
    for kind in Kind::BOTH {
        let mut node = Node::start(kind, "n", &[]);
        let failed = node.join(std::slice::from_ref(&nobody));
        let both = node.join(&[nobody.clone(), target.gossip_addr()]);
        node.client.leave().unwrap();
        answers.push((failed, both));
    }
    let (ours, reference) = (answers.pop(), answers.pop());
    println!("{ours:?}");
    assert_eq!(ours, reference);
}

#[test]
fn every_protocol_version_is_spoken() {
    for (theirs, ours) in [(2, 2), (3, 3), (4, 4), (5, 2), (2, 5), (4, 5)] {
        let version = |number: u8| format!("-protocol={number}");
        let a = Node::start(Reference, "a", &[&version(theirs), "-tag", "role=web"]);
        let b = Node::joining(Serfling, "b", &a, &[&version(ours), "-tag", "role=db"]);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        let seen = nodes[1].members();
        assert_eq!(
            (seen["a"].delegate.cur, seen["b"].delegate.cur),
            (theirs, ours)
        );
        for (name, role) in [("a", "web"), ("b", "db")] {
            assert_eq!(
                seen[name].tags.get("role"),
                Some(role),
                "{theirs} and {ours}"
            );
        }
        nodes[1].client.user_event("over", b"", false).unwrap();
        wait_until("the event is heard", &mut nodes, |nodes| {
            nodes[0].agent.log().contains("user-event: over")
        });
    }
}

#[test]
fn ipv6_is_as_good() {
    let ports = (free_port(), free_port());
    let bind = format!("-bind=[::1]:{}", ports.1);
    let Ok(_) = std::net::UdpSocket::bind(("::1", 0)) else {
        println!("this machine has no IPv6");
        return;
    };
    let a = Node::start_at(Reference, "a", ports, &[&bind]);
    let port = free_port();
    let bind = format!("-bind=[::1]:{port}");
    let join = format!("-join=[::1]:{}", ports.1);
    let b = Node::start_at(Serfling, "b", (free_port(), port), &[&bind, &join]);
    let mut nodes = [a, b];
    wait_for_agreement(&mut nodes, 2);
    let addr = nodes[0].members()["b"].addr;
    assert!(addr.is_ipv6() && addr.is_loopback());
    drop(connect(&nodes[1].agent));
}
