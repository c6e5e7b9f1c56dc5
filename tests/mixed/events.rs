//! What is said in the cluster: user events, queries, coordinates.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serfling::client::{QueryReply, StreamEvent, Subscription};
use serfling::cluster::QueryRequest;

use crate::cluster::{Node, wait_for_agreement, wait_until};
use crate::common::agent::Kind;
use crate::common::replies::replies;

use Kind::{Reference, Serfling};

const PATIENCE: Duration = Duration::from_secs(30);

fn five(arguments: &[&str]) -> Vec<Node> {
    let first = Node::start(Serfling, "n0", arguments);
    let mut nodes = vec![first];
    for (number, kind) in [(1, Reference), (2, Serfling), (3, Reference), (4, Serfling)] {
        let node = Node::joining(kind, &format!("n{number}"), &nodes[0], arguments);
        nodes.push(node);
    }
    wait_for_agreement(&mut nodes, 5);
    nodes
}

/// Reads user events until none is missing: how often each came, by name and payload.
fn user_events(
    node: &mut Node,
    stream: &Subscription<StreamEvent>,
    expected: usize,
) -> BTreeMap<(String, Vec<u8>), usize> {
    let mut heard = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while heard.len() < expected && Instant::now() < deadline {
        let record = node.client.next(stream, Some(Duration::from_secs(1)));
        if let Some(StreamEvent::User(event)) = record.unwrap() {
            *heard.entry((event.name, event.payload)).or_default() += 1;
        }
    }
    heard
}

#[test]
fn bursts_of_events_reach_every_node_once() {
    let mut nodes = five(&[]);
    let streams: Vec<_> = nodes
        .iter_mut()
        .map(|node| node.client.stream("user").unwrap())
        .collect();
    let mut expected = BTreeMap::new();
    for number in 0..200u8 {
        for which in [0, 1] {
            let payload = vec![number, 0, 255, which as u8];
            let name = format!("burst-{which}-{number}");
            let node: &mut Node = &mut nodes[which];
            node.client.user_event(&name, &payload, false).unwrap();
            expected.insert((name, payload), 1);
        }
    }
    for (node, stream) in nodes.iter_mut().zip(&streams) {
        let heard = user_events(node, stream, expected.len());
        assert_eq!(heard.len(), expected.len(), "{}", node.name);
        assert_eq!(heard, expected, "{}", node.name);
    }
}

#[test]
fn queries_are_answered_across_kinds() {
    // In the local profile a message is repeated twice only, and may miss a node.
    let mut nodes = five(&["-tag", "role=web", "-profile=lan"]);
    let streams: Vec<_> = nodes
        .iter_mut()
        .map(|node| node.client.stream("query").unwrap())
        .collect();
    for (asker, relay_factor) in [(0, 0), (1, 0), (0, 2), (1, 2)] {
        let request = QueryRequest {
            name: format!("load-{asker}-{relay_factor}"),
            payload: Some(vec![7, 0, 255]),
            request_ack: true,
            relay_factor,
            timeout: Some(Duration::from_secs(3)),
            filter_tags: vec![("role".into(), "^we.$".into())],
            ..QueryRequest::default()
        };
        let answers = nodes[asker].client.query(&request).unwrap();
        for (node, stream) in nodes.iter_mut().zip(&streams) {
            let record = node.client.next(stream, Some(PATIENCE)).unwrap();
            let Some(StreamEvent::Query {
                id, name, payload, ..
            }) = record
            else {
                panic!("{} was not asked: {record:?}", node.name);
            };
            assert_eq!((&name, &*payload), (&request.name, &[7, 0, 255][..]));
            let answer = format!("{} says\0hello", node.name);
            node.client.respond(id, answer.as_bytes()).unwrap();
        }
        let (mut acks, mut said) = (Vec::new(), BTreeMap::new());
        let node = &mut nodes[asker];
        for reply in replies(node.agent.kind, &mut node.client, &answers) {
            match reply {
                QueryReply::Ack { from } => acks.push(from),
                QueryReply::Response { from, payload } => {
                    assert_eq!(said.insert(from, payload), None, "answers are told once");
                }
                QueryReply::Done => {}
            }
        }
        acks.sort();
        assert_eq!(acks, ["n0", "n1", "n2", "n3", "n4"]);
        let expected = (0..5).map(|n| (format!("n{n}"), format!("n{n} says\0hello").into_bytes()));
        assert_eq!(said, expected.collect());
    }
}

#[test]
fn a_query_can_be_done_before_its_time_when_everybody_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("early.json");
    std::fs::write(&path, r#"{"query_early_done": true}"#).unwrap();
    let handler = "-event-handler=query:load=echo 1";
    // Each message is repeated more often than in the local profile, where one may miss a node.
    let arguments = [handler, "-profile=lan"];
    let config = format!("-config-file={}", path.display());
    let asker = Node::start(Serfling, "n0", &[&config, handler, "-profile=lan"]);
    let others = [(Reference, "n1"), (Serfling, "n2")];
    let others = others.map(|(kind, name)| Node::joining(kind, name, &asker, &arguments));
    let mut nodes: Vec<Node> = [asker].into_iter().chain(others).collect();
    wait_for_agreement(&mut nodes, 3);
    let request = QueryRequest {
        name: "load".into(),
        request_ack: true,
        // Longer than anybody waits here.
        timeout: Some(Duration::from_secs(600)),
        ..QueryRequest::default()
    };
    let client = &mut nodes[0].client;
    let answers = client.query(&request).unwrap();
    let mut replies = Vec::new();
    while replies.last() != Some(&QueryReply::Done) {
        let reply = client.next(&answers, Some(PATIENCE)).unwrap();
        replies.push(reply.expect("the query is done early"));
    }
    assert_eq!(replies.len(), 3 + 3 + 1, "{replies:?}");
}

#[test]
fn filters_choose_who_is_asked() {
    let mut nodes = vec![Node::start(Serfling, "ours", &["-tag", "dc=east"])];
    let other = Node::joining(Reference, "other", &nodes[0], &["-tag", "dc=west"]);
    nodes.push(other);
    wait_for_agreement(&mut nodes, 2);
    for node in &mut nodes {
        for (filter_nodes, filter_tags, expected) in [
            (vec!["ours".to_owned()], vec![], vec!["ours"]),
            (vec!["other".to_owned()], vec![], vec!["other"]),
            (
                vec![],
                vec![("dc".to_owned(), "^w".to_owned())],
                vec!["other"],
            ),
            (
                vec![],
                vec![("dc".to_owned(), "st$".to_owned())],
                vec!["other", "ours"],
            ),
            (vec![], vec![("nope".to_owned(), "x".to_owned())], vec![]),
        ] {
            let request = QueryRequest {
                name: "who".into(),
                payload: Some(Vec::new()),
                request_ack: true,
                filter_nodes,
                filter_tags,
                timeout: Some(Duration::from_secs(1)),
                ..QueryRequest::default()
            };
            let answers = node.client.query(&request).unwrap();
            let replies = replies(node.agent.kind, &mut node.client, &answers);
            let acks = replies.into_iter().filter_map(|reply| match reply {
                QueryReply::Ack { from } => Some(from),
                QueryReply::Response { .. } | QueryReply::Done => None,
            });
            let mut acks: Vec<String> = acks.collect();
            acks.sort();
            assert_eq!(acks, expected, "{request:?} from {}", node.name);
        }
    }
}

#[test]
fn coordinates_are_known_from_both_sides_and_everybody_is_reached() {
    let mut nodes = vec![Node::start(Reference, "reference", &[])];
    let ours = Node::joining(Serfling, "ours", &nodes[0], &[]);
    nodes.push(ours);
    wait_for_agreement(&mut nodes, 2);
    wait_until("coordinates are known", &mut nodes, |nodes| {
        nodes.iter_mut().all(|node| {
            ["ours", "reference"].iter().all(|name| {
                let coordinate = node.client.coordinate(name).unwrap();
                coordinate.is_some_and(|there| {
                    there.vec.iter().any(|place| *place != 0.0)
                        && there.vec.iter().all(|place| place.is_finite())
                        && there.height.is_finite()
                        && there.error < 1.5
                })
            })
        })
    });
    for node in &nodes {
        let rpc = format!("-rpc-addr=127.0.0.1:{}", node.agent.rpc_port);
        for program in Kind::BOTH {
            for (arguments, expected) in [
                (vec!["rtt", &rpc, "ours", "reference"], " rtt: "),
                (
                    vec!["reachability", &rpc],
                    "Successfully contacted all live nodes",
                ),
            ] {
                let output = Command::new(program.program())
                    .args(&arguments)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains(expected), "{program:?} {arguments:?}: {said}");
                assert!(output.status.success());
            }
        }
    }
}

#[test]
fn events_from_before_a_join_are_heard_only_where_they_are_wanted() {
    for (first, second) in [(Reference, Serfling), (Serfling, Reference)] {
        let mut old = Node::start(first, "old", &[]);
        for number in 0..5u8 {
            old.client.user_event("before", &[number], false).unwrap();
        }
        let replaying = Node::joining(second, "replaying", &old, &["-replay"]);
        wait_until("old events are heard", &mut [replaying], |nodes| {
            nodes[0].agent.log().matches("user-event: before").count() == 5
        });
        let mut nodes = vec![old];
        let fresh = Node::joining(second, "fresh", &nodes[0], &[]);
        nodes.push(fresh);
        nodes[0].client.user_event("after", &[], false).unwrap();
        wait_until("new events are heard", &mut nodes, |nodes| {
            nodes[1].agent.log().contains("user-event: after")
        });
        assert!(!nodes[1].agent.log().contains("user-event: before"));
    }
}

#[test]
fn a_stream_shows_members_of_both_kinds() {
    let mut ours = Node::start(Serfling, "ours", &[]);
    let stream = ours.client.stream("member-join").unwrap();
    let other = Node::joining(Reference, "other", &ours, &[]);
    loop {
        let record = ours.client.next(&stream, Some(PATIENCE)).unwrap();
        let Some(StreamEvent::Member(event)) = record else {
            panic!("no event: {record:?}");
        };
        if event
            .members
            .iter()
            .any(|member| *member.name == *other.name)
        {
            break;
        }
    }
}
