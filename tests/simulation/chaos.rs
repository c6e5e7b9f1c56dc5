//! One run of a cluster from a seed: clients come, ask, stall and vanish; nodes die, come back, pause and leave; the
//! network loses, delays, changes and divides. Then everything heals, and everything must be well.

mod checks;
mod churn;
mod faults;
mod keys;
mod operator;
mod reading;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serfling::cluster::Ticket;
use serfling::rpc::SessionId;

pub(crate) use churn::run as run_churn;

use crate::client::Client;
use crate::ledger::{Ledger, ProcessId};
use crate::world::World;

use self::keys::Keys;

const SECOND: Duration = Duration::from_secs(1);
/// Between decisions of the fates.
const TICK: Duration = Duration::from_millis(100);

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) time: Duration,
    /// Prints what happens.
    pub(crate) trace: bool,
}

/// What a run was like.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
    pub(crate) records: u64,
    pub(crate) faults: u64,
    /// Deliveries of user events that were due, and were.
    pub(crate) deliveries: u64,
    /// Deliveries that a join or restart excused.
    pub(crate) excused: u64,
    /// Keys that were replaced, and nodes that had to be given the right ones.
    pub(crate) rotations: u64,
    pub(crate) repairs: u64,
    /// Nodes that came back at another address, and such that were taken for impostors there.
    pub(crate) moves: u64,
    pub(crate) evictions: u64,
    /// Nodes that came back by their snapshot alone.
    pub(crate) returns: u64,
    pub(crate) rest: Duration,
}

/// What the fates are up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Nothing is lost and nobody fails; nobody may be taken for failed.
    Calm,
    /// Packets are lost, doubled, changed and late; streams are slow and break.
    Lossy,
    /// The network divides, and processes pause.
    Divided,
    /// All of that; and processes die.
    Stormy,
    /// A bit of everything, a few times a minute; nodes come and go.
    Changing,
}

/// Something that ends a fault, later.
#[derive(Debug, Clone, Copy)]
enum Later {
    Resume(ProcessId),
    Heal,
    Clear,
    MakeRoom(usize),
    Start(usize),
    Stop(ProcessId),
    /// A newcomer goes for good.
    Retire(ProcessId),
    /// An evicted node is started again, even when everything rests.
    Return(usize),
    Join(ProcessId),
    /// Whoever started a node looks whether it has found the others by itself.
    Look(ProcessId),
    /// A join that nobody waits for must have ended.
    JoinOver(ProcessId),
}

pub(crate) struct Chaos {
    world: World,
    rng: StdRng,
    options: Options,
    weather: Weather,
    clients: BTreeMap<(usize, SessionId), Client>,
    ledger: Ledger,
    later: Vec<(Instant, Later)>,
    /// Joins of operators, who try again.
    joins: BTreeSet<(ProcessId, Ticket)>,
    /// Leaves that operators want.
    leaves: BTreeSet<(ProcessId, Ticket)>,
    /// Names of events sent, by client and Seq, until they are accepted.
    sending: BTreeMap<(usize, SessionId, u64), String>,
    /// The operator's work on keys, if packets are encrypted.
    keys: Option<Keys>,
    /// Processes that find the others by their snapshot alone.
    alone: BTreeSet<ProcessId>,
    /// Processes that may not have kept all that they told: their disk was full, they stood still, or they leave.
    unsound: BTreeSet<ProcessId>,
    auth_key: Option<String>,
    /// Nodes that are gone for good.
    retired: BTreeSet<usize>,
    /// How many nodes there have been.
    nodes: usize,
    /// How long members that are gone are remembered.
    retention: Option<Duration>,
    numbers: u64,
    peers: u64,
    divided: bool,
    resting: bool,
    summary: Summary,
}

/// Runs a seed to its end.
pub(crate) fn run(options: Options) -> Summary {
    let mut chaos = Chaos::new(options);
    chaos.start_all();
    let end = chaos.world.now + options.time;
    while chaos.world.now < end {
        chaos.act();
        chaos.pass(TICK);
    }
    chaos.rest();
    chaos.go_quiet();
    chaos.count();
    chaos.summary
}

impl Chaos {
    fn new(options: Options) -> Self {
        let mut rng = StdRng::seed_from_u64(options.seed ^ 0x5eed);
        let weather = [
            Weather::Calm,
            Weather::Lossy,
            Weather::Divided,
            Weather::Stormy,
        ][(options.seed % 4) as usize];
        let mut world = World::new(options.seed);
        let encrypted = rng.random::<bool>();
        world.network.encrypted = encrypted;
        let auth_key = rng.random::<bool>().then(|| "secret".to_owned());
        Self {
            world,
            options,
            weather,
            clients: BTreeMap::new(),
            ledger: Ledger::default(),
            later: Vec::new(),
            joins: BTreeSet::new(),
            leaves: BTreeSet::new(),
            sending: BTreeMap::new(),
            keys: encrypted.then(|| Keys::new(&mut rng, weather)),
            alone: BTreeSet::new(),
            unsound: BTreeSet::new(),
            auth_key,
            retired: BTreeSet::new(),
            nodes: options.nodes,
            retention: None,
            numbers: 0,
            peers: 0,
            divided: false,
            resting: false,
            summary: Summary::default(),
            rng,
        }
    }

    fn count(&mut self) {
        self.summary.packets = self.world.packets;
        self.summary.bytes = self.world.bytes;
    }

    fn trace(&self, what: std::fmt::Arguments<'_>) {
        if self.options.trace {
            println!("[{:?}] {what}", self.world.now);
        }
    }

    fn start_all(&mut self) {
        for node in 0..self.options.nodes {
            self.start(node);
            self.pass(Duration::from_millis(50));
        }
        self.pass(20 * SECOND);
    }

    /// Lets time pass, and looks at everything that happens.
    fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        while let Some(node) = self.world.step(end) {
            self.observe(node);
        }
        self.world.now = end;
        let mut due: Vec<_> = self.later.extract_if(.., |(at, _)| *at <= end).collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, later) in due {
            self.end_fault(later);
        }
        let nodes: Vec<_> = self.world.running().collect();
        nodes.into_iter().for_each(|node| self.observe(node));
    }

    fn after(&mut self, time: Duration, later: Later) {
        self.later.push((self.world.now + time, later));
    }

    fn id(&self, node: usize) -> Option<ProcessId> {
        self.world.get(node).map(|process| (node, process.run))
    }

    fn runs(&self, id: ProcessId) -> bool {
        self.id(id.0) == Some(id)
    }

    fn up(&self, node: usize) -> bool {
        self.world.get(node).is_some_and(|process| !process.paused)
    }

    fn any_up(&mut self) -> Option<usize> {
        let up: Vec<_> = self.world.running().filter(|node| self.up(*node)).collect();
        (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())])
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random::<f64>() < share
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from * 1000..=to * 1000))
    }

    fn end_fault(&mut self, later: Later) {
        self.trace(format_args!("{later:?}"));
        match later {
            Later::Resume(id) if self.runs(id) => {
                self.world.resume(id.0);
                self.observe(id.0);
            }
            Later::Heal => {
                self.world.network.heal();
                self.divided = false;
            }
            Later::Clear => self.calm_network(),
            Later::MakeRoom(node) => {
                if let Some(disk) = self.world.disks.get_mut(&node) {
                    disk.full = false;
                }
            }
            Later::Start(node) => {
                if self.world.get(node).is_none() && !self.resting && !self.retired.contains(&node)
                {
                    self.start(node);
                }
            }
            Later::Stop(id) if self.runs(id) => {
                self.kill(id.0);
                if self.chance(0.2) {
                    self.readdress(id.0);
                }
                let after = self.seconds(5, 120);
                self.after(after, Later::Start(id.0));
            }
            Later::Return(node) => self.start(node),
            Later::Look(id) if self.runs(id) => self.look_for(id),
            Later::Retire(id) if self.runs(id) => self.retire(id.0),
            Later::Join(id) if self.runs(id) => self.operator_joins(id),
            Later::JoinOver(id) => self.ledger.joined(id),
            Later::Resume(_)
            | Later::Stop(_)
            | Later::Retire(_)
            | Later::Join(_)
            | Later::Look(_) => {}
        }
    }

    fn calm_network(&mut self) {
        let network = &mut self.world.network;
        network.delay = (Duration::from_micros(200), Duration::from_millis(3));
        (network.loss, network.duplication, network.corruption) = (0.0, 0.0, 0.0);
        (network.cuts, network.piece_bytes) = (0.0, usize::MAX);
    }
}
