//! Ways into a cluster: joins that somebody asks for, and the search for nodes that were there before.
//!
//! A node looks for those that its snapshot knows when it starts; for failed ones every now and then; and while it is
//! alone for its seeds, whose names are looked up afresh each time. Source: hashicorp/serf, `serf/serf.go` (`Join`,
//! `handleRejoin`, `reconnect`).
//!
//! Unlike there, a node that has found somebody goes on looking for those of its snapshot that are no members, as for
//! failed ones: after an outage of all, parts of a cluster that took each other for failed would each be content with
//! itself for ever.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info, warn};
use rand::RngExt;

use super::{Life, Serf, Timer};
use crate::cluster::{JoinFailures, MemberStatus, Outcome, Ticket};

/// Who wants a join, by gossip's number for it.
#[derive(Debug)]
enum Wanted {
    /// Somebody who waits for the end, and may want to hear of events from before.
    Operation { ticket: Ticket, replay: bool },
    /// This node, on its way back to a node it knew.
    Rejoin(String),
    /// This node, to reach a failed node or a seed.
    Reconnect,
}

/// The joins that go on.
#[derive(Debug, Default)]
pub(super) struct JoinState {
    running: HashMap<u64, Wanted>,
    /// Nodes known from before that have not been tried yet, as `name/address`.
    rejoin: VecDeque<String>,
    /// All of them, to look for while nobody else is there.
    known: Vec<(Arc<str>, SocketAddr)>,
    /// Those to look for though others are there, unless they are members, and until when.
    missed: Vec<(Arc<str>, SocketAddr)>,
    missed_until: Option<Instant>,
}

/// A node where it was, as a join takes it.
fn at(name: &str, addr: SocketAddr) -> String {
    format!("{name}/{addr}")
}

impl JoinState {
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// A member has been forgotten: it is not missed.
    pub(super) fn forget(&mut self, name: &str) {
        self.missed.retain(|(missed, _)| **missed != *name);
    }

    /// Whether events from before a join are not wanted.
    pub(super) fn ignores_old_events(&self) -> bool {
        self.running
            .values()
            .any(|wanted| matches!(wanted, Wanted::Operation { replay: false, .. }))
    }
}

impl Serf {
    /// Takes over what the snapshot knows, and looks for the nodes in it.
    pub(super) fn recover(&mut self, now: Instant) {
        let Some(snapshot) = &self.config.snapshot else {
            return;
        };
        let recovered = snapshot.recovered();
        self.membership.clock_mut().witness(recovered.clock);
        self.events.clock_mut().witness(recovered.event_clock);
        self.events
            .raise_minimum(recovered.event_clock.saturating_add(1));
        self.queries.clock_mut().witness(recovered.query_clock);
        self.queries
            .raise_minimum(recovered.query_clock.saturating_add(1));
        let nodes = recovered.alive.iter().chain(&recovered.failed);
        let others = nodes.filter(|(name, _)| **name != *self.config.name);
        self.joins.known = others.cloned().collect();
        let known = self.joins.known.iter();
        self.joins.rejoin = known.map(|(name, addr)| at(name, *addr)).collect();
        self.joins.missed = self.joins.known.clone();
        self.joins.missed_until = now.checked_add(self.config.reconnect_timeout);
        self.rejoin_next(now);
    }

    fn rejoin_next(&mut self, now: Instant) {
        if let Some(address) = self.joins.rejoin.pop_front() {
            info!("serf: Attempting re-join to previously known node: {address}");
            let join = self.gossip.join(now, std::slice::from_ref(&address));
            self.joins.running.insert(join, Wanted::Rejoin(address));
        } else if !self.joins.known.is_empty() {
            warn!("serf: Failed to re-join any previously known node; trying again now and then");
        }
    }

    pub(super) fn start_join(
        &mut self,
        now: Instant,
        ticket: Ticket,
        addresses: &[String],
        replay: bool,
    ) {
        if self.life != Life::Present {
            let failure = "Serf can't Join after Leave or Shutdown".to_owned();
            let failures = Some(JoinFailures(vec![failure]));
            return self.complete(ticket, Outcome::Joined { count: 0, failures });
        }
        let join = self.gossip.join(now, addresses);
        self.joins
            .running
            .insert(join, Wanted::Operation { ticket, replay });
    }

    pub(super) fn joined(&mut self, now: Instant, join: u64, count: usize, failures: Vec<String>) {
        let Some(wanted) = self.joins.running.remove(&join) else {
            return;
        };
        if count > 0 && self.life == Life::Present {
            self.broadcast_join_intent(now);
        }
        match wanted {
            Wanted::Operation { ticket, .. } => {
                for failure in &failures {
                    warn!("memberlist: {failure}");
                }
                // Whoever reached anybody has joined.
                let failed = count == 0 && !failures.is_empty();
                let failures = failed.then_some(JoinFailures(failures));
                self.complete(ticket, Outcome::Joined { count, failures });
            }
            Wanted::Rejoin(address) => {
                if count > 0 {
                    info!("serf: Re-joined to previously known node: {address}");
                    self.joins.rejoin.clear();
                } else {
                    self.rejoin_next(now);
                }
            }
            Wanted::Reconnect => {}
        }
    }

    /// Tries failed nodes, or seeds, again.
    pub(super) fn reconnect_due(&mut self, now: Instant) {
        self.wheel
            .insert(now + self.config.reconnect_interval, Timer::Reconnect);
        if self.life != Life::Present {
            return;
        }
        if self.gossip.present() == 1 && self.joins.rejoin.is_empty() {
            self.look_for_seeds(now);
        }
        self.look_for_missing(now);
        self.reconnect_failed(now);
    }

    /// Tries one node of the snapshot that is no member, the likelier the more there are for each living one.
    fn look_for_missing(&mut self, now: Instant) {
        if self.joins.missed_until.is_some_and(|until| until < now) {
            self.joins.missed = Vec::new();
        }
        if self.gossip.present() == 1 || !self.joins.rejoin.is_empty() {
            return;
        }
        let missed = self.joins.missed.iter();
        let missing: Vec<_> = missed
            .filter(|(name, _)| self.membership.get(name).is_none())
            .collect();
        if missing.is_empty() {
            return;
        }
        let alive = self.membership.present().max(1);
        if self.rng.random::<f64>() > missing.len() as f64 / alive as f64 {
            return;
        }
        let which = self.rng.random_range(0..missing.len());
        let Some((name, addr)) = missing.get(which) else {
            return;
        };
        info!("serf: attempting to reach {name} {addr}, known from before");
        let join = self.gossip.join(now, &[at(name, *addr)]);
        self.joins.running.insert(join, Wanted::Reconnect);
    }

    fn look_for_seeds(&mut self, now: Instant) {
        let mut addresses = self.config.seeds.clone();
        let known = self.joins.known.iter();
        addresses.extend(known.map(|(name, addr)| at(name, *addr)));
        if addresses.is_empty() {
            return;
        }
        debug!("serf: nobody else is here; looking for {addresses:?}");
        let join = self.gossip.join(now, &addresses);
        self.joins.running.insert(join, Wanted::Reconnect);
    }

    /// Tries one failed node, the likelier the more there are for each living one.
    fn reconnect_failed(&mut self, now: Instant) {
        let failed = self.membership.failed();
        if failed == 0 {
            return;
        }
        let alive = self.membership.present().max(1);
        if self.rng.random::<f64>() > failed as f64 / alive as f64 {
            debug!("serf: forgoing reconnect for random throttling");
            return;
        }
        let which = self.rng.random_range(0..failed);
        let Some(member) = self.membership.with_status(MemberStatus::Failed).nth(which) else {
            return;
        };
        let addr = SocketAddr::new(member.addr, member.port);
        info!("serf: attempting reconnect to {} {addr}", member.name);
        let address = at(&member.name, addr);
        let join = self.gossip.join(now, &[address]);
        self.joins.running.insert(join, Wanted::Reconnect);
    }
}
