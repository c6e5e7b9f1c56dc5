//! A program on a pseudo-terminal, and what its screen shows.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::agent::Kind;
use super::{PATIENCE, wait_for};

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A program on a terminal. Killed when dropped.
pub struct Terminal {
    pub keyboard: File,
    /// The program's end, kept open so that it can be looked at when the program has ended.
    program_end: OwnedFd,
    pub child: Child,
    pub emulator: vt100::Parser,
    /// Everything that was written to the terminal.
    written: Vec<u8>,
}

impl Terminal {
    /// Runs the program with this terminal for all it reads and writes.
    pub fn run(arguments: &[&str], rpc_port: u16) -> Self {
        Self::run_with(arguments, rpc_port, None)
    }

    /// The same, with standard output elsewhere.
    pub fn run_with(arguments: &[&str], rpc_port: u16, stdout: Option<File>) -> Self {
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

    pub fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
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
    pub fn screen(&mut self) -> String {
        self.read();
        self.emulator.screen().contents()
    }

    /// Waits until the screen has all these texts.
    pub fn wait_text(&mut self, texts: &[&str]) {
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

    pub fn wait_exit(&mut self) -> ExitStatus {
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
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.program_end).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    pub fn written_text(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}
