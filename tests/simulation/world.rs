//! A made-up network and clock, in which many nodes run in one process, the same each time for one seed.
//!
//! Every node is a whole agent without its sockets: [`Hub`] in front of [`Serf`]. The world carries out what it asks of
//! network and disk, after a delay, or never. Time goes from one thing to happen to the next.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "streams.rs"]
mod streams;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serfling::cluster::{
    Cluster, MemberStatus, NetworkCommand, NetworkEvent, Operation, StreamId, Ticket,
};
use serfling::log_ring::LogRing;
use serfling::rpc::{self, Hub, HubEvent};
use serfling::serf::{Serf, SerfConfig};

use crate::agenda::Agenda;
use crate::disk::Disk;
use crate::network::Network;

use self::streams::End;

/// The gossip port of every node.
const PORT: u16 = 7946;
/// What the system keeps of packets for a process that does not read them.
const MISSED_PACKETS_MAX: usize = 1000;
/// Turns that may be due at once. More are a loop without end.
const TURNS_AT_ONCE_MAX: usize = 100_000;
/// Share of packets to where no process is that the sender hears of.
const UNREACHABLE_TOLD: f64 = 0.3;

/// What comes to a node.
#[derive(Debug)]
enum Delivery {
    Packet {
        from: SocketAddr,
        payload: Vec<u8>,
    },
    Unreachable(SocketAddr),
    /// Somebody wants a stream; how the other end calls it.
    Open {
        from: usize,
        stream: StreamId,
    },
    Opened(StreamId),
    Bytes(StreamId, Vec<u8>),
    Ended(StreamId, Option<String>),
    Resolved(u64, Result<Vec<IpAddr>, String>),
}

impl Delivery {
    /// Whether it is for whichever process runs when it comes, rather than for that which ran when it was sent.
    const fn is_for_any(&self) -> bool {
        matches!(self, Self::Packet { .. } | Self::Open { .. })
    }
}

enum Item {
    /// For a node, in the run that it had then.
    Delivery(usize, u32, Delivery),
    /// Timers of a node may be due.
    Turn(usize),
    /// What a process of a node wanted done while its messages waited.
    Command(usize, u32, NetworkCommand),
}

/// One process.
pub(crate) struct Node {
    pub(crate) hub: Hub<Serf>,
    /// Which process of that node it is.
    pub(crate) run: u32,
    /// What it has told its owner.
    pub(crate) told: Vec<HubEvent>,
    /// It takes nothing in and its clock stands, as if the process were stopped.
    pub(crate) paused: bool,
    missed: Vec<Delivery>,
    /// All that it sends and that comes to it waits until then; its clock goes on.
    held_until: Option<Instant>,
    /// When it has its next turn.
    planned: Option<Instant>,
}

/// A made-up network and clock.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) network: Network,
    pub(crate) rng: StdRng,
    nodes: Vec<Option<Box<Node>>>,
    /// By node; they outlive its processes.
    pub(crate) disks: HashMap<usize, Disk>,
    runs: HashMap<usize, u32>,
    /// How often nodes have moved to another address, and the last run before that.
    moves: HashMap<usize, (u8, u32)>,
    agenda: Agenda<Item>,
    streams: HashMap<(usize, StreamId), End>,
    accepted: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// What all nodes tell and when, if it is to be kept here rather than with each of them.
    pub(crate) journal: Option<Vec<Told>>,
}

/// What a node told its owner.
pub(crate) struct Told {
    pub(crate) at: Instant,
    pub(crate) node: usize,
    pub(crate) event: HubEvent,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            network: Network::new(),
            rng: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            disks: HashMap::new(),
            runs: HashMap::new(),
            moves: HashMap::new(),
            agenda: Agenda::new(),
            streams: HashMap::new(),
            accepted: 0,
            packets: 0,
            bytes: 0,
            journal: None,
        }
    }

    /// The address of a node that has never moved.
    pub(crate) fn addr(node: usize) -> SocketAddr {
        Self::addr_after(node, 0)
    }

    fn addr_after(node: usize, moves: u8) -> SocketAddr {
        let [.., a, b] = (node as u32 + 1).to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, moves, a, b)), PORT)
    }

    fn moves(&self, node: usize) -> u8 {
        self.moves.get(&node).map_or(0, |(moves, _)| *moves)
    }

    /// The address of a node.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        Self::addr_after(node, self.moves(node))
    }

    /// Gives a node that does not run an address that nobody has had lately.
    pub(crate) fn readdress(&mut self, node: usize) {
        assert!(self.get(node).is_none(), "n{node} runs");
        let moves = self.moves(node).wrapping_add(1);
        self.moves.insert(node, (moves, self.run_of(node)));
    }

    /// Whether a node is not where it was first.
    pub(crate) fn moved(&self, node: usize) -> bool {
        self.moves(node) > 0
    }

    /// Whether a node runs at an address.
    pub(crate) fn runs_at(&self, addr: SocketAddr) -> bool {
        self.node_at(addr)
            .is_some_and(|node| self.get(node).is_some())
    }

    fn node_at(&self, to: SocketAddr) -> Option<usize> {
        let IpAddr::V4(ip) = to.ip() else {
            return None;
        };
        let [_, moves, a, b] = ip.octets();
        let node = usize::from(u16::from_be_bytes([a, b])).checked_sub(1)?;
        (self.moves(node) == moves).then_some(node)
    }

    pub(crate) fn config(&mut self, node: usize) -> SerfConfig {
        SerfConfig::new(format!("n{node}"), self.address(node), self.rng.random())
    }

    /// Starts a node with the defaults.
    pub(crate) fn spawn(&mut self, node: usize) {
        let config = self.config(node);
        self.spawn_with(node, config, rpc::Config::default());
    }

    /// Starts a node from its files, and has it keep them.
    pub(crate) fn spawn_from_disk(&mut self, node: usize) {
        let mut config = self.config(node);
        let disk = self.disks.entry(node).or_default();
        disk.configure(self.now, &mut config);
        self.spawn_with(node, config, rpc::Config::default());
    }

    /// Starts so many nodes from their files, has them join the first, and brings them to rest.
    pub(crate) fn start_from_disks(&mut self, count: usize) {
        for node in 0..count {
            self.spawn_from_disk(node);
            if node > 0 {
                self.join(node, 0);
            }
        }
        self.run_until(Duration::from_secs(90), Self::converged);
        // What they know is in their snapshots.
        self.run(Duration::from_secs(1));
    }

    pub(crate) fn spawn_with(&mut self, node: usize, config: SerfConfig, rpc: rpc::Config) {
        let serf = Serf::new(self.now, config).expect("it starts");
        let mut hub = Hub::new(self.now, rpc, serf, Arc::new(LogRing::new()));
        hub.tell_events();
        let run = self.runs.entry(node).or_default();
        *run += 1;
        let process = Node {
            hub,
            run: *run,
            told: Vec::new(),
            paused: false,
            missed: Vec::new(),
            held_until: None,
            planned: None,
        };
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, || None);
        }
        self.nodes[node] = Some(Box::new(process));
        self.settle(node);
    }

    /// Ends a node without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
        self.end_streams(node);
    }

    /// Stops a node's process for the time being.
    pub(crate) fn pause(&mut self, node: usize) {
        self.node(node).paused = true;
    }

    pub(crate) fn resume(&mut self, node: usize) {
        let process = self.node(node);
        process.paused = false;
        let missed = std::mem::take(&mut process.missed);
        for delivery in missed {
            self.receive(node, delivery);
        }
        self.plan_turn(node);
    }

    /// Has all that a node sends and that comes to it wait until then.
    pub(crate) fn hold(&mut self, node: usize, until: Instant) {
        self.node(node).held_until = Some(until);
    }

    /// Until when a node's messages wait, if they do.
    fn held(&self, node: usize) -> Option<Instant> {
        let until = self.get(node)?.held_until?;
        (until > self.now).then_some(until)
    }

    pub(crate) fn node(&mut self, node: usize) -> &mut Node {
        self.get_mut(node).expect("it runs")
    }

    pub(crate) fn get_mut(&mut self, node: usize) -> Option<&mut Node> {
        self.nodes.get_mut(node)?.as_deref_mut()
    }

    pub(crate) fn get(&self, node: usize) -> Option<&Node> {
        self.nodes.get(node)?.as_deref()
    }

    pub(crate) fn serf(&self, node: usize) -> &Serf {
        self.get(node).expect("it runs").hub.cluster()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = usize> + '_ {
        let running = |(node, process): (usize, &Option<_>)| process.as_ref().map(|_| node);
        self.nodes.iter().enumerate().filter_map(running)
    }

    /// How many ends of streams there are.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many processes run.
    pub(crate) fn count(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// Does something with a node.
    pub(crate) fn with<R>(&mut self, node: usize, act: impl FnOnce(&mut Serf, Instant) -> R) -> R {
        let now = self.now;
        let result = self.node(node).hub.with_cluster(now, |serf| act(serf, now));
        self.settle(node);
        result
    }

    pub(crate) fn join(&mut self, node: usize, other: usize) -> Ticket {
        let addresses = vec![self.address(other).to_string()];
        let replay = false;
        self.with(node, |serf, now| {
            serf.start(now, Operation::Join { addresses, replay })
        })
    }

    /// Has a node take in a push/pull, all at once and from nobody who runs.
    pub(crate) fn hear_state(&mut self, node: usize, from: SocketAddr, bytes: &[u8]) {
        let stream = StreamId::accepted(self.accepted);
        self.accepted += 1;
        self.with(node, |serf, now| {
            serf.handle_network(now, NetworkEvent::Accepted { stream, from });
            serf.handle_network(now, NetworkEvent::Received { stream, bytes });
        });
        self.turn(node);
    }

    /// What a node believes of another.
    pub(crate) fn status(&self, node: usize, other: usize) -> Option<MemberStatus> {
        let name = format!("n{other}");
        let mut status = None;
        self.serf(node).visit_members(&mut |member| {
            if *member.name == *name {
                status = Some(member.status);
            }
        });
        status
    }

    /// Whether every running node believes so of another.
    pub(crate) fn all_believe(&self, other: usize, status: MemberStatus) -> bool {
        self.running()
            .all(|node| self.status(node, other) == Some(status))
    }

    /// Whether every running node takes exactly the running ones for alive, and sees them as they see themselves.
    pub(crate) fn converged(&self) -> bool {
        self.disagreement().is_none()
    }

    /// Somebody who is wrong about the members, and about whom.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let count = self.count();
        self.running().find_map(|node| {
            let mut alive = 0;
            let mut wrong = None;
            self.serf(node).visit_members(&mut |member| {
                let number = member.name[1..].parse().expect("a number");
                let right = match (self.get(number), member.status) {
                    (Some(process), MemberStatus::Alive) => {
                        alive += 1;
                        process.hub.cluster().local() == member
                    }
                    (Some(_), _) | (None, MemberStatus::Alive | MemberStatus::Leaving) => false,
                    (None, _) => true,
                };
                if !right {
                    wrong = Some(format!("n{node} sees {} as {}", member.name, member.status));
                }
            });
            wrong.or_else(|| {
                let known = |other: &usize| self.status(node, *other).is_some();
                let unknown = || self.running().filter(|other| !known(other));
                (alive != count).then(|| {
                    let unknown: Vec<_> = unknown().collect();
                    format!(
                        "n{node} knows {alive} living nodes of {count}, and none of {unknown:?}"
                    )
                })
            })
        })
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end).is_some() {}
        self.now = end;
    }

    /// Lets time pass until something holds; returns how long that took.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        while !holds(self) {
            assert!(
                self.now - begin < limit,
                "it never holds; of the members: {:?}",
                self.disagreement()
            );
            self.run(Duration::from_millis(50));
        }
        self.now - begin
    }

    /// Lets the next thing happen, if it does by then; says to which node.
    pub(crate) fn step(&mut self, by: Instant) -> Option<usize> {
        let at = self.agenda.next().filter(|at| *at <= by)?;
        self.now = self.now.max(at);
        match self.agenda.pop(by)? {
            Item::Delivery(node, run, delivery) => {
                // What goes to an address where a node was does not come to where it is.
                let moved = self
                    .moves
                    .get(&node)
                    .is_some_and(|(_, before)| run <= *before);
                let gone = self.run_of(node) != run && !delivery.is_for_any();
                if !moved && !gone {
                    self.receive(node, delivery);
                }
                Some(node)
            }
            Item::Turn(node) => {
                self.turn(node);
                Some(node)
            }
            Item::Command(node, run, command) => {
                if self.run_of(node) == run {
                    self.carry_out(node, command);
                }
                Some(node)
            }
        }
    }

    /// Timers of a node may be due.
    fn turn(&mut self, node: usize) {
        let now = self.now;
        let Some(process) = self.get_mut(node).filter(|process| !process.paused) else {
            return;
        };
        if process.planned.is_none_or(|planned| planned > now) {
            return;
        }
        process.planned = None;
        let mut turns = 0;
        while let Some(process) = self.get_mut(node)
            && process.hub.poll_timeout().is_some_and(|due| due <= now)
        {
            process.hub.handle_timeout(now);
            self.settle(node);
            turns += 1;
            assert!(
                turns < TURNS_AT_ONCE_MAX,
                "timers of n{node} fire without end"
            );
        }
        self.plan_turn(node);
    }

    fn plan_turn(&mut self, node: usize) {
        let now = self.now;
        if let Some(process) = self.get_mut(node)
            && let Some(at) = process.hub.poll_timeout().map(|at| at.max(now))
            && process
                .planned
                .is_none_or(|planned| planned > at || planned < now)
        {
            process.planned = Some(at);
            self.agenda.plan(at, Item::Turn(node));
        }
    }

    fn receive(&mut self, node: usize, delivery: Delivery) {
        if let Some(until) = self.held(node) {
            self.deliver_at(node, until, delivery);
            return;
        }
        let now = self.now;
        let Some(process) = self.nodes.get_mut(node).and_then(Option::as_deref_mut) else {
            if let Delivery::Open { from, stream } = delivery {
                self.refuse(from, stream);
            }
            return;
        };
        if process.paused {
            // The system holds some of it.
            let packet = matches!(delivery, Delivery::Packet { .. });
            if !packet || process.missed.len() < MISSED_PACKETS_MAX {
                process.missed.push(delivery);
            }
            return;
        }
        let mut tell = |event: NetworkEvent<'_>| {
            process
                .hub
                .with_cluster(now, |serf| serf.handle_network(now, event));
        };
        match delivery {
            Delivery::Packet { from, payload } => {
                let payload = &payload;
                tell(NetworkEvent::Packet { from, payload });
            }
            Delivery::Unreachable(to) => {
                let error = "connection refused".to_owned();
                tell(NetworkEvent::PacketFailed { to, error });
            }
            Delivery::Open { from, stream } => self.accept(node, from, stream),
            Delivery::Opened(stream) => tell(NetworkEvent::Connected { stream }),
            Delivery::Bytes(stream, bytes) => {
                let bytes = &bytes;
                tell(NetworkEvent::Received { stream, bytes });
            }
            Delivery::Ended(stream, error) => {
                tell(NetworkEvent::Ended { stream, error });
                self.streams.remove(&(node, stream));
            }
            Delivery::Resolved(request, result) => tell(NetworkEvent::Resolved { request, result }),
        }
        self.settle(node);
    }

    /// Carries out all that a node wants done.
    pub(crate) fn settle(&mut self, node: usize) {
        let now = self.now;
        while let Some(process) = self.nodes.get_mut(node).and_then(Option::as_deref_mut) {
            for _ in 0..TURNS_AT_ONCE_MAX {
                if !process.hub.has_ready() {
                    break;
                }
                process.hub.handle_ready(now);
            }
            let command = process.hub.poll_network();
            let told = std::iter::from_fn(|| process.hub.poll_event());
            match &mut self.journal {
                Some(journal) => journal.extend(told.map(|event| Told {
                    at: now,
                    node,
                    event,
                })),
                None => process.told.extend(told),
            }
            let Some(command) = command else { break };
            match self.held(node) {
                Some(until) => {
                    let command = Item::Command(node, self.run_of(node), command);
                    self.agenda.plan(until, command);
                }
                None => self.carry_out(node, command),
            }
        }
        let disk = self.disks.entry(node).or_default();
        if let Some(process) = self.nodes.get_mut(node).and_then(Option::as_deref_mut) {
            disk.carry_out(now, &mut process.hub);
        }
        self.plan_turn(node);
    }

    fn carry_out(&mut self, node: usize, command: NetworkCommand) {
        match command {
            NetworkCommand::SendPacket { to, payload } => self.send(node, to, payload),
            NetworkCommand::Resolve { request, host } => {
                // The host of a node is called as the node.
                let number = host
                    .strip_prefix("host-")
                    .and_then(|text| text.parse().ok());
                let found = number.map(|number| vec![self.address(number).ip()]);
                let result = found.ok_or_else(|| "no such host".to_owned());
                self.deliver(
                    node,
                    self.network.delay.1,
                    Delivery::Resolved(request, result),
                );
            }
            NetworkCommand::Connect { stream, to } => self.connect(node, stream, to),
            NetworkCommand::Write { stream, bytes } => self.write(node, stream, &bytes),
            NetworkCommand::Close { stream } => {
                self.end_stream(node, stream, None);
                self.deliver(node, self.network.delay.1, Delivery::Ended(stream, None));
            }
            NetworkCommand::Reset { stream } => {
                let reset = Some("connection reset by peer".to_owned());
                self.end_stream(node, stream, reset);
            }
        }
    }

    fn send(&mut self, node: usize, to: SocketAddr, payload: Vec<u8>) {
        self.packets += 1;
        self.bytes += payload.len() as u64;
        let from = self.address(node);
        let Some(other) = self.reachable(node, to) else {
            return;
        };
        if self.get(other).is_none() {
            if self.rng.random::<f64>() < UNREACHABLE_TOLD {
                self.deliver(node, self.network.delay.1, Delivery::Unreachable(to));
            }
            return;
        }
        for delay in self.network.arrivals(&mut self.rng) {
            let mut payload = payload.clone();
            self.network.touch(&mut self.rng, &mut payload);
            self.deliver(other, delay, Delivery::Packet { from, payload });
        }
    }

    fn reachable(&self, node: usize, to: SocketAddr) -> Option<usize> {
        self.node_at(to)
            .filter(|other| self.network.passes(node, *other))
    }

    fn deliver(&mut self, node: usize, delay: Duration, delivery: Delivery) {
        self.deliver_at(node, self.now + delay, delivery);
    }

    fn deliver_at(&mut self, node: usize, at: Instant, delivery: Delivery) {
        let item = Item::Delivery(node, self.run_of(node), delivery);
        self.agenda.plan(at, item);
    }

    /// Which process of a node runs, or ran last.
    fn run_of(&self, node: usize) -> u32 {
        self.runs.get(&node).copied().unwrap_or_default()
    }
}
