//! Claims of `SECURITY.md` that need a whole agent: what a stranger gets, and where keys never show.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

use rmpv::Value;
use serfling::gossip::message::{Alive, Message, Versions};

use self::common::agent::{Agent, Kind};
use self::common::raw::{RawClient, map, number, request, text};
use self::common::wait_for;

const RPC_KEY: &str = "rpc-key-that-nobody-may-see";
const GOSSIP_KEY: &str = "Z29zc2lwLWtleS1zZWVu";
const NEXT_KEY: &str = "bmV4dC1rZXktYS1zZWNyZXQhISEhISEh";

fn agent() -> (Agent, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keyring = folder.path().join("keyring.json");
    let key = "MDEyMzQ1Njc4OWFiY2RlZg==";
    std::fs::write(&keyring, format!("[\"{key}\"]")).unwrap();
    let config = format!(r#"{{"rpc_auth": "{RPC_KEY}"}}"#);
    let keyring = format!("-keyring-file={}", keyring.display());
    let arguments = ["-log-level=trace", &keyring];
    let agent = Agent::start_with(Kind::Serfling, &arguments, Some(&config), None);
    (agent, folder)
}

fn auth(client: &mut RawClient, key: &str) -> String {
    let (header, _) = client.call("auth", Some(map([("AuthKey", key.into())])));
    text(&header, "Error")
}

#[test]
fn nothing_but_auth_is_answered_before_auth() {
    let (agent, _folder) = agent();
    for command in serfling::rpc::message::Command::ALL {
        if matches!(command.name(), "handshake" | "auth") {
            continue;
        }
        let mut client = agent.client();
        let body = command.request_has_body().then(|| map([]));
        client.send_raw(&request(command.name(), 7, body.as_ref()));
        let header = client.read().0;
        assert_eq!(number(&header, "Seq"), 7);
        assert_eq!(
            text(&header, "Error"),
            "Authentication required",
            "{command:?}"
        );
        // Nothing came of it, and nothing else follows.
        assert_eq!(auth(&mut client, RPC_KEY), "");
        assert_eq!(client.stat("rpc", "streams"), 0);
        assert!(client.inbox.is_empty());
    }
}

#[test]
fn keys_show_in_no_log_no_stats_and_no_error() {
    let (agent, folder) = agent();
    let mut client = agent.client();
    let wrong = "wrong-key-that-may-be-a-typo-of-the-right-one";
    let refusal = auth(&mut client, wrong);
    assert!(!refusal.contains(wrong));
    assert_eq!(auth(&mut client, RPC_KEY), "");
    for (command, key) in [
        ("install-key", NEXT_KEY),
        ("use-key", NEXT_KEY),
        ("use-key", GOSSIP_KEY),
        ("remove-key", NEXT_KEY),
    ] {
        client.call(command, Some(map([("Key", key.into())])));
    }
    let stats = client.ok("stats", None).expect("a body").to_string();
    let monitor = agent.log();
    assert!(monitor.contains("install-key"));
    for secret in [
        RPC_KEY,
        GOSSIP_KEY,
        NEXT_KEY,
        wrong,
        "MDEyMzQ1Njc4OWFiY2RlZg",
    ] {
        assert!(!stats.contains(secret), "{secret} is in the stats");
        assert!(
            !monitor.contains(secret),
            "{secret} is in the log:\n{monitor}"
        );
    }
    let written = std::fs::metadata(folder.path().join("keyring.json")).unwrap();
    assert_eq!(written.permissions().mode() & 0o777, 0o600);
}

#[test]
fn forged_gossip_without_the_key_changes_nothing() {
    let (agent, _folder) = agent();
    let mut client = agent.client();
    assert_eq!(auth(&mut client, RPC_KEY), "");
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let forged = Message::Alive(Alive {
        incarnation: 1,
        node: "stranger",
        addr: Some([127, 0, 0, 1].into()),
        port: 1,
        meta: b"",
        versions: Some(Versions::CURRENT),
    })
    .to_bytes();
    // As it is, and as what an encrypted packet looks like.
    let sealed: Vec<u8> = std::iter::once(1).chain(forged.iter().copied()).collect();
    let before = client.stat("gossip", "decrypt_errors");
    wait_for("both are counted", || {
        for packet in [&forged, &sealed] {
            let to = ("127.0.0.1", agent.gossip_port);
            stranger.send_to(packet, to).unwrap();
        }
        client.stat("gossip", "decrypt_errors") >= before + 2
    });
    let members = client.ok("members", None).expect("a body");
    let members = common::raw::field(&members, "Members").and_then(Value::as_array);
    assert_eq!(members.map(Vec::len), Some(1));
}
