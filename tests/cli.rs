//! Command lines, compared with the reference's: its CLI and ours against agents of both kinds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::{Command, Output, Stdio};

use common::agent::{Agent, Kind};
use common::wait_for;

/// Runs a command line; the agent is where the environment says.
fn run(kind: Kind, port: u16, arguments: &[&str]) -> Output {
    Command::new(kind.program())
        .args(arguments)
        .env("SERF_RPC_ADDR", format!("127.0.0.1:{port}"))
        .env_remove("SERF_RPC_AUTH")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{} can't be run: {error}; tests/run installs it",
                kind.program()
            )
        })
}

/// Standard output and the status.
fn outcome(output: &Output) -> (String, Option<i32>) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.code(),
    )
}

/// Columns and lines in the order of their text, where the reference has none of its own.
fn sorted(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut words: Vec<&str> = line.split([',', ' ']).collect();
            words.sort_unstable();
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

const GOOD: &[&[&str]] = &[
    &["members"],
    &["members", "-detailed"],
    &["members", "-detailed=true", "-status", "alive"],
    &["members", "--status=alive", "--name", "n."],
    &["members", "-name=zz"],
    &["members", "-tag", "role=w.*", "-tag=dc=east"],
    &["members", "-tag", "role=db"],
    &["members", "-role=web"],
    &["members", "-format=json"],
    &["members", "-format", "text"],
    &["event", "deploy"],
    &["event", "deploy", "payload"],
    &["event", "-coalesce=false", "deploy", "-payload"],
    &["event", "-coalesce=0", "deploy"],
    &["event", "-coalesce", "deploy"],
    &["query", "-timeout=200ms", "load"],
    &["query", "-timeout=200ms", "-no-ack", "load", "payload"],
    &["query", "-timeout=200ms", "-format=json", "load"],
    &["query", "-timeout=200ms", "-format=json", "-no-ack", "load"],
    &[
        "query",
        "-timeout=200ms",
        "-node=n1",
        "-node",
        "other",
        "load",
    ],
    &["query", "-timeout=200ms", "-tag", "role=^db", "load"],
    &["query", "-timeout=0.2s", "-relay-factor=2", "load"],
    &["tags", "-set", "a=1", "-set=b=2"],
    &["tags", "-delete", "a", "-delete=nothing"],
    &["tags", "-set", "c=x=y"],
    &["rtt", "n1"],
    &["rtt", "n1", "n1"],
    &["reachability"],
    &["force-leave", "nobody"],
    &["force-leave", "-prune", "nobody"],
];

const BAD: &[&[&str]] = &[
    &[],
    &["bogus"],
    &["members", "-format=xml"],
    &["members", "-bogus"],
    &["members", "-tag", "novalue"],
    &["members", "-name"],
    &["members", "-detailed=maybe"],
    &["members", "-rpc-addr=127.0.0.1:1"],
    &["event"],
    &["event", "a", "b", "c"],
    &["query"],
    &["query", "a", "b", "c"],
    &["query", "-timeout=soon", "a"],
    &["query", "-relay-factor=256", "a"],
    &["query", "-relay-factor=-1", "a"],
    &["query", "-relay-factor=x", "a"],
    &["query", "-format=xml", "a"],
    &["query", "_serf_x"],
    &["query", "-tag=x", "a"],
    &["join"],
    &["join", "127.0.0.1:1"],
    &["join", "127.0.0.1:1", "127.0.0.1:2"],
    &["keys"],
    &["keys", "-list"],
    &["keys", "-install=AAAAAAAAAAAAAAAAAAAAAA=="],
    &["keys", "-use=AAAAAAAAAAAAAAAAAAAAAA=="],
    &["keys", "-remove=AAAAAAAAAAAAAAAAAAAAAA=="],
    &["keys", "-install=xx!"],
    &["keys", "-list", "-use=AAAA"],
    &["tags"],
    &["tags", "-set", "novalue"],
    &["rtt"],
    &["rtt", "zz"],
    &["rtt", "n1", "n1", "n1"],
    &["force-leave"],
    &["force-leave", "a", "b"],
];

/// How often a command is run at the most for an answer without a slip of the reference's.
const TRIES_MAX: usize = 5;

/// The reference's agent may tell of acks and answers from nobody at a query's deadline.
fn has_reply_from_nobody(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stdout);
    ["Ack from ''", "Response from ''", "    \"\""]
        .iter()
        .any(|slip| text.contains(slip))
}

#[test]
fn good_command_lines_print_the_same_with_every_agent() {
    for agent_kind in Kind::BOTH {
        let agent = Agent::start(agent_kind, &["-tag", "role=web", "-tag", "dc=east"]);
        for line in GOOD {
            let [reference, ours] = [Kind::Reference, Kind::Serfling].map(|program| {
                let again = |output: &Output| {
                    agent_kind == Kind::Reference && has_reply_from_nobody(output)
                };
                let mut output = run(program, agent.rpc_port, line);
                for _ in 0..TRIES_MAX {
                    if !again(&output) {
                        break;
                    }
                    output = run(program, agent.rpc_port, line);
                }
                output
            });
            let ((theirs, their_status), (mine, my_status)) = (outcome(&reference), outcome(&ours));
            assert_eq!(
                sorted(&mine),
                sorted(&theirs),
                "{line:?} with {agent_kind:?}"
            );
            assert_eq!(my_status, their_status, "{line:?} with {agent_kind:?}");
            assert!(
                ours.stderr.is_empty(),
                "{line:?}: {}",
                String::from_utf8_lossy(&ours.stderr)
            );
        }
        // Our info has sections of its own; of those of the reference the text is the same.
        let (theirs, _) = outcome(&run(Kind::Reference, agent.rpc_port, &["info"]));
        let (mine, _) = outcome(&run(Kind::Serfling, agent.rpc_port, &["info"]));
        let keys = |text: &str| {
            let keys = text
                .lines()
                .map(|line| line.split(" = ").next().unwrap_or_default().to_owned());
            keys.filter(|key| !key.contains("127.0.0.1"))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&mine), keys(&theirs));
        let (json, status) = outcome(&run(
            Kind::Serfling,
            agent.rpc_port,
            &["info", "-format=json"],
        ));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (json["agent"]["name"].as_str(), status),
            (Some("n1"), Some(0))
        );
        let (json, _) = outcome(&run(
            Kind::Serfling,
            agent.rpc_port,
            &["members", "-name=zz", "-format=json"],
        ));
        assert_eq!(
            json, "{\n  \"members\": []\n}\n",
            "nobody is an empty list, not null"
        );
    }
}

#[test]
fn bad_command_lines_end_with_the_same_status_and_say_why() {
    let agent = Agent::start(Kind::Serfling, &[]);
    for line in BAD {
        let reference = run(Kind::Reference, agent.rpc_port, line);
        let ours = run(Kind::Serfling, agent.rpc_port, line);
        assert_eq!(ours.status.code(), reference.status.code(), "{line:?}");
        let said = String::from_utf8_lossy(&ours.stderr).into_owned();
        assert!(!said.is_empty(), "{line:?} says why on standard error");
        // The first line of what the reference says, unless that is its help or what the system says.
        let theirs = [reference.stdout, reference.stderr].concat();
        let theirs = String::from_utf8_lossy(&theirs).into_owned();
        let first = theirs
            .lines()
            .find(|line| !line.starts_with("==>"))
            .unwrap_or_default();
        if !first.starts_with("Usage:")
            && !first.contains("dial tcp")
            && !first.contains("flag")
            && !first.contains("invalid")
        {
            assert!(said.contains(first), "{line:?}: {said:?} has {first:?}");
        }
    }
    for (line, hint) in [
        (
            &["members", "-rpc-addr=127.0.0.1:1"][..],
            "`serfling agent` starts one",
        ),
        (&["join", "127.0.0.1:1"], "its gossip address"),
        (&["keys", "-list"], "`serfling keygen` makes a key"),
        (&["keys", "-install=xx!"], "`serfling keygen` makes one"),
        (&["rtt", "zz"], "`serfling members` lists the names"),
    ] {
        let said = run(Kind::Serfling, agent.rpc_port, line).stderr;
        let said = String::from_utf8_lossy(&said).into_owned();
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("Hint: ") && last.contains(hint),
            "{line:?}: {said}"
        );
    }
    let unknown = run(Kind::Serfling, agent.rpc_port, &["members", "-nam=x"]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr)
            .starts_with("flag provided but not defined: -nam (did you mean -name?)")
    );
}

#[test]
fn keys_with_encryption() {
    let old = "AAAAAAAAAAAAAAAAAAAAAA==";
    let new = "AQEBAQEBAQEBAQEBAQEBAQ==";
    let agents = Kind::BOTH.map(|kind| Agent::start(kind, &["-encrypt", old]));
    for (flag, key) in [
        ("-list", ""),
        ("-install", new),
        ("-list", ""),
        ("-use", new),
        ("-remove", new),
        ("-remove", old),
        ("-list", ""),
    ] {
        let flag = if key.is_empty() {
            flag.to_owned()
        } else {
            format!("{flag}={key}")
        };
        let [theirs, mine] =
            [(Kind::Reference, &agents[0]), (Kind::Serfling, &agents[1])].map(|(kind, agent)| {
                let output = run(kind, agent.rpc_port, &["keys", &flag]);
                let all = [output.stdout, output.stderr].concat();
                let all = String::from_utf8_lossy(&all).into_owned();
                let said = all.split("\nHint: ").next().unwrap_or_default();
                (sorted(said), output.status.code())
            });
        assert_eq!(mine, theirs, "{flag}");
    }
}

#[test]
fn keygen_and_version() {
    let mine = run(Kind::Serfling, 1, &["keygen"]);
    assert_eq!(mine.stdout.len(), 45);
    assert_ne!(mine.stdout, run(Kind::Serfling, 1, &["keygen"]).stdout);
    let version = outcome(&run(Kind::Serfling, 1, &["version"]));
    assert_eq!(version, outcome(&run(Kind::Serfling, 1, &["-v"])));
    assert_eq!(version, outcome(&run(Kind::Serfling, 1, &["--version"])));
    let (theirs, _) = outcome(&run(Kind::Reference, 1, &["version"]));
    assert_eq!(version.0.lines().nth(1), theirs.lines().nth(1));
}

#[test]
fn auth_by_flag_and_by_environment() {
    let agent = Agent::start_with(Kind::Serfling, &[], Some(r#"{"rpc_auth": "secret"}"#), None);
    let address = format!("-rpc-addr=127.0.0.1:{}", agent.rpc_port);
    for kind in Kind::BOTH {
        let status = |key: Option<&str>, flag: Option<&str>| {
            let mut command = Command::new(kind.program());
            command
                .args(["members", &address])
                .args(flag)
                .env_remove("SERF_RPC_AUTH");
            if let Some(key) = key {
                command.env("SERF_RPC_AUTH", key);
            }
            command.output().unwrap().status.code()
        };
        assert_eq!(status(None, None), Some(1), "{kind:?}");
        assert_eq!(status(Some("wrong"), None), Some(1));
        assert_eq!(status(Some("secret"), None), Some(0));
        assert_eq!(status(None, Some("-rpc-auth=secret")), Some(0));
        assert_eq!(status(Some("wrong"), Some("-rpc-auth=secret")), Some(0));
    }
}

#[test]
fn leave_with_either_command_line() {
    for cli in Kind::BOTH {
        for kind in Kind::BOTH {
            let mut agent = Agent::start(kind, &[]);
            let output = run(cli, agent.rpc_port, &["leave"]);
            assert_eq!(
                outcome(&output),
                ("Graceful leave complete\n".to_owned(), Some(0))
            );
            assert_eq!(agent.wait_exit().code(), Some(0));
        }
    }
}

#[test]
fn monitor_shows_log_and_events_until_interrupted() {
    for cli in Kind::BOTH {
        for kind in Kind::BOTH {
            let agent = Agent::start(kind, &["-tag", "role=web"]);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            let mut monitor = Command::new(cli.program())
                .args([
                    "monitor",
                    "-log-level=debug",
                    &format!("-rpc-addr=127.0.0.1:{}", agent.rpc_port),
                ])
                .stdout(std::fs::File::create(&path).unwrap())
                .spawn()
                .unwrap();
            let shown = || std::fs::read_to_string(&path).unwrap();
            wait_for("the log is replayed", || {
                shown().contains("[INFO] agent: Serf agent starting")
            });
            run(
                cli,
                agent.rpc_port,
                &["event", "-coalesce=false", "deploy", "hi"],
            );
            let event = "Name: \"deploy\"";
            wait_for("the event is shown", || {
                shown().contains(event) && shown().contains("user-event: deploy")
            });
            let shown = shown();
            assert!(
                shown.contains("Payload: []byte{0x68, 0x69}") && shown.contains("Event Info:"),
                "{shown}"
            );
            assert!(shown.contains("[DEBUG] agent: Requesting user event send: deploy"));
            let pid = rustix::process::Pid::from_raw(monitor.id() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            assert_eq!(
                monitor.wait().unwrap().code(),
                Some(0),
                "{cli:?} with {kind:?}"
            );
        }
    }
}

#[test]
fn monitor_tells_that_the_agent_is_gone() {
    let mut agent = Agent::start(Kind::Serfling, &[]);
    let monitor = Command::new(Kind::Serfling.program())
        .args([
            "monitor",
            &format!("-rpc-addr=127.0.0.1:{}", agent.rpc_port),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut client = agent.client();
    wait_for("it is there", || client.stat("rpc", "monitors") == 1);
    agent.child.kill().unwrap();
    agent.wait_exit();
    let output = monitor.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Remote side ended the monitor!"));
}

#[test]
fn a_reader_that_goes_is_no_reason_to_complain() {
    let agent = Agent::start(Kind::Serfling, &[]);
    let line = format!(
        "{} info -rpc-addr=127.0.0.1:{} | true",
        Kind::Serfling.program(),
        agent.rpc_port
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
