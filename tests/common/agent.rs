//! Agents as child processes: the reference and our own, with the same arguments.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::raw::RawClient;
use super::wait_for;

/// Which program to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Reference,
    Serfling,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Reference, Self::Serfling];

    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Reference => "serf",
            Self::Serfling => env!("CARGO_BIN_EXE_serfling"),
        }
    }
}

/// A running agent. Killed when dropped.
pub struct Agent {
    pub kind: Kind,
    pub child: Child,
    pub rpc_port: u16,
    pub gossip_port: u16,
    folder: tempfile::TempDir,
}

/// A port that nobody uses, neither for streams nor for datagrams.
pub fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Agent {
    /// Starts an agent named `n1` and waits until it answers.
    pub fn start(kind: Kind, arguments: &[&str]) -> Self {
        Self::start_with(kind, arguments, None, None)
    }

    /// Starts an agent with a configuration file, and with at most so many descriptors.
    pub fn start_with(
        kind: Kind,
        arguments: &[&str],
        config: Option<&str>,
        descriptors: Option<u32>,
    ) -> Self {
        let ports = (free_port(), free_port());
        Self::start_at(kind, arguments, config, descriptors, ports)
    }

    /// Starts an agent whose RPC and gossip ports are known.
    pub fn start_at(
        kind: Kind,
        arguments: &[&str],
        config: Option<&str>,
        descriptors: Option<u32>,
        ports: (u16, u16),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, kind, arguments, config, descriptors, ports)
    }

    /// The same, with its log in this folder.
    pub fn start_in(
        folder: tempfile::TempDir,
        kind: Kind,
        arguments: &[&str],
        config: Option<&str>,
        descriptors: Option<u32>,
        (rpc_port, gossip_port): (u16, u16),
    ) -> Self {
        let log = File::create(folder.path().join("log")).expect("a log file");
        // The limit is the shell's to set, and `exec` leaves the agent with the shell's process number.
        let limit = descriptors.map_or(String::new(), |count| format!("ulimit -n {count}; "));
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("{limit}exec \"$@\""),
            "sh",
            kind.program(),
            "agent",
            "-node=n1",
        ]);
        command
            .arg(format!("-bind=127.0.0.1:{gossip_port}"))
            .arg(format!("-rpc-addr=127.0.0.1:{rpc_port}"));
        if let Some(config) = config {
            let path = folder.path().join("config.json");
            std::fs::write(&path, config).expect("a configuration file");
            command.arg(format!("-config-file={}", path.display()));
        }
        command.args(arguments).stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        command
            .env_remove("SERF_RPC_ADDR")
            .env_remove("SERF_RPC_AUTH");
        let child = command.spawn().expect("the agent starts");
        let mut agent = Self {
            kind,
            child,
            rpc_port,
            gossip_port,
            folder,
        };
        wait_for("the agent answers", || {
            if let Some(status) = agent.child.try_wait().expect("a status") {
                panic!(
                    "{} ended with {status}: is it installed? tests/run installs the reference. It said:\n{}",
                    kind.program(),
                    agent.log()
                );
            }
            RawClient::try_connect(rpc_port).is_some_and(|mut client| client.try_handshake())
        });
        agent
    }

    /// Starts an agent of this name, with the tag `role=web`, that has joined another.
    pub fn join(kind: Kind, to: &Self, name: &str) -> Self {
        let join = format!("-join=127.0.0.1:{}", to.gossip_port);
        Self::start(kind, &[&format!("-node={name}"), &join, "-tag=role=web"])
    }

    /// Everything the agent has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The folder where its files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A client that has performed the handshake.
    pub fn client(&self) -> RawClient {
        let mut client = RawClient::connect(self.rpc_port);
        assert!(client.try_handshake(), "the handshake succeeds");
        client
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process number"), signal)
            .expect("the signal is sent");
    }

    /// Waits for the agent's end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the agent ends", || {
            status = self.child.try_wait().expect("a status");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// A number of `/proc/PID/status`, in KiB.
    pub fn status_kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("a status file");
        let line = status
            .lines()
            .find(|line| line.starts_with(key))
            .expect("the key");
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// Processor time used so far, in clock ticks (a hundredth of a second).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("a stat file");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().expect("user time")
            + fields[12].parse::<u64>().expect("system time")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
