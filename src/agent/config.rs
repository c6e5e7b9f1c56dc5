//! The agent's configuration: files, then flags, over defaults.
//!
//! A [`Layer`] is what one file or the command line says. Layers are merged in order as the reference merges them: a
//! text or number that is given replaces the earlier one, a switch that is on stays on, lists grow, tags are merged by
//! key. Keys and their meaning are the reference's (`cmd/serf/command/agent/config.go`); those under "our own" are new.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::duration::parse_duration;
use super::log::Level;
use crate::cluster::Tags;
use crate::gossip::keyring::{Key, Keyring, decode_base64};
use crate::rpc;

/// The gossip port where none is given.
pub const DEFAULT_GOSSIP_PORT: u16 = 7946;
/// The RPC address where none is given.
pub const DEFAULT_RPC_ADDR: &str = "127.0.0.1:7373";
/// Environment variable that may hold the RPC auth key.
pub const RPC_AUTH_VARIABLE: &str = "SERFLING_RPC_AUTH";

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("can't read configuration {path}: {source}")]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is no configuration.
    #[error("configuration {path} is wrong: {source}")]
    Decode {
        /// Which file.
        path: PathBuf,
        /// What and where: line, column, and the known keys where one is unknown.
        source: serde_json::Error,
    },
    /// A value is wrong.
    #[error("{key} is wrong: {problem}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// The agent can't do what a key asks, and to start without it would do harm.
    #[error("{key} is set, but this agent runs a cluster of one and can't do that: remove it")]
    CantDo {
        /// Which key.
        key: &'static str,
    },
}

macro_rules! layer {
    (
        texts { $($text:ident: $text_doc:literal,)* }
        switches { $($switch:ident: $switch_doc:literal,)* }
        lists { $($list:ident: $list_doc:literal,)* }
        numbers { $($number:ident: $number_doc:literal,)* }
    ) => {
        /// What one file, or the command line, says.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Layer {
            $(#[doc = $text_doc] pub $text: String,)*
            $(#[doc = $switch_doc] pub $switch: bool,)*
            $(#[doc = $list_doc] pub $list: Vec<String>,)*
            $(#[doc = $number_doc] pub $number: Option<i64>,)*
            /// Tags of the node.
            pub tags: BTreeMap<String, String>,
            /// Discovery by mDNS.
            pub mdns: MdnsLayer,
        }

        impl Layer {
            /// Puts a later layer over this one.
            pub fn merge(&mut self, over: Self) {
                $(if !over.$text.is_empty() { self.$text = over.$text; })*
                $(self.$switch |= over.$switch;)*
                $(self.$list.extend(over.$list);)*
                $(self.$number = over.$number.or(self.$number);)*
                self.tags.extend(over.tags);
                self.mdns.merge(over.mdns);
            }

            /// Names of the keys that are set, in the order of their kinds.
            fn set_keys(&self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if !self.$text.is_empty() { keys.push(stringify!($text)); })*
                $(if self.$switch { keys.push(stringify!($switch)); })*
                $(if !self.$list.is_empty() { keys.push(stringify!($list)); })*
                $(if self.$number.is_some() { keys.push(stringify!($number)); })*
                keys
            }
        }
    };
}

layer! {
    texts {
        node_name: "The node's name; the host's by default.",
        role: "Deprecated: the tag `role`.",
        tags_file: "Keeps the tags.",
        bind: "Address to gossip at.",
        advertise: "Address that others reach the node at.",
        encrypt_key: "Key in base64.",
        keyring_file: "Keeps the keys.",
        log_level: "The lowest level to log.",
        rpc_addr: "Where RPC clients connect: `host:port` or `unix:/path`.",
        rpc_auth: "Key that RPC clients must show.",
        profile: "Timing: `lan`, `wan` or `local`.",
        snapshot_path: "Keeps what is needed to join again.",
        discover: "Name of the cluster to find by mDNS.",
        interface: "Network interface to bind to.",
        reconnect_interval: "Time between attempts to reach failed members.",
        reconnect_timeout: "When failed members are forgotten.",
        tombstone_timeout: "When members that left are forgotten.",
        syslog_facility: "Syslog facility.",
        retry_interval: "Time between attempts to join.",
        statsite_addr: "Where to send metrics.",
        statsd_addr: "Where to send metrics.",
        broadcast_timeout: "How long to wait for others to hear of something.",
        rpc_addr_file: "Our own: file to write the bound RPC address to.",
        rpc_handshake_timeout: "Our own: how long an RPC client may take for handshake and auth.",
        rpc_overflow: "Our own: what happens to an RPC client whose queue is full, `drop` or `disconnect`.",
    }
    switches {
        disable_coordinates: "Whether to do without network coordinates.",
        replay_on_join: "Whether to hear of events from before a join.",
        leave_on_terminate: "Whether SIGTERM leaves gracefully.",
        skip_leave_on_interrupt: "Whether SIGINT does not leave gracefully.",
        disable_name_resolution: "Whether name conflicts are left alone.",
        enable_syslog: "Whether to log to syslog too.",
        rejoin_after_leave: "Whether to join again after a leave.",
        enable_compression: "Whether gossip is compressed; it is by default.",
        disable_compression: "Whether gossip is not compressed.",
        validate_node_names: "Whether names must fit into host names.",
    }
    lists {
        start_join: "Addresses to join at start.",
        event_handlers: "What to run when something happens.",
        retry_join: "Addresses to join, again and again until it works.",
    }
    numbers {
        protocol: "Serf protocol version.",
        query_response_size_limit: "Limit of an answer, in bytes.",
        query_size_limit: "Limit of a query, in bytes.",
        user_event_size_limit: "Limit of a user event, in bytes.",
        retry_max_attempts: "How often to try to join; 0 for ever.",
        rpc_max_clients: "Our own: how many RPC clients there may be.",
        rpc_queue_bytes: "Our own: what may wait for an RPC client before its records are dropped, in bytes.",
    }
}

/// Discovery by mDNS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MdnsLayer {
    /// Network interface to use.
    pub interface: String,
    /// Whether to do without IPv4.
    pub disable_ipv4: bool,
    /// Whether to do without IPv6.
    pub disable_ipv6: bool,
}

impl MdnsLayer {
    fn merge(&mut self, over: Self) {
        if !over.interface.is_empty() {
            self.interface = over.interface;
        }
        self.disable_ipv4 |= over.disable_ipv4;
        self.disable_ipv6 |= over.disable_ipv6;
    }
}

/// Keys that ask for what a cluster of one can't do: to start without would do harm.
const CANT_DO: [&str; 6] = [
    "tags_file",
    "keyring_file",
    "discover",
    "start_join",
    "event_handlers",
    "retry_join",
];
/// Keys that change nothing for a cluster of one.
const WITHOUT_EFFECT: [&str; 21] = [
    "advertise",
    "profile",
    "snapshot_path",
    "interface",
    "reconnect_interval",
    "reconnect_timeout",
    "tombstone_timeout",
    "syslog_facility",
    "retry_interval",
    "statsite_addr",
    "statsd_addr",
    "broadcast_timeout",
    "disable_coordinates",
    "disable_name_resolution",
    "enable_syslog",
    "rejoin_after_leave",
    "protocol",
    "query_response_size_limit",
    "query_size_limit",
    "user_event_size_limit",
    "validate_node_names",
];

/// The agent's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// The gossip address, as the members see it.
    pub bind: SocketAddr,
    /// Tags of the node.
    pub tags: Tags,
    /// Keys of the cluster.
    pub keyring: Option<Keyring>,
    /// The lowest level to log.
    pub log_level: Level,
    /// Where RPC clients connect.
    pub rpc_addr: String,
    /// File to write the bound RPC address to.
    pub rpc_addr_file: Option<PathBuf>,
    /// How RPC clients are treated.
    pub rpc: rpc::Config,
    /// Whether SIGTERM leaves gracefully.
    pub leave_on_terminate: bool,
    /// Whether SIGINT leaves gracefully.
    pub leave_on_interrupt: bool,
    /// What the operator should know about the configuration.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads files and folders in order, puts `flags` over them, and makes sense of it all.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(files: &[PathBuf], flags: Layer) -> Result<Self, ConfigError> {
        let mut layer = Layer::default();
        for path in files {
            for file in files_of(path)? {
                layer.merge(read_layer(&file)?);
            }
        }
        layer.merge(flags);
        Self::from_layer(layer)
    }

    fn from_layer(mut layer: Layer) -> Result<Self, ConfigError> {
        let set = layer.set_keys();
        if let Some(key) = CANT_DO.into_iter().find(|key| set.contains(key)) {
            return Err(ConfigError::CantDo { key });
        }
        let mut warnings: Vec<String> = WITHOUT_EFFECT
            .into_iter()
            .filter(|key| set.contains(key))
            .map(|key| format!("{key} has no effect: this agent runs a cluster of one"))
            .collect();
        if !layer.role.is_empty() {
            warnings.push("'role' is deprecated: use the tag 'role'".to_owned());
            layer
                .tags
                .insert("role".to_owned(), std::mem::take(&mut layer.role));
        }
        if layer.node_name.is_empty() {
            layer.node_name = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
        }
        let bind = if layer.bind.is_empty() {
            "0.0.0.0"
        } else {
            &layer.bind
        };
        let level = if layer.log_level.is_empty() {
            "INFO"
        } else {
            &layer.log_level
        };
        let valid = Level::ALL.map(Level::as_str).join(", ");
        let log_level = Level::parse(level)
            .ok_or_else(|| wrong("log_level", format!("{level:?} is none of {valid}")))?;
        if layer.rpc_auth.is_empty() {
            layer.rpc_auth = std::env::var(RPC_AUTH_VARIABLE).unwrap_or_default();
        }
        Ok(Self {
            bind: member_address(gossip_address("bind", bind)?),
            keyring: keyring(&layer.encrypt_key)?,
            log_level,
            rpc: rpc_config(&layer)?,
            rpc_addr: if layer.rpc_addr.is_empty() {
                DEFAULT_RPC_ADDR.to_owned()
            } else {
                layer.rpc_addr
            },
            rpc_addr_file: (!layer.rpc_addr_file.is_empty()).then(|| layer.rpc_addr_file.into()),
            leave_on_terminate: layer.leave_on_terminate,
            leave_on_interrupt: !layer.skip_leave_on_interrupt,
            node_name: layer.node_name,
            tags: layer.tags.into_iter().collect(),
            warnings,
        })
    }
}

fn wrong(key: &'static str, problem: String) -> ConfigError {
    ConfigError::Value { key, problem }
}

/// A file, or the `.json` files of a folder in the order of their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
            && !file.is_dir()
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_layer(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| ConfigError::Decode {
        path: path.to_owned(),
        source,
    })
}

fn rpc_config(layer: &Layer) -> Result<rpc::Config, ConfigError> {
    let mut config = rpc::Config {
        auth_key: (!layer.rpc_auth.is_empty()).then(|| layer.rpc_auth.clone()),
        ..rpc::Config::default()
    };
    let positive = |key, number: i64| {
        let number = usize::try_from(number).ok().filter(|number| *number > 0);
        number.ok_or_else(|| wrong(key, "expected a number above 0".to_owned()))
    };
    if let Some(number) = layer.rpc_max_clients {
        config.clients_max = positive("rpc_max_clients", number)?;
    }
    if let Some(number) = layer.rpc_queue_bytes {
        config.outbox_bytes_max = positive("rpc_queue_bytes", number)?;
    }
    if !layer.rpc_handshake_timeout.is_empty() {
        config.handshake_timeout = duration("rpc_handshake_timeout", &layer.rpc_handshake_timeout)?;
    }
    config.overflow = match layer.rpc_overflow.as_str() {
        "" | "drop" => rpc::Overflow::Drop,
        "disconnect" => rpc::Overflow::Disconnect,
        other => {
            return Err(wrong(
                "rpc_overflow",
                format!("{other:?} is neither 'drop' nor 'disconnect'"),
            ));
        }
    };
    Ok(config)
}

fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigError> {
    parse_duration(text).map_err(|error| wrong(key, error.to_string()))
}

fn keyring(key: &str) -> Result<Option<Keyring>, ConfigError> {
    if key.is_empty() {
        return Ok(None);
    }
    let bytes = decode_base64(key).map_err(|error| wrong("encrypt_key", error.to_string()))?;
    let key = Key::new(&bytes).map_err(|error| wrong("encrypt_key", error.to_string()))?;
    Ok(Some(Keyring::new(key)))
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn gossip_address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    use crate::cluster::address::JoinAddress;
    let address = if let Some(port) = text.strip_prefix(':') {
        JoinAddress::parse(&format!("0.0.0.0:{port}"), DEFAULT_GOSSIP_PORT)
    } else {
        JoinAddress::parse(text, DEFAULT_GOSSIP_PORT)
    };
    let address = address.map_err(|_| {
        wrong(
            key,
            format!("{text:?} is no address: expected host, host:port or [IPv6]:port"),
        )
    })?;
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let mut found =
        found.map_err(|error| wrong(key, format!("can't look up {:?}: {error}", address.host)))?;
    found
        .next()
        .ok_or_else(|| wrong(key, format!("{:?} has no address", address.host)))
}

/// What others see of a bind address: where it is "any", the address that packets to the private network leave from.
fn member_address(bind: SocketAddr) -> SocketAddr {
    if !bind.ip().is_unspecified() {
        return bind;
    }
    // Connecting a datagram socket sends nothing; it only has the system choose a route.
    let local = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("10.255.255.255", 1))?;
        socket.local_addr()
    });
    let ip = local.map_or_else(|_| IpAddr::from([127, 0, 0, 1]), |local| local.ip());
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(json: &str) -> Result<Layer, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn layers_merge_as_the_reference_merges_them() {
        let mut merged = layer(
            r#"{"node_name": "a", "tags": {"x": "1", "y": "1"}, "start_join": ["p"],
            "leave_on_terminate": true, "protocol": 4}"#,
        )
        .unwrap();
        merged.merge(layer(r#"{"node_name": "", "tags": {"y": "2"}, "start_join": ["q"], "log_level": "debug"}"#).unwrap());
        assert_eq!(
            (merged.node_name.as_str(), merged.log_level.as_str()),
            ("a", "debug")
        );
        assert_eq!(merged.start_join, ["p", "q"]);
        assert_eq!(
            (merged.tags["x"].as_str(), merged.tags["y"].as_str()),
            ("1", "2")
        );
        assert!(merged.leave_on_terminate);
        assert_eq!(merged.protocol, Some(4));
    }

    #[test]
    fn errors_name_the_place_and_what_is_expected() {
        for (json, text) in [
            (r#"{"node_nam": "a"}"#, "unknown field `node_nam`"),
            (r#"{"tags": ["a"]}"#, "expected a map"),
            ("{\n\"protocol\": \"x\"}", "line 2"),
        ] {
            let error = layer(json).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        for (json, text) in [
            (
                r#"{"log_level": "loud"}"#,
                "log_level is wrong: \"loud\" is none of TRACE, DEBUG, INFO, WARN, ERR",
            ),
            (
                r#"{"encrypt_key": "AAAA"}"#,
                "encrypt_key is wrong: key size must be 16, 24 or 32 bytes",
            ),
            (
                r#"{"bind": "1.2.3.4:x"}"#,
                "bind is wrong: \"1.2.3.4:x\" is no address: expected host, host:port or [IPv6]:port",
            ),
            (
                r#"{"start_join": ["x"]}"#,
                "start_join is set, but this agent runs a cluster of one and can't do that: remove it",
            ),
            (
                r#"{"rpc_max_clients": 0}"#,
                "rpc_max_clients is wrong: expected a number above 0",
            ),
        ] {
            assert_eq!(
                Config::from_layer(layer(json).unwrap())
                    .unwrap_err()
                    .to_string(),
                text
            );
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let config =
            Config::from_layer(layer(r#"{"profile": "wan", "role": "db"}"#).unwrap()).unwrap();
        assert_eq!(config.warnings.len(), 2);
        assert_eq!(config.tags.get("role"), Some("db"));
        assert!(!config.bind.ip().is_unspecified());
        assert_eq!(config.bind.port(), DEFAULT_GOSSIP_PORT);
    }

    #[test]
    fn folders_are_read_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.json", r#"{"node_name": "b"}"#),
            ("a.json", r#"{"node_name": "a", "rpc_auth": "k"}"#),
            ("c.txt", "no"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let config = Config::load(&[folder.path().to_owned()], Layer::default()).unwrap();
        assert_eq!(
            (config.node_name.as_str(), config.rpc.auth_key.as_deref()),
            ("b", Some("k"))
        );
    }
}
