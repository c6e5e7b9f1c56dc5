//! The agent's configuration: what files and the command line set, checked, and defaults for the rest.
//!
//! A source fills a [`PartialConfig`]; [`Config::load`] merges the files in order, then the command line, and turns
//! the result into values that the rest of the agent need not check again. Everything a user can get wrong is an error
//! that names the file and line, or the key. What is odd but workable is a warning, for the caller to show.
//!
//! Loading waits for no network: names in addresses stay names, see [`AddrParts::resolve`]. Whether a network interface
//! or a file exists is seen when it is used.
//!
//! Source of the facts: hashicorp/serf, `cmd/serf/command/agent/config.go`, `command.go` and
//! `docs/agent/options.html.markdown`, and the messages of a running agent.

mod decode;
pub mod duration;
mod event_script;
mod files;
mod partial;
mod resolve;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use event_script::{EventScript, HandlerLimits, InvalidEventScript};
pub use partial::{InvalidTag, MdnsConfig, PartialConfig};
pub(super) use resolve::host_name;

use super::syslog::Facility;
use crate::address::{AddrParts, RpcAddr};
use crate::cluster::Tags;
use crate::gossip::envelope::Label;
use crate::log_ring::Level;
use crate::rpc::Overflow;

/// The versions of Serf's protocol that there are.
pub const PROTOCOL_VERSIONS: std::ops::RangeInclusive<u8> = 2..=5;

/// The longest node name that [`Config::validate_node_names`] lets pass, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 128;

/// The sizes of encryption keys that there are, in bytes: AES-128, AES-192 and AES-256.
pub const ENCRYPT_KEY_BYTES: [usize; 3] = [16, 24, 32];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is no JSON, or holds a key or a value that a configuration cannot have.
    #[error("{}:{line}: {message}", path.display())]
    Decode {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected there and what came.
        message: String,
    },
    /// A value makes no sense, by itself or together with others.
    #[error("{key}: {message}")]
    Invalid {
        /// The key that sets it.
        key: &'static str,
        /// What is wrong, and what is right.
        message: String,
    },
}

impl ConfigError {
    fn read(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, error }
    }

    fn invalid(key: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self::Invalid { key, message }
    }
}

/// A set of timings for a kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// One building.
    #[default]
    Lan,
    /// The Internet.
    Wan,
    /// One host.
    Local,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Lan, Self::Wan, Self::Local];

    /// The profile's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Local => "local",
        }
    }

    /// The profile of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.as_str() == name)
    }
}

/// The whole configuration of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What was set, as it was written.
    pub set: PartialConfig,
    /// The node's name.
    pub node_name: String,
    /// Whether to do without network coordinates.
    pub disable_coordinates: bool,
    /// The node's tags.
    pub tags: Tags,
    /// Where changed tags are kept. There are no configured tags then.
    pub tags_file: Option<PathBuf>,
    /// Where gossip listens.
    pub bind: AddrParts,
    /// What other nodes are told, if not that.
    pub advertise: Option<AddrParts>,
    /// The key that encrypts gossip, of one of the sizes [`ENCRYPT_KEY_BYTES`].
    pub encrypt_key: Option<Vec<u8>>,
    /// Where encryption keys are kept. There is no configured key then.
    pub keyring_file: Option<PathBuf>,
    /// With keys: whether gossip that is not encrypted is refused.
    pub encrypt_verify_incoming: bool,
    /// With keys: whether this node encrypts.
    pub encrypt_verify_outgoing: bool,
    /// Keeps clusters apart that share a network.
    pub gossip_label: Label,
    /// The least level of log lines to show.
    pub log_level: Level,
    /// Whether the log on standard error is JSON.
    pub log_json: bool,
    /// Where the RPC server listens.
    pub rpc_addr: RpcAddr,
    /// The key that RPC clients must show.
    pub rpc_auth: Option<String>,
    /// How many RPC clients may be connected at once.
    pub rpc_max_clients: usize,
    /// How long an RPC client may take for handshake and authentication.
    pub rpc_handshake_timeout: Duration,
    /// What may wait for an RPC client before its records are dropped, in bytes.
    pub rpc_queue_bytes: usize,
    /// What happens to an RPC client whose queue is full.
    pub rpc_overflow: Overflow,
    /// A file that the address of the RPC server is written to.
    pub rpc_addr_file: Option<PathBuf>,
    /// The version of Serf's protocol to speak, one of [`PROTOCOL_VERSIONS`].
    pub protocol: u8,
    /// Whether a join at the start asks for events of the past.
    pub replay_on_join: bool,
    /// The largest answer to a query, in bytes.
    pub query_response_size_limit: usize,
    /// The largest query, in bytes.
    pub query_size_limit: usize,
    /// The largest user event, name and payload, in bytes.
    pub user_event_size_limit: usize,
    /// Nodes to join at the start, or else fail.
    pub start_join: Vec<String>,
    /// Commands to run at events.
    pub event_handlers: Vec<EventScript>,
    /// Whether a query is done once everybody has answered.
    pub query_early_done: bool,
    /// Where the figures of `stats` are served as a page for Prometheus.
    pub metrics_addr: Option<AddrParts>,
    /// How many commands of event handlers may run, and for how long.
    pub handler_limits: HandlerLimits,
    /// Whether queries are answered with the standard output of event handlers alone; what they print to standard error
    /// is logged then.
    pub handler_stdout_only: bool,
    /// The set of timings.
    pub profile: Profile,
    /// Where the node remembers the cluster over a restart.
    pub snapshot_path: Option<PathBuf>,
    /// Whether SIGTERM leaves the cluster gracefully.
    pub leave_on_terminate: bool,
    /// Whether SIGINT does not leave the cluster gracefully.
    pub skip_leave_on_interrupt: bool,
    /// The name under which nodes find each other by multicast DNS.
    pub discover: Option<String>,
    /// How nodes find each other by multicast DNS.
    pub mdns: MdnsConfig,
    /// The network interface to use.
    pub interface: Option<String>,
    /// How often to try to reach a failed node.
    pub reconnect_interval: Duration,
    /// After which time a failed node is forgotten.
    pub reconnect_timeout: Duration,
    /// After which time a node that left is forgotten.
    pub tombstone_timeout: Duration,
    /// Whether to do nothing about another node of the same name.
    pub disable_name_resolution: bool,
    /// Whether to log to syslog, too.
    pub enable_syslog: bool,
    /// The facility of log lines in syslog.
    pub syslog_facility: Facility,
    /// Nodes to join at the start, again and again until it works.
    pub retry_join: Vec<String>,
    /// How often to try; without end if `None`.
    pub retry_max_attempts: Option<u64>,
    /// How long to wait between tries.
    pub retry_interval: Duration,
    /// Whether to join again at the start although the node left.
    pub rejoin_after_leave: bool,
    /// Whether to compress gossip.
    pub enable_compression: bool,
    /// Address of a statsite server for metrics.
    pub statsite_addr: Option<AddrParts>,
    /// Address of a statsd server for metrics.
    pub statsd_addr: Option<AddrParts>,
    /// How long to wait for a broadcast, such as that of a leave, to be sent.
    pub broadcast_timeout: Duration,
    /// Whether names of nodes must be letters, digits, dashes and dots, and not too long.
    pub validate_node_names: bool,
}

impl Config {
    /// Reads `files` in order (of a directory every `*.json` file by name), then takes over what the command line
    /// sets. Returns the configuration, and warnings for the user.
    ///
    /// # Errors
    /// A file cannot be read or is wrong, or the settings make no sense together.
    pub fn load(
        command_line: PartialConfig,
        files: &[PathBuf],
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let mut warnings = Vec::new();
        let mut merged = files::read(files, &mut warnings)?;
        merged.merge(command_line);
        let config = Self::resolve(merged, &mut warnings)?;
        Ok((config, warnings))
    }
}

/// Whether a node may have this name if [`Config::validate_node_names`] is set.
#[must_use]
pub fn is_valid_node_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=NODE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(valid)
}
