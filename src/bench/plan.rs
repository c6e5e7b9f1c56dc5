//! What a load is to be.

use std::time::Duration;

use super::BenchError;
use crate::address::RpcAddr;

/// Connections that one run opens at the most.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Requests that one connection has in flight at the most.
pub const DEPTH_MAX: usize = 65_536;
/// Payload at the most, in bytes: far beyond what agents take, which say so themselves.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// What an event to subscribers carries at least: when it was due, its publisher and its number.
pub(super) const STAMP_BYTES: usize = 16;

macro_rules! workloads {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What the connections do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Workload { $($(#[$doc])* $variant,)* }

        impl Workload {
            /// Every workload.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The workload of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|workload| workload.name() == name)
            }
        }
    };
}

workloads! {
    /// List the members.
    Members = "members";
    /// List the members that match.
    MembersFiltered = "members-filtered";
    /// Ask for counters.
    Stats = "stats";
    /// Ask for a node's coordinate.
    GetCoordinate = "get-coordinate";
    /// Send user events that no connection of this run listens to.
    Event = "event";
    /// Ask queries, which one more connection answers.
    Query = "query";
    /// Send user events to subscribers.
    FanOut = "fan-out";
    /// Connect, shake hands, go.
    Connect = "connect";
    /// Stay connected.
    Idle = "idle";
}

/// What a load is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The agent, of either kind.
    pub address: RpcAddr,
    /// Its auth key, if it has one.
    pub auth_key: Option<String>,
    /// What the connections do.
    pub workload: Workload,
    /// Connections that ask or publish.
    pub clients: usize,
    /// Requests that each of them has in flight.
    pub depth: usize,
    /// Connections with a stream, of [`Workload::FanOut`].
    pub subscribers: usize,
    /// Connections that do nothing besides.
    pub idle: usize,
    /// How many of the idle have a stream that nothing matches.
    pub idle_streams: usize,
    /// How long requests are sent.
    pub duration: Duration,
    /// How many requests are sent at the most.
    pub requests: Option<u64>,
    /// Requests a second, of all clients; as many as go when `None`.
    pub rate: Option<u64>,
    /// Payload of events, queries and answers, in bytes.
    pub payload_bytes: usize,
    /// Whose coordinate to ask for.
    pub node: String,
    /// Regular expression for the name, of [`Workload::MembersFiltered`].
    pub filter_name: String,
    /// Regular expression for the status.
    pub filter_status: String,
    /// Regular expressions for tags.
    pub filter_tags: Vec<(String, String)>,
}

impl Plan {
    /// Ten seconds of a workload, as fast as it goes, with sixteen clients that have one request in flight each.
    #[must_use]
    pub fn new(address: RpcAddr, workload: Workload) -> Self {
        Self {
            address,
            auth_key: None,
            workload,
            clients: 16,
            depth: 1,
            subscribers: if workload == Workload::FanOut { 100 } else { 0 },
            idle: 0,
            idle_streams: 0,
            duration: Duration::from_secs(10),
            requests: None,
            rate: None,
            payload_bytes: 64,
            node: String::new(),
            filter_name: String::new(),
            filter_status: "alive".to_owned(),
            filter_tags: Vec::new(),
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        let answers = usize::from(self.workload == Workload::Query);
        [self.clients, self.subscribers, self.idle, answers]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// How long the payload is.
    pub(super) fn payload(&self) -> usize {
        if self.workload == Workload::FanOut {
            self.payload_bytes.max(STAMP_BYTES)
        } else {
            self.payload_bytes
        }
    }

    /// # Errors
    /// [`BenchError::Plan`] for what makes no sense.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let wrong = |text: String| Err(BenchError::Plan(text));
        if self.clients == 0 {
            return wrong("at least one client is needed".to_owned());
        }
        if self.connections() > CONNECTIONS_MAX {
            return wrong(format!("{CONNECTIONS_MAX} connections at the most"));
        }
        if self.depth == 0 || self.depth > DEPTH_MAX {
            return wrong(format!("1 to {DEPTH_MAX} requests in flight"));
        }
        if self.payload_bytes > PAYLOAD_BYTES_MAX {
            return wrong(format!(
                "a payload of {PAYLOAD_BYTES_MAX} bytes at the most"
            ));
        }
        if self.rate == Some(0) {
            return wrong("a rate is at least one request a second".to_owned());
        }
        if self.idle_streams > self.idle {
            return wrong("more idle streams than idle connections".to_owned());
        }
        if self.workload == Workload::FanOut && self.subscribers == 0 {
            return wrong("fan-out needs subscribers".to_owned());
        }
        Ok(())
    }
}
