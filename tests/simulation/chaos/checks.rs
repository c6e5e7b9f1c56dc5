//! What must hold: at every step, once everything has healed, and when everything is quiet.

use std::net::SocketAddr;
use std::time::Duration;

use serfling::cluster::{Event, Member, MemberEventKind, Outcome};
use serfling::rpc::{HubEvent, Resources};

use super::{Chaos, Later, SECOND, Weather};
use crate::client::{Client, Subscription};
use crate::ledger::ProcessId;

/// How long everything may take to be well again.
const REST_MAX: Duration = Duration::from_secs(900);
/// More than queries, suspicions and streams last.
const QUIET: Duration = Duration::from_secs(90);
/// Timers of a node at rest: probe with its two ends, push/pull, gossip; reap and reconnect.
const TIMERS_AT_REST_MAX: usize = 8;

/// At every step.
impl Chaos {
    /// Looks at what a node has told and sent, until there is nothing new.
    pub(super) fn observe(&mut self, node: usize) {
        loop {
            let written = self.have_clients_write(node);
            self.world.settle(node);
            let quiet = !self.hear_all(node) && !written;
            let Some(process) = self.world.get_mut(node) else {
                return;
            };
            let id = (node, process.run);
            self.ledger.look_at_clocks(id, self.world.serf(node));
            let read = self.have_clients_read(node);
            if quiet && !read {
                return;
            }
        }
    }

    /// Hears what a node has told up to now. Says whether there was anything.
    pub(super) fn hear_all(&mut self, node: usize) -> bool {
        let Some(process) = self.world.get_mut(node) else {
            return false;
        };
        let id = (node, process.run);
        let mut told = std::mem::take(&mut process.told);
        told.extend(std::iter::from_fn(|| process.hub.poll_event()));
        let any = !told.is_empty();
        for event in told {
            self.hear(id, event);
        }
        any
    }

    fn hear(&mut self, id: ProcessId, event: HubEvent) {
        match event {
            HubEvent::Event(event) => {
                if let Event::Member(event) = &event {
                    let names: Vec<_> = event.members.iter().map(|m| &*m.name).collect();
                    self.trace(format_args!(
                        "n{} tells {} {names:?}",
                        id.0,
                        event.kind.as_str()
                    ));
                }
                let now = self.world.now;
                self.ledger.told(id, now, &event);
                if let Event::Member(event) = &event
                    && event.kind == MemberEventKind::Failed
                {
                    let names: Vec<_> = event.members.iter().map(|m| &*m.name).collect();
                    self.trace(format_args!("n{} takes {names:?} for failed", id.0));
                    // One that has left may fail for who has not heard of that, and one that has moved where it was.
                    let runs = |member: &Member| {
                        let addr = SocketAddr::new(member.addr, member.port);
                        let number = member.name[1..].parse();
                        number.is_ok_and(|n| self.up(n) && self.world.address(n) == addr)
                    };
                    assert!(
                        self.weather != Weather::Calm || !event.members.iter().any(runs),
                        "n{} takes {names:?} for failed in calm weather",
                        id.0
                    );
                }
            }
            HubEvent::Left => {
                self.trace(format_args!("n{} has left", id.0));
                self.after(SECOND, Later::Stop(id));
            }
            HubEvent::Evicted { reason } => self.evicted(id, &reason),
            HubEvent::Completed { ticket, outcome } => {
                if let Outcome::Keys { report, error } = &outcome {
                    self.hear_of_keys(id, ticket, report, error.as_ref());
                }
                if self.leaves.remove(&(id, ticket)) {
                    self.trace(format_args!("n{} has left", id.0));
                    self.after(SECOND, Later::Stop(id));
                }
                if self.joins.remove(&(id, ticket)) {
                    self.ledger.joined(id);
                    if matches!(outcome, Outcome::Joined { count: 0, .. }) {
                        self.after(5 * SECOND, Later::Join(id));
                    }
                }
            }
        }
    }
}

/// The end.
impl Chaos {
    /// Everything heals; then all must agree, and what was promised must have come.
    pub(super) fn rest(&mut self) {
        self.resting = true;
        self.world.network.heal();
        self.calm_network();
        self.later.retain(|(_, later)| {
            matches!(
                later,
                Later::Join(_)
                    | Later::JoinOver(_)
                    | Later::Look(_)
                    | Later::Return(_)
                    | Later::Stop(_)
            )
        });
        let nodes: Vec<_> = self.world.running().collect();
        for node in nodes {
            self.world.disks.entry(node).or_default().full = false;
            if self.world.node(node).paused {
                self.world.resume(node);
            }
            self.observe(node);
        }
        for client in self.clients.values_mut() {
            client.stalled = false;
        }
        // After a strike at all there may be too few for anything to be seen.
        for node in 0..self.options.nodes / 2 {
            if self.world.get(node).is_none() {
                self.start(node);
            }
        }
        self.settle_keys();
        let begin = self.world.now;
        while let Some(wrong) = self.unwell() {
            assert!(
                self.world.now - begin < REST_MAX,
                "it does not get well: {wrong}"
            );
            self.pass(5 * SECOND);
        }
        self.summary.rest = self.world.now - begin;
        (self.summary.deliveries, self.summary.excused) = self.ledger.deliveries();
    }

    fn unwell(&mut self) -> Option<String> {
        let now = self.world.now;
        let stopping = |(_, later): &(_, Later)| matches!(later, Later::Stop(_));
        if self.later.iter().any(stopping) {
            return Some("a node has left and still runs".to_owned());
        }
        let returning = |(_, later): &(_, Later)| matches!(later, Later::Return(_));
        if self.later.iter().any(returning) {
            return Some("a node is evicted and not back".to_owned());
        }
        let late = |client: &Client| {
            let process = self.world.get(client.node);
            let dropped = process.map_or(0, |process| process.hub.counters().dropped);
            client
                .overdue(now - SECOND, dropped)
                .or_else(|| self.behind(client))
                .map(|what| format!("a client of n{}: {what}", client.node))
        };
        let wrong = self.clients.values().find_map(late);
        let wrong = wrong.or_else(|| self.world.disagreement());
        wrong.or_else(|| self.ledger.missing())
    }

    /// A stream that has not shown what its node told.
    fn behind(&self, client: &Client) -> Option<String> {
        if client.was_stalled {
            return None;
        }
        let told = self.ledger.processes[&(client.node, client.run)].told.len();
        client.subscriptions.values().find_map(|subscription| {
            let Subscription::Events(stream) = subscription else {
                return None;
            };
            let shown = stream.next.unwrap_or(stream.starts.1);
            (shown < told).then(|| format!("a stream shows {shown} events of {told}"))
        })
    }

    /// Clients go, and everything that nodes held for them and for each other goes too.
    pub(super) fn go_quiet(&mut self) {
        let keys: Vec<_> = self.clients.keys().copied().collect();
        keys.into_iter().for_each(|key| self.vanish(key));
        self.pass(QUIET);
        // At some moment of a few there is no probe and no push/pull going on.
        let begin = self.world.now;
        while let Some(wrong) = self.holding() {
            assert!(
                self.world.now - begin < 60 * SECOND,
                "it does not go: {wrong}"
            );
            self.pass(Duration::from_millis(130));
        }
    }

    fn holding(&self) -> Option<String> {
        self.world.running().find_map(|node| {
            let process = self.world.get(node)?;
            let held = process.hub.resources();
            if held != Resources::default() {
                return Some(format!("n{node} holds {held:?}"));
            }
            let held = process.hub.cluster().resources();
            let nothing = held.gossip.streams
                + held.gossip.relays
                + held.gossip.merges
                + held.gossip.joins
                + held.gossip.broadcasts
                + held.gossip.held_bytes
                + held.asked
                + held.received
                + held.joins
                + held.waiting
                + held.unpolled;
            let timers = held.timers + held.gossip.timers;
            (nothing > 0 || timers > TIMERS_AT_REST_MAX).then(|| format!("n{node} holds {held:?}"))
        })
    }
}
