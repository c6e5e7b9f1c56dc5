//! Slow subscribers: what is bounded, what is dropped, and who waits.

use super::*;
use crate::rpc::Overflow;

fn scene(outbox_bytes_max: usize, overflow: Overflow) -> Scene {
    let config = Config {
        outbox_bytes_max,
        overflow,
        ..Config::default()
    };
    Scene::with(config, StandaloneConfig::new("n1"))
}

fn subscriber(scene: &mut Scene) -> SessionId {
    let id = scene.client();
    assert_eq!(
        scene.ask(id, "stream", 1, Some(map([("Type", "user".into())]))),
        ""
    );
    id
}

fn event(seq: u64) -> Vec<u8> {
    let body = map([
        ("Name", "e".into()),
        ("Payload", Value::Binary(vec![0; 400])),
        ("Coalesce", false.into()),
    ]);
    request("event", seq, Some(body))
}

#[test]
fn a_subscriber_that_never_reads_costs_others_nothing_for_long() {
    let mut scene = scene(1024 * 1024, Overflow::Drop);
    let (stalled, reader, publisher) = (
        subscriber(&mut scene),
        subscriber(&mut scene),
        scene.client(),
    );
    let mut received = 0;
    let mut waited = Duration::ZERO;
    for seq in 0..10_000 {
        scene.send(publisher, &event(seq));
        received += scene.values(reader).len() / 2;
        while scene.values(publisher).is_empty() {
            // The publisher waits until the stalled one is given up.
            scene.wait(Duration::from_millis(50));
            waited += Duration::from_millis(50);
            received += scene.values(reader).len() / 2;
        }
    }
    received += scene.values(reader).len() / 2;
    assert_eq!(received, 10_000, "the other has lost nothing");
    assert!(waited <= Duration::from_secs(1), "{waited:?}");
    assert!(scene.hub.pending(stalled).len() <= 1024 * 1024);
    let counters = scene.hub.counters();
    let kept = scene.values(stalled).len() as u64 / 2;
    assert_eq!(
        kept + counters.dropped,
        10_000,
        "what is dropped is counted"
    );
}

#[test]
fn a_subscriber_that_keeps_reading_loses_nothing() {
    let mut scene = scene(1024 * 1024, Overflow::Drop);
    let (slow, publisher) = (subscriber(&mut scene), scene.client());
    let burst: Vec<u8> = (0..20_000).flat_map(event).collect();
    let mut sent = &burst[..];
    let (mut received, mut answered) = (Vec::new(), 0);
    let mut rounds = 0;
    while answered < 20_000 {
        rounds += 1;
        assert!(rounds < 100_000);
        if scene.hub.wants_read(publisher) && !sent.is_empty() {
            let (chunk, rest) = sent.split_at(sent.len().min(16 * 1024));
            scene.send(publisher, chunk);
            sent = rest;
        }
        answered += scene.values(publisher).len();
        // The slow one takes a little at a time.
        let pending = scene.hub.pending(slow);
        let take = pending.len().min(8 * 1024);
        received.extend_from_slice(&pending[..take]);
        scene.hub.handle_sent(slow, take);
        scene.wait(Duration::from_millis(1));
    }
    received.extend(scene.receive(slow));
    let mut rest = &received[..];
    let mut times = Vec::new();
    while !rest.is_empty() {
        rmpv::decode::read_value(&mut rest).unwrap();
        times.push(number(
            &rmpv::decode::read_value(&mut rest).unwrap(),
            "LTime",
        ));
    }
    assert_eq!(times, (1..=20_000).collect::<Vec<u64>>());
    assert_eq!(scene.hub.counters().dropped, 0);
}

#[test]
fn a_burst_to_many_subscribers_takes_several_turns() {
    const SUBSCRIBERS: usize = 100;
    const EVENTS: u64 = 500;
    let mut scene = scene(1024 * 1024, Overflow::Drop);
    let subscribers: Vec<SessionId> = (0..SUBSCRIBERS).map(|_| subscriber(&mut scene)).collect();
    let [one, two, other] = [0; 3].map(|_| scene.client());
    let burst: Vec<u8> = (0..EVENTS / 2).flat_map(event).collect();
    let mut received = 0;
    let mut turns = 0;
    for publisher in [one, two] {
        scene.hub.handle_bytes(scene.now, publisher, &burst);
    }
    loop {
        let queued: usize = subscribers
            .iter()
            .map(|id| scene.hub.pending(*id).len())
            .sum();
        // What was read and what was ready have a turn's worth each, and an event is not divided.
        assert!(queued < 9 * 1024 * 1024, "{queued}");
        for id in &subscribers {
            let bytes = scene.hub.pending(*id).len();
            received += bytes;
            scene.hub.handle_sent(*id, bytes);
        }
        if !scene.hub.has_ready() {
            break;
        }
        turns += 1;
        // Others are answered in between.
        scene
            .hub
            .handle_bytes(scene.now, other, &request("members", turns, None));
        scene.hub.handle_ready(scene.now);
        assert!(!scene.hub.pending(other).is_empty());
        let bytes = scene.hub.pending(other).len();
        scene.hub.handle_sent(other, bytes);
    }
    assert!(turns >= 3, "{turns}");
    let counters = scene.hub.counters();
    assert_eq!(counters.records, EVENTS * SUBSCRIBERS as u64);
    assert_eq!(counters.dropped, 0);
    assert!(received > 400 * EVENTS as usize * SUBSCRIBERS);
    for publisher in [one, two] {
        assert_eq!(scene.values(publisher).len() as u64, EVENTS / 2);
    }
}

#[test]
fn responses_are_never_dropped() {
    let mut scene = scene(1, Overflow::Drop);
    let (id, publisher) = (subscriber(&mut scene), scene.client());
    scene.send(publisher, &event(1));
    assert_eq!(scene.hub.counters().dropped, 1);
    assert!(scene.exchange(id, "members", 2, None).1.is_some());
}

#[test]
fn a_full_subscriber_may_be_disconnected_instead() {
    let mut scene = scene(1000, Overflow::Disconnect);
    let (full, publisher) = (subscriber(&mut scene), scene.client());
    for seq in 0..10 {
        scene.send(publisher, &event(seq));
    }
    assert_eq!(scene.hub.poll_close(), Some(full));
    assert_eq!(scene.hub.poll_close(), None);
}

#[test]
fn drops_are_shown_in_stats_by_client() {
    let mut scene = scene(1000, Overflow::Drop);
    let (full, publisher) = (subscriber(&mut scene), scene.client());
    for seq in 0..10 {
        scene.send(publisher, &event(seq));
        scene.receive(publisher);
    }
    let (_, body) = scene.exchange(publisher, "stats", 1, None);
    let body = body.unwrap();
    assert_eq!(text(field(&body, "rpc"), "dropped"), "8");
    assert_eq!(text(field(&body, "rpc"), "dropped_events"), "8");
    assert_eq!(text(field(&body, "rpc"), "dropped_lines"), "0");
    let clients = field(&body, "rpc_clients").as_map().unwrap();
    let shown = clients[0].1.as_str().unwrap();
    assert!(
        shown.contains("dropped=8 streams=1") && !shown.contains("queue_bytes=0"),
        "{shown}"
    );
    assert!(scene.hub.pending(full).len() <= 1000);
}
