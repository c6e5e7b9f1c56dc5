//! The settings of one source (a file, or the command line), none of which need be set.
//!
//! The tables below are the only place that knows the keys: fields, decoding, merging and the suggestions of error
//! messages come from them.
//!
//! Merging is the reference's (hashicorp/serf, `cmd/serf/command/agent/config.go`, `MergeConfig`): lists are appended,
//! maps are united, and of anything else the later one counts unless it is empty, zero or false. Two exceptions:
//! `enable_compression` and `validate_node_names` count in files here, where the reference forgets them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{Deserializer, MapAccess};

use super::decode::{Key, Seed, Setting, Settings, SettingsVisitor, Warnings};

macro_rules! settings {
    (
        $(#[$struct_doc:meta])* $name:ident in $prefix:literal:
        $($(#[$doc:meta])* $key:literal $(-$flag:literal)? => $field:ident: $type:ty;)*
    ) => {
        $(#[$struct_doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl Settings for $name {
            const KEYS: &'static [Key] = &[
                $(Key { name: $key, flag: concat!($($flag)?) },)*
            ];

            fn set<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
                warnings: &Warnings,
            ) -> Result<bool, A::Error> {
                $(if key.eq_ignore_ascii_case($key) {
                    let seed = Seed::new(concat!($prefix, $key), warnings);
                    self.$field = map.next_value_seed(seed)?;
                    return Ok(true);
                })*
                Ok(false)
            }
        }

        impl $name {
            /// The keys whose values differ.
            #[must_use]
            pub fn differing(&self, other: &Self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if self.$field != other.$field {
                    keys.push($key);
                })*
                keys
            }
        }

        impl Setting for $name {
            fn decode<'de, D: Deserializer<'de>>(
                key: &str,
                warnings: &Warnings,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let settings = Self::default();
                deserializer.deserialize_any(SettingsVisitor { key, warnings, settings })
            }

            fn merge(&mut self, later: Self) {
                $(Setting::merge(&mut self.$field, later.$field);)*
            }
        }
    };
}

settings! {
    /// What a file or the command line sets. Empty, zero and false mean "not set".
    PartialConfig in "":
    /// The node's name, unique in its cluster; the host's name if not set.
    "node_name" -"node" => node_name: String;
    /// Deprecated: sets the tag `role`.
    "role" -"role" => role: String;
    /// Whether to do without network coordinates.
    "disable_coordinates" => disable_coordinates: bool;
    /// The node's tags.
    "tags" -"tag" => tags: BTreeMap<String, String>;
    /// Where changed tags are kept.
    "tags_file" -"tags-file" => tags_file: String;
    /// Address and port for gossip.
    "bind" -"bind" => bind: String;
    /// Address and port that other nodes are told.
    "advertise" -"advertise" => advertise: String;
    /// Base64 of the key that encrypts gossip.
    "encrypt_key" -"encrypt" => encrypt_key: String;
    /// Where encryption keys are kept.
    "keyring_file" -"keyring-file" => keyring_file: String;
    /// The least level of log lines to show.
    "log_level" -"log-level" => log_level: String;
    /// Where the RPC server listens: address and port, or `unix:` and a path.
    "rpc_addr" -"rpc-addr" => rpc_addr: String;
    /// The key that RPC clients must show.
    "rpc_auth" => rpc_auth: String;
    /// How many RPC clients may be connected at once.
    "rpc_max_clients" -"rpc-max-clients" => rpc_max_clients: u64;
    /// How long an RPC client may take for handshake and authentication.
    "rpc_handshake_timeout" -"rpc-handshake-timeout" => rpc_handshake_timeout: Duration;
    /// What may wait for an RPC client before its records are dropped, in bytes.
    "rpc_queue_bytes" => rpc_queue_bytes: u64;
    /// What happens to an RPC client whose queue is full: `drop` or `disconnect`.
    "rpc_overflow" => rpc_overflow: String;
    /// A file that the address of the RPC server is written to, for who asks for port 0.
    "rpc_addr_file" -"rpc-addr-file" => rpc_addr_file: String;
    /// Whether a query is done once everybody has answered, before its deadline.
    "query_early_done" => query_early_done: bool;
    /// Where the figures of `stats` are served as a page for Prometheus.
    "metrics_addr" -"metrics-addr" => metrics_addr: String;
    /// Whether the log on standard error is JSON, an object a line.
    "log_json" -"log-json" => log_json: bool;
    /// How long an event handler may run.
    "handler_timeout" -"handler-timeout" => handler_timeout: Duration;
    /// How many commands of one event handler run at once.
    "handler_parallel" -"handler-parallel" => handler_parallel: u64;
    /// Whether queries are answered with the standard output of event handlers alone.
    "handler_stdout_only" -"handler-stdout-only" => handler_stdout_only: bool;
    /// How many commands of all event handlers run at once.
    "handlers_running_max" => handlers_running_max: u64;
    /// With keys: whether gossip that is not encrypted is refused; yes if not set.
    "encrypt_verify_incoming" => encrypt_verify_incoming: Option<bool>;
    /// With keys: whether this node encrypts; yes if not set.
    "encrypt_verify_outgoing" => encrypt_verify_outgoing: Option<bool>;
    /// Keeps clusters apart that share a network; all nodes of one have the same.
    "gossip_label" -"gossip-label" => gossip_label: String;
    /// The version of Serf's protocol to speak.
    "protocol" -"protocol" => protocol: u64;
    /// Whether a join at the start asks for events of the past.
    "replay_on_join" -"replay" => replay_on_join: bool;
    /// The largest answer to a query, in bytes.
    "query_response_size_limit" => query_response_size_limit: u64;
    /// The largest query, in bytes.
    "query_size_limit" => query_size_limit: u64;
    /// The largest user event, name and payload, in bytes.
    "user_event_size_limit" => user_event_size_limit: u64;
    /// Nodes to join at the start, or else fail.
    "start_join" -"join" => start_join: Vec<String>;
    /// Commands to run at events: `filter=command`, or a command for all.
    "event_handlers" -"event-handler" => event_handlers: Vec<String>;
    /// The set of timings: lan, wan or local.
    "profile" -"profile" => profile: String;
    /// Where the node remembers the cluster over a restart.
    "snapshot_path" -"snapshot" => snapshot_path: String;
    /// Whether SIGTERM leaves the cluster gracefully.
    "leave_on_terminate" => leave_on_terminate: bool;
    /// Whether SIGINT does not leave the cluster gracefully.
    "skip_leave_on_interrupt" => skip_leave_on_interrupt: bool;
    /// The name under which nodes find each other by multicast DNS.
    "discover" -"discover" => discover: String;
    /// How nodes find each other by multicast DNS.
    "mdns" => mdns: MdnsConfig;
    /// The network interface to use.
    "interface" -"iface" => interface: String;
    /// How often to try to reach a failed node.
    "reconnect_interval" => reconnect_interval: Duration;
    /// After which time a failed node is forgotten.
    "reconnect_timeout" => reconnect_timeout: Duration;
    /// After which time a node that left is forgotten.
    "tombstone_timeout" => tombstone_timeout: Duration;
    /// Whether to do nothing about another node of the same name.
    "disable_name_resolution" => disable_name_resolution: bool;
    /// Whether to log to syslog, too.
    "enable_syslog" -"syslog" => enable_syslog: bool;
    /// The facility of log lines in syslog.
    "syslog_facility" => syslog_facility: String;
    /// Nodes to join at the start, again and again until it works.
    "retry_join" -"retry-join" => retry_join: Vec<String>;
    /// How often to try; without end if not set.
    "retry_max_attempts" -"retry-max" => retry_max_attempts: u64;
    /// How long to wait between tries.
    "retry_interval" -"retry-interval" => retry_interval: Duration;
    /// Whether to join again at the start although the node left.
    "rejoin_after_leave" -"rejoin" => rejoin_after_leave: bool;
    /// Whether to compress gossip; yes if not set.
    "enable_compression" -"disable-compression" => enable_compression: Option<bool>;
    /// Address of a statsite server for metrics.
    "statsite_addr" => statsite_addr: String;
    /// Address of a statsd server for metrics.
    "statsd_addr" => statsd_addr: String;
    /// How long to wait for a broadcast, such as that of a leave, to be sent.
    "broadcast_timeout" -"broadcast-timeout" => broadcast_timeout: Duration;
    /// Whether names of nodes must be letters, digits, dashes and dots.
    "validate_node_names" => validate_node_names: bool;
    /// Known to the reference; without effect here, where nothing encodes a time.
    "MsgpackUseNewTimeFormat" => msgpack_use_new_time_format: bool;
}

settings! {
    /// How nodes find each other by multicast DNS.
    MdnsConfig in "mdns.":
    /// The network interface, if not that of gossip.
    "interface" -"mdns-iface" => interface: String;
    /// Whether to do without IPv4.
    "disable_ipv4" -"mdns-disable-ipv4" => disable_ipv4: bool;
    /// Whether to do without IPv6.
    "disable_ipv6" -"mdns-disable-ipv6" => disable_ipv6: bool;
}

/// A tag on the command line that is not `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tag {0:?}; write it as key=value")]
pub struct InvalidTag(String);

impl PartialConfig {
    /// Takes over what `later` sets.
    pub fn merge(&mut self, later: Self) {
        Setting::merge(self, later);
    }

    /// Adds a tag that is written as `key=value`.
    ///
    /// # Errors
    /// There is no `=`, or nothing in front of it.
    pub fn add_tag(&mut self, text: &str) -> Result<(), InvalidTag> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                self.tags.insert(key.to_owned(), value.to_owned());
                Ok(())
            }
            _ => Err(InvalidTag(text.to_owned())),
        }
    }
}
