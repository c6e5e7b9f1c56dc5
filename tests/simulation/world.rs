//! A made-up network and clock, in which many nodes run in one process, the same each time for one seed.
//!
//! Every node is a whole [`Serf`]; the world carries out what it asks of the network, after a delay, or never. Time goes
//! from one thing to happen to the next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serfling::cluster::{
    Cluster, MemberStatus, NetworkCommand, NetworkEvent, Operation, Output, StreamId,
};
use serfling::serf::{Serf, SerfConfig};

/// The gossip port of every node.
const PORT: u16 = 7946;

/// What goes over the network.
#[derive(Debug)]
enum Delivery {
    Packet {
        from: SocketAddr,
        payload: Vec<u8>,
    },
    /// Somebody wants a stream; how the other end calls it.
    Open {
        from: SocketAddr,
        node: usize,
        stream: StreamId,
    },
    Opened(StreamId),
    Bytes(StreamId, Vec<u8>),
    Ended(StreamId, Option<String>),
    Resolved(u64),
}

/// How the network treats what is sent.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Between these, at random.
    pub(crate) delay: (Duration, Duration),
    /// Of packets, from 0 to 1.
    pub(crate) loss: f64,
}

/// One node, and what it has told.
pub(crate) struct Node {
    pub(crate) serf: Serf,
    pub(crate) outputs: Vec<Output>,
    /// It takes nothing in and its clock stands, as if the process were stopped.
    pub(crate) paused: bool,
    missed: Vec<Delivery>,
}

/// A made-up network and clock.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) network: Network,
    nodes: BTreeMap<usize, Node>,
    rng: StdRng,
    deliveries: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: HashMap<u64, (usize, Delivery)>,
    timeouts: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The two ends of each stream.
    streams: HashMap<(usize, StreamId), (usize, StreamId)>,
    number: u64,
    accepted: u64,
    /// Groups that can't reach each other, by node; everybody else is in group 0.
    pub(crate) groups: HashMap<usize, u32>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            network: Network {
                delay: (Duration::from_micros(200), Duration::from_millis(3)),
                loss: 0.0,
            },
            nodes: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            deliveries: BinaryHeap::new(),
            pending: HashMap::new(),
            timeouts: BinaryHeap::new(),
            streams: HashMap::new(),
            number: 0,
            accepted: 0,
            groups: HashMap::new(),
            packets: 0,
            bytes: 0,
        }
    }

    pub(crate) fn addr(node: usize) -> SocketAddr {
        let [.., a, b] = (node as u32 + 1).to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, a, b)), PORT)
    }

    pub(crate) fn config(&mut self, node: usize) -> SerfConfig {
        SerfConfig::new(format!("n{node}"), Self::addr(node), self.rng.random())
    }

    /// Starts a node with the defaults.
    pub(crate) fn spawn(&mut self, node: usize) {
        let config = self.config(node);
        self.spawn_with(node, config);
    }

    pub(crate) fn spawn_with(&mut self, node: usize, config: SerfConfig) {
        let serf = Serf::new(self.now, config).expect("it starts");
        let outputs = Vec::new();
        let (paused, missed) = (false, Vec::new());
        let entry = Node {
            serf,
            outputs,
            paused,
            missed,
        };
        self.nodes.insert(node, entry);
        self.settle(node);
    }

    /// Ends a node without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes.remove(&node);
        let ends: Vec<_> = self
            .streams
            .keys()
            .filter(|(owner, _)| *owner == node)
            .copied()
            .collect();
        for end in ends {
            if let Some(peer) = self.streams.remove(&end) {
                self.streams.remove(&peer);
                let ended = Delivery::Ended(peer.1, Some("connection reset by peer".into()));
                self.deliver(peer.0, ended);
            }
        }
    }

    /// Stops a node's process for the time being.
    pub(crate) fn pause(&mut self, node: usize) {
        self.node(node).paused = true;
    }

    pub(crate) fn resume(&mut self, node: usize) {
        let entry = self.node(node);
        entry.paused = false;
        let missed = std::mem::take(&mut entry.missed);
        for delivery in missed {
            self.receive(node, delivery);
        }
        self.timeouts.push(Reverse((self.now, node)));
    }

    pub(crate) fn node(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(&node).expect("it runs")
    }

    pub(crate) fn serf(&self, node: usize) -> &Serf {
        &self.nodes[&node].serf
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes.keys().copied()
    }

    /// Does something with a node.
    pub(crate) fn with<R>(&mut self, node: usize, act: impl FnOnce(&mut Serf, Instant) -> R) -> R {
        let now = self.now;
        let result = act(&mut self.node(node).serf, now);
        self.settle(node);
        result
    }

    pub(crate) fn join(&mut self, node: usize, other: usize) {
        let addresses = vec![Self::addr(other).to_string()];
        let replay = false;
        self.with(node, |serf, now| {
            serf.start(now, Operation::Join { addresses, replay });
        });
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

    /// Whether every running node takes exactly the running ones for alive.
    pub(crate) fn converged(&self) -> bool {
        let count = self.nodes.len();
        self.running().all(|node| {
            let mut alive = 0;
            let mut wrong = false;
            self.serf(node).visit_members(&mut |member| {
                if member.status == MemberStatus::Alive {
                    alive += 1;
                    let number = member.name[1..].parse().expect("a number");
                    wrong |= !self.nodes.contains_key(&number);
                }
            });
            alive == count && !wrong
        })
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until something holds; returns how long that took.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        while !holds(self) {
            assert!(self.now - begin < limit, "it never holds");
            self.run(Duration::from_millis(50));
        }
        self.now - begin
    }

    fn next(&self) -> Option<Instant> {
        let delivery = self.deliveries.peek().map(|Reverse((at, _))| *at);
        let timeout = self.timeouts.peek().map(|Reverse((at, _))| *at);
        [delivery, timeout].into_iter().flatten().min()
    }

    fn step(&mut self) {
        // What comes in is read before timers fire.
        if let Some(Reverse((at, number))) = self.deliveries.peek().copied()
            && at <= self.now
        {
            self.deliveries.pop();
            if let Some((node, delivery)) = self.pending.remove(&number) {
                self.receive(node, delivery);
            }
            return;
        }
        let Some(Reverse((at, node))) = self.timeouts.pop() else {
            return;
        };
        let now = self.now;
        let Some(entry) = self.nodes.get_mut(&node).filter(|entry| !entry.paused) else {
            return;
        };
        // It may have been planned anew since.
        if entry
            .serf
            .poll_timeout()
            .is_some_and(|due| due <= at.max(now))
        {
            entry.serf.handle_timeout(now);
            self.settle(node);
        }
    }

    fn receive(&mut self, node: usize, delivery: Delivery) {
        let now = self.now;
        let Some(entry) = self.nodes.get_mut(&node) else {
            if let Delivery::Open {
                node: from, stream, ..
            } = delivery
            {
                let refused = Delivery::Ended(stream, Some("connection refused".into()));
                self.deliver(from, refused);
            }
            return;
        };
        if entry.paused {
            // The system holds some of it.
            if entry.missed.len() < 1000 {
                entry.missed.push(delivery);
            }
            return;
        }
        let serf = &mut entry.serf;
        match delivery {
            Delivery::Packet { from, payload } => {
                let payload = &payload;
                serf.handle_network(now, NetworkEvent::Packet { from, payload });
            }
            Delivery::Open {
                from,
                node: other,
                stream,
            } => {
                let here = StreamId::accepted(self.accepted);
                self.accepted += 1;
                self.streams.insert((node, here), (other, stream));
                self.streams.insert((other, stream), (node, here));
                serf.handle_network(now, NetworkEvent::Accepted { stream: here, from });
                self.deliver(other, Delivery::Opened(stream));
            }
            Delivery::Opened(stream) => {
                serf.handle_network(now, NetworkEvent::Connected { stream });
            }
            Delivery::Bytes(stream, bytes) => {
                let bytes = &bytes;
                serf.handle_network(now, NetworkEvent::Received { stream, bytes });
            }
            Delivery::Ended(stream, error) => {
                self.streams.remove(&(node, stream));
                serf.handle_network(now, NetworkEvent::Ended { stream, error });
            }
            Delivery::Resolved(request) => {
                let result = Err("no such host".into());
                serf.handle_network(now, NetworkEvent::Resolved { request, result });
            }
        }
        self.settle(node);
    }

    fn settle(&mut self, node: usize) {
        loop {
            let entry = self.nodes.get_mut(&node).expect("it runs");
            while let Some(output) = entry.serf.poll_output() {
                entry.outputs.push(output);
            }
            let Some(command) = entry.serf.poll_network() else {
                break;
            };
            self.carry_out(node, command);
        }
        if let Some(at) = self.nodes[&node].serf.poll_timeout() {
            self.timeouts.push(Reverse((at.max(self.now), node)));
        }
    }

    fn carry_out(&mut self, node: usize, command: NetworkCommand) {
        let from = Self::addr(node);
        match command {
            NetworkCommand::SendPacket { to, payload } => {
                self.packets += 1;
                self.bytes += payload.len() as u64;
                let lost = self.rng.random::<f64>() < self.network.loss;
                if let Some(other) = self.reachable(node, to).filter(|_| !lost) {
                    self.deliver(other, Delivery::Packet { from, payload });
                }
            }
            NetworkCommand::Resolve { request, .. } => {
                self.deliver(node, Delivery::Resolved(request));
            }
            NetworkCommand::Connect { stream, to } => {
                // From where nobody is, nothing comes back.
                if let Some(other) = self.reachable(node, to) {
                    self.deliver(other, Delivery::Open { from, node, stream });
                }
            }
            NetworkCommand::Write { stream, bytes } => {
                if let Some(&(other, there)) = self.streams.get(&(node, stream)) {
                    self.bytes += bytes.len() as u64;
                    self.deliver(other, Delivery::Bytes(there, bytes));
                }
            }
            NetworkCommand::Close { stream } | NetworkCommand::Reset { stream } => {
                let told = matches!(command, NetworkCommand::Close { .. });
                if let Some((other, there)) = self.streams.remove(&(node, stream)) {
                    self.deliver_last(other, Delivery::Ended(there, None));
                }
                if told {
                    self.deliver(node, Delivery::Ended(stream, None));
                }
            }
        }
    }

    fn reachable(&self, node: usize, to: SocketAddr) -> Option<usize> {
        let IpAddr::V4(ip) = to.ip() else {
            return None;
        };
        let [.., a, b] = ip.octets();
        let other = usize::from(u16::from_be_bytes([a, b])).checked_sub(1)?;
        let group = |node| self.groups.get(&node).copied().unwrap_or_default();
        (group(node) == group(other)).then_some(other)
    }

    fn deliver(&mut self, node: usize, delivery: Delivery) {
        let (shortest, longest) = self.network.delay;
        // Bytes of a stream stay in order: all of them take the longest.
        let delay = if matches!(delivery, Delivery::Packet { .. }) {
            self.rng.random_range(shortest..=longest)
        } else {
            longest
        };
        self.deliver_after(delay, node, delivery);
    }

    fn deliver_last(&mut self, node: usize, delivery: Delivery) {
        self.deliver_after(self.network.delay.1 * 2, node, delivery);
    }

    fn deliver_after(&mut self, delay: Duration, node: usize, delivery: Delivery) {
        self.number += 1;
        self.pending.insert(self.number, (node, delivery));
        self.deliveries
            .push(Reverse((self.now + delay, self.number)));
    }
}
