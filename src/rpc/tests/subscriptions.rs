//! Streams, monitors, queries and answers to them.

use super::*;
use crate::log_ring::Level;

fn stream(filter: &str) -> Option<Value> {
    Some(map([("Type", filter.into())]))
}

fn publish(scene: &mut Scene, id: SessionId, name: &str) {
    let body = map([
        ("Name", name.into()),
        ("Payload", Value::Nil),
        ("Coalesce", false.into()),
    ]);
    scene.send(id, &request("event", 1000, Some(body)));
}

/// The records that wait for a client, by Seq, responses left out.
fn records(scene: &mut Scene, id: SessionId) -> Vec<(u64, Value)> {
    let mut values = scene.values(id).into_iter().peekable();
    let mut records = Vec::new();
    while let Some(header) = values.next() {
        assert_eq!(text(&header, "Error"), "");
        let is_header = |value: &Value| {
            value
                .as_map()
                .is_some_and(|map| map[0].0.as_str() == Some("Error"))
        };
        if let Some(body) = values.next_if(|next| !is_header(next)) {
            records.push((number(&header, "Seq"), body));
        }
    }
    records
}

fn query(name: &str, ack: bool, millis: u64) -> Option<Value> {
    let timeout = Value::from(millis * 1_000_000);
    Some(map([
        ("Name", name.into()),
        ("RequestAck", ack.into()),
        ("Timeout", timeout),
    ]))
}

#[test]
fn events_are_delivered_to_streams_whose_filter_matches() {
    let mut scene = Scene::new();
    let (publisher, a, b) = (scene.client(), scene.client(), scene.client());
    assert_eq!(scene.ask(a, "stream", 1, stream("user:x,member-join")), "");
    assert_eq!(scene.ask(a, "stream", 2, stream("*")), "");
    assert_eq!(scene.ask(b, "stream", 3, stream("user:y,query")), "");
    publish(&mut scene, publisher, "x");
    publish(&mut scene, publisher, "z");
    let names: Vec<_> = records(&mut scene, a)
        .iter()
        .map(|(seq, body)| (*seq, text(body, "Name")))
        .collect();
    // There is no deduplication between streams of a client.
    assert_eq!(names, [(1, "x".into()), (2, "x".into()), (2, "z".into())]);
    assert!(records(&mut scene, b).is_empty());
}

#[test]
fn stream_filters_are_validated_and_seqs_are_unique() {
    let mut scene = Scene::new();
    let id = scene.client();
    for bad in ["bogus", "user,", " user", "member-joined"] {
        assert_eq!(
            scene.ask(id, "stream", 1, stream(bad)),
            "Invalid event filter"
        );
    }
    assert_eq!(scene.ask(id, "stream", 1, stream("user")), "");
    assert_eq!(
        scene.ask(id, "stream", 1, stream("user")),
        "Stream with given sequence exists"
    );
    assert_eq!(
        scene.ask(id, "stream", 1, stream("bogus")),
        "Invalid event filter"
    );
    assert_eq!(scene.hub.resources().streams, 1);
}

#[test]
fn nothing_follows_the_reply_to_stop() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "stream", 1, stream("user")), "");
    assert_eq!(
        scene.ask(id, "monitor", 2, Some(map([("LogLevel", "debug".into())]))),
        ""
    );
    publish(&mut scene, id, "x");
    for stop in [1u64, 2, 2, 77] {
        scene.send(id, &request("stop", 3, Some(map([("Stop", stop.into())]))));
    }
    publish(&mut scene, id, "y");
    scene.log.push(Level::Err, None, "a line");
    scene.wait(Duration::from_secs(1));
    let values = scene.values(id);
    let last = values
        .iter()
        .rposition(|value| value == &map([("Error", "".into()), ("Seq", 3.into())]))
        .unwrap();
    assert_eq!(
        values.len(),
        last + 2,
        "only the reply to the event follows: {values:?}"
    );
    assert_eq!(
        scene.hub.resources().streams + scene.hub.resources().monitors,
        0
    );
}

#[test]
fn monitor_replays_and_follows_from_its_level_on() {
    let mut scene = Scene::new();
    let id = scene.client();
    scene.log.push(Level::Debug, None, "d1");
    scene.log.push(Level::Warn, None, "w1");
    assert_eq!(
        scene.ask(id, "monitor", 1, Some(map([("LogLevel", "bogus".into())]))),
        "Unknown log level: BOGUS"
    );
    scene.send(
        id,
        &request("monitor", 2, Some(map([("LogLevel", "warn".into())]))),
    );
    scene.log.push(Level::Info, None, "i2");
    scene.log.push(Level::Err, None, "e2");
    scene.wait(Duration::ZERO);
    let lines: Vec<_> = records(&mut scene, id)
        .iter()
        .map(|(seq, body)| (*seq, text(body, "Log")))
        .collect();
    assert_eq!(lines, [(2, "w1".into()), (2, "e2".into())]);
    assert_eq!(
        scene.ask(id, "monitor", 3, Some(map([("LogLevel", "warn".into())]))),
        "Monitor already exists"
    );
    assert_eq!(
        scene.ask(id, "stop", 4, Some(map([("Stop", 2.into())]))),
        ""
    );
    scene.send(
        id,
        &request("monitor", 5, Some(map([("LogLevel", "err".into())]))),
    );
    assert_eq!(records(&mut scene, id).len(), 1);
}

#[test]
fn monitor_gets_the_last_lines_the_ring_has() {
    let mut scene = Scene::new();
    let id = scene.client();
    for number in 0..600 {
        scene.log.push(Level::Info, None, &number.to_string());
    }
    scene.send(
        id,
        &request("monitor", 2, Some(map([("LogLevel", "trace".into())]))),
    );
    let lines = records(&mut scene, id);
    assert_eq!(
        (lines.len(), text(&lines[0].1, "Log").as_str()),
        (512, "88")
    );
}

#[test]
fn a_line_about_a_client_is_not_shown_to_that_client() {
    let mut scene = Scene::new();
    let (a, b) = (scene.client(), scene.client());
    for id in [a, b] {
        assert_eq!(
            scene.ask(id, "monitor", 1, Some(map([("LogLevel", "info".into())]))),
            ""
        );
    }
    scene.log.push(Level::Warn, Some(a.number()), "about a");
    scene.wait(Duration::ZERO);
    assert!(records(&mut scene, a).is_empty());
    assert_eq!(records(&mut scene, b).len(), 1);
}

#[test]
fn query_ack_response_done() {
    let mut scene = Scene::new();
    let (asker, answerer) = (scene.client(), scene.client());
    assert_eq!(scene.ask(answerer, "stream", 1, stream("query:q")), "");
    scene.send(asker, &request("query", 2, query("q", true, 500)));
    let asked = records(&mut scene, answerer);
    assert_eq!(
        (number(&asked[0].1, "ID"), number(&asked[0].1, "LTime")),
        (1, 1)
    );
    let answer = |payload: &[u8]| {
        Some(map([
            ("ID", 1.into()),
            ("Payload", Value::Binary(payload.to_vec())),
        ]))
    };
    assert_eq!(
        scene.ask(answerer, "respond", 3, answer(&[0; 1100])),
        "failed to respond to key query: response exceeds limit of 1024 bytes"
    );
    assert_eq!(scene.ask(answerer, "respond", 3, answer(b"yes")), "");
    assert_eq!(
        scene.ask(answerer, "respond", 4, answer(b"yes")),
        "failed to respond to key query: response already sent"
    );
    scene.wait(Duration::from_millis(501));
    let kinds: Vec<_> = records(&mut scene, asker)
        .iter()
        .map(|(seq, body)| (*seq, text(body, "Type")))
        .collect();
    assert_eq!(
        kinds,
        [
            (2, "ack".into()),
            (2, "response".into()),
            (2, "done".into())
        ]
    );
    scene.wait(Duration::from_secs(60));
    assert!(records(&mut scene, asker).is_empty(), "done comes once");
}

#[test]
fn query_refusals() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(
        scene.ask(id, "query", 1, query("_serf_x", false, 1)),
        "Queries cannot contain the '_serf_' prefix"
    );
    let large = map([
        ("Name", "q".into()),
        ("Payload", Value::Binary(vec![0; 1100])),
    ]);
    assert_eq!(
        scene.ask(id, "query", 2, Some(large)),
        "query exceeds limit of 1024 bytes"
    );
    assert_eq!(scene.hub.resources().asked_queries, 0);
}

#[test]
fn respond_to_an_unknown_id() {
    let mut scene = Scene::new();
    let id = scene.client();
    let body = map([("ID", 5.into()), ("Payload", Value::Nil)]);
    assert_eq!(
        scene.ask(id, "respond", 1, Some(body)),
        "No pending queries matching ID"
    );
}

#[test]
fn query_registration_is_gone_at_the_deadline() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "stream", 1, stream("query")), "");
    scene.send(id, &request("query", 2, query("q", false, 100)));
    assert_eq!(scene.hub.resources().pending_queries, 1);
    scene.wait(Duration::from_millis(99));
    assert_eq!(scene.hub.resources().pending_queries, 1);
    scene.wait(Duration::from_millis(2));
    assert_eq!(scene.hub.resources().pending_queries, 0);
    records(&mut scene, id);
    let body = map([("ID", 1.into()), ("Payload", Value::Nil)]);
    assert_eq!(
        scene.ask(id, "respond", 3, Some(body)),
        "No pending queries matching ID"
    );
}

#[test]
fn query_already_expired_gets_an_id_and_is_not_registered() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "stream", 1, stream("query")), "");
    let body = map([("Name", "q".into()), ("Timeout", Value::from(-5))]);
    scene.send(id, &request("query", 2, Some(body)));
    let got = records(&mut scene, id);
    assert_eq!(number(&got[0].1, "ID"), 1);
    assert_eq!(scene.hub.resources().pending_queries, 0);
    scene.wait(Duration::from_millis(1));
    assert_eq!(text(&records(&mut scene, id)[0].1, "Type"), "done");
}

#[test]
fn query_ids_count_per_client_and_stream() {
    let mut scene = Scene::new();
    let (a, b) = (scene.client(), scene.client());
    assert_eq!(scene.ask(a, "stream", 1, stream("query")), "");
    assert_eq!(scene.ask(a, "stream", 2, stream("*")), "");
    scene.send(b, &request("query", 3, query("first", false, 100)));
    scene.send(b, &request("stream", 4, stream("query:second")));
    scene.send(b, &request("query", 5, query("second", false, 100)));
    let ids = |records: Vec<(u64, Value)>| {
        let ids = records
            .iter()
            .filter(|(_, body)| body.as_map().unwrap().len() == 5);
        ids.map(|(seq, body)| (*seq, number(body, "ID")))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(records(&mut scene, a)),
        [(1, 1), (2, 2), (1, 3), (2, 4)]
    );
    assert_eq!(ids(records(&mut scene, b)), [(4, 1)]);
}

#[test]
fn a_hundred_thousand_pending_queries_are_cheap_to_hold_and_gone_in_time() {
    let mut scene = Scene::new();
    let id = scene.client();
    assert_eq!(scene.ask(id, "stream", 1, stream("query")), "");
    for number in 0..100_000u64 {
        scene.send(
            id,
            &request("query", 2 + number, query("q", false, 1000 + number % 1000)),
        );
        scene.receive(id);
    }
    assert_eq!(scene.hub.resources().pending_queries, 100_000);
    scene.wait(Duration::from_secs(3));
    assert_eq!(scene.hub.resources().pending_queries, 0);
    assert_eq!(scene.hub.resources().asked_queries, 0);
    assert_eq!(scene.hub.resources().timers, 0);
}
