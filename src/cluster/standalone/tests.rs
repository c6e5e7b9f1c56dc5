//! A cluster of one, with a made-up clock.

use super::*;
use crate::cluster::KeyOperation;
use crate::gossip::keyring::Key;

fn cluster(now: Instant) -> Standalone {
    let mut cluster = Standalone::new(now, StandaloneConfig::new("n1"));
    assert!(matches!(
        cluster.poll_output(),
        Some(Output::Event(Event::Member(_)))
    ));
    cluster
}

fn outputs(cluster: &mut Standalone) -> Vec<Output> {
    std::iter::from_fn(|| cluster.poll_output()).collect()
}

fn run(cluster: &mut Standalone, now: Instant, operation: Operation) -> Outcome {
    let ticket = cluster.start(now, operation);
    let ended = outputs(cluster)
        .into_iter()
        .find_map(|output| match output {
            Output::Completed {
                ticket: of,
                outcome,
            } if of == ticket => Some(outcome),
            _ => None,
        });
    ended.expect("the operation has ended")
}

#[test]
fn events_come_back_with_growing_times() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    cluster.user_event(now, "a", b"x", false).unwrap();
    cluster.user_event(now, "b", b"", true).unwrap();
    let times: Vec<_> = outputs(&mut cluster)
        .into_iter()
        .map(|output| match output {
            Output::Event(Event::User(event)) => (event.ltime, event.name),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [(1, "a".to_owned()), (2, "b".to_owned())]);
}

#[test]
fn events_are_measured_before_and_after_encoding() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let mut send = |length: usize| cluster.user_event(now, "n", &vec![0; length], false);
    assert_eq!(send(512), Err(ClusterError::EventTooLarge { limit: 512 }));
    assert_eq!(
        send(511),
        Err(ClusterError::EncodedEventTooLarge { limit: 512 })
    );
    // Type, map, CC, LTime, Name and Payload take 31 bytes around the payload.
    assert_eq!(
        send(482),
        Err(ClusterError::EncodedEventTooLarge { limit: 512 })
    );
    assert_eq!(send(481), Ok(()));
}

#[test]
fn a_query_is_acknowledged_answered_once_and_done_at_its_deadline() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let timeout = Duration::from_millis(500);
    let request = QueryRequest {
        name: "q".into(),
        request_ack: true,
        timeout: Some(timeout),
        ..QueryRequest::default()
    };
    let id = cluster.query(now, request).unwrap();
    let asked = outputs(&mut cluster);
    assert!(
        matches!(&asked[0], Output::Event(Event::Query(event)) if event.id == id && event.name == "q")
    );
    let from = "n1".to_owned();
    assert_eq!(asked[1], Output::QueryAck { query: id, from });
    assert_eq!(
        cluster.respond(now, id, &[0; 1024]),
        Err(ClusterError::ResponseTooLarge { limit: 1024 }),
        "a refused answer is none"
    );
    cluster.respond(now, id, b"yes").unwrap();
    assert_eq!(
        cluster.respond(now, id, b"yes"),
        Err(ClusterError::AlreadyResponded)
    );
    assert_eq!(
        outputs(&mut cluster),
        [Output::QueryResponse {
            query: id,
            from: "n1".into(),
            payload: b"yes".to_vec()
        }]
    );
    let early = now + timeout - Duration::from_millis(1);
    cluster.handle_timeout(early);
    assert_eq!(outputs(&mut cluster), []);
    let end = cluster.poll_timeout().unwrap();
    cluster.handle_timeout(end.max(now + timeout + Duration::from_millis(1)));
    assert_eq!(outputs(&mut cluster), [Output::QueryDone { query: id }]);
    assert_eq!(
        cluster.respond(end, id, b"late"),
        Err(ClusterError::UnknownQuery)
    );
    assert_eq!(cluster.poll_timeout(), None);
}

#[test]
fn filters_decide_whether_a_query_is_for_this_node() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    run(
        &mut cluster,
        now,
        Operation::SetTags([("role", "webserver")].into_iter().collect()),
    );
    let mut matches = |nodes: &[&str], tags: &[(&str, &str)]| {
        let request = QueryRequest {
            name: "q".into(),
            filter_nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            filter_tags: tags
                .iter()
                .map(|&(tag, regex)| (tag.to_owned(), regex.to_owned()))
                .collect(),
            ..QueryRequest::default()
        };
        cluster.query(now, request).unwrap();
        !outputs(&mut cluster).is_empty()
    };
    assert!(matches(&[], &[]));
    assert!(matches(&["n1", "n2"], &[("role", "web")]));
    assert!(!matches(&["n2"], &[]));
    assert!(!matches(&[], &[("role", "^db")]));
    assert!(!matches(&[], &[("role", "(")]));
}

#[test]
fn internal_queries_are_reserved_but_for_the_ping() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let ask = |name: &str, payload: Option<&[u8]>| QueryRequest {
        name: name.into(),
        payload: payload.map(<[u8]>::to_vec),
        request_ack: true,
        ..QueryRequest::default()
    };
    assert_eq!(
        cluster.query(now, ask("_serf_x", None)),
        Err(ClusterError::ReservedQueryName)
    );
    assert_eq!(
        cluster.query(now, ask("_serf_ping", Some(b""))),
        Err(ClusterError::ReservedQueryName)
    );
    assert_eq!(
        cluster.query(now, ask("q", Some(&[0; 1024]))),
        Err(ClusterError::QueryTooLarge { limit: 1024 })
    );
    cluster.query(now, ask("_serf_ping", None)).unwrap();
    assert!(matches!(
        &outputs(&mut cluster)[..],
        [Output::QueryAck { .. }]
    ));
}

#[test]
fn default_query_timeout_grows_with_the_members() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    assert_eq!(cluster.default_query_timeout(), Duration::from_millis(3200));
    for number in 0..9 {
        cluster.put_member(
            now,
            Member::alive(format!("m{number}"), IpAddr::from([127, 0, 0, 1]), 1),
        );
    }
    assert_eq!(cluster.member_count(), 10);
    assert_eq!(cluster.default_query_timeout(), Duration::from_millis(6400));
}

#[test]
fn tags_are_limited_and_told() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let version = cluster.members_version();
    let large: Tags = [("k", "v".repeat(600))].into_iter().collect();
    let refused = Outcome::Done(Err(ClusterError::TagsTooLarge { limit: 512 }));
    assert_eq!(run(&mut cluster, now, Operation::SetTags(large)), refused);
    assert_eq!(cluster.members_version(), version);
    cluster.start(now, Operation::SetTags([("a", "1")].into_iter().collect()));
    assert!(matches!(
        &outputs(&mut cluster)[..],
        [
            Output::Event(Event::Member(MemberEvent {
                kind: MemberEventKind::Update,
                ..
            })),
            Output::Completed { .. }
        ]
    ));
    assert!(cluster.members_version() > version);
    assert_eq!(cluster.local().tags.get("a"), Some("1"));
}

#[test]
fn failed_members_can_be_forced_out_and_live_ones_cannot() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let mut member = Member::alive("m", IpAddr::from([127, 0, 0, 1]), 1);
    cluster.put_member(now, member.clone());
    let force = |prune| Operation::ForceLeave {
        node: "m".into(),
        prune,
    };
    let status = |cluster: &Standalone| cluster.others.get("m").map(|member| member.status);
    run(&mut cluster, now, force(false));
    assert_eq!(status(&cluster), Some(MemberStatus::Alive));
    member.status = MemberStatus::Failed;
    cluster.put_member(now, member);
    run(&mut cluster, now, force(false));
    assert_eq!(status(&cluster), Some(MemberStatus::Left));
    run(&mut cluster, now, force(true));
    assert_eq!(status(&cluster), None);
    run(
        &mut cluster,
        now,
        Operation::ForceLeave {
            node: "nobody".into(),
            prune: false,
        },
    );
}

#[test]
fn keys_without_and_with_encryption() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let key = |byte: u8| Key::new(&[byte; 16]).unwrap();
    let key_outcome =
        |cluster: &mut Standalone, operation| match run(cluster, now, Operation::Key(operation)) {
            Outcome::Keys { report, error } => {
                let message = report.messages.first().map(|(_, text)| text.clone());
                (message, error.map(|error| error.to_string()), report.keys)
            }
            other => panic!("{other:?}"),
        };
    let failed = Some("1/1 nodes reported failure".to_owned());
    let (message, error, keys) = key_outcome(&mut cluster, KeyOperation::List);
    assert_eq!(
        message.as_deref(),
        Some("Keyring is empty (encryption not enabled)")
    );
    assert_eq!((error, keys), (failed.clone(), Some(vec![])));
    let (message, ..) = key_outcome(&mut cluster, KeyOperation::Install(key(2).to_base64()));
    assert_eq!(
        message.as_deref(),
        Some("No keyring to modify (encryption not enabled)")
    );
    let (message, error, _) = key_outcome(&mut cluster, KeyOperation::Use("xx!".into()));
    assert_eq!(
        (message, error.as_deref()),
        (None, Some("illegal base64 data at input byte 2"))
    );

    cluster.keyring = Some(Keyring::new(key(1)));
    assert_eq!(
        key_outcome(&mut cluster, KeyOperation::Install(key(2).to_base64())),
        (None, None, None)
    );
    let (message, error, _) = key_outcome(&mut cluster, KeyOperation::Use(key(9).to_base64()));
    assert_eq!(
        message.as_deref(),
        Some("Requested key is not in the keyring")
    );
    assert_eq!(error, failed);
    assert_eq!(
        key_outcome(&mut cluster, KeyOperation::Use(key(2).to_base64())),
        (None, None, None)
    );
    let (message, ..) = key_outcome(&mut cluster, KeyOperation::Remove(key(2).to_base64()));
    assert_eq!(
        message.as_deref(),
        Some("Removing the primary key is not allowed")
    );
    assert_eq!(
        key_outcome(&mut cluster, KeyOperation::Remove(key(1).to_base64())),
        (None, None, None)
    );
    let (_, _, keys) = key_outcome(&mut cluster, KeyOperation::List);
    assert_eq!(keys, Some(vec![(key(2).to_base64(), 1)]));
}

#[test]
fn nobody_can_be_joined() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    let mut join = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        let replay = false;
        run(&mut cluster, now, Operation::Join { addresses, replay })
    };
    let Outcome::Joined { count: 0, failures } = join(&["127.0.0.1:1", "other"]) else {
        panic!("nobody joined");
    };
    let failures = failures.unwrap().0;
    assert_eq!(failures.len(), 2);
    assert!(failures[1].starts_with("Failed to join other: "));
    let (count, failures) = (0, None);
    assert_eq!(join(&[]), Outcome::Joined { count, failures });
}

#[test]
fn leaving_is_told_and_may_be_repeated() {
    let now = Instant::now();
    let mut cluster = cluster(now);
    cluster.start(now, Operation::Leave);
    assert!(matches!(
        &outputs(&mut cluster)[..],
        [
            Output::Event(Event::Member(MemberEvent {
                kind: MemberEventKind::Leave,
                ..
            })),
            Output::Completed {
                outcome: Outcome::Done(Ok(())),
                ..
            }
        ]
    ));
    assert_eq!(
        run(&mut cluster, now, Operation::Leave),
        Outcome::Done(Ok(()))
    );
}
