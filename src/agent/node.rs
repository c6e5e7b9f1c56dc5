//! Makes a cluster node of the agent's configuration: addresses, keys, tags and what the snapshot knows.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::{info, warn};

use super::config::{Config, Profile};
use super::files::Files;
use super::snapshot_file::SnapshotFile;
use crate::address::AddrParts;
use crate::cluster::Tags;
use crate::gossip::envelope::EnvelopeConfig;
use crate::gossip::keyring::{Key, Keyring, KeyringError, KeyringFileError};
use crate::gossip::timing::Timing;
use crate::reactor::GossipPort;
use crate::serf::coalesce::{Coalescer, PERIOD, QUIESCENT_PERIOD};
use crate::serf::snapshot::AfterLeave;
use crate::serf::{Serf, SerfConfig, SerfError};

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address can't be looked up.
    #[error("can't look up the {what} address {address}: {source}")]
    Address {
        /// Which address.
        what: &'static str,
        /// As configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The gossip port can't be had.
    #[error(
        "can't gossip on {addr}: {source}; another agent may run there (-bind chooses another address or port)"
    )]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The interface can't be bound to.
    #[error("interface {name}: {reason}")]
    Interface {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The encryption key is none.
    #[error("encrypt_key: {0}")]
    Key(#[from] KeyringError),
    /// The keyring file can't be read.
    #[error(
        "can't read keyring_file {path}: {source}; make one with `serfling keygen`, as a JSON list of keys"
    )]
    KeyringFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The keyring file holds no keyring.
    #[error("keyring_file {path}: {source}")]
    Keyring {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyringFileError,
    },
    /// The tags file can't be read, or holds no tags.
    #[error("tags_file {path}: {reason}")]
    TagsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The snapshot can't be opened.
    #[error("snapshot_path {path}: {source}")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("can't read random data: {0}")]
    Random(#[from] getrandom::Error),
    /// The node itself refuses.
    #[error("Failed to start the Serf agent: {0}")]
    Serf(#[from] SerfError),
}

/// A node, where it gossips, and the files that it keeps.
pub(super) struct Node {
    pub(super) serf: Serf,
    pub(super) port: GossipPort,
    pub(super) files: Files,
    pub(super) encrypted: bool,
}

/// Opens what a node needs and makes it.
pub(super) fn open(now: Instant, config: &Config) -> Result<Node, NodeError> {
    let keyring = keyring(config)?;
    let tags = tags(config)?;
    let mut bind = resolve("bind", &config.bind)?;
    if let Some(name) = &config.interface {
        bind.set_ip(interface_address(name, bind.ip())?);
    }
    let port = GossipPort::bind(bind).map_err(|source| NodeError::Bind { addr: bind, source })?;
    let advertise = match &config.advertise {
        Some(advertise) => resolve("advertise", advertise)?,
        None => SocketAddr::new(member_address(bind.ip()), port.local_addr().port()),
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut serf = SerfConfig::new(config.node_name.clone(), advertise, seed);
    let mut files = Files::new(config.keyring_file.clone(), config.tags_file.clone());
    if let Some(path) = &config.snapshot_path {
        let after_leave = if config.rejoin_after_leave {
            AfterLeave::Rejoin
        } else {
            AfterLeave::StayAway
        };
        let opened = SnapshotFile::open(now, path, after_leave);
        let (file, snapshot) = opened.map_err(|source| NodeError::Snapshot {
            path: path.clone(),
            source,
        })?;
        files.set_snapshot(file);
        serf.snapshot = Some(snapshot);
    }
    let encrypted = keyring.is_some();
    let verified = config.encrypt_verify_incoming && config.encrypt_verify_outgoing;
    if encrypted && !verified {
        warn!(
            "agent: gossip is not wholly encrypted: encrypt_verify_incoming and encrypt_verify_outgoing are to be true once every node has keys"
        );
    }
    serf.tags = tags;
    serf.default_port = port.local_addr().port();
    serf.protocol = config.protocol;
    serf.timing = match config.profile {
        Profile::Lan => Timing::LAN,
        Profile::Wan => Timing::WAN,
        Profile::Local => Timing::LOCAL,
    };
    serf.envelope = EnvelopeConfig {
        label: config.gossip_label.clone(),
        keyring,
        compress: config.enable_compression,
        verify_incoming: config.encrypt_verify_incoming,
        verify_outgoing: config.encrypt_verify_outgoing,
        ..EnvelopeConfig::default()
    };
    serf.coalescer = Some(Coalescer::new(PERIOD, QUIESCENT_PERIOD));
    serf.seeds = [config.start_join.clone(), config.retry_join.clone()].concat();
    serf.keyring_file = config.keyring_file.is_some();
    serf.tags_file = config.tags_file.is_some();
    serf.user_event_bytes_max = config.user_event_size_limit;
    serf.query_bytes_max = config.query_size_limit;
    serf.query_response_bytes_max = config.query_response_size_limit;
    serf.reconnect_interval = config.reconnect_interval;
    serf.reconnect_timeout = config.reconnect_timeout;
    serf.tombstone_timeout = config.tombstone_timeout;
    serf.broadcast_timeout = config.broadcast_timeout;
    serf.resolve_conflicts = !config.disable_name_resolution;
    serf.early_done = config.query_early_done;
    serf.coordinates = !config.disable_coordinates;
    let serf = Serf::new(now, serf)?;
    Ok(Node {
        serf,
        port,
        files,
        encrypted,
    })
}

/// The address of an interface to bind to: the one that was asked for, which it must have, or its first one.
fn interface_address(name: &str, bind: IpAddr) -> Result<IpAddr, NodeError> {
    let refuse = |reason: String| {
        let name = name.to_owned();
        NodeError::Interface { name, reason }
    };
    let all = if_addrs::get_if_addrs().map_err(|error| refuse(error.to_string()))?;
    let has = |wanted: &dyn Fn(&if_addrs::Interface) -> bool| {
        let found = all
            .iter()
            .find(|interface| interface.name == name && wanted(interface));
        found.map(if_addrs::Interface::ip)
    };
    let Some(_) = has(&|_| true) else {
        let mut names: Vec<&str> = all.iter().map(|interface| &*interface.name).collect();
        names.dedup();
        let names = names.join(", ");
        return Err(refuse(format!(
            "there is none of that name with an address; there are {names}"
        )));
    };
    if !bind.is_unspecified() {
        return has(&|interface| interface.ip() == bind)
            .ok_or_else(|| refuse(format!("it has no address {bind}")));
    }
    has(&|interface| !interface.is_link_local())
        .ok_or_else(|| refuse("it has no usable address".to_owned()))
}

/// Reads the files that a node starts from, without starting it.
pub(super) fn check(config: &Config) -> Result<(), NodeError> {
    keyring(config)?;
    tags(config)?;
    let bind = resolve("bind", &config.bind)?;
    if let Some(name) = &config.interface {
        interface_address(name, bind.ip())?;
    }
    if let Some(advertise) = &config.advertise {
        resolve("advertise", advertise)?;
    }
    Ok(())
}

/// Looks up an address of this machine. Blocking here, at start, harms nobody.
fn resolve(what: &'static str, address: &AddrParts) -> Result<SocketAddr, NodeError> {
    address.resolve().map_err(|source| NodeError::Address {
        what,
        address: address.to_string(),
        source,
    })
}

fn keyring(config: &Config) -> Result<Option<Keyring>, NodeError> {
    let Some(path) = &config.keyring_file else {
        let key = config.encrypt_key.as_deref().map(Key::new).transpose()?;
        return Ok(key.map(Keyring::new));
    };
    let text = fs::read_to_string(path).map_err(|source| NodeError::KeyringFile {
        path: path.clone(),
        source,
    })?;
    let ring = Keyring::from_json(&text).map_err(|source| NodeError::Keyring {
        path: path.clone(),
        source,
    })?;
    info!(
        "agent: Restored keyring with {} keys from {}",
        ring.keys().len(),
        path.display()
    );
    Ok(Some(ring))
}

fn tags(config: &Config) -> Result<Tags, NodeError> {
    match &config.tags_file {
        Some(path) => {
            let tags = read_tags(path).map_err(|reason| NodeError::TagsFile {
                path: path.clone(),
                reason,
            })?;
            info!(
                "agent: Restored {} tag(s) from {}",
                tags.len(),
                path.display()
            );
            Ok(tags)
        }
        None => Ok(config.tags.clone()),
    }
}

/// The tags of a tags file; none when there is no file yet.
fn read_tags(path: &Path) -> Result<Tags, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tags::new()),
        Err(error) => return Err(format!("can't be read: {error}")),
    };
    let tags: std::collections::BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|error| format!("is no JSON object of texts: {error}"))?;
    Ok(tags.into_iter().collect())
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
