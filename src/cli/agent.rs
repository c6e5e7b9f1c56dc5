//! `agent`: runs an agent.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::flags::{flag, is_on, repeated, switch, text, texts};
use super::{CliError, print};
use crate::agent::config::{MdnsConfig, PartialConfig, duration};
use crate::agent::daemon::{self, Exit};

pub(super) fn command() -> Command {
    Command::new("agent")
        .about("Runs a Serf agent")
        .arg(flag(
            "node",
            "name",
            "Name of this node, unique in the cluster [default: the host's]",
        ))
        .arg(flag(
            "bind",
            "address",
            "Address to gossip at [default: 0.0.0.0:7946]",
        ))
        .arg(flag(
            "advertise",
            "address",
            "Address that others reach this node at",
        ))
        .arg(flag(
            "rpc-addr",
            "address",
            "Where RPC clients connect: host:port or unix:/path [default: 127.0.0.1:7373]",
        ))
        .arg(flag(
            "rpc-addr-file",
            "path",
            "File to write the bound RPC address to",
        ))
        .arg(flag(
            "handler-timeout",
            "time",
            "How long an event handler may run before it is told to end [default: no limit]",
        ))
        .arg(flag(
            "handler-parallel",
            "n",
            "How many commands of one event handler run at once; more than 1 give up their order [default: 1]",
        ))
        .arg(switch(
            "handler-stdout-only",
            "false",
            "Whether queries are answered with standard output alone; standard error is logged",
        ))
        .arg(flag(
            "gossip-label",
            "label",
            "Keeps clusters apart that share a network; the same on all nodes of one",
        ))
        .arg(flag(
            "rpc-max-clients",
            "n",
            "How many RPC clients may be connected [default: 65536]",
        ))
        .arg(flag(
            "rpc-handshake-timeout",
            "duration",
            "How long an RPC client may take for handshake and auth [default: 10s]",
        ))
        .arg(repeated(
            "config-file",
            "path",
            "JSON file to read configuration from; may be given several times",
        ))
        .arg(repeated(
            "config-dir",
            "path",
            "Folder whose .json files are read, in the order of their names",
        ))
        .arg(repeated(
            "tag",
            "key=value",
            "Tag of this node; may be given several times",
        ))
        .arg(flag("tags-file", "path", "File that keeps the tags"))
        .arg(flag("role", "role", "Deprecated: use -tag role=..."))
        .arg(flag(
            "encrypt",
            "key",
            "Key to encrypt gossip with, in base64; see keygen",
        ))
        .arg(flag("keyring-file", "path", "File that keeps the keys"))
        .arg(flag(
            "log-level",
            "level",
            "The lowest level to log: trace, debug, info, warn or err [default: info]",
        ))
        .arg(repeated(
            "event-handler",
            "[filter=]script",
            "What to run when something happens",
        ))
        .arg(repeated(
            "join",
            "address",
            "Address to join at start; may be given several times",
        ))
        .arg(repeated(
            "retry-join",
            "address",
            "Address to join, again and again until it works",
        ))
        .arg(flag(
            "retry-interval",
            "duration",
            "Time between such attempts",
        ))
        .arg(flag("retry-max", "n", "How often to try; 0 for ever"))
        .arg(switch(
            "replay",
            "false",
            "Whether to hear of user events from before the join",
        ))
        .arg(switch(
            "rejoin",
            "false",
            "Whether to join again after a leave",
        ))
        .arg(flag(
            "snapshot",
            "path",
            "File that keeps what is needed to join again",
        ))
        .arg(flag("profile", "lan|wan|local", "Timing of gossip"))
        .arg(flag("protocol", "n", "Serf protocol version to speak"))
        .arg(flag(
            "discover",
            "cluster",
            "Name of the cluster to find by mDNS",
        ))
        .arg(flag("iface", "interface", "Network interface to bind to"))
        .arg(flag(
            "mdns-iface",
            "interface",
            "Network interface to use for mDNS",
        ))
        .arg(switch(
            "mdns-disable-ipv4",
            "false",
            "Whether mDNS does without IPv4",
        ))
        .arg(switch(
            "mdns-disable-ipv6",
            "false",
            "Whether mDNS does without IPv6",
        ))
        .arg(flag(
            "metrics-addr",
            "address",
            "Where to serve a page of figures for Prometheus, at /metrics",
        ))
        .arg(switch(
            "check",
            "false",
            "Whether to check the configuration only, and end",
        ))
        .arg(switch(
            "log-json",
            "false",
            "Whether the log on standard error is JSON, an object a line",
        ))
        .arg(switch("syslog", "false", "Whether to log to syslog too"))
        .arg(switch(
            "disable-compression",
            "false",
            "Whether gossip is not compressed",
        ))
        .arg(flag(
            "broadcast-timeout",
            "duration",
            "How long to wait for others to hear of something",
        ))
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let mut files: Vec<(usize, PathBuf)> = Vec::new();
    for name in ["config-file", "config-dir"] {
        // Files and folders count in the order they stand on the command line.
        let places = matches.indices_of(name).into_iter().flatten();
        files.extend(places.zip(texts(matches, name).into_iter().map(PathBuf::from)));
    }
    files.sort();
    let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
    let flags = partial_config(matches)?;
    let failed = |error| CliError::Failed(format!("==> {error}"));
    if is_on(matches, "check") {
        let warnings = daemon::check(&files, &flags).map_err(failed)?;
        for warning in warnings {
            print(&format!("warning: {warning}"));
        }
        print("The configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    let exit = daemon::run(&files, &flags).map_err(failed)?;
    Ok(match exit {
        Exit::Graceful => ExitCode::SUCCESS,
        Exit::Abrupt => ExitCode::FAILURE,
    })
}

/// What the flags say.
fn partial_config(matches: &ArgMatches) -> Result<PartialConfig, CliError> {
    let given = |name: &str| text(matches, name).unwrap_or_default().to_owned();
    let wrong = |name: &str, text: &str, expected: &dyn std::fmt::Display| {
        CliError::Usage(format!(
            "invalid value {text:?} for flag -{name}: {expected}"
        ))
    };
    let number = |name: &str| match text(matches, name) {
        // The reference takes -1 for "not set".
        None | Some("-1") => Ok(0),
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| wrong(name, text, &"expected a number")),
    };
    let time = |name: &str| match text(matches, name) {
        None => Ok(Duration::ZERO),
        Some(text) => duration::parse(text).map_err(|error| wrong(name, text, &error)),
    };
    let mut config = PartialConfig {
        node_name: given("node"),
        bind: given("bind"),
        advertise: given("advertise"),
        rpc_addr: given("rpc-addr"),
        rpc_addr_file: given("rpc-addr-file"),
        gossip_label: given("gossip-label"),
        handler_timeout: time("handler-timeout")?,
        handler_parallel: number("handler-parallel")?,
        handler_stdout_only: is_on(matches, "handler-stdout-only"),
        rpc_max_clients: number("rpc-max-clients")?,
        rpc_handshake_timeout: time("rpc-handshake-timeout")?,
        tags_file: given("tags-file"),
        role: given("role"),
        encrypt_key: given("encrypt"),
        keyring_file: given("keyring-file"),
        log_level: given("log-level"),
        event_handlers: texts(matches, "event-handler"),
        start_join: texts(matches, "join"),
        retry_join: texts(matches, "retry-join"),
        retry_interval: time("retry-interval")?,
        retry_max_attempts: number("retry-max")?,
        replay_on_join: is_on(matches, "replay"),
        rejoin_after_leave: is_on(matches, "rejoin"),
        snapshot_path: given("snapshot"),
        profile: given("profile"),
        protocol: number("protocol")?,
        discover: given("discover"),
        interface: given("iface"),
        mdns: MdnsConfig {
            interface: given("mdns-iface"),
            disable_ipv4: is_on(matches, "mdns-disable-ipv4"),
            disable_ipv6: is_on(matches, "mdns-disable-ipv6"),
        },
        enable_syslog: is_on(matches, "syslog"),
        metrics_addr: given("metrics-addr"),
        log_json: is_on(matches, "log-json"),
        enable_compression: is_on(matches, "disable-compression").then_some(false),
        broadcast_timeout: time("broadcast-timeout")?,
        ..PartialConfig::default()
    };
    for tag in texts(matches, "tag") {
        config
            .add_tag(&tag)
            .map_err(|error| CliError::Failed(format!("==> Error: {error}")))?;
    }
    Ok(config)
}
