//! The agent's way into a cluster at its start: `-join`, once, and `-retry-join`, until it works.
//!
//! Source: hashicorp/serf, `cmd/serf/command/agent/command.go` (`startupJoin`, `retryJoin`). There the first join is
//! over before the agent serves; here it serves from the start.

use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::config::Config;
use crate::cluster::{Cluster, JoinFailures, Operation, Outcome, Ticket};

/// What became of the joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// They go on, or have worked.
    Fine,
    /// The agent is to end.
    GivenUp,
}

/// The joins at the start of an agent.
#[derive(Debug)]
pub(super) struct Joining {
    replay: bool,
    /// The join that has to work at once.
    start: Option<Ticket>,
    retry: Vec<String>,
    retrying: Option<Ticket>,
    retry_at: Option<Instant>,
    attempts: u64,
    attempts_max: Option<u64>,
    interval: Duration,
}

impl Joining {
    /// Begins to join.
    pub(super) fn start<C: Cluster>(now: Instant, config: &Config, cluster: &mut C) -> Self {
        let mut joining = Self {
            replay: config.replay_on_join,
            start: None,
            retry: config.retry_join.clone(),
            retrying: None,
            retry_at: (!config.retry_join.is_empty()).then_some(now),
            attempts: 0,
            attempts_max: config.retry_max_attempts,
            interval: config.retry_interval,
        };
        if !config.start_join.is_empty() {
            let operation = joining.operation(&config.start_join);
            joining.start = Some(cluster.start(now, operation));
        }
        joining.handle_timeout(now, cluster);
        joining
    }

    fn operation(&self, addresses: &[String]) -> Operation {
        info!("agent: Joining cluster...(replay: {})", self.replay);
        Operation::Join {
            addresses: addresses.to_vec(),
            replay: self.replay,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Tries again when it is time.
    pub(super) fn handle_timeout<C: Cluster>(&mut self, now: Instant, cluster: &mut C) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            let operation = self.operation(&self.retry);
            self.retrying = Some(cluster.start(now, operation));
        }
    }

    /// A join of the agent's has ended.
    pub(super) fn handle_completed(
        &mut self,
        now: Instant,
        ticket: Ticket,
        outcome: &Outcome,
    ) -> Progress {
        let Outcome::Joined { count, failures } = outcome else {
            return Progress::Fine;
        };
        if self.start == Some(ticket) {
            self.start = None;
            return match failures {
                Some(failures) => {
                    error!("agent: Failed to join: {}", one_line(failures));
                    Progress::GivenUp
                }
                None => joined(*count),
            };
        }
        if self.retrying != Some(ticket) {
            return Progress::Fine;
        }
        self.retrying = None;
        let Some(failures) = failures else {
            return joined(*count);
        };
        self.attempts += 1;
        if self.attempts_max.is_some_and(|max| self.attempts > max) {
            error!("agent: maximum retry join attempts made, exiting");
            return Progress::GivenUp;
        }
        warn!(
            "agent: Join failed: {}, retrying in {:?}",
            one_line(failures),
            self.interval
        );
        self.retry_at = Some(now + self.interval);
        Progress::Fine
    }
}

fn joined(count: usize) -> Progress {
    info!("agent: Join completed. Synced with {count} initial agents");
    Progress::Fine
}

fn one_line(failures: &JoinFailures) -> String {
    failures.0.join("; ")
}
