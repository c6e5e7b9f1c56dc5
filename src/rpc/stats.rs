//! Counters of the RPC server, and the answer to `stats`.
//!
//! The sections `agent`, `runtime`, `serf`, `tags` and `event_handlers` are the reference's. `rpc` and `rpc_clients` are
//! our own: what each client has waiting and has lost. All values are text, so old clients parse them.

use super::encode::push_body;
use super::hub::Hub;
use super::message::{Pairs, StatsResponse, Text};
use crate::cluster::Cluster;

/// Clients listed one by one in `stats`; those with the longest queues come first.
const CLIENTS_LISTED_MAX: usize = 64;

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Clients taken in.
    pub accepted: u64,
    /// Clients turned away because there were too many.
    pub refused: u64,
    /// Requests carried out or refused after the handshake.
    pub requests: u64,
    /// Clients closed because they do not speak the protocol.
    pub bad_requests: u64,
    /// Wrong auth keys.
    pub auth_failures: u64,
    /// Clients closed for taking too long over handshake and auth.
    pub handshake_timeouts: u64,
    /// Events the cluster told of.
    pub events: u64,
    /// Records queued for clients.
    pub records: u64,
    /// Records dropped because a client's queue was full.
    pub dropped: u64,
    /// Queries that clients can answer now.
    pub pending_queries: u64,
}

impl<C: Cluster> Hub<C> {
    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many streams, monitors, queries asked here, queries to answer and timers there are: all zero when no client
    /// is connected.
    #[must_use]
    pub fn resources(&self) -> Resources {
        Resources {
            clients: self.sessions.len(),
            streams: self.subscriptions.len(),
            monitors: self.monitors.len(),
            asked_queries: self.asked.len(),
            pending_queries: usize::try_from(self.counters.pending_queries).unwrap_or(usize::MAX),
            timers: self.wheel.len(),
        }
    }

    /// The body that answers `stats`.
    pub(super) fn encode_stats(&self) -> Vec<u8> {
        let local = self.cluster.local();
        let runtime = runtime();
        let serf = self.cluster.stats();
        let rpc = self.rpc_section();
        let clients = self.clients_section();

        fn texts<'a, K: AsRef<str>>(pairs: &'a [(K, String)]) -> Pairs<'a> {
            pairs
                .iter()
                .map(|(key, value)| (key.as_ref(), Text(value)))
                .collect()
        }
        let mut sections: StatsResponse<'_> = Pairs::default();
        let mut section = |name, pairs| sections.0.push((Text(name), pairs));
        section("agent", [("name", Text(&local.name))].into_iter().collect());
        section("event_handlers", texts(&self.config.event_handlers));
        section("rpc", texts(&rpc));
        section("rpc_clients", texts(&clients));
        section("runtime", texts(&runtime));
        section("serf", texts(&serf));
        section(
            "tags",
            local
                .tags
                .iter()
                .map(|(key, value)| (key, Text(value)))
                .collect(),
        );
        let mut body = Vec::new();
        push_body(&mut body, &sections);
        body
    }

    fn rpc_section(&self) -> Vec<(&'static str, String)> {
        let counters = self.counters;
        let resources = self.resources();
        vec![
            ("accepted", counters.accepted.to_string()),
            ("asked_queries", resources.asked_queries.to_string()),
            ("auth_failures", counters.auth_failures.to_string()),
            ("bad_requests", counters.bad_requests.to_string()),
            ("clients", resources.clients.to_string()),
            ("dropped", counters.dropped.to_string()),
            ("events", counters.events.to_string()),
            (
                "handshake_timeouts",
                counters.handshake_timeouts.to_string(),
            ),
            ("monitors", resources.monitors.to_string()),
            ("pending_queries", resources.pending_queries.to_string()),
            ("records", counters.records.to_string()),
            ("refused", counters.refused.to_string()),
            ("requests", counters.requests.to_string()),
            ("streams", resources.streams.to_string()),
            ("timers", resources.timers.to_string()),
        ]
    }

    fn clients_section(&self) -> Vec<(String, String)> {
        let mut clients: Vec<_> = self
            .sessions
            .iter()
            .map(|(_, session)| {
                let extras = session.extras.as_deref();
                let dropped = extras.map_or(0, |extras| extras.dropped);
                let streams = extras.map_or(0, |extras| extras.streams.len());
                (session.outbox.len(), dropped, streams, session.peer)
            })
            .collect();
        clients
            .sort_unstable_by_key(|(queued, dropped, ..)| std::cmp::Reverse((*queued, *dropped)));
        clients.truncate(CLIENTS_LISTED_MAX);
        let line = |(queued, dropped, streams, peer): (usize, u64, usize, super::session::Peer)| {
            (
                peer.to_string(),
                format!("queue_bytes={queued} dropped={dropped} streams={streams}"),
            )
        };
        clients.into_iter().map(line).collect()
    }
}

/// What the clients of a hub have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// Connected clients.
    pub clients: usize,
    /// Open streams.
    pub streams: usize,
    /// Open monitors.
    pub monitors: usize,
    /// Queries asked by clients that are not done.
    pub asked_queries: usize,
    /// Queries that clients can answer now.
    pub pending_queries: usize,
    /// Timers set.
    pub timers: usize,
}

/// The section `runtime`, with the reference's keys. A "goroutine" is a thread here, and there is one.
fn runtime() -> Vec<(&'static str, String)> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Go's names, which dashboards know.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    vec![
        ("arch", arch.to_owned()),
        ("cpu_count", cpus.to_string()),
        ("goroutines", "1".to_owned()),
        ("max_procs", "1".to_owned()),
        ("os", std::env::consts::OS.to_owned()),
        (
            "version",
            concat!("serfling", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ]
}
