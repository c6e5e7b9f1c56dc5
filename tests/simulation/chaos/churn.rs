//! Hours of an ordinary cluster: nodes come, go, fail, return and change their tags, with a fault or two in a minute.
//!
//! Now and then all of that stops for a while. Then everything must get well, and nodes must hold no more than they did
//! the first time.

use std::time::Duration;

use rand::RngExt;

use super::{Chaos, Later, Options, Summary, TICK, Weather};

/// How long things change before they stop for a while, in a long run.
const CHANGING: Duration = Duration::from_secs(45 * 60);
/// How long members that are gone are remembered, so that this is seen to end.
const RETENTION: Duration = Duration::from_secs(5 * 60);
/// More than it takes to reap members and to forget intents.
const FORGETTING: Duration = Duration::from_secs(6 * 60);
/// By how much the memory that is resident may grow, in bytes: buffers of events fill up, and the heap has holes.
const GROWTH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Runs the hours of a seed.
pub(crate) fn run(options: Options) -> Summary {
    let mut chaos = Chaos::new(options);
    chaos.weather = Weather::Changing;
    chaos.retention = Some(RETENTION);
    chaos.start_all();
    let begin = chaos.world.now;
    let changing = CHANGING.min(options.time / 4);
    let mut baseline = None;
    while chaos.world.now < begin + options.time {
        let end = chaos.world.now + changing;
        while chaos.world.now < end {
            chaos.change();
            chaos.pass(TICK);
        }
        chaos.settle();
        let resident = chaos.resident_bytes();
        println!(
            "{:4} min, seed {}: {} packets, {} faults, {} nodes ever, all well after {} s, {} KiB resident",
            (chaos.world.now - begin).as_secs() / 60,
            options.seed,
            chaos.world.packets,
            chaos.summary.faults,
            chaos.nodes,
            chaos.summary.rest.as_secs(),
            resident >> 10,
        );
        let before = *baseline.get_or_insert(resident);
        assert!(
            resident <= before + GROWTH_BYTES_MAX,
            "{resident} bytes are resident, {before} were the first time"
        );
    }
    chaos.count();
    chaos.summary
}

impl Chaos {
    /// Decides what happens in a tick.
    fn change(&mut self) {
        if self.chance(0.01) {
            self.connect();
        }
        if self.chance(0.05) {
            self.have_some_client_act();
        }
        self.work_on_keys();
        match self.rng.random_range(0..100_000) {
            0..=79 => self.strike(),
            80..=139 => self.have_one_leave(),
            140..=179 => self.have_one_come(),
            180..=229 => self.pause_one(),
            230..=279 => self.spoil_network(),
            280..=299 if !self.divided => self.divide(),
            300..=329 => self.fill_disk(),
            330..=333 => self.strike_many(),
            _ => {}
        }
    }

    fn have_one_leave(&mut self) {
        if self.world.count() < self.options.nodes * 2 / 3 {
            return;
        }
        let Some(node) = self.any_up() else { return };
        self.summary.faults += 1;
        self.operator_leaves(node);
    }

    /// A node comes that was never there, and stays for a while.
    fn have_one_come(&mut self) {
        let node = self.nodes;
        self.nodes += 1;
        self.start(node);
        self.summary.faults += 1;
        let id = self.id(node).expect("it runs");
        let time = self.seconds(30, 1200);
        self.after(time, Later::Retire(id));
    }

    /// A node goes for good, with or without a word.
    pub(super) fn retire(&mut self, node: usize) {
        self.retired.insert(node);
        if self.rng.random() {
            self.kill(node);
        } else {
            self.operator_leaves(node);
        }
    }

    /// Nothing changes any more: all nodes but the newcomers run, everything heals, and what is gone is forgotten.
    fn settle(&mut self) {
        for node in self.options.nodes..self.nodes {
            self.retired.insert(node);
            self.kill(node);
            self.world.disks.remove(&node);
        }
        self.rest();
        for node in 0..self.options.nodes {
            if self.world.get(node).is_none() {
                self.start(node);
            }
        }
        self.rest();
        self.go_quiet();
        self.pass(RETENTION + FORGETTING);
        self.go_quiet();
        if let Some(wrong) = self.world.disagreement().or_else(|| self.remembering()) {
            panic!("after it all: {wrong}");
        }
        self.ledger.settle();
        self.resting = false;
    }

    /// A node that remembers more than who is there.
    fn remembering(&self) -> Option<String> {
        let count = self.world.count();
        let ends = self.world.streams();
        let streams = (ends > 0).then(|| format!("{ends} ends of streams are left"));
        let remembers = |node| {
            let held = self.world.serf(node).resources();
            let right = (held.members, held.gossip.nodes) == (count, count)
                && (held.tombstones, held.intents) == (0, 0)
                && held.peers < count;
            (!right).then(|| format!("n{node} holds {held:?}, of {count} nodes"))
        };
        streams.or_else(|| self.world.running().find_map(remembers))
    }

    /// What the process holds in memory, but for the nodes' disks.
    fn resident_bytes(&self) -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        let pages: usize = pages.expect("pages");
        let disks = self.world.disks.values().map(|disk| disk.snapshot_bytes());
        (pages * 4096).saturating_sub(disks.sum())
    }
}
