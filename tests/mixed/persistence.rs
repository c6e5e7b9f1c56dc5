//! What survives a restart: snapshots that either kind starts from, and tags.

use rustix::process::Signal;
use serfling::cluster::MemberStatus;

use crate::cluster::{Node, wait_for_agreement, wait_for_status, wait_until};
use crate::common::agent::Kind;

use Kind::{Reference, Serfling};

#[test]
fn either_kind_starts_from_the_other_s_snapshot() {
    for (before, after) in [(Reference, Serfling), (Serfling, Reference)] {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = format!("-snapshot={}", folder.path().join("snapshot").display());
        let a = Node::start(Reference, "a", &[]);
        let b = Node::joining(before, "b", &a, &[&snapshot]);
        let ports = b.ports();
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        for number in 0..3u8 {
            nodes[0]
                .client
                .user_event("seen", &[number], false)
                .unwrap();
        }
        wait_until("the events are heard", &mut nodes, |nodes| {
            nodes[1].agent.log().matches("user-event: seen").count() == 3
        });
        wait_until("they are in the snapshot", &mut nodes, |nodes| {
            // The reference writes what it has only when the members' clock goes on.
            nodes[1].client.force_leave("nobody", false).unwrap();
            let text = std::fs::read_to_string(folder.path().join("snapshot")).unwrap();
            text.contains("event-clock: 3") && text.contains("alive: a 127.0.0.1:")
        });
        // It ends without a word, and comes back as the other kind without being told where to.
        let [a, b] = nodes;
        b.agent.signal(Signal::KILL);
        drop(b);
        let b = Node::start_at(after, "b", ports, &[&snapshot]);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        assert!(!nodes[1].agent.log().contains("user-event: seen"));
        assert_eq!(nodes[1].stat("serf", "event_time"), 4);
    }
}

#[test]
fn who_left_rejoins_only_if_told_to() {
    for kind in Kind::BOTH {
        for rejoin in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let snapshot = format!("-snapshot={}", folder.path().join("snapshot").display());
            let mut arguments = vec![&*snapshot];
            if rejoin {
                arguments.push("-rejoin");
            }
            let a = Node::start(Serfling, "a", &[]);
            let b = Node::joining(kind, "b", &a, &arguments);
            let ports = b.ports();
            let mut nodes = [a, b];
            wait_for_agreement(&mut nodes, 2);
            let [mut a, mut b] = nodes;
            b.client.leave().unwrap();
            b.agent.wait_exit();
            wait_for_status(std::slice::from_mut(&mut a), "b", Some(MemberStatus::Left));
            // The other kind reads what this one left.
            let other = if kind == Reference {
                Serfling
            } else {
                Reference
            };
            let mut b = Node::start_at(other, "b", ports, &arguments);
            if rejoin {
                wait_for_agreement(&mut [a, b], 2);
            } else {
                assert_eq!(b.status_of("a"), None);
                assert_eq!(a.status_of("b"), Some(MemberStatus::Left));
            }
        }
    }
}

#[test]
fn tags_files_are_shared_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tags.json");
    let file = format!("-tags-file={}", path.display());
    let mut texts = Vec::new();
    for kind in Kind::BOTH {
        let mut node = Node::start(kind, "n", &[&file]);
        node.client
            .update_tags(&[("role", "web"), ("dc", "east")], &["none"])
            .unwrap();
        // Too many tags change nothing, not even the file.
        if kind == Serfling {
            let long = "x".repeat(600);
            let error = node
                .client
                .update_tags(&[("long", &long)], &[])
                .unwrap_err();
            assert!(error.to_string().contains("512 bytes"), "{error}");
        }
        texts.push(std::fs::read_to_string(&path).unwrap());
        drop(node);
        // A restart, as the other kind, finds them.
        let other = if kind == Reference {
            Serfling
        } else {
            Reference
        };
        let mut node = Node::start(other, "n", &[&file]);
        let tags = &node.members()["n"].tags;
        assert_eq!(
            (tags.get("role"), tags.get("dc")),
            (Some("web"), Some("east"))
        );
        drop(node);
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(texts[0], texts[1]);
}
