//! Counters of the RPC server, and the answer to `stats`.
//!
//! The sections `agent`, `runtime`, `serf`, `tags` and `event_handlers` are the reference's. `rpc`, `rpc_clients`,
//! `gossip` and `handlers` are our own: counters, and what each client has waiting and has lost. All values are text, so old clients parse them.

use std::sync::OnceLock;

use super::hub::Hub;
use super::session::Session;
use crate::cluster::{Cluster, Figure, VisitFigure};

/// How many sections the answer has.
const SECTIONS: u32 = 9;
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
    /// Of those, acknowledgements and answers to queries.
    pub dropped_answers: u64,
    /// Of those, events of streams.
    pub dropped_events: u64,
    /// Of those, log lines of monitors.
    pub dropped_lines: u64,
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

    /// Appends the body that answers `stats`.
    pub(super) fn push_stats(&mut self, out: &mut Vec<u8>) {
        let mut section = Section::new(std::mem::take(&mut self.scratch));
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_map_len(out, SECTIONS);
        let local = self.cluster.local();
        section.text("name", &local.name);
        section.finish("agent", out);
        for (filter, script) in &self.owner.event_handlers {
            section.text(filter, script);
        }
        section.finish("event_handlers", out);
        self.cluster
            .visit_counters(&mut |key, value| section.show(key, value));
        section.finish("gossip", out);
        for (key, count) in &self.owner.handlers {
            section.show(key, (*count).into());
        }
        section.finish("handlers", out);
        self.visit_rpc(&mut |key, value| section.show(key, value));
        section.finish("rpc", out);
        self.show_clients(&mut section);
        section.finish("rpc_clients", out);
        show_runtime(&mut section);
        section.finish("runtime", out);
        self.cluster
            .visit_stats(&mut |key, value| section.show(key, value));
        section.finish("serf", out);
        for (tag, value) in local.tags.iter() {
            section.text(tag, value);
        }
        section.finish("tags", out);
        self.scratch = section.entries;
    }

    /// Shows the figures of the section `rpc`.
    pub(super) fn visit_rpc(&self, visit: &mut VisitFigure<'_>) {
        let counters = self.counters;
        let resources = self.resources();
        visit("accepted", counters.accepted.into());
        visit("asked_queries", resources.asked_queries.into());
        visit("auth_failures", counters.auth_failures.into());
        visit("bad_requests", counters.bad_requests.into());
        visit("clients", resources.clients.into());
        visit("dropped", counters.dropped.into());
        visit("dropped_answers", counters.dropped_answers.into());
        visit("dropped_events", counters.dropped_events.into());
        visit("dropped_lines", counters.dropped_lines.into());
        visit("events", counters.events.into());
        visit("handshake_timeouts", counters.handshake_timeouts.into());
        visit("monitors", resources.monitors.into());
        visit("pending_queries", resources.pending_queries.into());
        visit("records", counters.records.into());
        visit("refused", counters.refused.into());
        visit("requests", counters.requests.into());
        visit("streams", resources.streams.into());
        visit("timers", resources.timers.into());
    }

    /// Shows the clients that subscribe, or have something waiting or lost.
    fn show_clients(&self, section: &mut Section) {
        let figures = |session: &Session| {
            let extras = session.extras.as_deref();
            let streams = extras.map_or(0, |extras| {
                extras.streams.len() + usize::from(extras.monitor.is_some())
            });
            (
                session.outbox.len(),
                extras.map_or(0, |extras| extras.dropped),
                streams,
                session.peer,
            )
        };
        let clients = self.sessions.iter().map(|(_, session)| figures(session));
        let mut clients: Vec<_> = clients
            .filter(|(queued, dropped, streams, _)| *queued > 0 || *dropped > 0 || *streams > 0)
            .collect();
        clients
            .sort_unstable_by_key(|(queued, dropped, ..)| std::cmp::Reverse((*queued, *dropped)));
        for (queued, dropped, streams, peer) in clients.into_iter().take(CLIENTS_LISTED_MAX) {
            let line = format_args!("queue_bytes={queued} dropped={dropped} streams={streams}")
                .to_string();
            section.text(&peer.to_string(), &line);
        }
    }
}

/// A section of `stats` on its way to the wire: entries are encoded as they come, and counted.
struct Section {
    entries: Vec<u8>,
    count: u32,
}

impl Section {
    fn new(mut entries: Vec<u8>) -> Self {
        entries.clear();
        Self { entries, count: 0 }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.count += 1;
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_str(&mut self.entries, key);
        let _ = rmp::encode::write_str(&mut self.entries, value);
    }

    fn show(&mut self, key: &str, value: Figure<'_>) {
        match value {
            Figure::Count(count) => self.text(key, itoa::Buffer::new().format(count)),
            Figure::Flag(true) => self.text(key, "true"),
            Figure::Flag(false) => self.text(key, "false"),
            Figure::Text(text) => self.text(key, text),
        }
    }

    /// Appends the section, and is ready for the next.
    fn finish(&mut self, name: &str, out: &mut Vec<u8>) {
        let _ = rmp::encode::write_str(out, name);
        let _ = rmp::encode::write_map_len(out, self.count);
        out.append(&mut self.entries);
        self.count = 0;
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
fn show_runtime(section: &mut Section) {
    // The system is slow to tell, and tells the same each time.
    static CPUS: OnceLock<usize> = OnceLock::new();
    let cpus =
        CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    // Go's names, which dashboards know.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    section.text("arch", arch);
    section.show("cpu_count", (*cpus).into());
    section.text("goroutines", "1");
    section.text("max_procs", "1");
    section.text("os", std::env::consts::OS);
    section.text("version", concat!("serfling", env!("CARGO_PKG_VERSION")));
}
