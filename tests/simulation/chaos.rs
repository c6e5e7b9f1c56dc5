//! One run of a cluster from a seed: clients come, ask, stall and vanish; nodes die, come back, pause and leave; the
//! network loses, delays, changes and divides. Then everything heals, and everything must be well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rmpv::Value;
use serfling::cluster::{
    Cluster, Event, KeyOperation, MemberEventKind, Operation, Outcome, Ticket,
};
use serfling::gossip::envelope::EnvelopeConfig;
use serfling::gossip::keyring::{Key, Keyring};
use serfling::rpc::message::Command;
use serfling::rpc::{self, Flushed, HubEvent, Peer, Resources, SessionId};
use serfling::serf::coalesce::{Coalescer, PERIOD, QUIESCENT_PERIOD};

use crate::client::{Client, EventStream, Read, Subscription, map};
use crate::ledger::{Ledger, ProcessId};
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
/// Between decisions of the fates.
const TICK: Duration = Duration::from_millis(100);
/// How long everything may take to be well again.
const REST_MAX: Duration = Duration::from_secs(900);
/// Fewer than the buffers of events reach back: more could be lost by design.
const EVENTS_MAX: usize = 400;
/// More than queries, suspicions and streams last.
const QUIET: Duration = Duration::from_secs(90);
/// Timers of a node at rest: probe with its two ends, push/pull, gossip; reap and reconnect.
const TIMERS_AT_REST_MAX: usize = 8;

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
    Join(ProcessId),
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
    joins: BTreeMap<(ProcessId, Ticket), ()>,
    /// Names of events sent, by client and Seq, until they are accepted.
    sending: BTreeMap<(usize, SessionId, u64), String>,
    encrypted: bool,
    auth_key: Option<String>,
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
    chaos.summary.packets = chaos.world.packets;
    chaos.summary.bytes = chaos.world.bytes;
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
            rng,
            options,
            weather,
            clients: BTreeMap::new(),
            ledger: Ledger::default(),
            later: Vec::new(),
            joins: BTreeMap::new(),
            sending: BTreeMap::new(),
            encrypted,
            auth_key,
            numbers: 0,
            peers: 0,
            divided: false,
            resting: false,
            summary: Summary::default(),
        }
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

    fn start(&mut self, node: usize) {
        let now = self.world.now;
        let mut config = self.world.config(node);
        if self.encrypted {
            let key = Key::new(&[9; 16]).expect("a key");
            config.envelope = EnvelopeConfig {
                keyring: Some(Keyring::new(key)),
                ..EnvelopeConfig::default()
            };
        }
        config.envelope.compress = node.is_multiple_of(3);
        config.coalescer = node
            .is_multiple_of(2)
            .then(|| Coalescer::new(PERIOD, QUIESCENT_PERIOD));
        config.early_done = node.is_multiple_of(5);
        config.seeds = vec![World::addr(0).to_string(), "host-1:7946".to_owned()];
        let disk = self.world.disks.entry(node).or_default();
        disk.full = false;
        disk.configure(now, &mut config);
        let rpc = rpc::Config {
            auth_key: self.auth_key.clone(),
            outbox_bytes_max: 128 * 1024,
            clients_max: 8,
            ..rpc::Config::default()
        };
        self.world.spawn_with(node, config, rpc);
        let id = self.id(node).expect("it runs");
        self.trace(format_args!("n{node} starts, run {}", id.1));
        self.ledger.start(id);
        self.observe(node);
        self.operator_joins(id);
    }

    /// Whoever starts an agent has it join somebody, until it works.
    fn operator_joins(&mut self, id: ProcessId) {
        let (node, now) = (id.0, self.world.now);
        let others: Vec<_> = self
            .world
            .running()
            .filter(|other| *other != node)
            .collect();
        if others.is_empty() {
            return;
        }
        let other = others[self.rng.random_range(0..others.len())];
        let addresses = vec![match self.rng.random_range(0..3) {
            0 => World::addr(other).to_string(),
            1 => format!("host-{other}"),
            _ => format!("n{other}/{}", World::addr(other)),
        }];
        self.trace(format_args!("n{node} joins {addresses:?}"));
        let replay = false;
        let ticket = self.world.with(node, |serf, _| {
            serf.start(now, Operation::Join { addresses, replay })
        });
        self.ledger.process(id).joins += 1;
        self.joins.insert((id, ticket), ());
        self.observe(node);
    }

    fn kill(&mut self, node: usize) {
        let Some(id) = self.id(node) else { return };
        self.trace(format_args!("n{node} dies"));
        self.world.kill(node);
        self.ledger.end(id);
        self.joins.retain(|(of, _), ()| *of != id);
        self.clients.retain(|(of, _), _| *of != node);
        self.sending.retain(|(of, ..), _| *of != node);
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
                if self.world.get(node).is_none() && !self.resting {
                    self.start(node);
                }
            }
            Later::Stop(id) if self.runs(id) => {
                self.kill(id.0);
                let after = self.seconds(5, 120);
                self.after(after, Later::Start(id.0));
            }
            Later::Join(id) if self.runs(id) => self.operator_joins(id),
            Later::JoinOver(id) => self.ledger.joined(id),
            Later::Resume(_) | Later::Stop(_) | Later::Join(_) => {}
        }
    }

    fn calm_network(&mut self) {
        let network = &mut self.world.network;
        network.delay = (Duration::from_micros(200), Duration::from_millis(3));
        (network.loss, network.duplication, network.corruption) = (0.0, 0.0, 0.0);
        (network.cuts, network.piece_bytes) = (0.0, usize::MAX);
    }
}

/// What is decided in a tick.
impl Chaos {
    fn act(&mut self) {
        if self.chance(0.02) {
            self.connect();
        }
        let busy = self.clients.len();
        if busy > 0 && self.chance(0.3) {
            let which = self.rng.random_range(0..busy);
            let key = *self.clients.keys().nth(which).expect("there are so many");
            self.have_client_act(key);
        }
        if self.weather == Weather::Calm {
            if self.chance(0.002) {
                self.work_on_keys();
            }
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
    }

    fn spoil_network(&mut self) {
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

    fn divide(&mut self) {
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

    fn pause_one(&mut self) {
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
        self.after(time, Later::Resume(id));
    }

    fn fill_disk(&mut self) {
        let Some(node) = self.any_up() else { return };
        self.trace(format_args!("the disk of n{node} is full"));
        self.world.disks.entry(node).or_default().full = true;
        self.summary.faults += 1;
        let time = self.seconds(5, 60);
        self.after(time, Later::MakeRoom(node));
    }

    fn strike(&mut self) {
        if self.world.count() < self.options.nodes * 2 / 3 {
            return;
        }
        let Some(node) = self.any_up() else { return };
        self.kill(node);
        self.summary.faults += 1;
        match self.rng.random_range(0..3) {
            0 => {}
            1 => {
                let disk = self.world.disks.entry(node).or_default();
                disk.tear(&mut self.rng);
            }
            _ => self.world.disks.entry(node).or_default().wipe(),
        }
        let time = self.seconds(0, 120);
        self.after(time, Later::Start(node));
    }

    /// In calm weather keys change, one step at a time, as a careful operator does it.
    fn work_on_keys(&mut self) {
        let Some(node) = self.any_up().filter(|_| self.encrypted) else {
            return;
        };
        let key = Key::new(&[self.rng.random_range(10..12); 16]).expect("a key");
        let operation = match self.rng.random_range(0..3) {
            0 => KeyOperation::List,
            _ => KeyOperation::Install(key.to_base64()),
        };
        self.trace(format_args!("n{node}: {operation:?}"));
        self.world
            .with(node, |serf, now| serf.start(now, Operation::Key(operation)));
    }
}

/// Clients.
impl Chaos {
    fn connect(&mut self) {
        let Some(node) = self.any_up() else { return };
        let now = self.world.now;
        self.peers += 1;
        let peer = Peer::Unix(self.peers);
        let process = self.world.node(node);
        let run = process.run;
        let Ok(id) = process.hub.accept(now, peer) else {
            return;
        };
        if self.clients.keys().filter(|(of, _)| *of == node).count() >= 8 {
            // It is one too many, and is told so or closed.
            self.world.node(node).hub.handle_gone(now, id);
            return;
        }
        let mut client = Client::new(node, run);
        if let Some(key) = &self.auth_key {
            client.ask(Command::Auth, Some(map([("AuthKey", key.as_str().into())])));
        }
        let told = self.ledger.process((node, run)).told.len();
        if self.rng.random() {
            client.subscribe(told);
        }
        if self.rng.random_range(0..8) == 0 {
            client.monitor();
        }
        self.clients.insert((node, id), client);
        self.observe(node);
    }

    fn have_client_act(&mut self, key: (usize, SessionId)) {
        let now = self.world.now;
        let (node, id) = key;
        let choice = self.rng.random_range(0..100);
        let number = self.numbers;
        self.numbers += 1;
        let other = self.rng.random_range(0..self.options.nodes);
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let process = (node, client.run);
        match choice {
            0..=24 if self.ledger.events() < EVENTS_MAX => {
                let coalesce = choice < 5;
                let name = format!("e{number}");
                let body = map([
                    ("Name", name.as_str().into()),
                    (
                        "Payload",
                        Value::Binary(vec![b'x'; (number % 300) as usize]),
                    ),
                    ("Coalesce", coalesce.into()),
                ]);
                let seq = client.ask(Command::Event, Some(body));
                self.ledger.sent(process, name.clone(), coalesce);
                self.sending.insert((node, id, seq), name);
            }
            25..=36 => {
                let timeout = Duration::from_millis(self.rng.random_range(50..15_000));
                client.query(timeout, &format!("q{number}"), (number % 3) as u8);
            }
            37..=42 => drop(client.ask(Command::Members, None)),
            43..=46 => drop(client.ask(Command::Stats, None)),
            47..=52 => {
                let value = "v".repeat((number % 60) as usize);
                let tags = Value::Map(vec![("role".into(), value.into())]);
                let none = Value::Array(Vec::new());
                client.ask(
                    Command::Tags,
                    Some(map([("Tags", tags), ("DeleteTags", none)])),
                );
            }
            53..=56 => {
                let body = map([("Node", format!("n{other}").into())]);
                client.ask(Command::GetCoordinate, Some(body));
            }
            57..=60 => drop(client.ask(Command::ListKeys, None)),
            61..=64 => {
                let body = map([
                    ("Name", "n1.*".into()),
                    ("Status", "alive".into()),
                    ("Tags", Value::Map(Vec::new())),
                ]);
                client.ask(Command::MembersFiltered, Some(body));
            }
            65..=66 => {
                let address = Value::from(World::addr(other).to_string());
                let body = map([
                    ("Existing", Value::Array(vec![address])),
                    ("Replay", number.is_multiple_of(2).into()),
                ]);
                client.ask(Command::Join, Some(body));
                self.ledger.process(process).joins += 1;
                // Whether the client waits for the end or not.
                self.after(60 * SECOND, Later::JoinOver(process));
            }
            69..=70 if self.world.get(other).is_none() => {
                let body = map([
                    ("Node", format!("n{other}").into()),
                    ("Prune", number.is_multiple_of(2).into()),
                ]);
                client.ask(Command::ForceLeave, Some(body));
            }
            71..=75 => {
                let told = self.ledger.process(process).told.len();
                client.subscribe(told);
            }
            76..=79 => client.stop(),
            80..=86 => {
                client.stalled = !client.stalled;
                client.was_stalled = true;
            }
            87..=90 => self.vanish(key),
            91..=92 => {
                client.stalled = false;
                self.world.node(node).hub.handle_eof(now, id);
                // The responses that are due come; then it is closed.
                self.clients.remove(&key);
                self.world.node(node).hub.handle_gone(now, id);
            }
            93 if self.world.count() > self.options.nodes * 2 / 3 => {
                client.ask(Command::Leave, None);
            }
            _ => {}
        }
        self.world.settle(node);
        self.observe(node);
    }

    fn vanish(&mut self, key: (usize, SessionId)) {
        let now = self.world.now;
        self.clients.remove(&key);
        if let Some(process) = self.world.get_mut(key.0) {
            process.hub.handle_gone(now, key.1);
        }
        self.sending.retain(|(node, id, _), _| (*node, *id) != key);
    }

    /// Looks at what a node has told and sent, until there is nothing new.
    fn observe(&mut self, node: usize) {
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
    fn hear_all(&mut self, node: usize) -> bool {
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
                self.ledger.told(id, &event);
                if let Event::Member(event) = &event
                    && event.kind == MemberEventKind::Failed
                {
                    let names: Vec<_> = event.members.iter().map(|m| &*m.name).collect();
                    self.trace(format_args!("n{} takes {names:?} for failed", id.0));
                    // One that has left may fail for who has not heard of that.
                    let runs = |name: &&str| name[1..].parse().is_ok_and(|n| self.up(n));
                    assert!(
                        self.weather != Weather::Calm || !names.iter().any(runs),
                        "n{} takes {names:?} for failed in calm weather",
                        id.0
                    );
                }
            }
            HubEvent::Left => {
                self.trace(format_args!("n{} has left", id.0));
                self.after(SECOND, Later::Stop(id));
            }
            HubEvent::Evicted { reason } => panic!("n{} is evicted: {reason}", id.0),
            HubEvent::Completed { ticket, outcome } => {
                if self.joins.remove(&(id, ticket)).is_some() {
                    self.ledger.joined(id);
                    if matches!(outcome, Outcome::Joined { count: 0, .. }) {
                        self.after(5 * SECOND, Later::Join(id));
                    }
                }
            }
        }
    }

    fn clients_of(&self, node: usize) -> Vec<(usize, SessionId)> {
        let of_node = |(of, _): &&(usize, SessionId)| *of == node;
        self.clients.keys().filter(of_node).copied().collect()
    }

    /// Lets the clients of a node write what it takes. Says whether anything moved.
    fn have_clients_write(&mut self, node: usize) -> bool {
        let now = self.world.now;
        let keys = self.clients_of(node);
        let Some(process) = self.world.get_mut(node).filter(|process| !process.paused) else {
            return false;
        };
        let mut moved = false;
        for key in keys {
            let Some(client) = self.clients.get_mut(&key) else {
                continue;
            };
            while !client.unsent.is_empty() && process.hub.wants_read(key.1) {
                // The system cuts as it likes.
                let count = self.rng.random_range(1..=client.unsent.len());
                let bytes: Vec<u8> = client.unsent.drain(..count).collect();
                process.hub.handle_bytes(now, key.1, &bytes);
                moved = true;
            }
        }
        moved
    }

    /// Lets the clients of a node read. Says whether anything moved.
    fn have_clients_read(&mut self, node: usize) -> bool {
        let now = self.world.now;
        let Some(process) = self.world.get_mut(node).filter(|process| !process.paused) else {
            return false;
        };
        let mut moved = false;
        while process.hub.poll_dirty().is_some() {}
        while let Some(id) = process.hub.poll_close() {
            process.hub.handle_gone(now, id);
            self.clients.remove(&(node, id));
            self.sending
                .retain(|(of, whose, _), _| (*of, *whose) != (node, id));
            moved = true;
        }
        for key in self.clients_of(node) {
            moved |= self.have_client_read(key);
        }
        moved
    }

    fn have_client_read(&mut self, key: (usize, SessionId)) -> bool {
        let (now, id) = (self.world.now, key.1);
        let (Some(process), Some(client)) = (self.world.get_mut(key.0), self.clients.get_mut(&key))
        else {
            return false;
        };
        if client.stalled {
            return false;
        }
        let pending = process.hub.pending(id);
        if pending.is_empty() {
            if process.hub.handle_flushed(now, id) == Flushed::Keep {
                return false;
            }
            assert_eq!(client.unanswered(), 0, "closed with requests unanswered");
            process.hub.handle_eof(now, id);
            self.vanish(key);
            return true;
        }
        let count = self.rng.random_range(1..=pending.len());
        client.take(&pending[..count]);
        process.hub.handle_sent(id, count);
        // One by one: what a response ends, records before it still belong to.
        while let Some(read) = self.clients.get_mut(&key).and_then(Client::read) {
            self.take(key, read);
        }
        true
    }

    /// A client read something.
    fn take(&mut self, key: (usize, SessionId), read: Read) {
        let now = self.world.now;
        if matches!(read, Read::UserEvent { .. }) {
            // Another client's end may have had the node tell more since it was last looked at.
            self.hear_all(key.0);
        }
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let process = (key.0, client.run);
        match read {
            Read::Response {
                seq,
                command,
                error,
                body,
            } => {
                self.summary.requests += 1;
                let told = self.ledger.process(process).told.len();
                match (command, client.subscriptions.get_mut(&seq)) {
                    (Command::Stream, Some(Subscription::Events(stream))) => stream.starts.1 = told,
                    (Command::Query, Some(_)) => client.query_taken(now, seq),
                    _ => {}
                }
                if let Some(name) = self.sending.remove(&(key.0, key.1, seq)) {
                    assert_eq!(error, "", "{name}");
                    self.ledger.accepted(&name);
                }
                if command == Command::Members {
                    let body = body.expect("a body");
                    let members = crate::client::field(&body, "Members").as_array();
                    assert!(members.is_some_and(|members| !members.is_empty()));
                }
                if command == Command::Join {
                    self.ledger.joined(process);
                }
            }
            Read::UserEvent { seq, ltime, name } => {
                self.summary.records += 1;
                let told = &self.ledger.process(process).told;
                let subscription = client.subscriptions.get_mut(&seq);
                let Some(Subscription::Events(stream)) = subscription else {
                    panic!("an event for what is no stream");
                };
                follow(stream, told, (ltime, name), client.was_stalled);
            }
            Read::Query { id, name } => {
                self.summary.records += 1;
                if name.len().is_multiple_of(2) || self.rng.random() {
                    let answer = format!("{name} n{}", key.0);
                    let payload = Value::Binary(answer.into_bytes());
                    let body = map([("ID", id.into()), ("Payload", payload)]);
                    client.ask(Command::Respond, Some(body));
                }
            }
            Read::Done { acks, responses } => {
                self.summary.records += 1;
                let nodes = self.options.nodes;
                assert!(acks <= nodes && responses <= nodes);
            }
        }
    }
}

/// A record of a stream is what its node told next.
fn follow(stream: &mut EventStream, told: &[(u64, String)], event: (u64, String), drops: bool) {
    let at = told.iter().rposition(|have| *have == event);
    let at = at.unwrap_or_else(|| panic!("a stream tells {event:?}, its node does not"));
    match stream.next {
        Some(next) if drops => assert!(at >= next, "{event:?} comes late or twice"),
        Some(next) => assert_eq!(at, next, "{event:?} is not what comes next"),
        None => assert!(
            at >= stream.starts.0 && (drops || at <= stream.starts.1),
            "{event:?} is number {at}, expected within {:?}",
            stream.starts
        ),
    }
    stream.next = Some(at + 1);
}

/// The end.
impl Chaos {
    /// Everything heals; then all must agree, and what was promised must have come.
    fn rest(&mut self) {
        self.resting = true;
        self.world.network.heal();
        self.calm_network();
        self.later.retain(|(_, later)| {
            matches!(later, Later::Join(_) | Later::JoinOver(_) | Later::Stop(_))
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
        let begin = self.world.now;
        while let Some(wrong) = self.unwell() {
            assert!(
                self.world.now - begin < REST_MAX,
                "it does not get well: {wrong}"
            );
            self.pass(5 * SECOND);
        }
        self.summary.rest = self.world.now - begin;
        (self.summary.deliveries, self.summary.excused) = (self.ledger.due, self.ledger.excused);
    }

    fn unwell(&mut self) -> Option<String> {
        let now = self.world.now;
        let stopping = |(_, later): &(_, Later)| matches!(later, Later::Stop(_));
        if self.later.iter().any(stopping) {
            return Some("a node has left and still runs".to_owned());
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
    fn go_quiet(&mut self) {
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
