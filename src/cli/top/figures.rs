//! The figures of an agent's `stats` that the view shows. The reference's agent has fewer of them.

use std::time::Instant;

use crate::client::Stats;

/// What `stats` said; `None` for what the agent does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    /// The name of the agent's node.
    pub(super) name: Option<String>,
    /// Version of what the agent is built with.
    pub(super) version: Option<String>,
    pub(super) health_score: Option<u64>,
    pub(super) event_queue: Option<u64>,
    pub(super) query_queue: Option<u64>,
    pub(super) clients: Option<u64>,
    /// Records that clients did not get.
    pub(super) rpc_dropped: Option<u64>,
    /// Events that handlers did not get.
    pub(super) handlers_dropped: Option<u64>,
    /// Broadcasts that made room for others.
    pub(super) gossip_dropped: Option<u64>,
    pub(super) packets_in: Option<Counter>,
    pub(super) packets_out: Option<Counter>,
    pub(super) slowest: Option<SlowClient>,
}

/// A counter, and how fast it grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counter {
    count: u64,
    at: Instant,
    /// Not known from one look alone.
    pub(super) per_second: Option<f64>,
}

/// The client of the agent with the longest queue, if there is a queue, or the one that has lost most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlowClient {
    pub(super) peer: String,
    pub(super) queue_bytes: u64,
    pub(super) dropped: u64,
}

impl Figures {
    /// The figures now, after those of before.
    pub(super) fn read(stats: &Stats, before: &Self, now: Instant) -> Self {
        let text = |section: &str, key: &str| stats.get(section)?.get(key).cloned();
        let count = |section: &str, key: &str| text(section, key)?.parse::<u64>().ok();
        let counter = |key: &str, before: Option<Counter>| {
            count("gossip", key).map(|count| Counter::read(count, before, now))
        };
        Self {
            name: text("agent", "name"),
            version: text("runtime", "version"),
            health_score: count("serf", "health_score"),
            event_queue: count("serf", "event_queue"),
            query_queue: count("serf", "query_queue"),
            clients: count("rpc", "clients"),
            rpc_dropped: count("rpc", "dropped"),
            handlers_dropped: count("handlers", "dropped"),
            gossip_dropped: count("gossip", "queue_drops"),
            packets_in: counter("packets_in", before.packets_in),
            packets_out: counter("packets_out", before.packets_out),
            slowest: slowest(stats),
        }
    }
}

impl Counter {
    fn read(count: u64, before: Option<Self>, now: Instant) -> Self {
        let per_second = before.and_then(|before| {
            let grown = count.checked_sub(before.count)?;
            let seconds = now.saturating_duration_since(before.at).as_secs_f64();
            (seconds > 0.0).then(|| grown as f64 / seconds)
        });
        Self {
            count,
            at: now,
            per_second,
        }
    }
}

fn slowest(stats: &Stats) -> Option<SlowClient> {
    let clients = stats.get("rpc_clients")?.iter();
    let clients = clients.map(|(peer, line)| {
        let figure = |key: &str| {
            let mut words = line.split(' ').filter_map(|word| word.split_once('='));
            let found = words.find(|(have, _)| *have == key);
            found
                .and_then(|(_, value)| value.parse().ok())
                .unwrap_or_default()
        };
        SlowClient {
            peer: peer.clone(),
            queue_bytes: figure("queue_bytes"),
            dropped: figure("dropped"),
        }
    });
    clients
        .filter(|client| client.queue_bytes > 0 || client.dropped > 0)
        .max_by_key(|client| (client.queue_bytes, client.dropped))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stats(pairs: &[(&str, &str, &str)]) -> Stats {
        let mut stats = Stats::new();
        for (section, key, value) in pairs {
            let section = stats.entry((*section).to_owned()).or_default();
            section.insert((*key).to_owned(), (*value).to_owned());
        }
        stats
    }

    #[test]
    fn what_an_agent_does_not_tell_is_not_known() {
        let now = Instant::now();
        let of_reference = stats(&[("agent", "name", "n1"), ("serf", "health_score", "2")]);
        let figures = Figures::read(&of_reference, &Figures::default(), now);
        let known = Figures {
            name: Some("n1".to_owned()),
            health_score: Some(2),
            ..Figures::default()
        };
        assert_eq!(figures, known);
    }

    #[test]
    fn counters_have_a_rate_from_the_second_look_on() {
        let now = Instant::now();
        let first = Figures::read(
            &stats(&[("gossip", "packets_in", "10")]),
            &Figures::default(),
            now,
        );
        assert_eq!(first.packets_in.unwrap().per_second, None);
        let later = now + Duration::from_secs(2);
        let second = Figures::read(&stats(&[("gossip", "packets_in", "15")]), &first, later);
        assert_eq!(second.packets_in.unwrap().per_second, Some(2.5));
        // An agent that was started anew counts from zero.
        let again = Figures::read(&stats(&[("gossip", "packets_in", "1")]), &second, later);
        assert_eq!(again.packets_in.unwrap().per_second, None);
    }

    #[test]
    fn the_slowest_client_has_the_longest_queue() {
        let section = "rpc_clients";
        let idle = (section, "1.1.1.1:1", "queue_bytes=0 dropped=0 streams=1");
        let figures =
            |pairs: &[_]| Figures::read(&stats(pairs), &Figures::default(), Instant::now());
        assert_eq!(figures(&[idle]).slowest, None);
        let slow = (section, "1.1.1.1:2", "queue_bytes=70 dropped=3 streams=1");
        let lossy = (section, "1.1.1.1:3", "queue_bytes=0 dropped=9 streams=1");
        let slowest = figures(&[idle, slow, lossy]).slowest.unwrap();
        assert_eq!(
            (&*slowest.peer, slowest.queue_bytes, slowest.dropped),
            ("1.1.1.1:2", 70, 3)
        );
    }
}
