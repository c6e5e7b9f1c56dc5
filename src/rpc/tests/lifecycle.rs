//! Coming and going: what a client has goes with it.

use super::*;
use crate::log_ring::Level;
use crate::rpc::{AcceptError, Resources};

fn subscribe_to_everything(scene: &mut Scene, id: SessionId) {
    let stream = map([("Type", "*".into())]);
    scene.send(id, &request("stream", 1, Some(stream.clone())));
    scene.send(id, &request("stream", 2, Some(stream)));
    scene.send(
        id,
        &request("monitor", 3, Some(map([("LogLevel", "debug".into())]))),
    );
    scene.send(
        id,
        &request(
            "query",
            4,
            Some(map([("Name", "q".into()), ("RequestAck", true.into())])),
        ),
    );
}

#[test]
fn client_disconnect_cleans_up_all_resources() {
    let mut scene = Scene::new();
    let id = scene.client();
    subscribe_to_everything(&mut scene, id);
    let resources = scene.hub.resources();
    assert_eq!(
        (
            resources.streams,
            resources.monitors,
            resources.asked_queries,
            resources.pending_queries
        ),
        (2, 1, 1, 2)
    );
    let now = scene.now;
    scene.hub.handle_gone(now, id);
    assert_eq!(scene.hub.resources(), Resources::default());
    // What would have come for it harms nobody.
    scene.log.push(Level::Err, None, "line");
    scene.wait(Duration::from_secs(60));
    scene.hub.handle_bytes(scene.now, id, b"\xff");
    scene.hub.handle_eof(scene.now, id);
    scene.hub.handle_gone(scene.now, id);
    assert!(scene.hub.pending(id).is_empty());
}

#[test]
fn a_slot_used_again_is_not_mistaken_for_the_old_client() {
    let mut scene = Scene::new();
    let old = scene.client();
    subscribe_to_everything(&mut scene, old);
    scene.hub.handle_gone(scene.now, old);
    let new = scene.client();
    assert_ne!(old, new);
    scene.send(old, &request("members", 5, None));
    assert!(scene.hub.pending(new).is_empty());
    scene.hub.handle_gone(scene.now, old);
    assert_eq!(scene.hub.client_count(), 1);
}

#[test]
fn accept_during_shutdown_closes_the_connection() {
    let mut scene = Scene::new();
    let id = scene.client();
    scene.hub.shut_down();
    scene.hub.shut_down();
    let refused = scene.hub.accept(scene.now, Peer::Unix(1));
    assert_eq!(refused, Err(AcceptError::ShuttingDown));
    assert!(
        scene.exchange(id, "members", 1, None).1.is_some(),
        "who is there is served on"
    );
}

#[test]
fn half_closed_clients_get_what_they_asked_for() {
    let mut scene = Scene::new();
    let id = scene.client();
    let now = scene.now;
    let mut requests = request("members", 1, None);
    requests.extend(request("stats", 2, None));
    requests.extend(request("members", 3, None));
    requests.extend(b"\x82\xa7Comm");
    scene.hub.handle_bytes(now, id, &requests);
    scene.hub.handle_eof(now, id);
    assert_eq!(scene.values(id).len(), 6);
    assert_eq!(scene.hub.handle_flushed(now, id), Flushed::Close);
}

#[test]
fn the_limit_of_clients_is_told() {
    let config = Config {
        clients_max: 2,
        ..Config::default()
    };
    let mut scene = Scene::with(config, StandaloneConfig::new("n1"));
    let first = scene.client();
    scene.client();
    let third = scene.connect();
    let error = scene.ask(third, "handshake", 42, None);
    assert_eq!(error, "Too many clients: the limit of 2 is reached");
    assert!(scene.is_ending(third));
    // A silent one does not stay either.
    let silent = scene.connect();
    scene.wait(Duration::from_millis(1100));
    let closed: Vec<_> = std::iter::from_fn(|| scene.hub.poll_close()).collect();
    assert!(closed.contains(&silent));
    for id in closed {
        scene.hub.handle_gone(scene.now, id);
    }
    assert_eq!(scene.hub.counters().refused, 2);
    scene.hub.handle_gone(scene.now, third);
    scene.hub.handle_gone(scene.now, first);
    scene.client();
}

#[test]
fn many_who_are_refused_are_bounded_too() {
    let config = Config {
        clients_max: 1,
        ..Config::default()
    };
    let mut scene = Scene::with(config, StandaloneConfig::new("n1"));
    scene.client();
    let accepted = (0..1000)
        .filter(|_| scene.hub.accept(scene.now, Peer::Unix(1)).is_ok())
        .count();
    assert_eq!(accepted, 64);
}

#[test]
fn an_idle_hub_sets_no_timers() {
    let mut scene = Scene::new();
    let id = scene.client();
    subscribe_to_everything(&mut scene, id);
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.hub.poll_timeout(), None);
}

#[test]
fn who_does_not_take_its_last_bytes_is_closed() {
    let mut scene = Scene::new();
    let id = scene.client();
    scene.send(id, &request("nope", 1, None));
    assert!(!scene.hub.pending(id).is_empty());
    scene.wait(Duration::from_secs(59));
    assert_eq!(scene.hub.poll_close(), None);
    scene.wait(Duration::from_secs(2));
    assert_eq!(scene.hub.poll_close(), Some(id));
    assert_eq!(scene.hub.counters().handshake_timeouts, 0);
}
