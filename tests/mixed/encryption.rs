//! Encrypted clusters: keys of every size, keys that are wrong or missing, and keyrings that change.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serfling::cluster::MemberStatus;

use crate::cluster::{Node, wait_for_agreement, wait_until};
use crate::common::agent::Kind;

use Kind::{Reference, Serfling};

fn key(byte: u8, length: usize) -> String {
    STANDARD.encode(vec![byte; length])
}

#[test]
fn keys_of_every_size_encrypt() {
    for (number, length) in (1..).zip([16, 24, 32]) {
        let encrypt = format!("-encrypt={}", key(number, length));
        let a = Node::start(Reference, "a", &[&encrypt]);
        let b = Node::joining(Serfling, "b", &a, &[&encrypt]);
        let c = Node::joining(Reference, "c", &b, &[&encrypt]);
        let mut nodes = [a, b, c];
        wait_for_agreement(&mut nodes, 3);
        nodes[1].client.user_event("secret", b"x", false).unwrap();
        wait_until("the event is heard", &mut nodes, |nodes| {
            nodes
                .iter()
                .all(|node| node.agent.log().contains("user-event: secret"))
        });
        assert_eq!(nodes[1].stat("gossip", "decrypt_errors"), 0);
    }
}

#[test]
fn a_wrong_or_missing_key_is_refused_from_either_side() {
    let right = format!("-encrypt={}", key(1, 16));
    let wrong = format!("-encrypt={}", key(2, 16));
    for (inside, outside) in [(Reference, Serfling), (Serfling, Reference)] {
        let mut encrypted = Node::start(inside, "encrypted", &[&right]);
        let mut plain = Node::start(inside, "plain", &[]);
        for arguments in [&[&*wrong][..], &[]] {
            let mut stranger = Node::start(outside, "stranger", arguments);
            let (count, error) = stranger.join(&[encrypted.gossip_addr()]);
            println!("{outside:?}, {} keys: {error:?}", arguments.len());
            assert!(count == 0 && error.is_some(), "{outside:?} {arguments:?}");
            assert_eq!(stranger.status_of("encrypted"), None);
            assert_eq!(encrypted.status_of("stranger"), None);
        }
        let mut stranger = Node::start(outside, "stranger", &[&right]);
        let (count, error) = stranger.join(&[plain.gossip_addr()]);
        println!("{outside:?}, into a cluster without keys: {error:?}");
        assert_eq!((count, plain.status_of("stranger")), (0, None));
    }
}

fn keyring(folder: &Path, name: &str, keys: &[&str]) -> (PathBuf, String) {
    let path = folder.join(name);
    std::fs::write(&path, format!("{keys:?}")).unwrap();
    let argument = format!("-keyring-file={}", path.display());
    (path, argument)
}

#[test]
fn keyrings_change_from_either_kind() {
    for driver in [0, 1] {
        let (one, two) = (key(1, 16), key(2, 32));
        let folder = tempfile::tempdir().unwrap();
        let (path_a, file_a) = keyring(folder.path(), "a", &[&one]);
        let (path_b, file_b) = keyring(folder.path(), "b", &[&one]);
        let a = Node::start(Reference, "a", &[&file_a]);
        let b = Node::joining(Serfling, "b", &a, &[&file_b]);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        let client = &mut nodes[driver].client;
        let done = |reply: serfling::client::KeyReply| {
            let (report, error) = reply;
            assert_eq!(
                (error, report.nodes, report.responses, report.errors),
                (None, 2, 2, 0)
            );
            report
        };
        done(client.install_key(&two).unwrap());
        done(client.use_key(&two).unwrap());
        let mut keys = done(client.list_keys().unwrap()).keys.unwrap();
        keys.sort();
        let mut both = vec![(one.clone(), 2), (two.clone(), 2)];
        both.sort();
        assert_eq!(keys, both);
        // The primary key can't be removed; every node says so.
        let (report, error) = client.remove_key(&two).unwrap();
        assert_eq!(error.as_deref(), Some("2/2 nodes reported failure"));
        let mut messages = report.messages;
        messages.sort();
        let text = "Removing the primary key is not allowed".to_owned();
        assert_eq!(
            messages,
            [("a".to_owned(), text.clone()), ("b".to_owned(), text)]
        );
        done(client.remove_key(&one).unwrap());
        let keys = done(client.list_keys().unwrap()).keys.unwrap();
        assert_eq!(keys, [(two.clone(), 2)]);
        // Both kinds have written the same.
        let files = [path_a, path_b].map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(files[0], files[1]);
        assert_eq!(files[0], format!("[\n  \"{two}\"\n]"));
        // And they go on to understand each other.
        nodes[driver]
            .client
            .user_event("after", b"", false)
            .unwrap();
        wait_until("the event is heard", &mut nodes, |nodes| {
            nodes
                .iter()
                .all(|node| node.agent.log().contains("user-event: after"))
        });
        wait_for_agreement(&mut nodes, 2);
        assert_eq!(nodes[1].status_of("a"), Some(MemberStatus::Alive));
    }
}

#[test]
fn nodes_without_keys_say_so_alike() {
    let a = Node::start(Reference, "a", &[]);
    let b = Node::joining(Serfling, "b", &a, &[]);
    let mut nodes = [a, b];
    wait_for_agreement(&mut nodes, 2);
    let mut replies = nodes.each_mut().map(|node| {
        let (mut report, error) = node.client.install_key(&key(3, 16)).unwrap();
        report.messages.sort();
        (report.messages, report.errors, report.responses, error)
    });
    assert_eq!(replies[0], replies[1]);
    assert_eq!(replies[0].0.len(), 2);
    replies.reverse();
}

#[test]
fn a_label_keeps_clusters_apart() {
    let blue = Node::start(Serfling, "blue", &["-gossip-label=blue"]);
    let other = Node::joining(Serfling, "other", &blue, &["-gossip-label=blue"]);
    let mut nodes = [blue, other];
    wait_for_agreement(&mut nodes, 2);
    for kind in Kind::BOTH {
        let mut stranger = Node::start(kind, "stranger", &[]);
        let (count, error) = stranger.join(&[nodes[0].gossip_addr()]);
        println!("{kind:?}: {error:?}");
        assert_eq!((count, nodes[0].status_of("stranger")), (0, None));
        // And the other way around.
        let (count, error) = nodes[0].join(&[stranger.gossip_addr()]);
        println!("into {kind:?}: {error:?}");
        assert_eq!((count, stranger.status_of("blue")), (0, None));
    }
}

/// Each step of the way has neighbours that are one step behind and one step ahead.
#[test]
fn a_plain_cluster_can_be_encrypted_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = |incoming: bool, outgoing: bool| {
        let path = folder.path().join(format!("{incoming}-{outgoing}.json"));
        let text = format!(
            r#"{{"encrypt_key": "{}", "encrypt_verify_incoming": {incoming}, "encrypt_verify_outgoing": {outgoing}}}"#,
            key(1, 16)
        );
        std::fs::write(&path, text).unwrap();
        format!("-config-file={}", path.display())
    };
    let (prepared, encrypting, strict) = (
        config(false, false),
        config(false, true),
        config(true, true),
    );
    let strict_reference = format!("-encrypt={}", key(1, 16));
    for ((behind, arguments), (kind, ahead)) in [
        ((Reference, &[][..]), (Serfling, &*prepared)),
        ((Serfling, &[&*prepared]), (Serfling, &*encrypting)),
        ((Serfling, &[&*encrypting]), (Serfling, &*strict)),
        ((Serfling, &[&*encrypting]), (Reference, &*strict_reference)),
    ] {
        let a = Node::start(behind, "a", arguments);
        let b = Node::joining(kind, "b", &a, &[ahead]);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        for (number, name) in ["from-a", "from-b"].iter().enumerate() {
            nodes[number].client.user_event(name, b"", false).unwrap();
        }
        wait_until("both are heard", &mut nodes, |nodes| {
            nodes.iter().all(|node| {
                let log = node.agent.log();
                log.contains("user-event: from-a") && log.contains("user-event: from-b")
            })
        });
    }
    // And at the end of the way, what is plain stays out.
    let inside = Node::start(Serfling, "inside", &[&strict]);
    let mut plain = Node::start(Serfling, "plain", &[&prepared]);
    let (count, error) = plain.join(&[inside.gossip_addr()]);
    assert!(count == 0 && error.is_some());
}

#[test]
fn compression_can_be_off_on_either_side() {
    let off = r#"{"enable_compression": false}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("off.json");
    std::fs::write(&path, off).unwrap();
    let off = format!("-config-file={}", path.display());
    for (a, b) in [
        (&[][..], &[&*off][..]),
        (&[&*off], &[]),
        (&[&*off], &[&*off]),
    ] {
        let a = Node::start(Reference, "a", a);
        let b = Node::joining(Serfling, "b", &a, b);
        let mut nodes = [a, b];
        wait_for_agreement(&mut nodes, 2);
        // Much the same again and again: this is what compresses.
        nodes[1]
            .client
            .user_event("x", &[b'a'; 400], false)
            .unwrap();
        nodes[0]
            .client
            .user_event("y", &[b'a'; 400], false)
            .unwrap();
        wait_until("both are heard", &mut nodes, |nodes| {
            nodes.iter().all(|node| {
                ["user-event: x", "user-event: y"]
                    .iter()
                    .all(|text| node.agent.log().contains(text))
            })
        });
    }
}
