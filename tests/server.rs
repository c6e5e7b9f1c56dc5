//! The agent over real sockets: coming and going, signals, bad clients, crowds, and descriptors that run out.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rmpv::Value;
use rustix::process::Signal;

use common::agent::{Agent, Kind};
use common::raw::{RawClient, field, map, number, request, text};
use common::{PATIENCE, wait_for};

fn serfling(arguments: &[&str]) -> Agent {
    Agent::start(Kind::Serfling, arguments)
}

fn event(name: &str, payload: Vec<u8>) -> Option<Value> {
    Some(map([
        ("Name", name.into()),
        ("Payload", Value::Binary(payload)),
        ("Coalesce", false.into()),
    ]))
}

#[test]
fn several_clients_at_once_and_a_clean_end() {
    let mut agent = serfling(&[]);
    let mut clients: Vec<_> = (0..50).map(|_| agent.client()).collect();
    for client in &mut clients {
        assert!(client.ok("members", None).is_some());
    }
    assert_eq!(clients[0].stat("rpc", "clients"), 50);
    agent.signal(Signal::INT);
    assert_eq!(
        agent.wait_exit().code(),
        Some(0),
        "SIGINT leaves gracefully"
    );
    for client in &mut clients {
        assert!(client.is_ended(), "shutdown closes clients");
    }
    assert!(
        RawClient::try_connect(agent.rpc_port).is_none(),
        "shutdown stops accepting"
    );
}

#[test]
fn sigterm_ends_at_once_as_the_reference() {
    for kind in Kind::BOTH {
        let mut agent = Agent::start(kind, &[]);
        agent.signal(Signal::TERM);
        assert_eq!(agent.wait_exit().code(), Some(1), "{kind:?}");
        let config = r#"{"leave_on_terminate": true, "skip_leave_on_interrupt": true}"#;
        let mut agent = Agent::start_with(kind, &[], Some(config), None);
        agent.signal(Signal::TERM);
        assert_eq!(agent.wait_exit().code(), Some(0), "{kind:?}");
        let mut agent = Agent::start_with(kind, &[], Some(config), None);
        agent.signal(Signal::INT);
        assert_eq!(agent.wait_exit().code(), Some(1), "{kind:?}");
    }
}

#[test]
fn sighup_reloads_and_goes_on() {
    let config = r#"{"log_level": "warn", "tags": {"a": "1"}}"#;
    let agent = Agent::start_with(Kind::Serfling, &[], Some(config), None);
    let mut client = agent.client();
    client.ok(
        "tags",
        Some(map([
            ("Tags", map([("b", "2".into())])),
            ("DeleteTags", Value::Nil),
        ])),
    );
    std::fs::write(
        agent.folder().join("config.json"),
        r#"{"log_level": "debug"}"#,
    )
    .unwrap();
    agent.signal(Signal::HUP);
    wait_for("the reload is logged", || {
        agent.log().contains("Reloaded the log level, DEBUG, tags")
    });
    let stats = client.ok("stats", None).unwrap();
    let tags = field(&stats, "tags").unwrap();
    assert_eq!(
        tags,
        &map([("b", "2".into())]),
        "a reload takes back what the file had, and leaves alone what came over RPC"
    );
    std::fs::write(agent.folder().join("config.json"), "{").unwrap();
    agent.signal(Signal::HUP);
    wait_for("the failure is logged", || {
        agent.log().contains("Failed to reload the configuration")
    });
    client.ok("members", None);
}

#[test]
fn leave_is_answered_before_the_end() {
    for kind in Kind::BOTH {
        let mut agent = Agent::start(kind, &[]);
        let mut client = agent.client();
        client.ok("leave", None);
        assert_eq!(agent.wait_exit().code(), Some(0), "{kind:?}");
    }
}

#[test]
fn port_zero_is_told_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("address");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_serfling"))
        .args(["agent", "-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0"])
        .arg(format!("-rpc-addr-file={}", path.display()))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the address file", || path.exists());
    let address = std::fs::read_to_string(&path).unwrap();
    let port: u16 = address.trim().rsplit(':').next().unwrap().parse().unwrap();
    let mut client = RawClient::connect(port);
    assert!(client.try_handshake());
    client.ok("leave", None);
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        said.contains(&format!("RPC addr: '127.0.0.1:{port}'")),
        "{said}"
    );
}

#[test]
fn unix_socket_serves_its_owner_and_goes_with_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rpc.sock");
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_serfling"))
            .args(["agent", "-bind=127.0.0.1:0"])
            .arg(format!("-rpc-addr=unix:{}", path.display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut killed = start();
    wait_for("the socket", || UnixStream::connect(&path).is_ok());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(path.exists(), "a killed agent leaves its socket behind");
    let mut second = start();
    let mut stream = None;
    wait_for("the socket again", || {
        stream = UnixStream::connect(&path).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    stream
        .write_all(&request(
            "handshake",
            0,
            Some(&map([("Version", 1.into())])),
        ))
        .unwrap();
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[..], b"\x82\xa5Error\xa0\xa3Seq\x00");
    let members = std::process::Command::new(env!("CARGO_BIN_EXE_serfling"))
        .args(["members", &format!("-rpc-addr=unix:{}", path.display())])
        .output()
        .unwrap();
    assert!(members.status.success());
    stream.write_all(&request("leave", 1, None)).unwrap();
    assert!(second.wait().unwrap().success());
    assert!(!path.exists());
}

#[test]
fn an_open_rpc_port_without_a_key_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_serfling"))
        .args(["agent", "-bind=127.0.0.1:0", "-rpc-addr=0.0.0.0:0"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    wait_for("the warning", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("which others can reach, without an auth key")
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn half_close_and_reset_are_no_errors() {
    let agent = serfling(&["-log-level=debug"]);
    let mut half = agent.client();
    half.send("members", None);
    half.send("stats", None);
    half.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..4 {
        half.read();
    }
    assert!(half.is_ended());
    // A reset in the middle of a response, and of a stream.
    let mut reset = agent.client();
    reset.ok("stream", Some(map([("Type", "*".into())])));
    reset.ok("monitor", Some(map([("LogLevel", "debug".into())])));
    for _ in 0..1000 {
        reset.send("stats", None);
    }
    rustix::net::sockopt::set_socket_linger(&reset.stream, Some(Duration::ZERO)).unwrap();
    drop(reset);
    let mut other = agent.client();
    wait_for("the reset client is gone", || {
        other.stat("rpc", "clients") == 1
    });
    assert_eq!(
        other.stat("rpc", "streams") + other.stat("rpc", "monitors"),
        0
    );
    assert!(!agent.log().contains("[ERR]"), "{}", agent.log());
}

#[test]
fn declared_lengths_cost_no_memory() {
    let agent = serfling(&[]);
    let before = agent.status_kib("VmRSS:");
    let mut hoarders = Vec::new();
    for number in 0..64u32 {
        let mut client = agent.client();
        client.send("event", None);
        // A string of 256 MiB minus something, of which a part comes.
        let mut start = b"\x81\xa7Payload\xc6".to_vec();
        start.extend((0x0fff_0000 + number).to_be_bytes());
        client.send_raw(&start);
        let _ = client.stream.write_all(&[0; 60_000]);
        hoarders.push(client);
    }
    let mut honest = agent.client();
    honest.ok("members", None);
    let grown = agent.status_kib("VmRSS:").saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB");
    for client in &mut hoarders {
        assert!(client.is_ended(), "such a client is let go");
    }
}

#[test]
fn five_thousand_clients() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let agent = serfling(&["-log-level=err"]);
    let mut watcher = agent.client();
    let before = agent.status_kib("VmRSS:");
    let mut clients: Vec<RawClient> = Vec::new();
    for _ in 0..5000 {
        clients.push(agent.client());
    }
    assert_eq!(watcher.stat("rpc", "clients"), 5001);
    let per_client = (agent.status_kib("VmRSS:") - before) * 1024 / 5000;
    assert!(per_client < 1024, "{per_client} bytes for each idle client");
    for client in clients.iter_mut().step_by(100) {
        client.ok("members", None);
    }
    drop(clients);
    wait_for("they are gone", || watcher.stat("rpc", "clients") == 1);
}

#[test]
fn no_descriptors_left() {
    let agent = Agent::start_with(Kind::Serfling, &[], None, Some(48));
    let mut served = agent.client();
    let crowd: Vec<RawClient> = (0..100)
        .map(|_| RawClient::connect(agent.rpc_port))
        .collect();
    wait_for("it is told", || {
        agent.log().contains("Failed to accept client")
    });
    let cpu = agent.cpu_ticks();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        served.ok("members", None);
        std::thread::sleep(Duration::from_millis(20));
    }
    let used = agent.cpu_ticks() - cpu;
    assert!(
        used < 50,
        "it spins: {used} hundredths of a second in 1.5 s"
    );
    assert_eq!(
        agent.log().matches("Failed to accept client").count(),
        1,
        "it is told once"
    );
    drop(crowd);
    let mut late = agent.client();
    late.ok("members", None);
}

#[test]
fn a_subscriber_that_never_reads_costs_others_nothing() {
    let agent = serfling(&["-log-level=err"]);
    let mut stalled = agent.client();
    stalled.ok("stream", Some(map([("Type", "user".into())])));
    let mut reader = agent.client();
    reader.ok("stream", Some(map([("Type", "user".into())])));
    let before = agent.status_kib("VmRSS:");
    let port = agent.rpc_port;
    let publisher = std::thread::spawn(move || {
        let mut client = RawClient::connect(port);
        assert!(client.try_handshake());
        for batch in 0..1000u32 {
            let mut bytes = Vec::new();
            for number in 0..100 {
                bytes.extend(request(
                    "event",
                    1,
                    event("e", (batch * 100 + number).to_be_bytes().repeat(40)).as_ref(),
                ));
            }
            client.send_raw(&bytes);
            for _ in 0..100 {
                assert_eq!(text(&client.read().0, "Error"), "");
            }
        }
    });
    for expected in 1..=100_000 {
        reader.read();
        let (record, _) = reader.read();
        assert_eq!(
            number(&record, "LTime"),
            expected,
            "the reader loses nothing"
        );
    }
    publisher.join().unwrap();
    let grown = agent.status_kib("VmRSS:").saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB");
    let mut watcher = agent.client();
    assert!(watcher.stat("rpc", "dropped") > 0);
    // The stalled one gets whole records when it reads at last.
    stalled.read();
    let mut last = 0;
    for _ in 0..1000 {
        let (header, _) = stalled.try_read(PATIENCE).unwrap();
        if field(&header, "LTime").is_some() {
            let time = number(&header, "LTime");
            assert!(time > last);
            last = time;
        }
    }
}

#[test]
fn a_client_that_pipelines_without_end_starves_nobody() {
    let agent = serfling(&["-log-level=err"]);
    let greedy = agent.client();
    let requests = request("members", 7, None).repeat(2000);
    let mut writer = greedy.stream.try_clone().unwrap();
    let mut reader = greedy.stream.try_clone().unwrap();
    // One thread asks for ever, another takes the answers.
    let asking = std::thread::spawn(move || while writer.write_all(&requests).is_ok() {});
    let taking = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let mut modest = agent.client();
    for _ in 0..200 {
        modest.ok("members", None);
    }
    greedy.stream.shutdown(std::net::Shutdown::Both).unwrap();
    asking.join().unwrap();
    taking.join().unwrap();
}

#[test]
fn a_client_that_asks_and_never_reads_costs_bounded_memory() {
    let agent = serfling(&["-log-level=err"]);
    let mut client = agent.client();
    let before = agent.status_kib("VmRSS:");
    let requests = request("stats", 7, None).repeat(2000);
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    while client.stream.write_all(&requests).is_ok() {}
    let grown = agent.status_kib("VmRSS:").saturating_sub(before);
    assert!(grown < 2 * 1024, "{grown} KiB");
    agent.client().ok("members", None);
}

#[test]
fn records_and_responses_never_interleave() {
    let agent = serfling(&[]);
    let mut subscriber = agent.client();
    let stream = subscriber.send("stream", Some(map([("Type", "user".into())])));
    subscriber.read();
    let port = agent.rpc_port;
    let publishers: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = RawClient::connect(port);
                assert!(client.try_handshake());
                for _ in 0..500 {
                    client.ok("event", event(&format!("p{number}"), vec![number; 100]));
                }
            })
        })
        .collect();
    let (mut records, mut answers) = (BTreeMap::new(), 0);
    while records.values().sum::<u32>() < 2000 || answers < 300 {
        if answers < 300 {
            subscriber.send("members", None);
        }
        loop {
            let (header, _) = subscriber.read();
            let (body, _) = subscriber.read();
            if number(&header, "Seq") == stream {
                *records.entry(text(&body, "Name")).or_insert(0) += 1;
                if answers >= 300 && records.values().sum::<u32>() == 2000 {
                    break;
                }
            } else {
                assert!(field(&body, "Members").is_some());
                answers += 1;
                break;
            }
        }
    }
    assert!(records.values().all(|count| *count == 500), "{records:?}");
    publishers
        .into_iter()
        .for_each(|publisher| publisher.join().unwrap());
}
