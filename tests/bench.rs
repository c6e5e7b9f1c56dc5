//! `serfling bench` against both kinds of agent: small loads, what is reported of them, and how it fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use common::agent::{Agent, Kind};
use serde_json::Value;
use serfling::bench::Workload;

fn bench(address: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_serfling"))
        .arg("bench")
        .arg(format!("-rpc-addr={address}"))
        .args(arguments)
        .env_remove("SERF_RPC_AUTH")
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn address(agent: &Agent) -> String {
    format!("127.0.0.1:{}", agent.rpc_port)
}

/// The report of a run that must succeed.
fn report(address: &str, arguments: &[&str]) -> Value {
    let output = bench(address, &[&["-format=json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a run that must fail says.
fn failure(address: &str, arguments: &[&str]) -> String {
    let output = bench(address, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn count(report: &Value, key: &str) -> u64 {
    report[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {report}"))
}

#[test]
fn every_workload_runs_against_both_agents() {
    for kind in Kind::BOTH {
        let agent = Agent::start(kind, &["-tag=role=web"]);
        for workload in Workload::ALL {
            let mut arguments = vec![
                "-clients=4",
                "-depth=3",
                "-requests=200",
                "-duration=10s",
                "-idle=5",
                "-idle-streams=2",
            ];
            match workload {
                // The reference drops events to subscribers when many are on their way.
                Workload::FanOut => arguments.extend(["-subscribers=3", "-rate=200"]),
                Workload::MembersFiltered => arguments.extend(["-tag=role=w.*", "-name=n."]),
                Workload::Idle => arguments.extend(["-duration=50ms"]),
                _ => {}
            }
            arguments.push(workload.name());
            let report = report(&address(&agent), &arguments);
            assert_eq!(report["workload"], workload.name());
            // Answers to queries go over UDP, and the reference loses some.
            let may_lose = kind == Kind::Reference && *workload == Workload::Query;
            let lost = count(&report, "lost");
            assert!(lost == 0 || may_lose, "{kind:?}: {report}");
            assert_eq!(count(&report, "disordered"), 0, "{kind:?}: {report}");
            if *workload == Workload::Idle {
                assert_eq!(count(&report, "sent"), 0);
                continue;
            }
            assert_eq!(count(&report, "sent"), 200, "{kind:?}: {report}");
            let answered = count(&report, "answered");
            assert_eq!(answered + lost, 200, "{kind:?}: {report}");
            let deliveries = if *workload == Workload::FanOut {
                600
            } else {
                0
            };
            assert_eq!(
                count(&report, "delivered"),
                deliveries,
                "{kind:?}: {report}"
            );
            let times = &report["response"];
            assert_eq!(
                count(times, "count"),
                answered.max(deliveries),
                "{kind:?}: {report}"
            );
            let at = |key: &str| times[key].as_f64().expect("a time");
            assert!(at("min") > 0.0 && at("min") <= at("p50") && at("p50") <= at("max"));
        }
    }
}

/// Counts what a client of our own gets, beside the subscribers of the run.
#[test]
fn losses_are_counted() {
    let agent = Agent::start(Kind::Reference, &[]);
    let arguments = [
        "-clients=16",
        "-depth=16",
        "-subscribers=50",
        "-requests=20000",
        "-duration=60s",
        "fan-out",
    ];
    let report = report(&address(&agent), &arguments);
    let (delivered, lost) = (count(&report, "delivered"), count(&report, "lost"));
    assert_eq!(count(&report, "answered"), 20_000);
    assert_eq!(delivered + lost, 20_000 * 50, "{report}");
    assert!(
        lost > 0,
        "the reference loses events under such a load: {report}"
    );
    assert_eq!(count(&report["response"], "count"), delivered);
    // And ours loses none.
    let agent = Agent::start(Kind::Serfling, &["-log-level=err"]);
    let report = self::report(&address(&agent), &arguments);
    assert_eq!(
        (count(&report, "delivered"), count(&report, "lost")),
        (20_000 * 50, 0)
    );
}

#[test]
fn response_times_count_from_when_a_request_was_due() {
    let agent = Agent::start(Kind::Serfling, &[]);
    // One client has one request in flight: requests that are due before their forerunner is answered wait.
    let arguments = ["-clients=1", "-rate=1000000", "-requests=2000", "members"];
    let report = report(&address(&agent), &arguments);
    let max = |key: &str| report[key]["max"].as_f64().expect("a time");
    assert!(max("response") > max("service"), "{report}");
    assert!(report["response"]["p50"].as_f64() > report["service"]["p50"].as_f64());
}

#[test]
fn unix_sockets_and_keys_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = format!("unix:{}/rpc", folder.path().display());
    let config = r#"{"rpc_auth": "secret"}"#;
    let agent = Agent::start_with(Kind::Serfling, &[], Some(config), None);
    let key = ["-requests=50", "-rpc-auth=secret", "stats"];
    assert_eq!(count(&report(&address(&agent), &key), "answered"), 50);
    let wrong = failure(&address(&agent), &["-rpc-auth=other", "stats"]);
    assert_eq!(
        wrong,
        "Error: the agent refused a request: Invalid authentication token\n"
    );
    let none = failure(&address(&agent), &["stats"]);
    assert_eq!(
        none,
        "Error: the agent refused a request: Authentication required\n"
    );

    let mut server = serfling::reactor::Server::new(
        serfling::rpc::Config::default(),
        serfling::cluster::Standalone::new(
            std::time::Instant::now(),
            serfling::cluster::StandaloneConfig::new("n1"),
        ),
        std::sync::Arc::default(),
    )
    .expect("a server");
    server
        .listen(&path.parse().expect("an address"))
        .expect("it listens");
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || server.run());
    for workload in ["members", "connect"] {
        let report = report(&path, &["-clients=300", "-requests=1000", workload]);
        assert_eq!(count(&report, "answered"), 1000);
    }
    stopper.stop();
    serving.join().expect("no panic").expect("it stops");
}

#[test]
fn it_fails_with_a_reason() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let text = failure(&nobody, &["members"]);
    assert!(
        text.starts_with(&format!("Error: can't connect to the agent at {nobody}: ")),
        "{text}"
    );
    for (arguments, start) in [
        (&["nonsense"][..], "unknown workload \"nonsense\""),
        (&["-clients=0"], "at least one client is needed"),
        (&["-clients=x"], "invalid value \"x\" for flag -clients"),
        (&["-depth=70000"], "1 to 65536 requests in flight"),
        (
            &["-idle-streams=1"],
            "more idle streams than idle connections",
        ),
        (&["-duration=5"], "invalid value for flag -duration"),
        (&["-format=xml"], "Encoding error"),
    ] {
        let text = failure(&nobody, arguments);
        assert!(text.starts_with(start), "{arguments:?}: {text}");
    }
    let agent = Agent::start(Kind::Serfling, &[]);
    let text = failure(&address(&agent), &["-payload=2000", "event"]);
    assert!(
        text.starts_with("Error: the agent refused a request: user event exceeds"),
        "{text}"
    );
    let text = failure(&address(&agent), &["-name=(", "members-filtered"]);
    assert!(
        text.starts_with("Error: the agent refused a request: Failed to compile regex"),
        "{text}"
    );
}

/// Answers whoever connects with these bytes.
fn impostor(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The run may be over before it is told.
            let _ = stream.write_all(says);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

#[test]
fn answers_are_checked() {
    for (says, start) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "Error: the agent sent something else than RPC: "),
        // A Seq of no request.
        (b"\x82\xa5Error\xa0\xa3Seq\x01", "Error: the agent sent something else than RPC: an answer with Seq 1"),
        (b"\x82\xa5Error\xa2no\xa3Seq\xce\x00\x01\x00\x00", "Error: the agent refused a request: no"),
        (b"", "Error: the agent ended a connection (while greeting)"),
        // The answer to the handshake, then one to nothing.
        (
            b"\x82\xa5Error\xa0\xa3Seq\xce\x00\x01\x00\x00\x82\xa5Error\xa0\xa3Seq\xce\x00\x01\x00\x07",
            "Error: the agent sent something else than RPC: an answer with Seq 65543",
        ),
    ] {
        let text = failure(&impostor(says), &["-clients=1", "members"]);
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn the_report_reads_well() {
    let agent = Agent::start(Kind::Serfling, &[]);
    let output = bench(
        &address(&agent),
        &["-requests=100", "-rate=2000", "members"],
    );
    let text = String::from_utf8(output.stdout).expect("text");
    for line in [
        "workload      members",
        "clients       16 with 1 in flight",
        "answered      100, ",
        "lost          0",
    ] {
        assert!(text.contains(line), "{line:?} in:\n{text}");
    }
    assert!(
        text.contains("microseconds  from when due  from when sent\nmean"),
        "{text}"
    );
}
