//! The agent as an operator meets it: checks of its configuration, interfaces, its log.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use common::agent::{Agent, Kind, free_port};
use common::wait_for;
use serfling::client::{Client, Options};

/// Runs `agent` with these arguments until it ends by itself: its status, and all it said.
fn agent(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(Kind::Serfling.program())
        .arg("agent")
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn connect(agent: &Agent) -> Client {
    let address = format!("127.0.0.1:{}", agent.rpc_port).parse().unwrap();
    Client::connect(&Options::new(address)).unwrap()
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let keys = write("keys", r#"["AAAAAAAAAAAAAAAAAAAAAA=="]"#);
    let bad_keys = write("bad_keys", r#"["AAAA"]"#);
    let tags = write("tags", r#"{"role": "web"}"#);
    let bad_tags = write("bad_tags", r#"["role"]"#);
    let file = |text: &str| write("config.json", text);
    for (config, status, said) in [
        ("{}".to_owned(), 0, "The configuration is valid"),
        (
            r#"{"MsgpackUseNewTimeFormat": true}"#.into(),
            0,
            "warning: MsgpackUseNewTimeFormat has no effect",
        ),
        (
            format!(r#"{{"keyring_file": "{keys}", "tags_file": "{tags}"}}"#),
            0,
            "is valid",
        ),
        ("{\n\"log_levl\": \"info\"}".into(), 1, "config.json:2: "),
        (r#"{"log_levl": "info"}"#.into(), 1, "log_level"),
        (
            format!(r#"{{"keyring_file": "{bad_keys}"}}"#),
            1,
            "key size must be 16, 24 or 32 bytes",
        ),
        (
            r#"{"keyring_file": "/no/such"}"#.into(),
            1,
            "serfling keygen",
        ),
        (
            format!(r#"{{"tags_file": "{bad_tags}"}}"#),
            1,
            "is no JSON object",
        ),
        (
            r#"{"interface": "nope0"}"#.into(),
            1,
            "interface nope0: there is none",
        ),
        (
            r#"{"syslog_facility": "LOCAL9"}"#.into(),
            1,
            "LOCAL0 to LOCAL7",
        ),
        (
            r#"{"advertise": "no.such.invalid"}"#.into(),
            1,
            "can't look up the advertise address",
        ),
    ] {
        let argument = format!("-config-file={}", file(&config));
        let (code, text) = agent(&["-check", &argument]);
        assert_eq!(code, Some(status), "{config}: {text}");
        assert!(text.contains(said), "{config}: {text}");
    }
}

#[test]
fn an_interface_gives_the_address_to_bind() {
    for bind in [None, Some("127.0.0.1")] {
        let gossip = free_port();
        let bind = format!("-bind={}:{gossip}", bind.unwrap_or("0.0.0.0"));
        let ports = (free_port(), gossip);
        let agent = Agent::start_at(Kind::Serfling, &["-iface=lo", &bind], None, None, ports);
        let member = connect(&agent).members().unwrap().remove(0);
        assert_eq!(
            (member.addr.to_string(), member.port),
            ("127.0.0.1".into(), gossip)
        );
    }
    let (code, text) = agent(&["-iface=lo", "-bind=192.0.2.1"]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("interface lo: it has no address 192.0.2.1"),
        "{text}"
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let first = Agent::start(Kind::Serfling, &[]);
    let bind = format!("-bind=127.0.0.1:{}", first.gossip_port);
    let (code, text) = agent(&[&bind, "-rpc-addr=127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    let expected = format!("can't gossip on 127.0.0.1:{}: ", first.gossip_port);
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn the_log_can_be_json() {
    let agent = Agent::start(Kind::Serfling, &["-log-json", "-log-level=debug"]);
    let mut client = connect(&agent);
    client.user_event("odd \"name\"", b"", false).unwrap();
    wait_for("the event is logged", || agent.log().contains("odd"));
    let mut lines = 0;
    for line in agent.log().lines().filter(|line| line.starts_with('{')) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["time", "level", "message"] {
            assert!(object[key].is_string(), "{line}");
        }
        lines += 1;
    }
    assert!(lines > 3);
}

/// Sends a request to a metrics page and reads the answer to its end.
fn fetch(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn the_metrics_page_is_prometheus_s() {
    let port = free_port();
    let metrics = format!("-metrics-addr=127.0.0.1:{port}");
    let agent = Agent::start(Kind::Serfling, &[&metrics, "-event-handler=user=exit 1"]);
    let mut client = connect(&agent);
    client.user_event("x", b"", false).unwrap();
    // Silent connections are no obstacle.
    let silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    let mut page = String::new();
    wait_for("the handler has failed", || {
        page = fetch(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        page.contains("serfling_handlers_failed_total 1")
    });
    drop(silent);
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"));
    let lines = body.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
    let value = |name: &str, label: Option<(&str, &str)>| {
        let sample = scrape.samples.iter().find(|sample| {
            sample.metric == name
                && label.is_none_or(|(key, value)| sample.labels.get(key) == Some(value))
        });
        match &sample.unwrap_or_else(|| panic!("{name}: {body}")).value {
            prometheus_parse::Value::Counter(value) | prometheus_parse::Value::Gauge(value) => {
                *value
            }
            other => panic!("{name} is {other:?}"),
        }
    };
    assert_eq!(value("serfling_members", Some(("status", "alive"))), 1.0);
    assert_eq!(value("serfling_members", Some(("status", "failed"))), 0.0);
    assert_eq!(value("serfling_serf_event_time", None), 2.0);
    assert_eq!(value("serfling_serf_encrypted", None), 0.0);
    assert_eq!(value("serfling_rpc_clients", None), 1.0);
    assert!(value("serfling_rpc_requests_total", None) >= 1.0);
    assert!(value("serfling_loop_turns_total", None) > 3.0);
    assert!(value("process_resident_memory_bytes", None) > 1e6);
    for name in [
        "packets_in",
        "probe_acks",
        "probe_ack_micros",
        "queue_drops",
    ] {
        value(&format!("serfling_gossip_{name}_total"), None);
    }
    for name in [
        "dropped_events",
        "dropped_lines",
        "dropped_answers",
        "events",
    ] {
        value(&format!("serfling_rpc_{name}_total"), None);
    }
    assert!(fetch(port, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(
        fetch(port, &"x".repeat(20_000)).is_empty()
            || fetch(port, &"x".repeat(9_000)).contains("431")
    );
}

#[test]
fn the_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut child = Command::new(Kind::Serfling.program())
        .args(["agent", "-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0; 100];
    let mut hear = || {
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(hear(), "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_packaged_configuration_is_valid() {
    let folder = concat!("-config-dir=", env!("CARGO_MANIFEST_DIR"), "/dist");
    let (code, text) = agent(&["-check", folder]);
    assert_eq!(code, Some(0), "{text}");
}

/// A block of the README, by the comment it begins with.
fn readme_block(begin: &str) -> String {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let block = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.starts_with(begin));
    block.expect("the block is in the README").to_owned()
}

#[test]
fn the_readme_s_cluster_of_three_works_by_copy_and_paste() {
    let bin = std::path::Path::new(Kind::Serfling.program())
        .parent()
        .unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .args(["-ec", &readme_block("# Three nodes")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env_remove("SERF_RPC_ADDR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for node in ["one", "two", "three"] {
        assert!(
            said.lines()
                .any(|line| line.starts_with(node) && line.contains("alive")),
            "{said}"
        );
    }
    assert!(
        said.contains("Response from 'two': up since today"),
        "{said}"
    );
    let deployed = std::fs::read_to_string(folder.path().join("deployed")).unwrap();
    assert_eq!(deployed, "two deploys v1.2.3\n");
}

#[test]
fn statsd_gets_the_reference_s_names() {
    let mut names = Vec::new();
    for kind in Kind::BOTH {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        collector.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let addr = collector.local_addr().unwrap();
        let config = format!(r#"{{"statsd_addr": "{addr}"}}"#);
        let agent = Agent::start_with(kind, &[], Some(&config), None);
        let mut client = connect(&agent);
        client.user_event("deploy", b"", false).unwrap();
        let expected = [
            "serf-agent.serf.member.join",
            "serf-agent.serf.events",
            "serf-agent.serf.events.deploy",
            "serf-agent.agent.ipc.accept",
            "serf-agent.agent.ipc.command",
        ];
        let mut seen = BTreeSet::new();
        let mut buffer = [0; 4096];
        while !expected.iter().all(|name| seen.contains(*name)) {
            let length = collector.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            for line in text.lines().filter(|line| line.ends_with("|c")) {
                let (name, value) = line.split_once(':').unwrap();
                assert!(value.trim_end_matches("|c").parse::<f64>().unwrap() > 0.0);
                seen.insert(name.to_owned());
            }
        }
        names.push(seen);
    }
    println!("the reference's: {:?}, ours: {:?}", names[0], names[1]);
}
