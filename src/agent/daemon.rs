//! The life of the agent's process: it starts, serves, and ends as it is told to.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::config::{Config, ConfigError, Layer};
use super::log::{LogControl, install};
use crate::cluster::{Standalone, StandaloneConfig};
use crate::reactor::{RpcAddress, Server, ServerError, ServerEvent};
use crate::serf::coalesce::{Coalescer, PERIOD, QUIESCENT_PERIOD};

/// How long a graceful leave may take after a signal (the reference's `gracefulTimeout`).
const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the agent did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The process has a log already.
    #[error("can't set up the log: {0}")]
    Log(#[from] ::log::SetLoggerError),
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
    /// The system has no randomness.
    #[error("can't read random data: {0}")]
    Random(#[from] getrandom::Error),
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It left the cluster.
    Graceful,
    /// It was told to go at once.
    Abrupt,
}

/// Runs an agent until it is told to end.
///
/// # Errors
/// [`DaemonError`].
pub fn run(files: &[PathBuf], flags: &Layer) -> Result<Exit, DaemonError> {
    let config = Config::load(files, flags.clone())?;
    say("==> Starting Serf agent...");
    let log = install(config.log_level)?;
    info!("agent: Serf agent starting");
    for warning in &config.warnings {
        warn!("agent: {warning}");
    }
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    let cluster = StandaloneConfig {
        name: config.node_name.clone(),
        addr: config.bind.ip(),
        port: config.bind.port(),
        tags: config.tags.clone(),
        keyring: config.keyring.clone(),
        coalescer: Some(Coalescer::new(PERIOD, QUIESCENT_PERIOD)),
        seed: u64::from_ne_bytes(seed),
    };
    info!(
        "serf: EventMemberJoin: {} {}",
        config.node_name,
        config.bind.ip()
    );
    let cluster = Standalone::new(Instant::now(), cluster);
    let mut server = Server::new(config.rpc.clone(), cluster, log.ring())?;
    say("==> Starting Serf agent RPC...");
    let rpc_addr = server.listen(&RpcAddress::parse(&config.rpc_addr))?;
    server.watch_signals(&[SIGINT, SIGTERM, SIGHUP])?;
    if let Some(path) = &config.rpc_addr_file {
        write_address(path, &rpc_addr).map_err(|source| DaemonError::AddressFile {
            path: path.clone(),
            source,
        })?;
    }
    print_banner(&config, &rpc_addr);
    let exit = serve(&mut server, &config, &log, || {
        Config::load(files, flags.clone())
    })?;
    info!("agent: shutdown complete");
    Ok(exit)
}

/// Serves until a client or a signal ends it.
fn serve(
    server: &mut Server<Standalone>,
    config: &Config,
    log: &LogControl,
    reload: impl Fn() -> Result<Config, ConfigError>,
) -> io::Result<Exit> {
    let mut leaving_until: Option<Instant> = None;
    let mut exit = Exit::Graceful;
    while !server.is_stopped() {
        let left = leaving_until.map(|until| until.saturating_duration_since(Instant::now()));
        server.turn(left)?;
        if left.is_some_and(|left| left.is_zero()) {
            exit = Exit::Abrupt;
            server.stop();
            leaving_until = None;
        }
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Left => leaving_until = None,
                ServerEvent::Signal(SIGHUP) => reload_config(log, &reload),
                ServerEvent::Signal(signal) => {
                    let name = if signal == SIGINT {
                        "interrupt"
                    } else {
                        "terminated"
                    };
                    say(&format!("==> Caught signal: {name}"));
                    let graceful = if signal == SIGINT {
                        config.leave_on_interrupt
                    } else {
                        config.leave_on_terminate
                    };
                    if graceful && leaving_until.is_none() {
                        say("==> Gracefully shutting down agent...");
                        info!("agent: requesting graceful leave from Serf");
                        leaving_until = Some(Instant::now() + GRACEFUL_TIMEOUT);
                        server.leave();
                    } else {
                        exit = Exit::Abrupt;
                        server.stop();
                    }
                }
                ServerEvent::Event(_) => {}
            }
        }
    }
    Ok(exit)
}

/// Takes over what a running agent can take over: the log level.
fn reload_config(log: &LogControl, reload: impl Fn() -> Result<Config, ConfigError>) {
    say("==> Reloading configuration...");
    match reload() {
        Ok(config) => {
            log.set_level(config.log_level);
            info!(
                "agent: Reloaded the log level, {}; other changes take effect at the next start",
                config.log_level
            );
        }
        Err(error) => {
            warn!("agent: Failed to reload the configuration, which stays as it was: {error}")
        }
    }
}

fn print_banner(config: &Config, rpc_addr: &RpcAddress) {
    say("==> Serf agent running!");
    let line = |key: &str, value: &dyn fmt::Display| say(&format!("{key:>31}: {value}"));
    line("Node name", &format_args!("'{}'", config.node_name));
    line("Bind addr", &format_args!("'{}'", config.bind));
    line("RPC addr", &format_args!("'{rpc_addr}'"));
    line("Encrypted", &config.keyring.is_some());
    line("Snapshot", &false);
    say("\n==> Log data will now stream in as it occurs:\n");
}

/// Writes the address to a file that others wait for: it appears whole.
fn write_address(path: &Path, address: &RpcAddress) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    fs::write(&temporary, format!("{address}\n"))?;
    fs::rename(temporary, path)
}

/// Prints a line of the agent's own, which nobody may read.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
