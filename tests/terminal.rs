//! What people see: `top`, `members -watch` and progress on a pseudo-terminal, with agents of both kinds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::agent::{Agent, Kind};
use common::{PATIENCE, wait_for};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A program on a terminal. Killed when dropped.
struct Terminal {
    keyboard: File,
    /// The program's end, kept open so that it can be looked at when the program has ended.
    program_end: OwnedFd,
    child: Child,
    emulator: vt100::Parser,
    /// Everything that was written to the terminal.
    written: Vec<u8>,
}

impl Terminal {
    /// Runs the program with this terminal for all it reads and writes.
    fn run(arguments: &[&str], rpc_port: u16) -> Self {
        Self::run_with(arguments, rpc_port, None)
    }

    /// The same, with standard output elsewhere.
    fn run_with(arguments: &[&str], rpc_port: u16, stdout: Option<File>) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program_end = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        resize(&master, ROWS, COLUMNS);
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        let end = || program_end.try_clone().unwrap();
        let child = Command::new(Kind::Serfling.program())
            .args(arguments)
            .env("SERF_RPC_ADDR", format!("127.0.0.1:{rpc_port}"))
            .env("TERM", "xterm-256color")
            .env_remove("SERF_RPC_AUTH")
            .stdin(end())
            .stdout(stdout.map_or_else(|| Stdio::from(end()), Stdio::from))
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            keyboard: master.into(),
            program_end,
            child,
            emulator: vt100::Parser::new(cells(ROWS), cells(COLUMNS), 0),
            written: Vec::new(),
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Takes in what was written.
    fn read(&mut self) {
        let mut buffer = [0; 65536];
        while let Ok(count) = self.keyboard.read(&mut buffer) {
            self.emulator.process(&buffer[..count]);
            self.written.extend_from_slice(&buffer[..count]);
        }
    }

    /// What is on the screen.
    fn screen(&mut self) -> String {
        self.read();
        self.emulator.screen().contents()
    }

    /// Waits until the screen has all these texts.
    fn wait_text(&mut self, texts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap();
            let screen = self.screen();
            if texts.iter().all(|text| screen.contains(text)) {
                return;
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{texts:?} is not on the screen ({ended:?}), but\n{screen}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the program ends", || {
            self.read();
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.read();
        status.unwrap()
    }

    /// Whether lines are edited and shown as they are typed, as it is before and after a program in raw mode.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.program_end).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn written_text(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

fn resize(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

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

/// An agent that has joined another.
fn joined(kind: Kind, to: &Agent, name: &str) -> Agent {
    let join = format!("-join=127.0.0.1:{}", to.gossip_port);
    Agent::start(kind, &[&format!("-node={name}"), &join, "-tag=role=web"])
}

#[test]
fn members_watch_replaces_the_table_on_the_screen() {
    for kind in Kind::BOTH {
        let agent = Agent::start(kind, &[]);
        let mut terminal = Terminal::run(&["members", "-watch"], agent.rpc_port);
        terminal.wait_text(&["n1  ", "alive"]);
        let _other = joined(Kind::Serfling, &agent, "n0");
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

#[cfg(feature = "top")]
mod top {
    use super::*;

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
            let _other = joined(other, &agent, "n0");
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
}
