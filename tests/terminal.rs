//! What commands show on a terminal, with agents of both kinds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs::File;

use common::agent::{Agent, Kind};
use common::terminal::Terminal;

#[test]
fn members_watch_replaces_the_table_on_the_screen() {
    for kind in Kind::BOTH {
        let agent = Agent::start(kind, &[]);
        let mut terminal = Terminal::run(&["members", "-watch"], agent.rpc_port);
        terminal.wait_text(&["n1  ", "alive"]);
        let _other = Agent::join(Kind::Serfling, &agent, "n0");
        terminal.wait_text(&["n0  ", "role=web"]);
        let screen = terminal.screen();
        assert_eq!(screen.trim_end().lines().count(), 2, "{kind:?}: {screen}");
        assert!(screen.starts_with("n0"), "{screen}");
    }
}

#[test]
fn progress_is_for_people_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let agent = Agent::start(Kind::Serfling, &["-encrypt=AAAAAAAAAAAAAAAAAAAAAA=="]);
    let other = Agent::start(
        Kind::Serfling,
        &["-encrypt=AAAAAAAAAAAAAAAAAAAAAA==", "-node=n2"],
    );
    let address = format!("127.0.0.1:{}", other.gossip_port);
    for (arguments, progress, printed) in [
        (
            &["join", &address, &address][..],
            "Joining 2 addresses… 0 s",
            "Successfully joined cluster by contacting 2 nodes.\n",
        ),
        (
            &["keys", "-list"],
            "Waiting for all members… 0 s",
            "==> Asking all members for installed keys...\n==> Keys gathered, listing cluster keys...\n\n\
             AAAAAAAAAAAAAAAAAAAAAA==  [2/2]\n",
        ),
        (
            &["reachability"],
            "0 of 2 live members have answered… 0 s",
            "Total members: 2, live members: 2\nStarting reachability test...\nSuccessfully contacted all live nodes\n",
        ),
    ] {
        let stdout = File::create(&path).unwrap();
        let mut terminal = Terminal::run_with(arguments, agent.rpc_port, Some(stdout));
        let status = terminal.wait_exit();
        let written = terminal.written_text();
        assert!(status.success(), "{arguments:?}: {written}");
        assert!(written.contains(progress), "{arguments:?}: {written:?}");
        assert_eq!(terminal.screen().trim(), "", "{arguments:?}: it is gone");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), printed);
    }
}
