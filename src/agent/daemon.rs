//! The life of the agent's process: it starts, serves, and ends as it is told to.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::{info, warn};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::config::host_name;
use super::config::{Config, ConfigError, PartialConfig};
use super::discovery::{self, DiscoverError, Discovery};
use super::files;
use super::log::{LogError, LogOptions, install};
use super::node::{self, Node, NodeError};
use super::running::Agent;
use super::statsd::Reporter;
use crate::address::RpcAddr;
use crate::reactor::{Server, ServerError};
use crate::rpc;

/// Environment variable that may hold the RPC auth key.
pub const RPC_AUTH_VARIABLE: &str = "SERFLING_RPC_AUTH";
/// Everybody may read and write, as far as the process's mask lets them.
const PUBLIC_MODE: u32 = 0o666;

/// Why the agent did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The RPC server can't be set up.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system's poll failed.
    #[error("the event loop failed: {0}")]
    Loop(#[from] io::Error),
    /// The bound address can't be written down.
    #[error("can't write the RPC address to {path}: {source}")]
    AddressFile {
        /// Where to.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Other nodes can't be found by multicast DNS.
    #[error("discover: {0}")]
    Discover(#[from] DiscoverError),
    /// The metrics page can't be served.
    #[error("can't serve metrics at {address}: {source}")]
    Metrics {
        /// As configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Figures can't be reported.
    #[error("{key}: can't reach it: {source}")]
    Collector {
        /// The key that names it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// There is no node.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It left the cluster.
    Graceful,
    /// It was told to go at once, or could not go on.
    Abrupt,
}

/// Runs an agent until it is told to end.
///
/// # Errors
/// [`DaemonError`].
pub fn run(files: &[PathBuf], flags: &PartialConfig) -> Result<Exit, DaemonError> {
    let (config, warnings) = Config::load(flags.clone(), files)?;
    say("==> Starting Serf agent...");
    let log = install(LogOptions {
        level: config.log_level,
        json: config.log_json,
        syslog: config.enable_syslog.then_some(config.syslog_facility),
    })?;
    info!("agent: Serf agent starting");
    for warning in warnings {
        warn!("agent: {warning}");
    }
    let Node {
        serf,
        port,
        files: kept,
        encrypted,
    } = node::open(Instant::now(), &config)?;
    let bind_addr = port.local_addr();
    let mut server = Server::new(rpc_config(&config), serf, log.ring())?;
    server.open_gossip_port(port)?;
    say("==> Starting Serf agent RPC...");
    let rpc_addr = server.listen(&config.rpc_addr)?;
    if let Some(address) = &config.metrics_addr {
        let failed = |source| DaemonError::Metrics {
            address: address.to_string(),
            source,
        };
        let addr = address.resolve().map_err(failed)?;
        let addr = server.listen_metrics(addr).map_err(failed)?;
        info!("agent: Serving metrics at http://{addr}/metrics");
    }
    server.watch_signals(&[SIGINT, SIGTERM, SIGHUP, SIGCHLD])?;
    if let Some(path) = &config.rpc_addr_file {
        write_address(path, &rpc_addr).map_err(|source| DaemonError::AddressFile {
            path: path.clone(),
            source,
        })?;
    }
    print_banner(&config, &bind_addr, &rpc_addr, encrypted);
    let discovery = Discovery::open(&config, &bind_addr.ip(), &mut server)?;
    let reporter = reporter(&config)?;
    let agent = Agent::new(server, kept, config, log, reporter, discovery);
    let exit = agent.run(|| Config::load(flags.clone(), files).map(|(config, _)| config))?;
    info!("agent: shutdown complete");
    Ok(exit)
}

/// Checks a configuration, and the files it names, as far as that goes without starting; returns what is odd about it.
///
/// # Errors
/// [`DaemonError`].
pub fn check(files: &[PathBuf], flags: &PartialConfig) -> Result<Vec<String>, DaemonError> {
    let (config, warnings) = Config::load(flags.clone(), files)?;
    discovery::check(&config)?;
    node::check(&config)?;
    Ok(warnings)
}

/// Reports figures to whom the configuration names.
fn reporter(config: &Config) -> Result<Reporter, DaemonError> {
    let mut reporter = Reporter::new(Instant::now(), host_name());
    let failed = |key: &'static str| move |source| DaemonError::Collector { key, source };
    if let Some(address) = &config.statsd_addr {
        let key = "statsd_addr";
        let addr = address.resolve().map_err(failed(key))?;
        reporter.add_statsd(addr).map_err(failed(key))?;
    }
    if let Some(address) = &config.statsite_addr {
        let addr = address.resolve().map_err(failed("statsite_addr"))?;
        reporter.add_statsite(addr);
    }
    Ok(reporter)
}

fn rpc_config(config: &Config) -> rpc::Config {
    let from_environment = || {
        std::env::var(RPC_AUTH_VARIABLE)
            .ok()
            .filter(|key| !key.is_empty())
    };
    rpc::Config {
        auth_key: config.rpc_auth.clone().or_else(from_environment),
        clients_max: config.rpc_max_clients,
        handshake_timeout: config.rpc_handshake_timeout,
        outbox_bytes_max: config.rpc_queue_bytes,
        overflow: config.rpc_overflow,
        ..rpc::Config::default()
    }
}

fn print_banner(
    config: &Config,
    bind_addr: &dyn fmt::Display,
    rpc_addr: &RpcAddr,
    encrypted: bool,
) {
    say("==> Serf agent running!");
    let line = |key: &str, value: &dyn fmt::Display| say(&format!("{key:>31}: {value}"));
    line("Node name", &format_args!("'{}'", config.node_name));
    line("Bind addr", &format_args!("'{bind_addr}'"));
    if let Some(advertise) = &config.advertise {
        line("Advertise addr", &format_args!("'{advertise}'"));
    }
    line("RPC addr", &format_args!("'{rpc_addr}'"));
    line("Encrypted", &encrypted);
    line("Snapshot", &config.snapshot_path.is_some());
    line("Profile", &config.profile.as_str());
    line("Message Compression Enabled", &config.enable_compression);
    if let Some(cluster) = &config.discover {
        line("mDNS cluster", cluster);
    }
    say("\n==> Log data will now stream in as it occurs:\n");
}

/// Writes the address to a file that others wait for: it appears whole.
fn write_address(path: &Path, address: &RpcAddr) -> io::Result<()> {
    files::replace(path, format!("{address}\n").as_bytes(), PUBLIC_MODE)
}

/// Prints a line of the agent's own, which nobody may read.
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
