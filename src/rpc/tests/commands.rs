//! Each command, happy and refused.

use super::*;
use crate::cluster::{Member, MemberStatus, NetworkCommand, NetworkEvent, StreamId};
use crate::gossip::keyring::{Key, Keyring};
use crate::rpc::HubEvent;
use crate::serf::{Serf, SerfConfig};

fn put(scene: &mut Scene, name: &str, status: MemberStatus, tags: &[(&str, &str)]) {
    let member = Member::alive(name, [10, 0, 0, 1].into(), 7946)
        .with_status(status)
        .with_tags(tags.iter().copied().collect());
    let now = scene.now;
    scene
        .hub
        .with_cluster(now, |cluster| cluster.put_member(now, member));
}

fn names(body: &Value) -> Vec<String> {
    field(body, "Members")
        .as_array()
        .unwrap()
        .iter()
        .map(|member| text(member, "Name"))
        .collect()
}

fn filtered(
    scene: &mut Scene,
    id: SessionId,
    name: &str,
    status: &str,
    tags: &[(&str, &str)],
) -> Vec<String> {
    let tags = Value::Map(
        tags.iter()
            .map(|(tag, regex)| ((*tag).into(), (*regex).into()))
            .collect(),
    );
    let body = map([
        ("Name", name.into()),
        ("Status", status.into()),
        ("Tags", tags),
    ]);
    let (header, body) = scene.exchange(id, "members-filtered", 9, Some(body));
    assert_eq!(text(&header, "Error"), "");
    names(&body.unwrap())
}

#[test]
fn members_all_fields_mapped_byte_for_byte() {
    let mut scene = Scene::new();
    let id = scene.client();
    scene.send(id, &request("members", 2, None));
    assert_eq!(
        scene.receive(id),
        b"\x82\xa5Error\xa0\xa3Seq\x02\x81\xa7Members\x91\x8b\xa4Addr\xc4\x04\x7f\x00\x00\x01\xabDelegateCur\x05\
          \xabDelegateMax\x05\xabDelegateMin\x02\xa4Name\xa2n1\xa4Port\xcd\x1f\x0a\xabProtocolCur\x02\
          \xabProtocolMax\x05\xabProtocolMin\x01\xa6Status\xa5alive\xa4Tags\x80"
    );
}

#[test]
fn members_many_and_changing() {
    let mut scene = Scene::new();
    let id = scene.client();
    for number in 0..10_000 {
        put(
            &mut scene,
            &format!("m{number:05}"),
            MemberStatus::Alive,
            &[("n", "x")],
        );
    }
    let (_, body) = scene.exchange(id, "members", 1, None);
    assert_eq!(names(&body.unwrap()).len(), 10_001);
    let now = scene.now;
    scene
        .hub
        .with_cluster(now, |cluster| assert!(cluster.remove_member(now, "m00007")));
    let (_, body) = scene.exchange(id, "members", 2, None);
    let names = names(&body.unwrap());
    assert_eq!(names.len(), 10_000);
    assert!(!names.contains(&"m00007".to_owned()));
}

#[test]
fn members_filtered_by_name_status_and_tags() {
    let mut scene = Scene::new();
    let id = scene.client();
    put(
        &mut scene,
        "web1",
        MemberStatus::Alive,
        &[("role", "web"), ("dc", "east")],
    );
    put(
        &mut scene,
        "web2",
        MemberStatus::Failed,
        &[("role", "webserver"), ("dc", "east")],
    );
    put(&mut scene, "api1", MemberStatus::Left, &[("role", "api")]);
    assert_eq!(
        filtered(&mut scene, id, "", "", &[]),
        ["n1", "api1", "web1", "web2"]
    );
    assert_eq!(filtered(&mut scene, id, "web.", "", &[]), ["web1", "web2"]);
    assert_eq!(
        filtered(&mut scene, id, "", "failed|left", &[]),
        ["api1", "web2"]
    );
    assert_eq!(
        filtered(&mut scene, id, "", "", &[("role", "web|api")]),
        ["api1", "web1"]
    );
    assert_eq!(
        filtered(&mut scene, id, "", "", &[("role", "web.*"), ("dc", "east")]),
        ["web1", "web2"]
    );
    assert_eq!(
        filtered(&mut scene, id, "nobody", "", &[]),
        Vec::<String>::new()
    );
    // The same again comes from the cache, and sees changes.
    put(&mut scene, "web3", MemberStatus::Alive, &[]);
    assert_eq!(
        filtered(&mut scene, id, "web.", "", &[]),
        ["web1", "web2", "web3"]
    );
}

#[test]
fn members_filtered_invalid_regex_fails_with_a_message_and_an_empty_body() {
    let mut scene = Scene::new();
    let id = scene.client();
    for bad in [
        map([("Name", "[".into())]),
        map([("Tags", map([("a", "(".into())]))]),
        map([("Status", "*".into())]),
    ] {
        let (header, body) = scene.exchange(id, "members-filtered", 3, Some(bad));
        assert!(
            text(&header, "Error").starts_with("Failed to compile regex: "),
            "{header:?}"
        );
        assert_eq!(names(&body.unwrap()), Vec::<String>::new());
    }
    assert!(!scene.is_ending(id));
}

#[test]
fn event_limits_and_texts() {
    let mut scene = Scene::new();
    let id = scene.client();
    let event = |length: usize| {
        Some(map([
            ("Name", "n".into()),
            ("Payload", Value::Binary(vec![7; length])),
            ("Coalesce", false.into()),
        ]))
    };
    assert_eq!(scene.ask(id, "event", 1, event(0)), "");
    assert_eq!(scene.ask(id, "event", 2, event(400)), "");
    assert_eq!(
        scene.ask(id, "event", 3, event(512)),
        "user event exceeds configured limit of 512 bytes before encoding"
    );
    assert_eq!(
        scene.ask(id, "event", 4, event(500)),
        "encoded user event exceeds configured limit of 512 bytes after encoding"
    );
}

#[test]
fn join_holds_back_later_requests_of_that_client_alone() {
    let now = Instant::now();
    let here = "127.0.0.1:7946".parse().unwrap();
    let serf = Serf::new(now, SerfConfig::new("n1", here, [0; 32])).unwrap();
    let mut scene = Scene::before(now, Config::default(), serf);
    let (joiner, other) = (scene.client(), scene.client());
    let existing = Value::Array(vec!["127.0.0.1:1".into()]);
    scene.send(
        joiner,
        &request(
            "join",
            1,
            Some(map([("Existing", existing), ("Replay", false.into())])),
        ),
    );
    scene.send(joiner, &request("members", 2, None));
    assert!(scene.receive(joiner).is_empty());
    assert!(scene.exchange(other, "members", 1, None).1.is_some());
    assert_eq!(
        scene.hub.poll_network(),
        Some(NetworkCommand::Connect {
            stream: StreamId::opened(0),
            to: "127.0.0.1:1".parse().unwrap()
        })
    );
    let event = NetworkEvent::Ended {
        stream: StreamId::opened(0),
        error: Some("connection refused".into()),
    };
    scene
        .hub
        .with_cluster(now, |cluster| cluster.handle_network(now, event));
    while scene.hub.has_ready() {
        scene.hub.handle_ready(now);
    }
    let values = scene.values(joiner);
    assert_eq!(
        text(&values[0], "Error"),
        "1 error occurred:\n\t* Failed to join 127.0.0.1: dial tcp 127.0.0.1:1: connect: connection refused\n\n"
    );
    assert_eq!(values[1], map([("Num", 0.into())]));
    assert_eq!(number(&values[2], "Seq"), 2);
    assert_eq!(values.len(), 4);
}

#[test]
fn join_of_nobody_succeeds() {
    let mut scene = Scene::new();
    let id = scene.client();
    let body = map([("Existing", Value::Nil), ("Replay", true.into())]);
    let (header, body) = scene.exchange(id, "join", 1, Some(body));
    assert_eq!(
        (text(&header, "Error"), body),
        (String::new(), Some(map([("Num", 0.into())])))
    );
}

#[test]
fn force_leave_and_prune() {
    let mut scene = Scene::new();
    let id = scene.client();
    put(&mut scene, "gone", MemberStatus::Failed, &[]);
    let body = |prune: bool| Some(map([("Node", "gone".into()), ("Prune", prune.into())]));
    assert_eq!(scene.ask(id, "force-leave", 1, body(false)), "");
    assert_eq!(filtered(&mut scene, id, "gone", "left", &[]), ["gone"]);
    assert_eq!(scene.ask(id, "force-leave", 2, body(true)), "");
    assert_eq!(
        filtered(&mut scene, id, "gone", "", &[]),
        Vec::<String>::new()
    );
    assert_eq!(scene.ask(id, "force-leave", 3, body(true)), "");
}

#[test]
fn tags_set_wins_over_delete() {
    let mut scene = Scene::new();
    let id = scene.client();
    let change = |set: &[(&str, &str)], delete: &[&str]| {
        let set = Value::Map(
            set.iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
        );
        Some(map([
            ("Tags", set),
            (
                "DeleteTags",
                Value::Array(delete.iter().map(|key| (*key).into()).collect()),
            ),
        ]))
    };
    assert_eq!(
        scene.ask(id, "tags", 1, change(&[("a", "1"), ("b", "2")], &["b"])),
        ""
    );
    assert_eq!(
        scene.ask(id, "tags", 2, change(&[("c", "3")], &["a", "nothing"])),
        ""
    );
    let (_, body) = scene.exchange(id, "members", 3, None);
    let body = body.unwrap();
    let tags = field(&field(&body, "Members").as_array().unwrap()[0], "Tags").clone();
    assert_eq!(tags, map([("b", "2".into()), ("c", "3".into())]));
    let large = "x".repeat(600);
    assert_eq!(
        scene.ask(id, "tags", 4, change(&[("k", &large)], &[])),
        "Encoded length of tags exceeds limit of 512 bytes"
    );
}

#[test]
fn keys_with_encryption_off_and_on() {
    let key = |byte: u8| Key::new(&[byte; 16]).unwrap();
    let ask = |scene: &mut Scene, id, command: &str, key: Option<&str>| {
        let (header, body) =
            scene.exchange(id, command, 1, key.map(|key| map([("Key", key.into())])));
        (text(&header, "Error"), body.unwrap())
    };
    let mut scene = Scene::new();
    let id = scene.client();
    let (error, body) = ask(&mut scene, id, "list-keys", None);
    assert_eq!(error, "1/1 nodes reported failure");
    assert_eq!(field(&body, "Keys"), &Value::Map(vec![]));
    assert_eq!(
        text(field(&body, "Messages"), "n1"),
        "Keyring is empty (encryption not enabled)"
    );
    for command in ["install-key", "use-key", "remove-key"] {
        let (error, body) = ask(&mut scene, id, command, Some(&key(1).to_base64()));
        assert_eq!(error, "1/1 nodes reported failure");
        assert_eq!(field(&body, "Keys"), &Value::Nil);
        assert_eq!(
            text(field(&body, "Messages"), "n1"),
            "No keyring to modify (encryption not enabled)"
        );
        assert_eq!(number(&body, "NumErr"), 1);
        let (error, body) = ask(&mut scene, id, command, Some("xx!"));
        assert_eq!(error, "illegal base64 data at input byte 2");
        assert_eq!(
            (number(&body, "NumNodes"), number(&body, "NumResp")),
            (0, 0)
        );
    }

    let cluster = StandaloneConfig {
        keyring: Some(Keyring::new(key(1))),
        ..StandaloneConfig::new("n1")
    };
    let mut scene = Scene::with(Config::default(), cluster);
    let id = scene.client();
    let two = key(2).to_base64();
    assert_eq!(ask(&mut scene, id, "install-key", Some(&two)).0, "");
    assert_eq!(ask(&mut scene, id, "use-key", Some(&two)).0, "");
    assert_eq!(
        ask(&mut scene, id, "use-key", Some(&key(3).to_base64())).0,
        "1/1 nodes reported failure"
    );
    assert_eq!(
        ask(&mut scene, id, "remove-key", Some(&two)).0,
        "1/1 nodes reported failure"
    );
    assert_eq!(
        ask(&mut scene, id, "remove-key", Some(&key(1).to_base64())).0,
        ""
    );
    let (error, body) = ask(&mut scene, id, "list-keys", None);
    assert_eq!(
        (error.as_str(), field(&body, "Keys")),
        ("", &map([(&*two, 1.into())]))
    );
}

#[test]
fn stats_asked_for_at_once_are_of_one_moment() {
    let mut scene = Scene::new();
    let id = scene.client();
    let event = map([("Name", "e".into())]);
    let mut requests = request("stats", 1, None).repeat(2);
    requests.extend(request("event", 2, Some(event)));
    requests.extend(request("stats", 3, None));
    scene.send(id, &requests);
    let answers = scene.values(id);
    let requests = |at: usize| text(field(&answers[at], "rpc"), "requests");
    let events = |at: usize| text(field(&answers[at], "rpc"), "events");
    assert_eq!([events(1), events(3), events(6)], ["1", "1", "2"]);
    assert_eq!(requests(1), requests(3));
    // The next time it is another moment.
    let (_, body) = scene.exchange(id, "stats", 4, None);
    assert_eq!(text(field(&body.unwrap(), "rpc"), "requests"), "6");
}

#[test]
fn stats_have_the_reference_s_sections_and_our_own() {
    let mut scene = Scene::new();
    let id = scene.client();
    let (_, body) = scene.exchange(id, "stats", 1, None);
    let body = body.unwrap();
    let sections: Vec<_> = body
        .as_map()
        .unwrap()
        .iter()
        .map(|(key, _)| key.as_str().unwrap())
        .collect();
    assert_eq!(
        sections,
        [
            "agent",
            "event_handlers",
            "gossip",
            "handlers",
            "rpc",
            "rpc_clients",
            "runtime",
            "serf",
            "tags"
        ]
    );
    assert_eq!(text(field(&body, "agent"), "name"), "n1");
    assert_eq!(text(field(&body, "serf"), "members"), "1");
    assert_eq!(text(field(&body, "rpc"), "clients"), "1");
    // Old clients take all values for text.
    for (_, section) in body.as_map().unwrap() {
        assert!(
            section
                .as_map()
                .unwrap()
                .iter()
                .all(|(key, value)| key.is_str() && value.is_str())
        );
    }
}

#[test]
fn get_coordinate_known_and_unknown_node() {
    let mut scene = Scene::new();
    let id = scene.client();
    let (_, body) = scene.exchange(id, "get-coordinate", 1, Some(map([("Node", "n1".into())])));
    let body = body.unwrap();
    assert_eq!(field(&body, "Ok"), &true.into());
    assert_eq!(
        field(field(&body, "Coord"), "Vec"),
        &Value::Array(vec![0.0.into(); 8])
    );
    assert_eq!(field(field(&body, "Coord"), "Height"), &1e-5.into());
    let (header, body) =
        scene.exchange(id, "get-coordinate", 2, Some(map([("Node", "zz".into())])));
    let body = body.unwrap();
    assert_eq!(
        (text(&header, "Error").as_str(), field(&body, "Ok")),
        ("", &false.into())
    );
    assert_eq!(field(field(&body, "Coord"), "Vec"), &Value::Nil);
}

#[test]
fn leave_is_answered_and_then_told() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "leave", 1, None), "");
    assert_eq!(scene.hub.poll_event(), Some(HubEvent::Left));
    assert_eq!(scene.hub.poll_event(), None);
}

#[test]
fn a_leave_whose_client_has_gone_is_told_all_the_same() {
    let mut scene = Scene::new();
    let now = scene.now;
    scene.hub.leave(now);
    assert_eq!(scene.hub.poll_event(), Some(HubEvent::Left));
}
