//! `top` on a pseudo-terminal, with agents of both kinds.

#![cfg(feature = "top")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::{Command, Stdio};

use common::agent::{Agent, Kind};
use common::terminal::{Terminal, cells, resize};
use common::wait_for;
use rustix::process::Signal;

/// Runs a command that must succeed.
fn command(agent: &Agent, arguments: &[&str]) {
    let output = Command::new(Kind::Serfling.program())
        .args(arguments)
        .env("SERF_RPC_ADDR", format!("127.0.0.1:{}", agent.rpc_port))
        .env_remove("SERF_RPC_AUTH")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn members_and_events_appear_as_they_come() {
    for kind in Kind::BOTH {
        let agent = Agent::start(kind, &[]);
        let mut top = Terminal::run(&["top"], agent.rpc_port);
        top.wait_text(&["n1 at 127.0.0.1:", "health 0", "Members 1-1 of 1", "here"]);
        let told = if kind == Kind::Serfling {
            "dropped: clients 0"
        } else {
            "dropped: clients -"
        };
        top.wait_text(&[told]);

        let other = Kind::BOTH.into_iter().find(|other| *other != kind).unwrap();
        let _other = Agent::join(other, &agent, "n0");
        // The reference may tell of both nodes at once.
        top.wait_text(&["Members 1-2 of 2", "member-join", "role=web"]);
        // The round trip to the other, once it was probed.
        top.wait_text(&[" ms  role=web"]);
        command(&agent, &["event", "-coalesce=false", "deploy", "v1.2.3"]);
        top.wait_text(&["user           deploy v1.2.3"]);
        command(&agent, &["query", "-timeout=100ms", "load"]);
        top.wait_text(&["query          load"]);

        top.press(b"/deploy\r");
        top.wait_text(&["filter \"deploy\"", "Members 0 of 0", "Events 1-1 of 1"]);
        top.press(b"q");
        assert_eq!(top.wait_exit().code(), Some(0), "{kind:?}");
    }
}

#[test]
fn an_agent_that_goes_and_comes_back_is_found_again() {
    for kind in Kind::BOTH {
        let mut agent = Agent::start(kind, &[]);
        let mut top = Terminal::run(&["top"], agent.rpc_port);
        top.wait_text(&["Members 1-1 of 1", "here"]);
        agent.child.kill().unwrap();
        agent.wait_exit();
        top.wait_text(&["Lost the agent, next try in"]);
        top.wait_text(&["Connection refused"]);
        let ports = (agent.rpc_port, agent.gossip_port);
        let _again = Agent::start_at(kind, &["-tag=round=two"], None, None, ports);
        top.wait_text(&["round=two", "q quit"]);
        assert!(!top.screen().contains("Lost"));
        top.press(b"q");
        assert!(top.wait_exit().success());
    }
}

#[test]
fn the_terminal_is_restored_on_every_way_out() {
    type End = fn(&mut Terminal);
    let ends: [(&str, End); 6] = [
        ("q", |top| top.press(b"q")),
        ("Ctrl-C", |top| top.press(b"\x03")),
        ("SIGTERM", |top| top.signal(Signal::TERM)),
        ("SIGINT", |top| top.signal(Signal::INT)),
        ("SIGHUP", |top| top.signal(Signal::HUP)),
        ("SIGQUIT", |top| top.signal(Signal::QUIT)),
    ];
    let agent = Agent::start(Kind::Serfling, &[]);
    for (name, end) in ends {
        let mut top = Terminal::run(&["top"], agent.rpc_port);
        top.wait_text(&["Members 1-1 of 1"]);
        assert!(!top.is_cooked() && top.emulator.screen().alternate_screen());
        end(&mut top);
        assert_eq!(top.wait_exit().code(), Some(0), "{name}");
        assert!(top.is_cooked(), "{name}");
        let screen = top.emulator.screen();
        assert!(
            !screen.alternate_screen() && !screen.hide_cursor(),
            "{name}"
        );
        assert_eq!(screen.contents(), "", "{name}");
    }
}

#[test]
fn it_ends_when_its_terminal_goes() {
    let agent = Agent::start(Kind::Serfling, &[]);
    let mut top = Terminal::run(&["top"], agent.rpc_port);
    top.wait_text(&["Members 1-1 of 1"]);
    let Terminal { child, .. } = &mut top;
    let mut child = std::mem::replace(child, Command::new("true").spawn().unwrap());
    drop(top);
    wait_for("it ends", || child.try_wait().unwrap().is_some());
}

#[test]
fn it_follows_the_size_of_the_terminal_and_takes_a_long_paste() {
    let agent = Agent::start(Kind::Serfling, &[]);
    let mut top = Terminal::run(&["top"], agent.rpc_port);
    top.wait_text(&["Members 1-1 of 1", "Events 0 of 0"]);
    top.emulator.screen_mut().set_size(cells(6), cells(40));
    resize(&top.keyboard, 6, 40);
    top.signal(Signal::WINCH);
    wait_for("the small view", || {
        let screen = top.screen();
        !screen.contains("Events")
            && screen
                .lines()
                .nth(5)
                .is_some_and(|line| line.starts_with("q quit"))
    });
    let paste = [b"/".as_slice(), &[b'x'; 3000]].concat();
    top.press(&paste);
    let kept = format!("/{}", "x".repeat(39));
    top.wait_text(&[&kept]);
    wait_for("it waits for more", || {
        top.press(b"\x1b");
        top.screen().contains("q quit")
    });
    top.press(b"q");
    assert!(top.wait_exit().success());
}

#[test]
fn without_a_terminal_or_an_agent_it_says_what_to_do() {
    let agent = Agent::start(Kind::Serfling, &[]);
    let output = Command::new(Kind::Serfling.program())
        .args(["top", &format!("-rpc-addr=127.0.0.1:{}", agent.rpc_port)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("`top` needs a terminal\nHint: `serfling members -watch`"),
        "{said}"
    );

    let mut top = Terminal::run(&["top"], 1);
    assert_eq!(top.wait_exit().code(), Some(1));
    let said = top.written_text();
    assert!(
        said.contains("Connection refused") && said.contains("Hint: is the agent running"),
        "{said}"
    );
    assert!(top.is_cooked() && !said.contains('\x1b'), "{said:?}");
}
