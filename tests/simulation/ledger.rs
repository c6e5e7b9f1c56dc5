//! What was promised and what was seen: who must have heard what, and whose clocks stand where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serfling::cluster::{Cluster, Event, Figure, UserEvent};
use serfling::serf::Serf;
use serfling::serf::snapshot::FLUSH_INTERVAL;

/// A process: which node's, and which of its runs.
pub(crate) type ProcessId = (usize, u32);

/// What was told this long before a crash is in the snapshot.
const KEPT_AFTER: Duration = FLUSH_INTERVAL.saturating_add(Duration::from_millis(100));

/// What is known of a process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// The user events that it told, in order.
    pub(crate) told: Vec<(u64, String)>,
    /// All of these, and when it told them.
    heard: BTreeMap<(u64, String), Instant>,
    /// Members, events, queries.
    clocks: [u64; 3],
    /// Events from before this Lamport time are not for it: it joined or restarted since.
    floor: u64,
    /// Joins going on, during which it may decide so.
    pub(crate) joins: usize,
}

/// A user event that a client sent.
#[derive(Debug)]
struct Sent {
    origin: ProcessId,
    /// Once its own node has told it.
    ltime: Option<u64>,
    coalesce: bool,
    /// Whoever was to hear of it has.
    settled: bool,
}

/// What was promised and what was seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    events: BTreeMap<String, Sent>,
    /// By node: what its earlier processes have told, and its snapshot knows of.
    before: BTreeMap<usize, BTreeSet<(u64, String)>>,
    /// The latest Lamport time of events that any process has seen.
    event_time: u64,
    /// Deliveries of events that were checked and found due, and such that were not due.
    due: u64,
    excused: u64,
    /// Those of events that are settled.
    settled: (u64, u64),
}

impl Ledger {
    pub(crate) fn start(&mut self, id: ProcessId) {
        let floor = self.event_time;
        let process = Process {
            floor,
            ..Process::default()
        };
        self.processes.insert(id, process);
    }

    /// A process has ended. If it was sound, the node must not tell again what the snapshot has had time to learn of.
    pub(crate) fn end(&mut self, id: ProcessId, now: Instant, sound: bool) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        if !sound {
            return self.forget_before(id.0);
        }
        let told = process.heard.into_iter();
        let kept = told.filter(|(_, at)| *at + KEPT_AFTER <= now);
        let before = self.before.entry(id.0).or_default();
        before.extend(kept.map(|(event, _)| event));
    }

    /// What a node knew is gone.
    pub(crate) fn forget_before(&mut self, node: usize) {
        self.before.remove(&node);
    }

    pub(crate) fn process(&mut self, id: ProcessId) -> &mut Process {
        self.processes.get_mut(&id).expect("it runs")
    }

    pub(crate) fn sent(&mut self, origin: ProcessId, name: String, coalesce: bool) {
        let sent = Sent {
            origin,
            ltime: None,
            coalesce,
            settled: false,
        };
        self.events.insert(name, sent);
    }

    /// The client that sent an event was told that it was taken: by then its own node has told it.
    pub(crate) fn accepted(&self, name: &str) {
        let sent = &self.events[name];
        assert!(
            sent.coalesce || sent.ltime.is_some(),
            "{name} was accepted and not told"
        );
    }

    /// How many events may not have reached everybody.
    pub(crate) fn events(&self) -> usize {
        self.events.values().filter(|sent| !sent.settled).count()
    }

    /// Deliveries of events that were due, and such that were not.
    pub(crate) const fn deliveries(&self) -> (u64, u64) {
        (self.settled.0 + self.due, self.settled.1 + self.excused)
    }

    /// Whatever is [`missing`](Self::missing) has come. So it need not be looked at again, nor kept; nobody follows what a
    /// process tells at the moment.
    pub(crate) fn settle(&mut self) {
        self.settled = self.deliveries();
        (self.due, self.excused) = (0, 0);
        for sent in self.events.values_mut() {
            sent.settled = true;
        }
        for process in self.processes.values_mut() {
            process.told = Vec::new();
            process.heard = BTreeMap::new();
        }
        self.before.clear();
    }

    /// A process told of something.
    pub(crate) fn told(&mut self, id: ProcessId, now: Instant, event: &Event) {
        let Event::User(UserEvent { ltime, name, .. }) = event else {
            return;
        };
        let key = (*ltime, name.clone());
        let process = self.processes.get_mut(&id).expect("it runs");
        assert!(
            process.heard.insert(key.clone(), now).is_none(),
            "{id:?} told {key:?} twice"
        );
        let before = self.before.get(&id.0);
        assert!(
            before.is_none_or(|before| !before.contains(&key)),
            "{id:?} tells {key:?} again, as before its restart"
        );
        process.told.push(key);
        let sent = self.events.get_mut(name);
        let sent = sent.unwrap_or_else(|| panic!("{id:?} told of {name}, which nobody sent"));
        if sent.origin == id {
            sent.ltime = Some(*ltime);
        }
        assert!(
            sent.ltime.is_none_or(|sent| sent == *ltime) || sent.coalesce,
            "{name} was sent at {:?} and told at {ltime}",
            sent.ltime
        );
    }

    /// A join of a process has ended; what was before it may not be told there.
    pub(crate) fn joined(&mut self, id: ProcessId) {
        let floor = self.event_time;
        if let Some(process) = self.processes.get_mut(&id) {
            process.joins = process.joins.saturating_sub(1);
            process.floor = floor;
        }
    }

    /// Looks at a process's clocks: they never go back.
    pub(crate) fn look_at_clocks(&mut self, id: ProcessId, serf: &Serf) {
        const NAMES: [&str; 3] = ["member_time", "event_time", "query_time"];
        let mut clocks = [0; 3];
        serf.visit_stats(&mut |name, figure| {
            if let Some(which) = NAMES.iter().position(|clock| *clock == name)
                && let Figure::Count(time) = figure
            {
                clocks[which] = time;
            }
        });
        let before = &mut self.processes.get_mut(&id).expect("it runs").clocks;
        for which in 0..3 {
            assert!(
                clocks[which] >= before[which],
                "{} of {id:?} went back from {} to {}",
                NAMES[which],
                before[which],
                clocks[which]
            );
        }
        *before = clocks;
        self.event_time = self.event_time.max(clocks[1]);
    }

    /// An event that somebody has told, and somebody else should have.
    pub(crate) fn missing(&mut self) -> Option<String> {
        let mut holders: BTreeMap<&str, u64> = BTreeMap::new();
        for process in self.processes.values() {
            for (ltime, name) in &process.told {
                holders.insert(name, *ltime);
            }
        }
        (self.due, self.excused) = (0, 0);
        for (name, ltime) in holders {
            if self
                .events
                .get(name)
                .is_none_or(|sent| sent.coalesce || sent.settled)
            {
                continue;
            }
            // What most do not take, as from before their time, most do not pass on either.
            let takers = self.processes.values();
            let takers = takers.filter(|process| process.floor <= ltime).count();
            let spreads = takers * 3 >= self.processes.len();
            for (id, process) in &self.processes {
                if ltime < process.floor || !spreads {
                    self.excused += 1;
                } else if process.heard.contains_key(&(ltime, name.to_owned())) {
                    self.due += 1;
                } else {
                    let clock = process.clocks[1];
                    let key = (ltime, name.to_owned());
                    let holders = self.processes.iter();
                    let holders: Vec<_> = holders
                        .filter(|(_, process)| process.heard.contains_key(&key))
                        .map(|(id, _)| id)
                        .collect();
                    return Some(format!(
                        "{id:?}, at {clock}, has not told {name} of Lamport time {ltime}, as {holders:?} did"
                    ));
                }
            }
        }
        None
    }
}
