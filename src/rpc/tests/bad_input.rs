//! What is no request ends its sender's conversation and nobody else's.

use proptest::prelude::*;

use super::*;

#[test]
fn undecodable_bytes_close_that_client_only() {
    for bytes in [
        &b"\xc1"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x05",
        b"\x81\xa3Seq\xff",
        b"\x82\xa7Command\x05\xa3Seq\x01",
        b"\x82\xa7Command\xa4\xff\xff\xff\xff\xa3Seq\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        &[0x91; 100_000],
    ] {
        let mut scene = Scene::new();
        let (bad, good) = (scene.client(), scene.client());
        scene.send(bad, bytes);
        scene.receive(bad);
        assert!(scene.is_ending(bad), "{bytes:x?}");
        assert!(scene.exchange(good, "members", 1, None).1.is_some());
    }
}

#[test]
fn a_wrong_body_closes_that_client_only() {
    for (command, body) in [
        ("event", map([("Name", 5.into())])),
        ("event", map([("Payload", map([]))])),
        ("join", map([("Existing", "x".into())])),
        ("stop", map([("Stop", "x".into())])),
        ("query", map([("RelayFactor", 256.into())])),
        ("handshake", "no map".into()),
    ] {
        let mut scene = Scene::new();
        let (bad, good) = (scene.client(), scene.client());
        scene.send(bad, &request(command, 1, Some(body.clone())));
        assert!(scene.receive(bad).is_empty());
        assert!(scene.is_ending(bad), "{command} {body:?}");
        assert!(scene.exchange(good, "members", 1, None).1.is_some());
    }
}

#[test]
fn oversized_requests_are_refused_before_they_come() {
    let config = Config {
        request_bytes_max: 100_000,
        ..Config::default()
    };
    let mut scene = Scene::with(config, StandaloneConfig::new("n1"));
    let id = scene.client();
    scene.send(id, &request("event", 1, None));
    scene.send(id, b"\x81\xa4Name\xdb\x00\x01\x86\xa0");
    assert!(scene.is_ending(id));
    // A stranger may say less than a friend.
    let stranger = scene.connect();
    scene.send(stranger, b"\x82\xa7Command\xda\x40\x00");
    assert!(scene.is_ending(stranger));
}

#[test]
fn what_a_held_client_sends_ahead_is_bounded() {
    let mut scene = Scene::new();
    let id = scene.client();
    let existing = Value::Array(vec!["127.0.0.1:1".into()]);
    scene.send(id, &request("join", 1, Some(map([("Existing", existing)]))));
    let members = request("members", 2, None);
    let mut sent = 0;
    while scene.hub.wants_read(id) {
        scene.send(id, &members);
        sent += members.len();
        assert!(sent < 1_000_000);
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut scene = Scene::new();
    let id = scene.client();
    let members = request("members", 2, None);
    let mut sent = 0;
    while scene.hub.wants_read(id) {
        scene.hub.handle_bytes(scene.now, id, &members);
        sent += 1;
        assert!(sent < 100_000);
    }
    assert!(scene.hub.pending(id).len() < 1_000_000);
    // Once it reads, every request is answered.
    let mut answers = 0;
    loop {
        let values = scene.values(id);
        if values.is_empty() {
            break;
        }
        answers += values.len();
    }
    assert_eq!(answers, 2 * sent);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut scene = Scene::new();
        let (bad, good) = (scene.client(), scene.client());
        for chunk in chunks {
            scene.send(bad, &chunk);
        }
        scene.wait(Duration::from_secs(1));
        prop_assert!(scene.exchange(good, "members", 1, None).1.is_some());
    }

    #[test]
    fn damaged_requests_are_survived(
        which in 0..18usize,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut scene = Scene::new();
        let (bad, good) = (scene.client(), scene.client());
        let (command, body) = every_request().swap_remove(which);
        let mut bytes = request(command, 1, body);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        scene.send(bad, &bytes);
        scene.wait(Duration::from_secs(20));
        prop_assert!(scene.exchange(good, "members", 1, None).1.is_some());
    }
}
