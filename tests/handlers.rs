//! Event handlers: what they see, compared with the reference's, and what they can't do to the agent.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::agent::{Agent, Kind};
use common::replies::replies;
use common::wait_for;
use rustix::process::Signal;
use serfling::client::{Client, Options, QueryReply};
use serfling::cluster::QueryRequest;

fn connect(agent: &Agent) -> Client {
    let address = format!("127.0.0.1:{}", agent.rpc_port).parse().unwrap();
    Client::connect(&Options::new(address)).unwrap()
}

fn counter(client: &mut Client, key: &str) -> u64 {
    client.stats().unwrap()["handlers"][key].parse().unwrap()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Answers to a query, and how it was acknowledged.
fn ask(kind: Kind, client: &mut Client, name: &str, payload: &[u8]) -> Vec<QueryReply> {
    let request = QueryRequest {
        name: name.into(),
        payload: Some(payload.to_vec()),
        timeout: Some(Duration::from_secs(2)),
        ..QueryRequest::default()
    };
    let answers = client.query(&request).unwrap();
    replies(kind, client, &answers)
}

/// Prints what the agent tells a handler: but for what the reference doesn't, and what is the test's own.
const ENVIRONMENT: &str =
    "env | grep ^SERF_ | grep -v -e ^SERF_RPC -e ^SERF_SELF_IP= -e ^SERF_SELF_PORT= | sort";

/// A line about a member has its tags last; the reference has them in any order.
fn sorted_tags(line: &str) -> String {
    match line.rsplit_once('\t') {
        Some((member, tags)) if member.matches('\t').count() == 2 => {
            let mut tags: Vec<&str> = tags.split(',').collect();
            tags.sort_unstable();
            format!("{member}\t{}", tags.join(","))
        }
        _ => line.to_owned(),
    }
}

#[test]
fn handlers_see_the_same_as_the_reference_s() {
    let mut seen = Vec::new();
    for kind in Kind::BOTH {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        // One at a time, so that nothing interleaves.
        let script = format!(
            "-event-handler=*=({ENVIRONMENT}; echo =; cat; echo .) >> {}",
            file.display()
        );
        let agent = Agent::start(
            kind,
            &[&script, "-tag", "role=web", "-tag", "Data-Centre.1=a b\tc"],
        );
        let count = |count: usize| {
            wait_for("the handler has run", || {
                read(&file).matches("\n.\n").count() >= count
            });
        };
        count(1);
        let mut client = connect(&agent);
        for (number, (name, payload)) in [
            ("deploy", &b"two\nlines"[..]),
            ("empty", b""),
            ("ended", b"by a line\n"),
            ("bytes", b"\x01\x02\xff"),
        ]
        .into_iter()
        .enumerate()
        {
            client.user_event(name, payload, false).unwrap();
            count(2 + number);
        }
        ask(kind, &mut client, "load", b"how much?");
        count(6);
        client.update_tags(&[("role", "db")], &[]).unwrap();
        count(7);
        let text = read(&file);
        assert!(text.contains("SERF_TAG_DATA_CENTRE_1=a b\tc\n"), "{text}");
        seen.push(text.lines().map(sorted_tags).collect::<Vec<_>>());
    }
    assert_eq!(seen[1], seen[0]);
}

/// What a handler of this kind of agent sees of other nodes: a line for each event and member.
fn what_is_seen_of_others(kind: Kind) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let script = format!(
        "-event-handler=*=while IFS= read -r line; do echo \"$({ENVIRONMENT} | tr '\\n' ' ')|$line\"; done >> {}",
        file.display()
    );
    // Not within the 3 s in which what happens to a node is taken together.
    let soon = r#"{"reconnect_timeout": "4s", "tombstone_timeout": "4s"}"#;
    let agent = Agent::start_with(kind, &[&script, "-profile=local"], Some(soon), None);
    let has = |event: &str, name: &str| {
        wait_for(&format!("{kind:?} sees {event} of {name}"), || {
            let text = read(&file);
            let mut lines = text.lines();
            lines.any(|line| {
                line.contains(&format!("SERF_EVENT={event} "))
                    && line.contains(&format!("|{name}\t"))
            })
        });
    };
    let join = format!("-join=127.0.0.1:{}", agent.gossip_port);
    let start = |name: &str| {
        let name = format!("-node={name}");
        Agent::start(
            Kind::Serfling,
            &[
                &name,
                &join,
                "-tag=role=db",
                "-tag=Data-Centre.1=a,b=c",
                "-profile=local",
            ],
        )
    };
    // While there are only two of them, nobody else need confirm that one has failed.
    let mut fails = start("n2");
    has("member-join", "n2");
    fails.child.kill().unwrap();
    has("member-failed", "n2");
    let leaves = start("n3");
    has("member-join", "n3");
    connect(&leaves)
        .update_tags(&[("new", "1")], &["role"])
        .unwrap();
    has("member-update", "n3");
    connect(&leaves).leave().unwrap();
    has("member-leave", "n3");
    has("member-reap", "n2");
    has("member-reap", "n3");
    let mut client = connect(&agent);
    client.user_event("deploy", b"v1", true).unwrap();
    ask(kind, &mut client, "load", b"cpu");
    wait_for("the rest", || {
        read(&file).contains("|v1") && read(&file).contains("|cpu")
    });
    let text = read(&file);
    let mut lines: Vec<String> = text.lines().map(sorted_tags).collect();
    lines.sort();
    lines
}

#[test]
fn every_kind_of_event_looks_as_with_the_reference() {
    let threads = Kind::BOTH.map(|kind| std::thread::spawn(move || what_is_seen_of_others(kind)));
    let seen = threads.map(|thread| thread.join().unwrap());
    assert_eq!(seen[0].len(), 10, "{seen:?}");
    // Lamport times differ: they count what else happened.
    let without_time = |lines: &[String]| {
        let words = |line: &String| {
            let words = line.split(' ').filter(|word| !word.contains("_LTIME="));
            words.collect::<Vec<_>>().join(" ")
        };
        lines.iter().map(words).collect::<Vec<_>>()
    };
    assert_eq!(without_time(&seen[1]), without_time(&seen[0]));
}

#[test]
fn standard_error_can_be_kept_out_of_answers() {
    let agent = Agent::start(
        Kind::Serfling,
        &[
            "-handler-stdout-only",
            "-event-handler=query:mixed=echo answer; echo complaint >&2",
            "-event-handler=query:wrong=echo only a complaint >&2",
        ],
    );
    let mut client = connect(&agent);
    let replies = ask(Kind::Serfling, &mut client, "mixed", b"");
    let (from, payload) = ("n1".to_owned(), b"answer\n".to_vec());
    assert_eq!(
        replies,
        [QueryReply::Response { from, payload }, QueryReply::Done]
    );
    assert_eq!(
        ask(Kind::Serfling, &mut client, "wrong", b""),
        [QueryReply::Done]
    );
    wait_for("both are logged", || {
        let log = agent.log();
        log.contains("printed errors: complaint\n")
            && log.contains("printed errors: only a complaint\n")
    });
}

#[test]
fn an_answer_that_is_too_large_is_logged_with_both_sizes() {
    let handler = "-event-handler=query=head -c 1500 /dev/zero | tr '\\0' x";
    let agent = Agent::start(Kind::Serfling, &[handler]);
    assert_eq!(
        ask(Kind::Serfling, &mut connect(&agent), "big", b""),
        [QueryReply::Done]
    );
    let log = agent.log();
    assert!(
        log.contains("with 1500 bytes: ") && log.contains("response exceeds limit of 1024 bytes"),
        "{log}"
    );
}

#[test]
fn handlers_inherit_nothing_but_what_the_reference_s_do() {
    let seen = Kind::BOTH.map(|kind| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let script = format!(
            "-event-handler=user=(ls /proc/self/fd; grep -e ^SigBlk -e ^SigIgn /proc/self/status; pwd; umask; echo .) > {}",
            file.display()
        );
        let agent = Agent::start(kind, &[&script]);
        let mut client = connect(&agent);
        let _stream = client.stream("*").unwrap();
        client.user_event("x", b"", false).unwrap();
        wait_for("the handler has run", || read(&file).ends_with(".\n"));
        let line = |line: &str| match line.split_once(":\t") {
            // Two signals are the C library's own: it has them ignored until a program has set itself up.
            Some((name, mask)) => {
                let mask = u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31);
                format!("{name} {mask:x}")
            }
            None => line.to_owned(),
        };
        read(&file).lines().map(line).collect::<Vec<_>>()
    });
    assert!(seen[0].contains(&"SigIgn 0".to_owned()), "{seen:?}");
    assert_eq!(seen[1], seen[0]);
}

#[test]
fn handlers_know_the_address_of_their_node() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let script = format!(
        "-event-handler=user=echo $SERF_SELF_IP $SERF_SELF_PORT >> {}",
        file.display()
    );
    let agent = Agent::start(Kind::Serfling, &[&script]);
    connect(&agent).user_event("x", b"", false).unwrap();
    let expected = format!("127.0.0.1 {}\n", agent.gossip_port);
    wait_for("the address", || read(&file) == expected);
}

/// A process that ends with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn as_the_first_process_it_waits_for_orphans() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orphan");
    let (rpc, gossip) = (common::agent::free_port(), common::agent::free_port());
    // What it leaves behind leads a session of its own, and ends after its parent.
    let script = format!(
        "-event-handler=user=setsid sh -c 'sleep 0.2; echo gone >> {}' & echo started",
        file.display()
    );
    let as_root: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--map-root-user"]
    };
    let holder = std::process::Command::new("unshare")
        .args(as_root)
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            Kind::Serfling.program(),
            "agent",
            "-node=n1",
            "-log-level=err",
        ])
        .args([
            format!("-bind=127.0.0.1:{gossip}"),
            format!("-rpc-addr=127.0.0.1:{rpc}"),
            script,
        ])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("unshare runs: it is part of util-linux");
    let mut holder = Killed(holder);
    wait_for("the agent answers", || {
        let ended = holder.0.try_wait().unwrap();
        assert_eq!(
            ended, None,
            "no namespace of processes could be made: this test needs root, or namespaces of users"
        );
        std::net::TcpStream::connect(("127.0.0.1", rpc)).is_ok()
    });
    let address = format!("127.0.0.1:{rpc}").parse().unwrap();
    let mut client = Client::connect(&Options::new(address)).unwrap();
    for _ in 0..3 {
        client.user_event("x", b"", false).unwrap();
    }
    wait_for("the orphans are through", || {
        read(&file) == "gone\n".repeat(3)
    });
    let children = |pid: &str| read(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
    let agent = children(&holder.0.id().to_string());
    assert!(!agent.trim().is_empty());
    wait_for("nobody is left", || {
        children(agent.trim()).trim().is_empty()
    });
    client.leave().unwrap();
    wait_for("the end", || holder.0.try_wait().unwrap().is_some());
}

#[test]
fn what_a_handler_prints_answers_a_query_as_with_the_reference() {
    let mut answers = Vec::new();
    for kind in Kind::BOTH {
        let agent = Agent::start(
            kind,
            &[
                "-event-handler=query:load=read q; echo \"$q: 0.7\"; echo more >&2",
                "-event-handler=query:fails=echo something; exit 3",
                "-event-handler=query:silent=true",
                "-event-handler=query:long=head -c 2000 /dev/zero | tr '\\0' x",
            ],
        );
        let mut client = connect(&agent);
        let replies =
            ["load", "fails", "silent", "long"].map(|name| ask(kind, &mut client, name, b"cpu"));
        let log = agent.log();
        assert!(log.contains("exit status 3"), "{kind:?}: {log}");
        assert!(
            log.contains("response exceeds limit of 1024 bytes"),
            "{kind:?}: {log}"
        );
        answers.push(replies);
    }
    let from = "n1".to_owned();
    let payload = b"cpu: 0.7\nmore\n".to_vec();
    assert_eq!(answers[1][0][0], QueryReply::Response { from, payload });
    assert_eq!(answers[1], answers[0]);
}

#[test]
fn ten_thousand_events_run_a_handler_each_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs");
    let script = format!(
        "-event-handler=user=echo $SERF_USER_EVENT >> {}",
        file.display()
    );
    let agent = Agent::start(Kind::Serfling, &[&script, "-log-level=err"]);
    let mut client = connect(&agent);
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", agent.child.id()))
            .unwrap()
            .count()
    };
    client.user_event("first", b"", false).unwrap();
    wait_for("the first has run", || read(&file).contains("first"));
    wait_for("it is over", || counter(&mut client, "running") == 0);
    let before = descriptors();
    for number in 0..10_000 {
        client
            .user_event(&format!("e{number}"), b"payload", false)
            .unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(300);
    while counter(&mut client, "started") < 10_001 || counter(&mut client, "running") > 0 {
        assert!(Instant::now() < deadline, "the handlers are not through");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(counter(&mut client, "dropped"), 0);
    assert_eq!(counter(&mut client, "failed"), 0);
    // In order, none lost.
    let expected: String = (0..10_000).map(|number| format!("e{number}\n")).collect();
    assert_eq!(read(&file), format!("first\n{expected}"));
    wait_for("descriptors are back", || descriptors() == before);
    let children = format!("/proc/{0}/task/{0}/children", agent.child.id());
    assert_eq!(read(Path::new(&children)).trim(), "");
}

#[test]
fn a_hung_handler_holds_up_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quick");
    let quick = format!(
        "-event-handler=user=echo $SERF_USER_EVENT >> {}",
        file.display()
    );
    let agent = Agent::start(
        Kind::Serfling,
        &[
            "-event-handler=user=sleep 600",
            &quick,
            "-handler-timeout=2s",
        ],
    );
    let mut client = connect(&agent);
    let stream = client.stream("user").unwrap();
    for number in 0..100 {
        client
            .user_event(&format!("e{number}"), b"", false)
            .unwrap();
    }
    for _ in 0..100 {
        assert!(
            client
                .next(&stream, Some(common::PATIENCE))
                .unwrap()
                .is_some()
        );
    }
    wait_for("the quick one is through", || {
        read(&file).lines().count() == 100
    });
    assert!(counter(&mut client, "queued") >= 90);
    // The hung one is ended, with all it has started, and the next has its turn.
    wait_for("two have timed out", || {
        counter(&mut client, "timeouts") >= 2
    });
    assert!(agent.log().contains("takes too long"));
    assert!(agent.log().contains("slow, execution exceeding"));
}

#[test]
fn clients_that_go_while_a_handler_runs_take_nobody_along() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("-snapshot={}", folder.path().join("snapshot").display());
    let slow = "-event-handler=user=sleep 0.05";
    let agent = Agent::start(Kind::Serfling, &[slow, &snapshot]);
    let mut client = connect(&agent);
    let stream = client.stream("user").unwrap();
    for number in 0..20 {
        let mut others: Vec<Client> = (0..8).map(|_| connect(&agent)).collect();
        for other in &mut others {
            other.stream("*").unwrap();
        }
        client
            .user_event(&format!("e{number}"), b"", false)
            .unwrap();
        wait_for("the handler runs", || counter(&mut client, "running") > 0);
        drop(others);
    }
    for _ in 0..20 {
        let event = client.next(&stream, Some(common::PATIENCE)).unwrap();
        assert!(event.is_some());
    }
    wait_for("all are through", || counter(&mut client, "started") == 20);
    assert_eq!(counter(&mut client, "dropped"), 0);
}

#[test]
fn a_handler_that_does_not_end_when_told_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let stubborn = format!(
        "-event-handler=user=trap '' TERM; sleep 600 & echo $$ $! >> {}; wait; wait",
        file.display()
    );
    let agent = Agent::start(Kind::Serfling, &[&stubborn, "-handler-timeout=100ms"]);
    let mut client = connect(&agent);
    client.user_event("x", b"", false).unwrap();
    wait_for("it has failed", || counter(&mut client, "failed") == 1);
    assert!(agent.log().contains("signal 9"), "{}", agent.log());
    let pids = read(&file);
    assert_eq!(pids.split_whitespace().count(), 2);
    for pid in pids.split_whitespace() {
        // Its parent may have to wait for it still.
        wait_for("it is gone", || {
            let status = read(Path::new(&format!("/proc/{pid}/status")));
            status.is_empty() || status.contains("State:\tZ")
        });
    }
}

#[test]
fn a_handler_is_over_when_its_process_is() {
    // What it leaves in the background keeps its output open.
    let agent = Agent::start(
        Kind::Serfling,
        &["-event-handler=query=sleep 600 & echo done"],
    );
    let mut client = connect(&agent);
    let replies = ask(Kind::Serfling, &mut client, "q", b"");
    let (from, payload) = ("n1".to_owned(), b"done\n".to_vec());
    assert_eq!(replies[0], QueryReply::Response { from, payload });
    assert_eq!(counter(&mut client, "running"), 0);
}

#[test]
fn a_handler_that_takes_no_input_or_prints_without_end_is_no_trouble() {
    let agent = Agent::start(
        Kind::Serfling,
        &[
            "-event-handler=user=exec <&-; true",
            "-event-handler=user=head -c 3000000 /dev/zero",
            "-event-handler=user=kill -9 $$",
            "-event-handler=user=/no/such/program",
        ],
    );
    let mut client = connect(&agent);
    for _ in 0..5 {
        client.user_event("x", &[b'x'; 400], false).unwrap();
    }
    wait_for("all are through", || {
        counter(&mut client, "started") == 20 && counter(&mut client, "running") == 0
    });
    assert_eq!(counter(&mut client, "failed"), 10);
    let log = agent.log();
    for text in [
        "signal 9",
        "exit status 127",
        "generated 3000000 bytes of output",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
}

#[test]
fn sighup_changes_handlers_and_tags_and_says_what_it_did_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.json");
    let seen = folder.path().join("seen");
    let write = |text: String| std::fs::write(&config, text).unwrap();
    let handler = |word: &str| format!("user=echo {word} >> {}", seen.display());
    write(format!(
        r#"{{"tags": {{"role": "web", "keep": "1"}}, "event_handlers": ["{}"]}}"#,
        handler("before")
    ));
    let argument = format!("-config-file={}", config.display());
    let agent = Agent::start(Kind::Serfling, &[&argument]);
    let mut client = connect(&agent);
    client.update_tags(&[("rpc", "x")], &[]).unwrap();
    client.user_event("x", b"", false).unwrap();
    wait_for("the first handler runs", || read(&seen) == "before\n");
    write(format!(
        r#"{{"tags": {{"role": "db"}}, "event_handlers": ["{}"], "snapshot_path": "/somewhere/else"}}"#,
        handler("after")
    ));
    agent.signal(Signal::HUP);
    wait_for("it is reloaded", || {
        agent.log().contains("Reloaded 1 event handlers, tags")
    });
    assert!(
        agent
            .log()
            .contains("Changes of snapshot_path take effect at the next start")
    );
    client.user_event("x", b"", false).unwrap();
    wait_for("the other handler runs", || {
        read(&seen) == "before\nafter\n"
    });
    let tags = client.members().unwrap().remove(0).tags.clone();
    let tags: Vec<_> = tags.iter().collect();
    assert_eq!(tags, [("role", "db"), ("rpc", "x")]);
    let handlers = &client.stats().unwrap()["event_handlers"];
    assert_eq!(
        handlers["user:"],
        format!("echo after >> {}", seen.display())
    );
}
