//! Agents whose files can't be written: the disk is full or read-only, files vanish, descriptors run out.
//!
//! One story for all of it: a node with a snapshot, a tags file and a keyring file is in an encrypted cluster when the
//! fault comes. It has to serve on, to refuse what it can't keep, and to say so; when the fault is over, everything is
//! kept again, and a restart finds the cluster. [`live_through`] tells what an agent of either kind made of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serfling::client::{Client, Subscription};
use serfling::cluster::MemberStatus;

use crate::cluster::{Node, connect, wait_for_agreement, wait_for_status, wait_until};
use crate::common::agent::{Agent, Kind, free_port};
use crate::common::mounts::with_own_mounts;
use crate::common::raw::RawClient;
use crate::common::wait_for;
use crate::disk::{Disk, Fault};

use Kind::{Reference, Serfling};

const OLD_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
const NEW_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";
/// So many descriptors an agent may have that is to run out of them.
const DESCRIPTORS: u32 = 48;
/// How long an agent is watched while it can't write.
const WATCHED: Duration = Duration::from_secs(3);
/// Longer than either kind waits before it tries a snapshot again.
const REPAIR: Duration = Duration::from_secs(45);

/// What an agent made of a fault.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// What it answered to new tags that it can't keep.
    tags_refusal: String,
    /// Whether others heard of these tags all the same.
    tags_spread: bool,
    /// What it answered to a key that it can't keep, and to the same again.
    key_refusals: [String; 2],
    /// Files that hold neither what they held before nor what is new.
    torn: Vec<&'static str>,
    /// Warnings and errors in its log while it was watched.
    complaints: Vec<String>,
    /// Whether everything that was said is in the snapshot soon after the fault.
    repaired: bool,
    /// Whether its log, which is on the disk too, goes on with that (as ours says it).
    repair_told: bool,
    /// Whether tags and keys that are set again are kept.
    kept: [bool; 2],
    /// All files after the fault.
    files: Vec<String>,
    /// Whether it starts from its files, and finds the cluster by its snapshot.
    found_back: bool,
}

/// An agent's log, from warnings on.
struct Monitor {
    client: Client,
    lines: Subscription<String>,
}

impl Monitor {
    fn of(node: &Node) -> Self {
        let mut client = connect(&node.agent);
        let lines = client.monitor("warn").unwrap();
        Self { client, lines }
    }

    /// Whether new lines have this text.
    fn tells(&mut self, text: &str) -> bool {
        self.read().iter().any(|line| line.contains(text))
    }

    fn read(&mut self) -> Vec<String> {
        let wait = Some(Duration::from_millis(20));
        std::iter::from_fn(|| self.client.next(&self.lines, wait).unwrap()).collect()
    }
}

/// A node that keeps all files on this disk, its log too.
fn start(kind: Kind, disk: &Disk, ports: (u16, u16), fault: Fault) -> Node {
    let file = |flag: &str, name: &str| format!("-{flag}={}", disk.file(name).display());
    let arguments = [
        "-node=b".to_owned(),
        "-profile=local".to_owned(),
        file("snapshot", "snapshot"),
        file("tags-file", "tags"),
        file("keyring-file", "keyring"),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let limit = (fault == Fault::NoDescriptors).then_some(DESCRIPTORS);
    let folder = tempfile::tempdir_in(disk.root()).unwrap();
    let agent = Agent::start_in(folder, kind, &arguments, None, limit, ports);
    let client = connect(&agent);
    let name = "b".to_owned();
    Node {
        name,
        agent,
        client,
    }
}

/// A cluster of two, of which the second is on the disk.
fn cluster(kind: Kind, disk: &Disk, fault: Fault) -> Vec<Node> {
    std::fs::write(disk.file("tags"), r#"{"role":"old"}"#).unwrap();
    std::fs::write(disk.file("keyring"), format!("[{OLD_KEY:?}]")).unwrap();
    let a = Node::start(Serfling, "a", &[&format!("-encrypt={OLD_KEY}")]);
    let mut b = start(kind, disk, (free_port(), free_port()), fault);
    b.join(&[a.gossip_addr()]);
    let mut nodes = vec![a, b];
    wait_for_agreement(&mut nodes, 2);
    wait_until("the snapshot has the other", &mut nodes, |nodes| {
        // The reference writes what is there when more comes.
        nodes[0].client.user_event("more", b"", false).unwrap();
        disk.read("snapshot").contains("alive: a ")
    });
    nodes
}

/// Takes a node through a fault.
fn live_through(kind: Kind, fault: Fault) -> Outcome {
    let disk = Disk::new(fault);
    let mut nodes = cluster(kind, &disk, fault);
    let mut monitor = Monitor::of(&nodes[1]);
    monitor.read();
    let crowd = begin(&disk, &nodes[1], &mut monitor, fault);
    let mut outcome = Outcome::default();

    watch(&mut nodes, &mut monitor, &mut outcome);
    change_all(&mut nodes, &disk, &mut outcome);
    outcome.complaints.extend(monitor.read());

    disk.end_fault();
    drop(crowd);
    outcome.repaired = repaired(&mut nodes, &disk);
    let log = nodes[1].agent.log();
    outcome.repair_told = log.contains("The snapshot is complete again");
    let tags = nodes[1].client.update_tags(&[("role", "new")], &[]);
    outcome.kept[0] = tags.is_ok() && disk.read("tags").contains("new");
    let (_, error) = nodes[0].client.install_key(NEW_KEY).unwrap();
    outcome.kept[1] = error.is_none() && disk.read("keyring").contains(NEW_KEY);
    outcome.files = disk.names();

    // Ended without a word, and forgotten by the other, it finds back by what it kept alone.
    let mut b = nodes.pop().unwrap();
    let ports = b.ports();
    b.agent.signal(Signal::KILL);
    b.agent.wait_exit();
    drop(b);
    wait_for_status(&mut nodes, "b", Some(MemberStatus::Failed));
    nodes[0].client.force_leave("b", true).unwrap();
    wait_for_status(&mut nodes, "b", None);
    let restart = || {
        nodes.push(start(kind, &disk, ports, fault));
        wait_for_agreement(&mut nodes, 2);
        nodes[0].members()["b"].tags.get("role") == Some("new")
    };
    outcome.found_back = catch_unwind(AssertUnwindSafe(restart)).is_ok_and(|found| found);
    outcome
}

/// Lets the fault begin, and waits until the agent meets it. Returns what keeps it up.
fn begin(disk: &Disk, node: &Node, monitor: &mut Monitor, fault: Fault) -> Vec<RawClient> {
    let mut crowd = Vec::new();
    if fault == Fault::NoDescriptors {
        crowd.extend((0..2 * DESCRIPTORS).map(|_| RawClient::connect(node.agent.rpc_port)));
        wait_for("it lacks descriptors", || {
            monitor.tells("oo many open files")
        });
    }
    disk.begin_fault();
    crowd
}

/// Sends events for a while, which the snapshot is to have, and sees that the node serves.
fn watch(nodes: &mut [Node], monitor: &mut Monitor, outcome: &mut Outcome) {
    let begin = Instant::now();
    let mut sent = nodes[0].stat("serf", "event_time");
    while begin.elapsed() < WATCHED {
        nodes[0].client.user_event("news", b"", false).unwrap();
        sent += 1;
        wait_until("the event comes", nodes, |nodes| {
            nodes[1].stat("serf", "event_time") >= sent
        });
        assert_eq!(nodes[1].members().len(), 2);
        outcome.complaints.extend(monitor.read());
    }
}

/// Changes tags and keys, which can't be kept.
fn change_all(nodes: &mut [Node], disk: &Disk, outcome: &mut Outcome) {
    let old = ["tags", "keyring"].map(|name| disk.read(name));
    let tags = nodes[1].client.update_tags(&[("role", "unkept")], &[]);
    outcome.tags_refusal = tags
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    for refusal in &mut outcome.key_refusals {
        let (report, _) = nodes[0].client.install_key(NEW_KEY).unwrap();
        let message = report.messages.into_iter().find(|(name, _)| name == "b");
        *refusal = message.map(|(_, text)| text).unwrap_or_default();
    }
    // What spreads is there by the time that events are which were sent later.
    let sent = nodes[1].stat("serf", "event_time");
    nodes[1].client.user_event("last", b"", false).unwrap();
    wait_until("the last event comes", nodes, |nodes| {
        nodes[0].stat("serf", "event_time") > sent
    });
    let seen = nodes[0].members()["b"].tags.get("role").map(str::to_owned);
    outcome.tags_spread = seen.as_deref() != Some("old");
    for (name, old) in ["tags", "keyring"].into_iter().zip(old) {
        let now = disk.read(name);
        let is_json = serde_json::from_str::<serde_json::Value>(&now).is_ok();
        if now != old && !is_json {
            outcome.torn.push(name);
        }
    }
}

/// Whether the snapshot has everything, before long.
fn repaired(nodes: &mut [Node], disk: &Disk) -> bool {
    let clock = format!(
        "\nevent-clock: {}\n",
        nodes[1].stat("serf", "event_time") - 1
    );
    let begin = Instant::now();
    loop {
        let text = format!("\n{}", disk.read("snapshot"));
        let has_both = ["\nalive: a ", "\nalive: b "]
            .iter()
            .all(|line| text.contains(line));
        if has_both && text.contains(&clock) && text.ends_with('\n') {
            return true;
        }
        if begin.elapsed() > REPAIR {
            return false;
        }
        if nodes[1].agent.kind == Reference {
            // It writes what is there when the members' clock goes on.
            nodes[1].client.force_leave("nobody", false).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Holds our agent to all of it. The system's words for the fault are in all that it says.
fn bears(fault: Fault, words: &str, files: &[&str]) {
    let mut outcome = live_through(Serfling, fault);
    let complaints = std::mem::take(&mut outcome.complaints);
    println!("{outcome:#?}, {complaints:#?}");
    let told = |what: &str| {
        let is_it = |line: &&String| line.contains(what) && line.contains(words);
        complaints.iter().filter(is_it).count()
    };
    // An append and its repair; then nothing until it is tried again.
    assert!(
        (1..=2).contains(&told("Failed to update snapshot")),
        "the snapshot"
    );
    assert_eq!(told("Failed to write tags file"), 1);
    assert_eq!(told("Failed to write keyring file"), 2);
    let mut refusals = outcome.key_refusals.iter().chain([&outcome.tags_refusal]);
    assert!(refusals.all(|refusal| refusal.contains(words)));
    let expected = Outcome {
        tags_refusal: outcome.tags_refusal.clone(),
        key_refusals: outcome.key_refusals.clone(),
        repaired: true,
        repair_told: true,
        kept: [true, true],
        files: files.iter().copied().map(str::to_owned).collect(),
        found_back: true,
        ..Outcome::default()
    };
    assert_eq!(outcome, expected);
}

const ALL_FILES: [&str; 3] = ["keyring", "snapshot", "tags"];

#[test]
fn a_full_disk_is_borne() {
    with_own_mounts("storage::a_full_disk_is_borne", || {
        bears(Fault::Full, "No space left on device", &ALL_FILES);
    });
}

#[test]
fn a_disk_that_becomes_read_only_is_borne() {
    with_own_mounts("storage::a_disk_that_becomes_read_only_is_borne", || {
        bears(Fault::ReadOnly, "Read-only file system", &ALL_FILES);
    });
}

#[test]
fn a_folder_that_vanishes_is_borne() {
    bears(Fault::Vanished, "No such file or directory", &ALL_FILES);
}

#[test]
fn a_lack_of_descriptors_is_borne() {
    bears(Fault::NoDescriptors, "Too many open files", &ALL_FILES);
}

/// The reference in the same faults; what it does there is for the reader, as it may do better one day.
#[test]
#[ignore = "asserts nothing, and takes minutes: shows what docs/compatibility.md says of the reference"]
fn what_the_reference_bears() {
    with_own_mounts("storage::what_the_reference_bears", || {
        for fault in [
            Fault::Full,
            Fault::ReadOnly,
            Fault::Vanished,
            Fault::NoDescriptors,
        ] {
            match catch_unwind(|| live_through(Reference, fault)) {
                Ok(mut outcome) => {
                    let complaints = std::mem::take(&mut outcome.complaints);
                    let mut texts: Vec<_> = complaints.iter().map(|line| &line[20..]).collect();
                    texts.sort_unstable();
                    texts.dedup();
                    let count = complaints.len();
                    println!("{fault:?}: {outcome:#?}, {count} complaints, such as {texts:#?}");
                }
                Err(_) => println!("{fault:?}: it did not get through, see above"),
            }
        }
    });
}

#[test]
fn a_restart_on_a_full_disk_finds_back() {
    with_own_mounts("storage::a_restart_on_a_full_disk_finds_back", || {
        let disk = Disk::new(Fault::Full);
        let mut nodes = cluster(Serfling, &disk, Fault::Full);
        disk.begin_fault();
        let mut b = nodes.pop().unwrap();
        let ports = b.ports();
        b.agent.signal(Signal::KILL);
        b.agent.wait_exit();
        // A line was torn when it was ended.
        std::fs::remove_file(disk.root().join("ballast")).unwrap();
        let snapshot = disk.read("snapshot") + "event-cl";
        std::fs::write(disk.file("snapshot"), snapshot).unwrap();
        disk.begin_fault();
        nodes.push(start(Serfling, &disk, ports, Fault::Full));
        wait_for_agreement(&mut nodes, 2);
        assert_eq!(nodes[0].members()["b"].tags.get("role"), Some("old"));
        let told = Monitor::of(&nodes[1]).read();
        for text in ["1 lines of the snapshot could not be read", "No space left"] {
            assert!(told.iter().any(|line| line.contains(text)), "{told:#?}");
        }
    });
}

#[test]
fn an_agent_that_can_t_begin_for_its_files_says_why_and_leaves_nothing() {
    let name = "storage::an_agent_that_can_t_begin_for_its_files_says_why_and_leaves_nothing";
    with_own_mounts(name, || {
        for (fault, flag, said) in [
            (
                Fault::Full,
                "rpc-addr-file",
                "can't write the RPC address to ",
            ),
            (Fault::ReadOnly, "snapshot", "snapshot_path "),
        ] {
            let disk = Disk::new(fault);
            std::fs::write(disk.file("snapshot"), "alive: a 127.0.0.1:1\n").unwrap();
            disk.begin_fault();
            let names = disk.names();
            let path = disk.file(if flag == "snapshot" { "new" } else { "address" });
            let output = Command::new(Serfling.program())
                .args(["agent", "-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0"])
                .arg(format!("-{flag}={}", path.display()))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{text}");
            let words = ["No space left", "Read-only file system"];
            assert!(words.iter().any(|words| text.contains(words)), "{text}");
            assert!(
                text.contains(&format!("{said}{}", path.display())),
                "{text}"
            );
            assert_eq!(disk.names(), names);
        }
    });
}

#[test]
fn what_could_not_be_written_is_written_at_the_end() {
    let disk = Disk::new(Fault::Vanished);
    let mut nodes = cluster(Serfling, &disk, Fault::Vanished);
    let mut monitor = Monitor::of(&nodes[1]);
    disk.begin_fault();
    nodes[0].client.user_event("news", b"", false).unwrap();
    wait_for("it can't be written", || {
        monitor.tells("Failed to update snapshot")
    });
    disk.end_fault();
    let mut b = nodes.pop().unwrap();
    b.agent.signal(Signal::TERM);
    b.agent.wait_exit();
    assert!(disk.read("snapshot").contains("alive: a "));
}

#[test]
fn a_snapshot_that_is_removed_is_made_again() {
    let disk = Disk::new(Fault::Vanished);
    let mut nodes = cluster(Serfling, &disk, Fault::Vanished);
    std::fs::remove_file(disk.file("snapshot")).unwrap();
    nodes[0].client.user_event("news", b"", false).unwrap();
    wait_until("it is there again", &mut nodes, |_| {
        disk.read("snapshot").contains("alive: a ")
    });
}
