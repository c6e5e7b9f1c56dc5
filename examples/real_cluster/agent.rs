//! An agent of either kind as a process of its own, on an address of its own.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serfling::client::{Client, Options};

/// How long an agent may take to answer after its start.
const START_PATIENCE: Duration = Duration::from_secs(20);
const RPC_PORT: u16 = 7373;
const GOSSIP_PORT: u16 = 7946;

/// Which program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Serfling,
    Reference,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Serfling, Self::Reference];

    /// The program: ours of this build, or the reference's of the system.
    fn program(self) -> Result<PathBuf, Box<dyn Error>> {
        if self == Self::Reference {
            return Ok("serf".into());
        }
        let own = std::env::current_exe()?;
        let folder = own.parent().and_then(Path::parent);
        let program = folder.map(|folder| folder.join("serfling"));
        program
            .filter(|program| program.exists())
            .ok_or_else(|| "there is no serfling of this build: cargo build --release".into())
    }
}

/// A running agent. Killed when dropped, and when this process ends.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) client: Client,
    address: String,
    child: Child,
}

impl Agent {
    /// Starts an agent with nothing set but its name and addresses, and waits until it answers. The log goes to a file in
    /// the folder.
    pub(crate) fn start(
        kind: Kind,
        name: &str,
        address: &str,
        folder: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(kind.program()?)
            .args(["agent", &format!("-node={name}")])
            .arg(format!("-bind={address}:{GOSSIP_PORT}"))
            .arg(format!("-rpc-addr={address}:{RPC_PORT}"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let deadline = Instant::now() + START_PATIENCE;
        let client = loop {
            match connect(address) {
                Ok(client) => break client,
                Err(_) if child.try_wait()?.is_none() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    let _ = child.kill();
                    let log = std::fs::read_to_string(log)?;
                    return Err(format!("{name} does not answer: {error}\n{log}").into());
                }
            }
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
            client,
            address: address.to_owned(),
            child,
        })
    }

    /// Where others find it.
    pub(crate) fn gossip_address(&self) -> String {
        format!("{}:{GOSSIP_PORT}", self.address)
    }

    /// A further connection.
    pub(crate) fn connect(&self) -> Result<Client, Box<dyn Error>> {
        connect(&self.address)
    }

    /// Ends it so that it can't say so to anybody.
    pub(crate) fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Processor time of all its threads so far, in seconds.
    pub(crate) fn processor_seconds(&self) -> std::io::Result<f64> {
        let mut nanos = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += text
                .split(' ')
                .next()
                .and_then(|run| run.parse().ok())
                .unwrap_or(0.0);
        }
        Ok(nanos / 1e9)
    }

    /// A figure of `/proc/PID/status`, in MiB.
    pub(crate) fn memory_mib(&self, key: &str) -> Result<f64, Box<dyn Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib
            .ok_or("the system does not tell the agent's memory")?
            .parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn connect(address: &str) -> Result<Client, Box<dyn Error>> {
    let address = format!("{address}:{RPC_PORT}").parse()?;
    Ok(Client::connect(&Options::new(address))?)
}
