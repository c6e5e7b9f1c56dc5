//! Handshake and authentication.

use super::*;
use crate::rpc::FAILED_AUTHS_MAX;

fn version(version: i64) -> Option<Value> {
    Some(map([("Version", version.into())]))
}

fn key(key: &str) -> Option<Value> {
    Some(map([("AuthKey", key.into())]))
}

#[test]
fn handshake_valid_version() {
    let mut scene = Scene::new();
    let id = scene.connect();
    scene.send(
        id,
        b"\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01",
    );
    assert_eq!(scene.receive(id), b"\x82\xa5Error\xa0\xa3Seq\x00");
}

#[test]
fn handshake_unsupported_version_keeps_the_connection() {
    let mut scene = Scene::new();
    let id = scene.connect();
    for bad in [0, 2, -1, 1 << 30] {
        assert_eq!(
            scene.ask(id, "handshake", 1, version(bad)),
            "Unsupported IPC version"
        );
    }
    assert_eq!(scene.ask(id, "handshake", 2, version(1)), "");
}

#[test]
fn handshake_duplicate_is_detected_on_the_live_connection() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(
        scene.ask(id, "handshake", 1, version(1)),
        "Handshake already performed"
    );
    assert_eq!(
        scene.ask(id, "handshake", 2, version(2)),
        "Unsupported IPC version"
    );
    assert_eq!(
        scene.exchange(id, "members", 3, None).0,
        map([("Error", "".into()), ("Seq", 3.into())])
    );
}

#[test]
fn command_before_handshake_is_refused_and_closes() {
    for (command, body) in every_request() {
        if command == "handshake" {
            continue;
        }
        let mut scene = Scene::with_key("secret");
        let id = scene.connect();
        assert_eq!(scene.ask(id, command, 5, body), "Handshake required");
        assert!(scene.is_ending(id), "{command}");
        scene.send(id, &request("handshake", 6, version(1)));
        assert!(scene.receive(id).is_empty(), "nothing is read any more");
    }
}

#[test]
fn auth_before_handshake_fails() {
    let mut scene = Scene::with_key("secret");
    let id = scene.connect();
    assert_eq!(
        scene.ask(id, "auth", 1, key("secret")),
        "Handshake required"
    );
    assert!(scene.is_ending(id));
}

#[test]
fn the_version_is_kept() {
    let mut scene = Scene::new();
    let id = scene.client();
    scene.wait(Duration::from_secs(3600));
    assert_eq!(text(&scene.exchange(id, "members", 1, None).0, "Error"), "");
}

#[test]
fn auth_valid_key_lets_in() {
    let mut scene = Scene::with_key("secret");
    let id = scene.client();
    assert_eq!(scene.ask(id, "auth", 1, key("secret")), "");
    assert!(scene.exchange(id, "members", 2, None).1.is_some());
    assert_eq!(scene.ask(id, "auth", 3, key("secret")), "");
}

#[test]
fn auth_invalid_key_is_refused_and_may_be_retried() {
    let mut scene = Scene::with_key("secret");
    let id = scene.client();
    for wrong in ["", "secre", "secret ", "Secret"] {
        assert_eq!(
            scene.ask(id, "auth", 1, key(wrong)),
            "Invalid authentication token"
        );
    }
    assert_eq!(scene.ask(id, "auth", 2, key("secret")), "");
}

#[test]
fn auth_none_required_takes_the_empty_key_alone() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "auth", 1, key("")), "");
    assert_eq!(
        scene.ask(id, "auth", 2, key("x")),
        "Invalid authentication token"
    );
    assert!(scene.exchange(id, "members", 3, None).1.is_some());
}

#[test]
fn unauthenticated_command_keeps_the_connection_open_and_is_answered_once() {
    for (command, body) in every_request() {
        if matches!(command, "handshake" | "auth") {
            continue;
        }
        let mut scene = Scene::with_key("secret");
        let id = scene.client();
        assert_eq!(
            scene.ask(id, command, 7, body.clone()),
            "Authentication required",
            "{command}"
        );
        assert!(!scene.is_ending(id));
        // The same with the body coming later, and with no body at all.
        scene.send(id, &request(command, 8, None));
        assert_eq!(scene.values(id).len(), 1);
        if let Some(body) = body {
            scene.send(id, &encode(&body));
            assert!(
                scene.values(id).is_empty(),
                "{command}: the body is no request"
            );
            scene.send(id, &request(command, 9, None));
            assert_eq!(scene.values(id).len(), 1);
        }
        assert_eq!(scene.ask(id, "auth", 10, key("secret")), "");
        assert!(scene.exchange(id, "members", 11, None).1.is_some());
    }
}

#[test]
fn too_many_wrong_keys_close_the_connection() {
    let mut scene = Scene::with_key("secret");
    let id = scene.client();
    for seq in 1..=u64::from(FAILED_AUTHS_MAX) {
        assert!(!scene.is_ending(id));
        assert_eq!(
            scene.ask(id, "auth", seq, key("guess")),
            "Invalid authentication token"
        );
    }
    assert!(scene.is_ending(id));
    assert_eq!(scene.hub.counters().auth_failures, 16);
}

#[test]
fn who_takes_too_long_over_handshake_or_auth_is_closed() {
    let mut scene = Scene::with_key("secret");
    let silent = scene.connect();
    let greeted = scene.client();
    let let_in = scene.client();
    assert_eq!(scene.ask(let_in, "auth", 1, key("secret")), "");
    scene.wait(Duration::from_millis(9_900));
    assert_eq!(scene.hub.poll_close(), None);
    scene.wait(Duration::from_millis(200));
    let mut closed = vec![
        scene.hub.poll_close().unwrap(),
        scene.hub.poll_close().unwrap(),
    ];
    closed.sort();
    assert_eq!(closed, [silent, greeted]);
    assert_eq!(scene.hub.poll_close(), None);
    assert_eq!(scene.hub.counters().handshake_timeouts, 2);
    scene.wait(Duration::from_secs(1000));
    assert_eq!(scene.hub.poll_close(), None);
}

#[test]
fn unknown_command_is_refused_and_closes() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "nope", 4, None), "Unsupported command");
    assert!(scene.is_ending(id));
    let mut scene = Scene::with_key("secret");
    let id = scene.client();
    assert_eq!(scene.ask(id, "nope", 4, None), "Authentication required");
    assert!(!scene.is_ending(id));
}
