//! False failures: who is taken for failed though it runs, where packets are lost and nodes are slow.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serfling::cluster::{Event, MemberEventKind};
use serfling::gossip::timing::Timing;
use serfling::rpc::HubEvent;

use crate::cluster::{Cluster, SECOND, Start};
use crate::data::Failures;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(300);
/// One node in so many is slow.
const SLOW: usize = 20;

/// SWIM as it was before Lifeguard, as far as settings go: health has no say, and suspicion is short from the start.
pub(crate) const SWIM: Timing = Timing {
    awareness_max: 1,
    suspicion_max_mult: 1,
    ..Timing::LAN
};

/// How slow nodes are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slow {
    /// None is.
    No,
    /// Their processes stand still for a second in every three.
    Stopped,
    /// Their messages, both ways, wait for up to 16 seconds in every 20; their clocks go on. So it is in Lifeguard's paper.
    Delayed,
}

/// What is done to a cluster.
const TREATMENTS: [(f64, Slow); 9] = [
    (0.0, Slow::No),
    (0.01, Slow::No),
    (0.05, Slow::No),
    (0.1, Slow::No),
    (0.2, Slow::No),
    (0.3, Slow::No),
    (0.4, Slow::No),
    (0.0, Slow::Stopped),
    (0.0, Slow::Delayed),
];

pub(crate) fn measure(count: usize) -> Vec<Failures> {
    let mut rows = Vec::new();
    for (lifeguard, timing) in [(1.0, Timing::LAN), (0.0, SWIM)] {
        let mut cluster = Cluster::start(count, Start::Prepared, timing);
        for (loss, slow) in TREATMENTS {
            let begin = Instant::now();
            let failures = treat(&mut cluster, loss, slow);
            rows.push(Failures {
                lifeguard,
                ..failures
            });
            let took = begin.elapsed().as_secs_f64();
            eprintln!("{count} nodes, loss {loss}, slow {slow:?}: {failures:?}, took {took:.1} s");
        }
    }
    rows
}

/// Treats a cluster badly for a while, and lets it recover.
fn treat(cluster: &mut Cluster, loss: f64, slow: Slow) -> Failures {
    let slow_count = match slow {
        Slow::No => 0,
        Slow::Stopped | Slow::Delayed => (cluster.count() / SLOW).max(1),
    };
    let counters = |cluster: &Cluster| {
        [
            cluster.sum(|counters| counters.probes),
            cluster.sum(|counters| counters.probes_failed),
            cluster.sum(|counters| counters.refuted),
        ]
    };
    let before = counters(cluster);
    let mut tally = Tally::default();
    cluster.world.network.loss = loss;
    let begin = cluster.world.now;
    while cluster.world.now - begin < WATCHED {
        match slow {
            Slow::No => cluster.world.run(SECOND),
            Slow::Stopped => {
                (0..slow_count).for_each(|node| cluster.world.pause(node));
                cluster.world.run(SECOND);
                (0..slow_count).for_each(|node| cluster.world.resume(node));
                cluster.world.run(2 * SECOND);
            }
            Slow::Delayed => {
                let until = cluster.world.now + 16 * SECOND;
                (0..slow_count).for_each(|node| cluster.world.hold(node, until));
                cluster.world.run(20 * SECOND);
            }
        }
        tally.take(cluster, slow_count);
    }
    cluster.world.network.loss = 0.0;
    let after = counters(cluster);
    // What was on its way to be found out counts too.
    cluster
        .world
        .run(2 * cluster.timing.suspicion_max(cluster.count()));
    tally.take(cluster, slow_count);
    cluster.rest();
    let share = |slow: Slow, is: Slow| if slow == is { slow_count as f64 } else { 0.0 };
    Failures {
        lifeguard: 1.0,
        loss,
        stopped: share(slow, Slow::Stopped),
        delayed: share(slow, Slow::Delayed),
        seconds: WATCHED.as_secs_f64(),
        victims: tally.victims.len() as f64,
        told: tally.told as f64,
        slow_victims: tally.slow_victims.len() as f64,
        probes: (after[0] - before[0]) as f64,
        probes_failed: (after[1] - before[1]) as f64,
        refuted: (after[2] - before[2]) as f64,
    }
}

/// Who was taken for failed.
#[derive(Default)]
struct Tally {
    victims: HashSet<usize>,
    slow_victims: HashSet<usize>,
    /// How many times somebody took a healthy node for failed.
    told: usize,
}

impl Tally {
    /// Looks at what nodes have told. The first nodes are the slow ones.
    fn take(&mut self, cluster: &mut Cluster, slow_count: usize) {
        for told in cluster.told() {
            let HubEvent::Event(Event::Member(event)) = told.event else {
                continue;
            };
            if event.kind != MemberEventKind::Failed {
                continue;
            }
            for member in &event.members {
                let node = member.name[1..].parse().expect("nodes are numbered");
                if node < slow_count {
                    self.slow_victims.insert(node);
                } else {
                    self.victims.insert(node);
                    self.told += 1;
                }
            }
        }
    }
}
