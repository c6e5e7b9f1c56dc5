//! The same figures as `stats`, for collectors: Prometheus' text format.

use std::fmt::Write as _;

use super::hub::Hub;
use crate::cluster::{Cluster, Figure, MemberStatus};

/// Figures of the section `rpc` that go up and down.
const RPC_GAUGES: [&str; 6] = [
    "asked_queries",
    "clients",
    "monitors",
    "pending_queries",
    "streams",
    "timers",
];
/// Figures of the section `handlers` that do.
const HANDLER_GAUGES: [&str; 2] = ["queued", "running"];

/// The page as it grows.
struct Page(String);

impl Page {
    /// Adds a figure, if it is a number.
    fn add(&mut self, section: &str, key: &str, gauge: bool, value: Figure<'_>) {
        let value = match value {
            Figure::Count(count) => count,
            Figure::Flag(flag) => flag.into(),
            Figure::Text(_) => return,
        };
        let (kind, suffix) = if gauge {
            ("gauge", "")
        } else {
            ("counter", "_total")
        };
        let name = format!("serfling_{section}_{key}{suffix}");
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n{name} {value}");
    }
}

impl<C: Cluster> Hub<C> {
    /// The figures, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut page = Page(String::new());
        let statuses = [
            MemberStatus::Alive,
            MemberStatus::Leaving,
            MemberStatus::Left,
            MemberStatus::Failed,
        ];
        let mut counts = [0u64; 4];
        self.cluster().visit_members(&mut |member| {
            let at = statuses.iter().position(|status| *status == member.status);
            if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        });
        page.0.push_str("# TYPE serfling_members gauge\n");
        for (status, count) in statuses.iter().zip(counts) {
            let _ = writeln!(page.0, "serfling_members{{status=\"{status}\"}} {count}");
        }
        self.cluster()
            .visit_stats(&mut |key, value| page.add("serf", key, true, value));
        self.cluster()
            .visit_counters(&mut |key, value| page.add("gossip", key, false, value));
        self.visit_rpc(&mut |key, value| {
            page.add("rpc", key, RPC_GAUGES.contains(&key), value);
        });
        for (key, value) in &self.owner.handlers {
            page.add(
                "handlers",
                key,
                HANDLER_GAUGES.contains(key),
                (*value).into(),
            );
        }
        page.0
    }
}
