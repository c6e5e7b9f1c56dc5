//! A cluster of many nodes: how it starts, comes to rest and is watched.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::RngExt;
use serfling::cluster::{Catalog, Event, MemberEvent, MemberEventKind};
use serfling::gossip::timing::Timing;
use serfling::gossip::{GossipCounters, Queue};
use serfling::rpc::{self, HubEvent};

use crate::wire;
use crate::world::{Told, World};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Time passes in such steps. What is measured does not depend on them: nodes tell with the time.
const STEP: Duration = Duration::from_millis(100);
/// Between the starts of nodes that join one after the other.
const STAGGER: Duration = Duration::from_millis(20);
/// Whatever takes longer is not going to happen.
const LIMIT: Duration = Duration::from_secs(600);
/// Where the prepared state comes from: nobody's address.
const NOBODY: usize = 65_000;

/// How a cluster begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// All nodes at once, with a prepared state of all.
    Prepared,
    /// One node after the other joins one of those before it.
    Joins,
}

/// A cluster of many nodes.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) timing: Timing,
    /// What nodes know of nodes, once.
    catalog: Catalog,
    running: Vec<usize>,
    spawned: usize,
}

impl Cluster {
    /// A cluster at rest, in which everybody knows everybody.
    pub(crate) fn start(count: usize, start: Start, timing: Timing) -> Self {
        let mut world = World::new(1);
        world.journal = Some(Vec::new());
        let mut cluster = Self {
            world,
            timing,
            catalog: Catalog::default(),
            running: Vec::new(),
            spawned: 0,
        };
        match start {
            Start::Prepared => cluster.start_prepared(count),
            Start::Joins => cluster.start_joins(count),
        }
        cluster.rest();
        // Gossip may miss one of a hundred thousand; who missed something learns it with the next push/pull.
        while let Some(wrong) = cluster.world.disagreement() {
            eprintln!("{wrong}");
            cluster.idle(10 * SECOND);
        }
        cluster
    }

    fn start_prepared(&mut self, count: usize) {
        (0..count).for_each(|_| _ = self.spawn());
        let state = wire::state(count);
        for node in 0..count {
            self.world.hear_state(node, World::addr(NOBODY), &state);
            self.forget();
        }
    }

    fn start_joins(&mut self, count: usize) {
        for _ in 0..count {
            let node = self.spawn();
            if node > 0 {
                self.world.join(node, node / 2);
            }
            self.world.run(STAGGER);
            self.forget();
        }
    }

    /// How many nodes run.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    fn spawn(&mut self) -> usize {
        let node = self.spawned;
        self.spawned += 1;
        let mut config = self.world.config(node);
        config.timing = self.timing.clone();
        config.catalog = Some(self.catalog.clone());
        self.world.spawn_with(node, config, rpc::Config::default());
        self.running.push(node);
        node
    }

    /// One of the nodes that run.
    pub(crate) fn any(&mut self) -> usize {
        let at = self.world.rng.random_range(0..self.running.len());
        self.running[at]
    }

    /// One more node comes and joins one of the others.
    pub(crate) fn add(&mut self) -> usize {
        let other = self.any();
        let node = self.spawn();
        self.world.join(node, other);
        node
    }

    /// Kills one of the nodes.
    pub(crate) fn kill(&mut self) -> usize {
        let at = self.world.rng.random_range(0..self.running.len());
        let node = self.running.swap_remove(at);
        self.world.kill(node);
        node
    }

    /// Lets time pass until nobody has news to pass on.
    pub(crate) fn rest(&mut self) {
        let begin = self.world.now;
        while !self.is_at_rest() {
            assert!(self.world.now - begin < LIMIT, "it never comes to rest");
            self.world.run(SECOND);
            self.forget();
        }
    }

    fn is_at_rest(&self) -> bool {
        let queues = [Queue::Intents, Queue::Queries, Queue::Events];
        self.running.iter().all(|node| {
            let gossip = self.world.serf(*node).gossip();
            gossip.queued_news() == 0 && queues.iter().all(|queue| gossip.queued(*queue) == 0)
        })
    }

    /// Lets so much time pass, of which nothing is of interest.
    pub(crate) fn idle(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.world.run(SECOND.min(end - self.world.now));
            self.forget();
        }
    }

    /// What nodes have told since the last call.
    pub(crate) fn told(&mut self) -> Vec<Told> {
        self.world.journal.replace(Vec::new()).unwrap_or_default()
    }

    fn forget(&mut self) {
        if let Some(journal) = &mut self.world.journal {
            journal.clear();
        }
    }

    /// Lets time pass until so many nodes have told of something; returns after how many seconds they did, the first
    /// first.
    pub(crate) fn watch(
        &mut self,
        begin: Instant,
        wanted: usize,
        is_it: impl Fn(&Event) -> bool,
    ) -> Vec<f64> {
        let mut heard = HashSet::new();
        let mut times = Vec::new();
        loop {
            for Told { at, node, event } in self.told() {
                if matches!(&event, HubEvent::Event(event) if is_it(event)) && heard.insert(node) {
                    times.push((at - begin).as_secs_f64());
                }
            }
            if times.len() >= wanted {
                return times;
            }
            assert!(self.world.now - begin < LIMIT, "not all hear of it");
            self.world.run(STEP);
        }
    }

    /// Adds up a figure of all nodes.
    pub(crate) fn sum(&self, figure: impl Fn(&GossipCounters) -> u64) -> u64 {
        let of = |node: &usize| figure(self.world.serf(*node).gossip().counters());
        self.running.iter().map(of).sum()
    }
}

/// Whether an event says this of that node.
pub(crate) fn says(event: &Event, kind: MemberEventKind, name: &str) -> bool {
    matches!(event, Event::Member(MemberEvent { kind: its, members }) if *its == kind && members.iter().any(|member| *member.name == *name))
}
