//! The nodes that gossip knows, and the order in which they are probed.
//!
//! Every node is in the table once, found by its name, and once in the ring. Large clusters make this the largest part of
//! a process, so what it holds of a node is small: the index has no names of its own, and who a node is it shares with
//! whoever else knows. The ring is shuffled each time around, and
//! nodes that are gone for long leave both then. Source: hashicorp/memberlist, `state.go` (`resetNodes`,
//! `aliveNode`) and `util.go` (`kRandomNodes`).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use slab::Slab;

use super::message::{Alive, NodeState, PushNode, Versions};
use super::suspicion::Suspicion;
use crate::cluster::NodeInfo;
use crate::timer_wheel::TimerKey;

/// A node's place in the table, as long as it is there.
pub(super) type NodeId = u32;

/// What is known of a node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) info: Arc<NodeInfo>,
    pub(super) incarnation: u32,
    pub(super) state: NodeState,
    /// Since when it is gone. Few are: the time takes no room in the others.
    gone_since: Option<Box<Instant>>,
    /// While it is suspected.
    pub(super) suspicion: Option<Box<(Suspicion, TimerKey)>>,
}

impl Node {
    /// A node that lives.
    pub(super) const fn new(info: Arc<NodeInfo>, incarnation: u32) -> Self {
        Self {
            info,
            incarnation,
            state: NodeState::Alive,
            gone_since: None,
            suspicion: None,
        }
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.state, NodeState::Dead | NodeState::Left)
    }

    pub(super) fn versions(&self) -> Versions {
        Versions {
            protocol: self.info.protocol,
            delegate: self.info.delegate,
        }
    }

    /// What tells others that the node lives.
    pub(super) fn alive(&self) -> Alive<'_> {
        Alive {
            incarnation: self.incarnation,
            node: &self.info.name,
            addr: Some(self.info.addr),
            port: self.info.port,
            meta: self.info.meta(),
            versions: Some(self.versions()),
        }
    }

    pub(super) fn push_node(&self) -> PushNode<'_> {
        PushNode {
            name: &self.info.name,
            addr: Some(self.info.addr),
            port: self.info.port,
            meta: self.info.meta(),
            incarnation: self.incarnation,
            state: self.state,
            versions: Some(self.versions()),
        }
    }

    pub(super) fn set_state(&mut self, now: Instant, state: NodeState) {
        if self.state != state {
            self.state = state;
            self.gone_since = self.is_gone().then(|| Box::new(now));
        }
    }

    /// How long it has been gone.
    pub(super) fn gone_for(&self, now: Instant) -> Duration {
        let since = self.gone_since.as_ref();
        since.map_or(Duration::ZERO, |since| {
            now.saturating_duration_since(**since)
        })
    }
}

/// The nodes that gossip knows.
#[derive(Debug, Default)]
pub(super) struct NodeTable {
    nodes: Slab<Node>,
    by_name: HashTable<NodeId>,
    hasher: RandomState,
    ring: Vec<NodeId>,
    next: usize,
}

impl NodeTable {
    /// How many nodes there are, this one and those that are gone included.
    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize)
    }

    pub(super) fn find(&self, name: &str) -> Option<NodeId> {
        let named = |id: &NodeId| self.get(*id).is_some_and(|node| *node.info.name == *name);
        self.by_name
            .find(self.hasher.hash_one(name), named)
            .copied()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter().map(|(_, node)| node)
    }

    /// Adds a node whose name is not in the table, at a random place of the ring.
    pub(super) fn insert(&mut self, rng: &mut StdRng, node: Node) -> NodeId {
        let hash = self.hasher.hash_one(&*node.info.name);
        // No memory holds as many nodes as this has numbers.
        let id = self.nodes.insert(node) as NodeId;
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.by_name.insert_unique(hash, id, |&id| {
            let node = nodes.get(id as usize);
            node.map_or(0, |node| hasher.hash_one(&*node.info.name))
        });
        let last = self.ring.len();
        self.ring.push(id);
        self.ring.swap(rng.random_range(0..=last), last);
        id
    }

    /// The next node to probe: any but `except` that is not gone. `None` when there is none all around the ring.
    pub(super) fn next_to_probe(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        except: NodeId,
        gone_for: Duration,
    ) -> Option<NodeId> {
        // The rest of this time around, and all of the next.
        for _ in 0..2 * self.ring.len() {
            if self.next >= self.ring.len() {
                self.start_over(now, rng, gone_for);
            }
            let id = *self.ring.get(self.next)?;
            self.next += 1;
            if id != except && self.get(id).is_some_and(|node| !node.is_gone()) {
                return Some(id);
            }
        }
        None
    }

    /// Forgets the nodes that are gone for long and shuffles the others.
    fn start_over(&mut self, now: Instant, rng: &mut StdRng, gone_for: Duration) {
        let (nodes, by_name, hasher) = (&mut self.nodes, &mut self.by_name, &self.hasher);
        self.ring.retain(|&id| {
            let forget = nodes
                .get(id as usize)
                .is_none_or(|node| node.is_gone() && node.gone_for(now) > gone_for);
            if forget && let Some(node) = nodes.try_remove(id as usize) {
                let hash = hasher.hash_one(&*node.info.name);
                if let Ok(entry) = by_name.find_entry(hash, |other| *other == id) {
                    entry.remove();
                }
            }
            !forget
        });
        self.ring.shuffle(rng);
        self.next = 0;
    }

    /// Up to `count` different random nodes that pass.
    pub(super) fn pick(
        &self,
        rng: &mut StdRng,
        count: usize,
        mut pass: impl FnMut(NodeId, &Node) -> bool,
    ) -> Vec<NodeId> {
        let mut passes = |id: NodeId| self.get(id).is_some_and(|node| pass(id, node));
        // Among few nodes random picks miss too many: look at all.
        if self.ring.len() < count * 3 {
            let mut ids = self.ring.clone();
            ids.shuffle(rng);
            ids.retain(|&id| passes(id));
            ids.truncate(count);
            return ids;
        }
        let mut picked = Vec::with_capacity(count);
        for _ in 0..self.ring.len() * 3 {
            if picked.len() >= count {
                break;
            }
            let id = self.ring[rng.random_range(0..self.ring.len())];
            if !picked.contains(&id) && passes(id) {
                picked.push(id);
            }
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use rand::SeedableRng;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn info(number: u32) -> Arc<NodeInfo> {
        let (name, addr) = (format!("n{number}"), (Ipv4Addr::LOCALHOST, 7946));
        let Versions { protocol, delegate } = Versions::CURRENT;
        NodeInfo::new(name.into(), addr.into(), b"", protocol, delegate).into()
    }

    fn table(rng: &mut StdRng, count: u32) -> NodeTable {
        let mut table = NodeTable::default();
        for number in 0..count {
            table.insert(rng, Node::new(info(number), 1));
        }
        table
    }

    #[test]
    fn each_time_around_every_node_is_probed_once() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut table = table(&mut rng, 20);
        for _ in 0..3 {
            let round: BTreeSet<_> = (0..19)
                .filter_map(|_| table.next_to_probe(now, &mut rng, 0, LONG))
                .collect();
            assert_eq!(round, (1..20).collect());
        }
    }

    #[test]
    fn nodes_that_are_gone_for_long_are_forgotten() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(2));
        let mut table = table(&mut rng, 3);
        table.get_mut(1).unwrap().set_state(now, NodeState::Dead);
        for at in [now, now + LONG] {
            for _ in 0..3 {
                assert_eq!(table.next_to_probe(at, &mut rng, 0, LONG), Some(2));
            }
            assert_eq!(table.len(), 3);
        }
        let later = now + LONG + Duration::from_secs(1);
        for _ in 0..3 {
            table.next_to_probe(later, &mut rng, 0, LONG);
        }
        assert_eq!((table.len(), table.find("n1")), (2, None));
        assert_eq!(table.find("n2"), Some(2));
    }

    #[test]
    fn a_node_alone_has_nobody_to_probe() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(3));
        assert_eq!(
            table(&mut rng, 1).next_to_probe(now, &mut rng, 0, LONG),
            None
        );
        assert_eq!(
            table(&mut rng, 0).next_to_probe(now, &mut rng, 0, LONG),
            None
        );
    }

    #[test]
    fn picks_are_different_and_pass() {
        let mut rng = StdRng::seed_from_u64(4);
        for count in [4, 100] {
            let table = table(&mut rng, count);
            let mut seen = BTreeSet::new();
            for _ in 0..1000 {
                let picked = table.pick(&mut rng, 3, |id, _| id != 0);
                let different: BTreeSet<_> = picked.iter().copied().collect();
                assert_eq!(different.len(), 3);
                seen.extend(different);
            }
            assert_eq!(seen, (1..count).collect());
        }
    }
}
