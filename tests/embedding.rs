//! The library in a host program: a server driven by turns, in front of a cluster that the host changes; the blocking
//! client against it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serfling::client::{Client, ClientError, Options, QueryReply, StreamEvent};
use serfling::cluster::{
    Event, Member, MemberEventKind, QueryRequest, Standalone, StandaloneConfig,
};
use serfling::log_ring::{Level, LogRing};
use serfling::reactor::{Server, ServerEvent, Stopper};
use serfling::rpc::{Config, Resources};

fn server(config: Config) -> (Server<Standalone>, String) {
    let cluster = Standalone::new(Instant::now(), StandaloneConfig::new("host"));
    let mut server = Server::new(config, cluster, Arc::new(LogRing::new())).unwrap();
    let address = server.listen(&"127.0.0.1:0".parse().unwrap()).unwrap();
    (server, address.to_string())
}

/// A server on a thread of its own, for tests that look from outside.
fn serve(config: Config) -> (String, Stopper, JoinHandle<Resources>) {
    let (mut server, address) = server(config);
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || {
        server.run().unwrap();
        server.hub().resources()
    });
    (address, stopper, thread)
}

fn connect(address: &str) -> Client {
    Client::connect(&Options::new(address.parse().unwrap())).unwrap()
}

#[test]
fn a_host_drives_the_server_turn_by_turn() {
    let (mut server, address) = server(Config::default());
    server.tell_events();
    let client = std::thread::spawn(move || {
        let mut client = connect(&address);
        let stream = client.stream("member-join,user").unwrap();
        client.user_event("ready", b"", false).unwrap();
        let events: Vec<StreamEvent> = client
            .records(&stream)
            .take(2)
            .map(Result::unwrap)
            .collect();
        assert_eq!(client.members().unwrap().len(), 2);
        events
    });
    assert!(server.as_raw_fd() >= 0);
    let mut told = Vec::new();
    while !client.is_finished() {
        server.turn(Some(Duration::from_millis(20))).unwrap();
        while let Some(event) = server.poll_event() {
            if matches!(&event, ServerEvent::Event(Event::User(event)) if event.name == "ready") {
                let member = Member::alive("other", [10, 0, 0, 1].into(), 7946);
                server.with_cluster(|cluster, now| cluster.put_member(now, member.clone()));
            }
            told.push(event);
        }
    }
    let events = client.join().unwrap();
    assert!(matches!(&events[0], StreamEvent::User(event) if event.name == "ready"));
    assert!(
        matches!(&events[1], StreamEvent::Member(event) if event.kind == MemberEventKind::Join)
    );
    assert!(told.len() >= 2);
}

#[test]
fn shutdown_twice_is_harmless_and_frees_everything() {
    let (address, stopper, thread) = serve(Config::default());
    let mut client = connect(&address);
    client.stream("").unwrap();
    client.monitor("debug").unwrap();
    stopper.stop();
    stopper.stop();
    assert_eq!(thread.join().unwrap(), Resources::default());
    stopper.stop();
    assert!(matches!(client.members(), Err(ClientError::Closed)));
    assert!(matches!(
        Client::connect(&Options::new(address.parse().unwrap())),
        Err(ClientError::Connect { .. })
    ));
}

#[test]
fn the_client_carries_subscriptions_and_requests_on_one_connection() {
    let (address, stopper, thread) = serve(Config::default());
    let mut asker = connect(&address);
    let mut answerer = connect(&address);
    let queries = answerer.stream("query:load").unwrap();
    let events = asker.stream("user").unwrap();
    let request = QueryRequest {
        name: "load".into(),
        request_ack: true,
        timeout: Some(Duration::from_millis(400)),
        ..QueryRequest::default()
    };
    let replies = asker.query(&request).unwrap();
    for number in 0..10 {
        asker.user_event("e", &[number], false).unwrap();
    }
    let Some(StreamEvent::Query { id, name, .. }) = answerer.next(&queries, None).unwrap() else {
        panic!()
    };
    assert_eq!((id, name.as_str()), (1, "load"));
    answerer.respond(id, b"0.5").unwrap();
    let replies: Vec<_> = asker.records(&replies).map(Result::unwrap).collect();
    let from = "host".to_owned();
    let payload = b"0.5".to_vec();
    assert_eq!(
        replies,
        [
            QueryReply::Ack { from: from.clone() },
            QueryReply::Response { from, payload },
            QueryReply::Done
        ]
    );
    let kept: Vec<_> = std::iter::from_fn(|| asker.take(&events).unwrap()).collect();
    assert_eq!(kept.len(), 10, "what came in between is kept");
    assert_eq!(
        asker
            .next(&events, Some(Duration::from_millis(10)))
            .unwrap(),
        None
    );
    asker.stop(events).unwrap();
    assert!(
        matches!(answerer.respond(99, b""), Err(ClientError::Agent(text)) if text == "No pending queries matching ID")
    );
    stopper.stop();
    thread.join().unwrap();
}

#[test]
fn every_call_of_the_client() {
    let (address, stopper, thread) = serve(Config::default());
    let mut client = connect(&address);
    assert!(matches!(client.handshake(1), Err(ClientError::Agent(_))));
    client.auth("").unwrap();
    client
        .update_tags(&[("role", "web"), ("x", "1")], &["y"])
        .unwrap();
    let found = client
        .members_filtered(&[("role", "we.")], "alive", "h.*")
        .unwrap();
    assert_eq!(found[0].tags.get("x"), Some("1"));
    assert!(
        matches!(client.members_filtered(&[], "(", ""), Err(ClientError::Agent(text)) if text.contains("regex"))
    );
    client.force_leave("nobody", true).unwrap();
    assert_eq!(client.join::<&str>(&[], false).unwrap().count, 0);
    assert!(matches!(
        client.join(&["127.0.0.1:1"], false),
        Err(ClientError::Agent(_))
    ));
    for result in [
        client.install_key("AAAA"),
        client.use_key("AAAA"),
        client.remove_key("AAAA"),
        client.list_keys(),
    ] {
        let (report, error) = result.unwrap();
        assert_eq!(
            (report.errors, error.as_deref()),
            (1, Some("1/1 nodes reported failure"))
        );
    }
    assert_eq!(client.stats().unwrap()["agent"]["name"], "host");
    assert!(
        client.coordinate("host").unwrap().is_some() && client.coordinate("zz").unwrap().is_none()
    );
    let log = client.monitor("info").unwrap();
    assert_eq!(
        client.next(&log, Some(Duration::from_millis(10))).unwrap(),
        None
    );
    client.leave().unwrap();
    thread.join().unwrap();
    drop(stopper);
}

#[test]
fn a_monitor_shows_the_lines_the_host_logs() {
    let ring = Arc::new(LogRing::new());
    let cluster = Standalone::new(Instant::now(), StandaloneConfig::new("host"));
    let mut server = Server::new(Config::default(), cluster, Arc::clone(&ring)).unwrap();
    let address = server
        .listen(&"127.0.0.1:0".parse().unwrap())
        .unwrap()
        .to_string();
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run().unwrap());
    ring.push(Level::Info, None, "before");
    let mut client = connect(&address);
    let log = client.monitor("info").unwrap();
    assert_eq!(client.next(&log, None).unwrap().as_deref(), Some("before"));
    ring.push(Level::Info, None, "after");
    // The loop shows it in its next turn, which any client brings about.
    connect(&address);
    assert_eq!(client.next(&log, None).unwrap().as_deref(), Some("after"));
    stopper.stop();
    thread.join().unwrap();
}

#[test]
fn unix_sockets_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix://{}", folder.path().join("s").display());
    let cluster = Standalone::new(Instant::now(), StandaloneConfig::new("host"));
    let config = Config {
        auth_key: Some("secret".into()),
        ..Config::default()
    };
    let mut server = Server::new(config, cluster, Arc::new(LogRing::new())).unwrap();
    server.listen(&address.parse().unwrap()).unwrap();
    assert!(
        server.listen(&address.parse().unwrap()).is_err(),
        "a live socket is not taken over"
    );
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run().unwrap());
    assert!(matches!(
        connect(&address).members(),
        Err(ClientError::Agent(text)) if text == "Authentication required"
    ));
    assert!(Client::connect(&Options::new(address.parse().unwrap()).auth_key("wrong")).is_err());
    let mut client =
        Client::connect(&Options::new(address.parse().unwrap()).auth_key("secret")).unwrap();
    assert_eq!(client.members().unwrap().len(), 1);
    stopper.stop();
    thread.join().unwrap();
}
