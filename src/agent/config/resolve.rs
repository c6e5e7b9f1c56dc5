//! From what is set to the configuration: defaults, checks of values, and checks of values against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{
    Config, ConfigError, ENCRYPT_KEY_BYTES, EventScript, HandlerLimits, NODE_NAME_BYTES_MAX,
    PROTOCOL_VERSIONS, PartialConfig, Profile, duration, is_valid_node_name,
};
use crate::address::{AddrParts, DEFAULT_GOSSIP_PORT, RpcAddr};
use crate::agent::syslog::Facility;
use crate::cluster::Tags;
use crate::gossip::envelope::Label;
use crate::log_ring::Level;
use crate::rpc::{self, Overflow};

/// A shorter pause between tries to join would only make noise.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A leave needs at least this long to get out.
const BROADCAST_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The largest limit for user events, in bytes, that every node of a cluster accepts.
const USER_EVENT_BYTES_MAX: u64 = 9 * 1024;

/// The largest limit for queries and their answers, in bytes: what a UDP datagram can hold.
const QUERY_BYTES_MAX: u64 = 65_507;

/// The port of statsd and statsite, unless it is set.
const STATSD_PORT: u16 = 8125;

/// The port of the metrics page, unless it is set.
const DEFAULT_METRICS_PORT: u16 = 9946;

/// Commands of event handlers that run at once, unless it is set.
const HANDLERS_RUNNING_MAX: usize = 8;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Config {
    /// Fills in defaults and checks every value; what is odd goes to `warnings`.
    pub(super) fn resolve(
        set: PartialConfig,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        if set.msgpack_use_new_time_format {
            warnings.push("MsgpackUseNewTimeFormat has no effect".to_owned());
        }
        let config = Self {
            set: set.clone(),
            node_name: or_else(set.node_name, host_name),
            disable_coordinates: set.disable_coordinates,
            tags: tags(set.tags, set.role, warnings),
            tags_file: path(set.tags_file),
            bind: gossip_addr("bind", or_else(set.bind, || "0.0.0.0".to_owned()))?,
            advertise: text(set.advertise)
                .map(|address| gossip_addr("advertise", address))
                .transpose()?,
            encrypt_key: text(set.encrypt_key).map(encrypt_key).transpose()?,
            keyring_file: path(set.keyring_file),
            encrypt_verify_incoming: set.encrypt_verify_incoming.unwrap_or(true),
            encrypt_verify_outgoing: set.encrypt_verify_outgoing.unwrap_or(true),
            gossip_label: Label::new(&set.gossip_label)
                .map_err(|error| ConfigError::invalid("gossip_label", error))?,
            log_level: log_level(text(set.log_level))?,
            log_json: set.log_json,
            rpc_addr: rpc_addr(text(set.rpc_addr))?,
            rpc_auth: text(set.rpc_auth),
            rpc_max_clients: match set.rpc_max_clients {
                0 => rpc::Config::default().clients_max,
                count => usize::try_from(count).unwrap_or(usize::MAX),
            },
            rpc_handshake_timeout: or(
                set.rpc_handshake_timeout,
                rpc::Config::default().handshake_timeout,
            ),
            rpc_queue_bytes: match set.rpc_queue_bytes {
                0 => rpc::Config::default().outbox_bytes_max,
                count => usize::try_from(count).unwrap_or(usize::MAX),
            },
            rpc_overflow: rpc_overflow(&set.rpc_overflow)?,
            rpc_addr_file: path(set.rpc_addr_file),
            protocol: protocol(set.protocol)?,
            replay_on_join: set.replay_on_join,
            query_response_size_limit: query_limit(
                "query_response_size_limit",
                set.query_response_size_limit,
                warnings,
            ),
            query_size_limit: query_limit("query_size_limit", set.query_size_limit, warnings),
            user_event_size_limit: user_event_limit(set.user_event_size_limit)?,
            start_join: set.start_join,
            event_handlers: event_handlers(&set.event_handlers, warnings)?,
            query_early_done: set.query_early_done,
            metrics_addr: text(set.metrics_addr)
                .map(|address| {
                    AddrParts::parse(&address, DEFAULT_METRICS_PORT)
                        .map_err(|error| ConfigError::invalid("metrics_addr", error))
                })
                .transpose()?,
            handler_limits: HandlerLimits {
                parallel: count_or(set.handler_parallel, 1),
                running: count_or(set.handlers_running_max, HANDLERS_RUNNING_MAX),
                timeout: (!set.handler_timeout.is_zero()).then_some(set.handler_timeout),
            },
            handler_stdout_only: set.handler_stdout_only,
            profile: profile(text(set.profile))?,
            snapshot_path: path(set.snapshot_path),
            leave_on_terminate: set.leave_on_terminate,
            skip_leave_on_interrupt: set.skip_leave_on_interrupt,
            discover: text(set.discover),
            mdns: set.mdns,
            interface: text(set.interface),
            reconnect_interval: or(set.reconnect_interval, Duration::from_secs(30)),
            reconnect_timeout: or(set.reconnect_timeout, DAY),
            tombstone_timeout: or(set.tombstone_timeout, DAY),
            disable_name_resolution: set.disable_name_resolution,
            enable_syslog: set.enable_syslog,
            syslog_facility: Facility::parse(&or_else(set.syslog_facility, || "LOCAL0".to_owned()))
                .map_err(|error| ConfigError::invalid("syslog_facility", error))?,
            retry_join: set.retry_join,
            retry_max_attempts: (set.retry_max_attempts > 0).then_some(set.retry_max_attempts),
            retry_interval: at_least(
                "retry_interval",
                or(set.retry_interval, Duration::from_secs(30)),
                RETRY_INTERVAL_MIN,
                warnings,
            ),
            rejoin_after_leave: set.rejoin_after_leave,
            enable_compression: set.enable_compression.unwrap_or(true),
            statsite_addr: collector("statsite_addr", set.statsite_addr)?,
            statsd_addr: collector("statsd_addr", set.statsd_addr)?,
            broadcast_timeout: at_least(
                "broadcast_timeout",
                or(set.broadcast_timeout, Duration::from_secs(5)),
                BROADCAST_TIMEOUT_MIN,
                warnings,
            ),
            validate_node_names: set.validate_node_names,
        };
        config.check(warnings)?;
        Ok(config)
    }

    /// Checks what depends on more than one setting.
    fn check(&self, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
        if self.tags_file.is_some() && !self.tags.is_empty() {
            return Err(ConfigError::invalid(
                "tags_file",
                "there must be no configured tags (or role) beside a tags file, which would overwrite them",
            ));
        }
        if self.keyring_file.is_some() && self.encrypt_key.is_some() {
            return Err(ConfigError::invalid(
                "keyring_file",
                "there must be no encrypt_key beside a keyring file; put the key into the file",
            ));
        }
        if !self.mdns.interface.is_empty() && self.discover.is_none() {
            return Err(ConfigError::invalid(
                "mdns.interface",
                "it has no use without discover",
            ));
        }
        if self.discover.is_some() && self.mdns.disable_ipv4 && self.mdns.disable_ipv6 {
            return Err(ConfigError::invalid(
                "mdns",
                "disable_ipv4 and disable_ipv6 together leave nothing for discover",
            ));
        }
        if self.validate_node_names && !is_valid_node_name(&self.node_name) {
            return Err(ConfigError::invalid(
                "node_name",
                format!(
                    "{:?} is not 1 to {NODE_NAME_BYTES_MAX} letters, digits, dashes and dots, as validate_node_names \
                     demands",
                    self.node_name
                ),
            ));
        }
        if self.rejoin_after_leave && self.snapshot_path.is_none() {
            warnings.push("rejoin_after_leave has no effect without snapshot_path".to_owned());
        }
        Ok(())
    }
}

fn text(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

/// The address of a collector of figures.
fn collector(key: &'static str, address: String) -> Result<Option<AddrParts>, ConfigError> {
    text(address)
        .map(|address| {
            AddrParts::parse(&address, STATSD_PORT)
                .map_err(|error| ConfigError::invalid(key, error))
        })
        .transpose()
}

/// A count that is set, or the default.
fn count_or(set: u64, default: usize) -> usize {
    match set {
        0 => default,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    }
}

fn path(value: String) -> Option<PathBuf> {
    text(value).map(PathBuf::from)
}

fn or_else(value: String, default: impl FnOnce() -> String) -> String {
    text(value).unwrap_or_else(default)
}

const fn or(value: Duration, default: Duration) -> Duration {
    if value.is_zero() { default } else { value }
}

pub(in crate::agent) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn tags(mut tags: BTreeMap<String, String>, role: String, warnings: &mut Vec<String>) -> Tags {
    if let Some(role) = text(role) {
        warnings.push(format!(
            "role is deprecated: set the tag role={role} instead"
        ));
        tags.insert("role".to_owned(), role);
    }
    tags.into_iter().collect()
}

fn gossip_addr(key: &'static str, address: String) -> Result<AddrParts, ConfigError> {
    AddrParts::parse(&address, DEFAULT_GOSSIP_PORT)
        .map_err(|error| ConfigError::invalid(key, error))
}

fn rpc_addr(address: Option<String>) -> Result<RpcAddr, ConfigError> {
    RpcAddr::parse(address.as_deref().unwrap_or("127.0.0.1"))
        .map_err(|error| ConfigError::invalid("rpc_addr", error))
}

fn rpc_overflow(text: &str) -> Result<Overflow, ConfigError> {
    match text {
        "" | "drop" => Ok(Overflow::Drop),
        "disconnect" => Ok(Overflow::Disconnect),
        other => {
            let message = format!("{other:?} is neither \"drop\" nor \"disconnect\"");
            Err(ConfigError::invalid("rpc_overflow", message))
        }
    }
}

fn encrypt_key(base64: String) -> Result<Vec<u8>, ConfigError> {
    let invalid = |message: String| ConfigError::invalid("encrypt_key", message);
    // Line breaks are left from the file the key was copied from; the reference skips them as well.
    let base64 = base64.replace(['\r', '\n'], "");
    let key = STANDARD
        .decode(base64)
        .map_err(|error| invalid(format!("it is not valid base64: {error}")))?;
    if !ENCRYPT_KEY_BYTES.contains(&key.len()) {
        let len = key.len();
        return Err(invalid(format!(
            "the key must have 16, 24 or 32 bytes, not {len}"
        )));
    }
    Ok(key)
}

fn log_level(name: Option<String>) -> Result<Level, ConfigError> {
    let Some(name) = name else {
        return Ok(Level::Info);
    };
    Level::parse(&name).ok_or_else(|| {
        ConfigError::invalid(
            "log_level",
            format!("unknown log level {name:?}; there are trace, debug, info, warn and err"),
        )
    })
}

fn profile(name: Option<String>) -> Result<Profile, ConfigError> {
    let Some(name) = name else {
        return Ok(Profile::default());
    };
    Profile::parse(&name).ok_or_else(|| {
        ConfigError::invalid(
            "profile",
            format!("unknown profile {name:?}; there are lan, wan and local"),
        )
    })
}

fn protocol(version: u64) -> Result<u8, ConfigError> {
    let (min, max) = PROTOCOL_VERSIONS.into_inner();
    match u8::try_from(version) {
        Ok(0) => Ok(max),
        Ok(version) if PROTOCOL_VERSIONS.contains(&version) => Ok(version),
        _ => Err(ConfigError::invalid(
            "protocol",
            format!("there is no version {version}; there are {min} to {max}"),
        )),
    }
}

fn user_event_limit(bytes: u64) -> Result<usize, ConfigError> {
    match bytes {
        0 => Ok(512),
        1..=USER_EVENT_BYTES_MAX => Ok(saturate(bytes)),
        _ => Err(ConfigError::invalid(
            "user_event_size_limit",
            format!("{bytes} is more than the {USER_EVENT_BYTES_MAX} bytes that nodes accept"),
        )),
    }
}

fn query_limit(key: &str, bytes: u64, warnings: &mut Vec<String>) -> usize {
    match bytes {
        0 => 1024,
        1..=QUERY_BYTES_MAX => saturate(bytes),
        _ => {
            warnings.push(format!(
                "{key} of {bytes} bytes is more than a datagram holds; {QUERY_BYTES_MAX} it is"
            ));
            saturate(QUERY_BYTES_MAX)
        }
    }
}

fn saturate(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn at_least(key: &str, value: Duration, min: Duration, warnings: &mut Vec<String>) -> Duration {
    if value >= min {
        return value;
    }
    let (value, used) = (duration::format(value), duration::format(min));
    warnings.push(format!("{key} of {value} is too low; {used} it is"));
    min
}

fn event_handlers(
    texts: &[String],
    warnings: &mut Vec<String>,
) -> Result<Vec<EventScript>, ConfigError> {
    let mut scripts = Vec::with_capacity(texts.len());
    for text in texts {
        let script = EventScript::parse(text)
            .map_err(|error| ConfigError::invalid("event_handlers", error))?;
        if script.script.is_empty() {
            warnings.push(format!("event handler {text:?} has no command"));
        } else {
            scripts.push(script);
        }
    }
    Ok(scripts)
}
