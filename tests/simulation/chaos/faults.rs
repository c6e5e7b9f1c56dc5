//! The faults of a run: what the fates decide in a tick, by the weather.

use std::time::Duration;

use rand::RngExt;

use super::{Chaos, Later, SECOND, Weather};

impl Chaos {
    pub(super) fn act(&mut self) {
        if self.chance(0.02) {
            self.connect();
        }
        if self.chance(0.3) {
            self.have_some_client_act();
        }
        self.work_on_keys();
        if self.weather == Weather::Calm {
            return;
        }
        let lossy = matches!(self.weather, Weather::Lossy | Weather::Stormy);
        let divided = matches!(self.weather, Weather::Divided | Weather::Stormy);
        if lossy && self.chance(0.01) {
            self.spoil_network();
        }
        if divided && !self.divided && self.chance(0.004) {
            self.divide();
        }
        if divided && self.chance(0.01) {
            self.pause_one();
        }
        if self.chance(0.003) {
            self.fill_disk();
        }
        if self.weather == Weather::Stormy && self.chance(0.008) {
            self.strike();
        }
        if self.weather == Weather::Stormy && self.chance(0.0005) {
            self.strike_many();
        }
    }

    pub(super) fn spoil_network(&mut self) {
        let loss = [0.0, 0.01, 0.05, 0.2][self.rng.random_range(0..4)];
        let longest = [3, 30, 200][self.rng.random_range(0..3)];
        let network = &mut self.world.network;
        network.loss = loss;
        network.delay.1 = Duration::from_millis(longest);
        network.duplication = if self.rng.random() { 0.1 } else { 0.0 };
        network.corruption = if self.rng.random() { 0.02 } else { 0.0 };
        network.cuts = if self.rng.random() { 0.05 } else { 0.0 };
        network.piece_bytes = [usize::MAX, 1000, 100][self.rng.random_range(0..3)];
        self.summary.faults += 1;
        self.trace(format_args!("the network: loss {loss}, up to {longest} ms"));
        let time = self.seconds(2, 60);
        self.after(time, Later::Clear);
    }

    pub(super) fn divide(&mut self) {
        let nodes = self.options.nodes;
        let kind = self.rng.random_range(0..3);
        let border = self.rng.random_range(1..nodes);
        for node in 0..nodes {
            match kind {
                // Two parts that can't reach each other, or only by one node.
                0 => self.world.network.put(node, 1 + u8::from(node >= border)),
                1 if node == border => self.world.network.put(node, 3),
                1 => self.world.network.put(node, 1 + u8::from(node > border)),
                // Some are heard by nobody.
                _ => (0..nodes)
                    .filter(|_| node >= border && node < border + 3)
                    .for_each(|other| self.world.network.block(node, other)),
            }
        }
        self.divided = true;
        self.summary.faults += 1;
        self.trace(format_args!("divided, kind {kind}, at {border}"));
        let time = self.seconds(2, 90);
        self.after(time, Later::Heal);
    }

    pub(super) fn pause_one(&mut self) {
        let Some(node) = self.any_up() else { return };
        let time = if self.chance(0.7) {
            self.seconds(0, 3)
        } else {
            self.seconds(3, 60)
        };
        self.trace(format_args!("n{node} pauses for {time:?}"));
        self.world.pause(node);
        self.summary.faults += 1;
        let id = self.id(node).expect("it runs");
        self.unsound.insert(id);
        self.after(time, Later::Resume(id));
    }

    pub(super) fn fill_disk(&mut self) {
        let Some(node) = self.any_up() else { return };
        self.trace(format_args!("the disk of n{node} is full"));
        self.world.disks.entry(node).or_default().full = true;
        self.unsound.extend(self.id(node));
        self.summary.faults += 1;
        let time = self.seconds(5, 60);
        self.after(time, Later::MakeRoom(node));
    }

    pub(super) fn strike(&mut self) {
        if self.world.count() < self.options.nodes * 2 / 3 {
            return;
        }
        let Some(node) = self.any_up() else { return };
        self.kill(node);
        self.summary.faults += 1;
        self.spoil_disk(node);
        let mut time = self.seconds(0, 120);
        if self.chance(0.25) {
            self.readdress(node);
            // Perhaps before the others have noticed that it is gone.
            time = if self.chance(0.3) {
                self.seconds(1, 5)
            } else {
                time.max(SECOND)
            };
        }
        self.after(time, Later::Start(node));
    }

    /// Leaves of a node's files what the fates like.
    fn spoil_disk(&mut self, node: usize) {
        let fate = self.rng.random_range(0..3);
        let disk = self.world.disks.entry(node).or_default();
        match fate {
            0 => return,
            1 => disk.tear(&mut self.rng),
            _ => disk.wipe(),
        }
        self.ledger.forget_before(node);
    }

    /// Many nodes, or all, die at once, and come back at once.
    pub(super) fn strike_many(&mut self) {
        let up: Vec<_> = self.world.running().filter(|node| self.up(*node)).collect();
        let share = [0.2, 0.5, 1.0][self.rng.random_range(0..3)];
        self.trace(format_args!("{share} of all are struck"));
        let time = self.seconds(0, 60);
        for node in up {
            if self.chance(share) {
                self.kill(node);
                self.after(time, Later::Start(node));
            }
        }
        self.summary.faults += 1;
    }
}
