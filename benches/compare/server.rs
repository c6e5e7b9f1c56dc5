//! Servers as child processes, kept to the first processor.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serfling::address::RpcAddr;
use serfling::bench::Template;
use serfling::cluster::{Member, Standalone, StandaloneConfig};
use serfling::log_ring::LogRing;
use serfling::reactor::Server as RpcServer;
use serfling::rpc;

use crate::bare;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    pub(crate) gossip_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Our agent.
    pub(crate) fn ours() -> Self {
        Self::agent(env!("CARGO_BIN_EXE_serfling"))
    }

    /// The reference's.
    pub(crate) fn reference() -> Self {
        Self::agent("serf")
    }

    /// An agent named `n1`.
    pub(crate) fn agent(program: &str) -> Self {
        let (port, gossip_port) = (free_port(), free_port());
        let arguments = [
            "agent".to_owned(),
            "-node=n1".to_owned(),
            "-log-level=err".to_owned(),
            format!("-rpc-addr=127.0.0.1:{port}"),
            format!("-bind=127.0.0.1:{gossip_port}"),
        ];
        Self::start(program, &arguments, port, gossip_port)
    }

    /// A bare server that answers this request with a body so long.
    pub(crate) fn bare(request: &Template, body_bytes: usize) -> Self {
        let mut arguments = bare::arguments(request, body_bytes);
        let port = free_port();
        arguments.splice(0..0, ["--serve-bare".to_owned(), port.to_string()]);
        Self::this_program(&arguments, port)
    }

    /// The RPC server before a cluster of so many members.
    pub(crate) fn of_members(count: usize) -> Self {
        let port = free_port();
        let arguments = ["--serve-members", &port.to_string(), &count.to_string()];
        Self::this_program(&arguments.map(str::to_owned), port)
    }

    fn this_program(arguments: &[String], port: u16) -> Self {
        let own = std::env::current_exe().unwrap();
        Self::start(own.to_str().unwrap(), arguments, port, 0)
    }

    fn start(program: &str, arguments: &[String], port: u16, gossip_port: u16) -> Self {
        // `taskset` becomes the program, with the same process number.
        let child = Command::new("taskset")
            .args(["-c", "0", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("taskset, of util-linux");
        let server = Self {
            child,
            port,
            gossip_port,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                Instant::now() < deadline,
                "{program} does not listen: is it installed?"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn address(&self) -> RpcAddr {
        let address: std::net::SocketAddr = ([127, 0, 0, 1], self.port).into();
        address.into()
    }

    /// What it holds of memory.
    pub(crate) fn resident_bytes(&self) -> f64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let statm = std::fs::read_to_string(path).unwrap();
        let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as f64
    }

    /// Processor time of its threads so far, in nanoseconds.
    pub(crate) fn cpu_nanos(&self) -> f64 {
        self.threads("schedstat")
            .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// A file of each of its threads.
    fn threads(&self, file: &'static str) -> impl Iterator<Item = String> {
        let folder = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(folder)
            .unwrap()
            .flatten()
            .filter_map(move |thread| std::fs::read_to_string(thread.path().join(file)).ok())
    }

    /// How often its threads have gone to sleep so far.
    pub(crate) fn sleeps(&self) -> f64 {
        let switches = |text: String| -> Option<f64> {
            let line = text
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        self.threads("status").filter_map(switches).sum()
    }
}

/// Serves a cluster of made-up members until it is killed. `PORT COUNT`
pub(crate) fn serve_members(arguments: &[String]) {
    let [port, count] = arguments else {
        panic!("a port and how many members");
    };
    let now = Instant::now();
    let mut cluster = Standalone::new(now, StandaloneConfig::new("n1"));
    for number in 1..count.parse::<usize>().unwrap() {
        let [_, _, a, b] = (number as u32).to_be_bytes();
        let member = Member::alive(format!("node-{number:05}"), [10, 0, a, b].into(), 7946)
            .with_tags([("dc", "east"), ("role", "web")].into_iter().collect());
        cluster.put_member(now, member);
    }
    let log = Arc::new(LogRing::new());
    let mut server = RpcServer::new(rpc::Config::default(), cluster, log).unwrap();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    server.listen(&address).unwrap();
    server.run().unwrap();
}
