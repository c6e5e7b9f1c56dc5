//! `members -watch`: the list again whenever it changes, with agents of both kinds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::process::{Child, Command};

use common::agent::{Agent, Kind};
use common::wait_for;

/// A running `members -watch` whose output goes to a file. Killed when dropped.
struct Watch {
    child: Child,
    folder: tempfile::TempDir,
}

impl Watch {
    fn start(agent: &Agent, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        let child = Command::new(Kind::Serfling.program())
            .args(["members", "-watch"])
            .arg(format!("-rpc-addr=127.0.0.1:{}", agent.rpc_port))
            .args(arguments)
            .stdout(create("out"))
            .stderr(create("err"))
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn file(&self, name: &str) -> String {
        let path: &Path = self.folder.path();
        std::fs::read_to_string(path.join(name)).unwrap()
    }

    /// The tables so far, each as its rows.
    fn tables(&self) -> Vec<Vec<String>> {
        let out = self.file("out");
        let tables = out.split("\n\n");
        tables
            .map(|table| table.lines().map(str::to_owned).collect())
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_table_follows_each_change() {
    for kind in Kind::BOTH {
        let mut agent = Agent::start(kind, &[]);
        let mut watch = Watch::start(&agent, &[]);
        wait_for("the first table", || watch.file("out").ends_with('\n'));
        let first = watch.tables();
        assert_eq!(first.len(), 1, "{kind:?}");
        assert!(
            first[0].len() == 1 && first[0][0].starts_with("n1 "),
            "{first:?}"
        );

        let other = Agent::join(Kind::Serfling, &agent, "n0");
        wait_for("a table of two", || {
            watch.tables().last().is_some_and(|table| {
                table.len() == 2 && table[0].starts_with("n0 ") && table[1].starts_with("n1 ")
            })
        });
        let set = Command::new(Kind::Serfling.program())
            .args(["tags", "-set", "role=web"])
            .arg(format!("-rpc-addr=127.0.0.1:{}", other.rpc_port))
            .status();
        assert!(set.unwrap().success());
        wait_for("a table with the tag", || {
            let tables = watch.tables();
            tables
                .last()
                .is_some_and(|table| table[0].ends_with("role=web"))
        });
        let tables = watch.tables();
        assert!(
            tables.windows(2).all(|pair| pair[0] != pair[1]),
            "{tables:?}"
        );

        agent.child.kill().unwrap();
        agent.wait_exit();
        assert_eq!(watch.child.wait().unwrap().code(), Some(1));
        let said = watch.file("err");
        assert!(
            said.starts_with("Error waiting for changes: ") && said.contains("\nHint: "),
            "{said}"
        );
    }
}

#[test]
fn in_json_a_line_is_a_list() {
    for kind in Kind::BOTH {
        let agent = Agent::start(kind, &[]);
        let watch = Watch::start(&agent, &["-format=json", "-name=n[01]"]);
        let names = || -> Vec<Vec<String>> {
            let out = watch.file("out");
            let whole = out
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            whole
                .map(|line| {
                    let list: serde_json::Value = serde_json::from_str(line).unwrap();
                    let members = list["members"].as_array().unwrap().clone();
                    let name =
                        |member: &serde_json::Value| member["name"].as_str().unwrap().to_owned();
                    members.iter().map(name).collect()
                })
                .collect()
        };
        wait_for("the first list", || names() == [["n1"]]);
        let everybody = Watch::start(&agent, &[]);
        let _unseen = Agent::join(Kind::Serfling, &agent, "other");
        wait_for("the agent tells of the other", || {
            everybody.file("out").contains("other")
        });
        let _seen = Agent::join(Kind::Serfling, &agent, "n0");
        wait_for("a list of two", || {
            names().last().is_some_and(|names| names == &["n0", "n1"])
        });
        assert_eq!(names().len(), 2, "who is not asked for is no change");
    }
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let agent = Agent::start(Kind::Serfling, &[]);
    let mut line = Command::new("sh")
        .args([
            "-c",
            "\"$0\" members -watch -rpc-addr=\"$1\" | sed q; echo ended",
        ])
        .arg(Kind::Serfling.program())
        .arg(format!("127.0.0.1:{}", agent.rpc_port))
        .spawn()
        .unwrap();
    let mut client = agent.client();
    wait_for("it follows", || client.stat("rpc", "streams") == 1);
    // The reader may end after this, so there may have to be another change.
    let mut round = 0;
    wait_for("it ends", || {
        round += 1;
        let tag = format!("-set=round={round}");
        let set = Command::new(Kind::Serfling.program())
            .args(["tags", &tag])
            .arg(format!("-rpc-addr=127.0.0.1:{}", agent.rpc_port))
            .output();
        assert!(set.unwrap().status.success());
        line.try_wait().unwrap().is_some()
    });
    wait_for("the stream is gone", || client.stat("rpc", "streams") == 0);
}
