//! The operator who replaces the cluster's key: the new one is installed everywhere, then used, then the old one removed.
//!
//! A careful one repeats a step until every node that runs has done it, and gives whoever starts the keys of the day. A
//! careless one goes on anyway and gives nobody anything. Then nodes are left behind with keys that open nothing. They
//! are alone, and for the others they fail, until the operator puts their keyring files right.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use serfling::cluster::{Cluster, ClusterError, KeyOperation, KeyReport, Operation, Ticket};
use serfling::gossip::keyring::{Key, Keyring};

use super::{Chaos, SECOND, Weather};
use crate::ledger::ProcessId;

/// How long an operator waits for a step, and between its repetitions.
const STEP_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Install,
    Use,
    Remove,
}

#[derive(Debug)]
struct Rotation {
    old: Key,
    new: Key,
    step: Step,
    /// Who was asked for the step, and when.
    asked: Option<(ProcessId, Ticket)>,
    at: Instant,
}

/// What the operator knows and does.
#[derive(Debug)]
pub(super) struct Keys {
    /// The keys of the day, the primary one first.
    ring: Keyring,
    careful: bool,
    rotation: Option<Rotation>,
    numbers: u8,
}

fn key(number: u8) -> Key {
    let length = [16, 24, 32][usize::from(number % 3)];
    Key::new(&vec![number; length]).expect("a key")
}

impl Keys {
    pub(super) fn new(rng: &mut StdRng, weather: Weather) -> Self {
        Self {
            ring: Keyring::new(key(9)),
            careful: weather == Weather::Calm || rng.random(),
            rotation: None,
            numbers: 9,
        }
    }

    /// What every node should have.
    pub(super) const fn ring(&self) -> &Keyring {
        &self.ring
    }

    fn begin(&mut self, now: Instant) {
        self.numbers = self.numbers.wrapping_add(1);
        let new = key(self.numbers);
        self.ring.install(new.clone());
        self.rotation = Some(Rotation {
            old: self.ring.keys()[0].clone(),
            new,
            step: Step::Install,
            asked: None,
            at: now,
        });
    }

    /// A step is done. Says whether it was the last.
    fn go_on(&mut self) -> bool {
        let Some(rotation) = &mut self.rotation else {
            return false;
        };
        let (ring, old, new) = (&mut self.ring, &rotation.old, &rotation.new);
        match rotation.step {
            Step::Install => {
                ring.make_primary(new.as_bytes()).expect("it is there");
                rotation.step = Step::Use;
            }
            Step::Use => {
                ring.remove(old.as_bytes()).expect("it is not primary");
                rotation.step = Step::Remove;
            }
            Step::Remove => {
                self.rotation = None;
                return true;
            }
        }
        false
    }
}

impl Chaos {
    /// Goes on with the work on keys, or begins it.
    pub(super) fn work_on_keys(&mut self) {
        let now = self.world.now;
        let begins = self.chance(0.001);
        let Some(node) = self.any_up() else { return };
        let Some(keys) = &mut self.keys else { return };
        let Some(rotation) = &mut keys.rotation else {
            if begins {
                keys.begin(now);
            }
            return;
        };
        if rotation.asked.is_some() && now < rotation.at + STEP_MAX || now < rotation.at {
            return;
        }
        let operation = match rotation.step {
            Step::Install => KeyOperation::Install(rotation.new.to_base64()),
            Step::Use => KeyOperation::Use(rotation.new.to_base64()),
            Step::Remove => KeyOperation::Remove(rotation.old.to_base64()),
        };
        let step = rotation.step;
        self.trace(format_args!("n{node}: {step:?} a key"));
        let ticket = self
            .world
            .with(node, |serf, now| serf.start(now, Operation::Key(operation)));
        let asked = self.id(node).map(|id| (id, ticket));
        if let Some(rotation) = self.keys.as_mut().and_then(|keys| keys.rotation.as_mut()) {
            (rotation.asked, rotation.at) = (asked, now);
        }
        self.observe(node);
    }

    /// What became of a step.
    pub(super) fn hear_of_keys(
        &mut self,
        id: ProcessId,
        ticket: Ticket,
        report: &KeyReport,
        error: Option<&ClusterError>,
    ) {
        let (now, count) = (self.world.now, self.world.count() as u64);
        let Some(keys) = &mut self.keys else { return };
        let Some(rotation) = &mut keys.rotation else {
            return;
        };
        if rotation.asked != Some((id, ticket)) {
            return;
        }
        (rotation.asked, rotation.at) = (None, now + PAUSE);
        let done = error.is_none() && report.nodes >= count;
        if (done || !keys.careful) && keys.go_on() {
            self.summary.rotations += 1;
        }
        self.trace(format_args!("that is done: {done}: {report:?}"));
    }

    /// A node is about to start: a careful operator sees to its keyring file, and anybody does in the end.
    pub(super) fn hand_out_keys(&mut self, node: usize) {
        let Some(keys) = &self.keys else { return };
        let disk = self.world.disks.entry(node).or_default();
        if keys.careful || self.resting || disk.keyring.is_none() {
            disk.keyring = Some(keys.ring.to_json());
        }
    }

    /// The work on keys ends; whoever has been left behind is stopped, given the keys of the day, and started.
    pub(super) fn put_keys_right(&mut self) {
        let Some(keys) = &mut self.keys else { return };
        keys.rotation = None;
        let ring = keys.ring.clone();
        let behind = |node: &usize| {
            let have = self.world.serf(*node).gossip().keyring();
            have.is_none_or(|have| {
                !have.keys().contains(&ring.keys()[0]) || !ring.keys().contains(&have.keys()[0])
            })
        };
        let nodes: Vec<_> = self.world.running().filter(behind).collect();
        for node in nodes {
            self.trace(format_args!("n{node} is given keys"));
            self.summary.repairs += 1;
            self.kill(node);
            self.world.disks.entry(node).or_default().keyring = Some(ring.to_json());
            self.start(node);
        }
    }

    /// Waits a moment, so that what is being written about keys is.
    pub(super) fn settle_keys(&mut self) {
        if self.keys.is_some() {
            self.pass(20 * SECOND);
            self.look_at_files();
            self.put_keys_right();
        }
    }

    /// What a node was told to do with its keys is in its file, unless the disk was full.
    fn look_at_files(&self) {
        for node in self.world.running() {
            if self.id(node).is_some_and(|id| self.unsound.contains(&id)) {
                continue;
            }
            let kept = self
                .world
                .disks
                .get(&node)
                .and_then(|disk| disk.keyring.clone());
            let used = self.world.serf(node).gossip().keyring();
            assert_eq!(
                kept,
                used.map(Keyring::to_json),
                "the keyring file of n{node}"
            );
        }
    }
}
