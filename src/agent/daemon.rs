//! The life of the agent's process: it starts, serves, and ends as it is told to.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::config::{Config, ConfigError, PartialConfig, Profile};
use super::log::{LogControl, install};
use crate::address::RpcAddr;
use crate::cluster::{Standalone, StandaloneConfig};
use crate::gossip::keyring::{Key, Keyring, KeyringError};
use crate::reactor::{Server, ServerError, ServerEvent};
use crate::rpc;
use crate::serf::coalesce::{Coalescer, PERIOD, QUIESCENT_PERIOD};

/// How long a graceful leave may take after a signal (the reference's `gracefulTimeout`).
const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(3);

/// Environment variable that may hold the RPC auth key.
pub const RPC_AUTH_VARIABLE: &str = "SERFLING_RPC_AUTH";

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
    /// The agent can't do what a key asks, and to start without it would do harm.
    #[error("{0} is set, but this agent runs a cluster of one and can't do that: remove it")]
    CantDo(&'static str),
    /// The bind address can't be looked up.
    #[error("can't look up the bind address {address}: {source}")]
    Bind {
        /// As configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The encryption key is none.
    #[error("encrypt_key: {0}")]
    Key(#[from] KeyringError),
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
pub fn run(files: &[PathBuf], flags: &PartialConfig) -> Result<Exit, DaemonError> {
    let (config, warnings) = Config::load(flags.clone(), files)?;
    refuse_what_cant_be_done(&config)?;
    let bind = config.bind.resolve().map_err(|source| DaemonError::Bind {
        address: config.bind.to_string(),
        source,
    })?;
    let keyring = config
        .encrypt_key
        .as_deref()
        .map(Key::new)
        .transpose()?
        .map(Keyring::new);
    say("==> Starting Serf agent...");
    let log = install(config.log_level)?;
    info!("agent: Serf agent starting");
    for warning in warnings.into_iter().chain(without_effect(&config)) {
        warn!("agent: {warning}");
    }
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    let addr = member_address(bind.ip());
    let cluster = StandaloneConfig {
        name: config.node_name.clone(),
        addr,
        port: bind.port(),
        tags: config.tags.clone(),
        keyring,
        coalescer: Some(Coalescer::new(PERIOD, QUIESCENT_PERIOD)),
        seed: u64::from_ne_bytes(seed),
    };
    info!("serf: EventMemberJoin: {} {addr}", config.node_name);
    let cluster = Standalone::new(Instant::now(), cluster);
    let mut server = Server::new(rpc_config(&config), cluster, log.ring())?;
    say("==> Starting Serf agent RPC...");
    let rpc_addr = server.listen(&config.rpc_addr)?;
    server.watch_signals(&[SIGINT, SIGTERM, SIGHUP])?;
    if let Some(path) = &config.rpc_addr_file {
        write_address(path, &rpc_addr).map_err(|source| DaemonError::AddressFile {
            path: path.clone(),
            source,
        })?;
    }
    print_banner(&config, &rpc_addr);
    let exit = serve(&mut server, &config, &log, || {
        Config::load(flags.clone(), files).map(|(config, _)| config)
    })?;
    info!("agent: shutdown complete");
    Ok(exit)
}

/// What a cluster of one can't do, where starting without it would do harm.
fn refuse_what_cant_be_done(config: &Config) -> Result<(), DaemonError> {
    let asked = [
        ("start_join (-join)", !config.start_join.is_empty()),
        ("retry_join (-retry-join)", !config.retry_join.is_empty()),
        (
            "event_handlers (-event-handler)",
            !config.event_handlers.is_empty(),
        ),
        ("tags_file (-tags-file)", config.tags_file.is_some()),
        (
            "keyring_file (-keyring-file)",
            config.keyring_file.is_some(),
        ),
        ("discover (-discover)", config.discover.is_some()),
        ("enable_syslog (-syslog)", config.enable_syslog),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((key, _)) => Err(DaemonError::CantDo(key)),
        None => Ok(()),
    }
}

/// What is set and changes nothing for a cluster of one, in words for the operator.
fn without_effect(config: &Config) -> impl Iterator<Item = String> {
    [
        ("advertise", config.advertise.is_some()),
        ("profile", config.profile != Profile::Lan),
        ("snapshot_path", config.snapshot_path.is_some()),
        ("interface", config.interface.is_some()),
        ("statsite_addr", config.statsite_addr.is_some()),
        ("statsd_addr", config.statsd_addr.is_some()),
        (
            "query_size_limit",
            config.query_size_limit != crate::serf::message::QUERY_BYTES_MAX,
        ),
        (
            "query_response_size_limit",
            config.query_response_size_limit != crate::serf::message::QUERY_RESPONSE_BYTES_MAX,
        ),
        (
            "user_event_size_limit",
            config.user_event_size_limit != crate::serf::message::USER_EVENT_BYTES_MAX,
        ),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(key, _)| format!("{key} has no effect: this agent runs a cluster of one"))
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

/// What others see of a bind address: where it is "any", the address that packets to a private network leave from.
fn member_address(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() {
        return bind;
    }
    // Connecting a datagram socket sends nothing; it only has the system choose a route.
    let local = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("10.255.255.255", 1))?;
        socket.local_addr()
    });
    local.map_or_else(|_| IpAddr::from([127, 0, 0, 1]), |local| local.ip())
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
                        !config.skip_leave_on_interrupt
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

fn print_banner(config: &Config, rpc_addr: &RpcAddr) {
    say("==> Serf agent running!");
    let line = |key: &str, value: &dyn fmt::Display| say(&format!("{key:>31}: {value}"));
    line("Node name", &format_args!("'{}'", config.node_name));
    line("Bind addr", &format_args!("'{}'", config.bind));
    line("RPC addr", &format_args!("'{rpc_addr}'"));
    line("Encrypted", &config.encrypt_key.is_some());
    line("Snapshot", &false);
    say("\n==> Log data will now stream in as it occurs:\n");
}

/// Writes the address to a file that others wait for: it appears whole.
fn write_address(path: &Path, address: &RpcAddr) -> io::Result<()> {
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
