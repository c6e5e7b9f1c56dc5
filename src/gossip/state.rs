//! What becomes of nodes: what this node finds out about them, and what others say.
//!
//! A higher incarnation beats a lower one; of the same, dead beats suspect and suspect beats alive. Only a node itself
//! raises its incarnation, to refute that it is suspect or dead. Source: hashicorp/memberlist, `state.go` (`aliveNode`,
//! `suspectNode`, `deadNode`, `refute`).
//!
//! Differences: who was alone tells nobody of the nodes that its first push/pull brings (see [`super::merge`]); a name
//! moves to a new address also while the old one is dead, not only left, if its incarnation is
//! higher; a dead node takes note of later deaths, so that the order of news does not matter; and nobody can take a
//! name's last incarnation, after which it could refute nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use super::broadcast::{BroadcastToken, Terms, Urgency};
use super::core::{Gossip, GossipEvent, Timer};
use super::message::{Alive, Dead, META_BYTES_MAX, Message, NodeState, Suspect, Versions};
use super::nodes::{Node, NodeId};
use super::suspicion::Suspicion;
use crate::cluster::{Catalog, NodeInfo, VersionRange};

/// What a node that says nothing of its versions is taken to speak.
const NO_VERSIONS: Versions = {
    let none = VersionRange {
        min: 0,
        max: 0,
        cur: 0,
    };
    Versions {
        protocol: none,
        delegate: none,
    }
};

/// What a node that lives is to everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// Perhaps somebody has not heard of it.
    News,
    /// All who could be told know it already.
    Known,
}

/// A node as it is told of, for all who know it.
fn describe(
    catalog: Option<&Catalog>,
    name: Arc<str>,
    addr: SocketAddr,
    meta: &[u8],
    versions: Versions,
) -> Arc<NodeInfo> {
    let info = NodeInfo::new(name, addr, meta, versions.protocol, versions.delegate);
    Catalog::share_in(catalog, info)
}

impl Gossip {
    /// Somebody says that a node lives.
    pub(super) fn alive_node(&mut self, now: Instant, alive: &Alive<'_>, hearing: Hearing) {
        let Some(addr) = self.acceptable(alive) else {
            self.counters.malformed += 1;
            return;
        };
        let Some(id) = self.nodes.find(alive.node) else {
            self.add_node(now, alive, addr, hearing);
            return;
        };
        if id == self.local {
            self.hear_of_self(now, alive, addr);
            return;
        }
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let existing = node.info.socket_addr();
        let moves = existing != addr;
        if moves {
            let may_move = match node.state {
                NodeState::Left => true,
                NodeState::Dead => alive.incarnation > node.incarnation,
                NodeState::Alive | NodeState::Suspect => false,
            };
            if !may_move {
                let state = node.state;
                self.tell_conflict(alive.node, existing, addr, state);
                return;
            }
            info!(
                "memberlist: Updating address for left or failed node {} from {existing} to {addr}",
                alive.node
            );
        } else if alive.incarnation <= node.incarnation {
            return;
        }
        self.counters.alive += 1;
        let was_gone = node.is_gone();
        let changed = *node.info.meta() != *alive.meta;
        let versions = alive.versions.unwrap_or_else(|| node.versions());
        if moves || changed || versions != node.versions() {
            let name = Arc::clone(&node.info.name);
            node.info = describe(self.catalog.as_ref(), name, addr, alive.meta, versions);
        }
        node.incarnation = alive.incarnation;
        node.set_state(now, NodeState::Alive);
        self.end_suspicion(id);
        if was_gone {
            self.others_present += 1;
        }
        self.broadcast_alive(now, id, None);
        if was_gone {
            self.tell_node(id, GossipEvent::Alive);
            self.arm_for_company(now);
        } else if changed {
            self.tell_node(id, GossipEvent::Updated);
        }
    }

    /// The address of a node, unless what is said of it can't be.
    fn acceptable(&self, alive: &Alive<'_>) -> Option<SocketAddr> {
        let ip = alive.addr?;
        let port = match alive.port {
            0 => self.default_port,
            port => port,
        };
        let versions_are_wrong = alive.versions.is_some_and(|versions| {
            let VersionRange { min, max, .. } = versions.protocol;
            min == 0 || max == 0 || min > max
        });
        if alive.node.is_empty() || alive.meta.len() > META_BYTES_MAX || versions_are_wrong {
            return None;
        }
        // Its last incarnation would leave a node nothing to refute with.
        (alive.incarnation < u32::MAX).then(|| SocketAddr::new(ip, port))
    }

    fn add_node(&mut self, now: Instant, alive: &Alive<'_>, addr: SocketAddr, hearing: Hearing) {
        let versions = alive.versions.unwrap_or(NO_VERSIONS);
        let catalog = self.catalog.as_ref();
        let info = describe(catalog, alive.node.into(), addr, alive.meta, versions);
        self.counters.alive += 1;
        let node = Node::new(info, alive.incarnation);
        let id = self.nodes.insert(&mut self.rng, node);
        self.others_present += 1;
        if hearing == Hearing::News {
            self.broadcast_alive(now, id, None);
        }
        self.tell_node(id, GossipEvent::Alive);
        self.arm_for_company(now);
    }

    /// Somebody says that this node lives. If that is not what it says of itself, it says it again, louder.
    fn hear_of_self(&mut self, now: Instant, alive: &Alive<'_>, addr: SocketAddr) {
        let Some(node) = self.nodes.get(self.local) else {
            return;
        };
        if self.left {
            return;
        }
        let existing = node.info.socket_addr();
        if existing != addr {
            let state = node.state;
            self.tell_conflict(alive.node, existing, addr, state);
            return;
        }
        let same = *node.info.meta() == *alive.meta && Some(node.versions()) == alive.versions;
        if alive.incarnation < node.incarnation || (alive.incarnation == node.incarnation && same) {
            return;
        }
        warn!("memberlist: Refuting an alive message for '{}'", alive.node);
        self.refute(now, alive.incarnation);
    }

    fn tell_conflict(
        &mut self,
        name: &str,
        existing: SocketAddr,
        other: SocketAddr,
        state: NodeState,
    ) {
        log::error!(
            "memberlist: Conflicting address for {name}. Mine: {existing} Theirs: {other} Old state: {state:?}"
        );
        self.events.push_back(GossipEvent::Conflict {
            name: name.into(),
            existing,
            other,
        });
    }

    /// Somebody says that a node may be dead.
    pub(super) fn suspect_node(&mut self, now: Instant, suspect: &Suspect<'_>) {
        let Some(id) = self.accused(suspect.node, suspect.incarnation) else {
            return;
        };
        if self.is_suspected(id) {
            if self.confirm_suspicion(id, suspect.from) {
                let message = Message::Suspect(*suspect).to_bytes();
                self.queue_membership(now, id, message, None, Urgency::Normal);
            }
            return;
        }
        let local = self.local;
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if node.state != NodeState::Alive {
            return;
        }
        if id == local {
            warn!(
                "memberlist: Refuting a suspect message (from: {})",
                suspect.from
            );
            self.refute(now, suspect.incarnation);
            return;
        }
        self.counters.suspect += 1;
        node.incarnation = suspect.incarnation;
        node.set_state(now, NodeState::Suspect);
        self.start_suspicion(now, id, suspect.from);
        let message = Message::Suspect(*suspect).to_bytes();
        self.queue_membership(now, id, message, None, Urgency::Normal);
    }

    fn is_suspected(&self, id: NodeId) -> bool {
        let node = self.nodes.get(id);
        node.is_some_and(|node| node.suspicion.is_some())
    }

    /// Somebody else suspects a node too. Says whether that is news.
    fn confirm_suspicion(&mut self, id: NodeId, from: &str) -> bool {
        let node = self.nodes.get_mut(id);
        let Some(suspicion) = node.and_then(|node| node.suspicion.as_mut()) else {
            return false;
        };
        let news = suspicion.0.confirm(from);
        if news {
            let deadline = suspicion.0.deadline();
            self.wheel.cancel(suspicion.1);
            suspicion.1 = self.wheel.insert(deadline, Timer::Suspicion(id));
        }
        news
    }

    fn start_suspicion(&mut self, now: Instant, id: NodeId, from: &str) {
        let count = self.nodes.len();
        let suspicion = Suspicion::new(
            now,
            from,
            self.timing.confirmations(count),
            self.timing.suspicion_min(count),
            self.timing.suspicion_max(count),
        );
        let timer = self
            .wheel
            .insert(suspicion.deadline(), Timer::Suspicion(id));
        if let Some(node) = self.nodes.get_mut(id) {
            node.suspicion = Some(Box::new((suspicion, timer)));
        }
    }

    fn end_suspicion(&mut self, id: NodeId) {
        let suspicion = self
            .nodes
            .get_mut(id)
            .and_then(|node| node.suspicion.take());
        if let Some(suspicion) = suspicion {
            self.wheel.cancel(suspicion.1);
        }
    }

    /// A node was suspected long enough.
    pub(super) fn suspicion_ended(&mut self, now: Instant, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(suspicion) = &mut node.suspicion else {
            return;
        };
        if now < self.grace_until {
            suspicion.1 = self.wheel.insert(self.grace_until, Timer::Suspicion(id));
            return;
        }
        info!(
            "memberlist: Marking {} as failed, suspect timeout reached ({} peer confirmations)",
            node.info.name,
            suspicion.0.confirmations()
        );
        let (incarnation, name) = (node.incarnation, Arc::clone(&node.info.name));
        let from = Arc::clone(&self.name);
        let dead = Dead {
            incarnation,
            node: &name,
            from: &from,
        };
        self.dead_node(now, &dead, None);
    }

    /// Somebody says that a node is dead, or a node says that it leaves.
    pub(super) fn dead_node(
        &mut self,
        now: Instant,
        dead: &Dead<'_>,
        token: Option<BroadcastToken>,
    ) {
        let leaving = self.left;
        let local = self.local;
        let Some(id) = self.accused(dead.node, dead.incarnation) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if node.is_gone() {
            // So that older news of its life, which come later, don't bring it back.
            node.incarnation = dead.incarnation;
            return;
        }
        if id == local && !leaving {
            warn!("memberlist: Refuting a dead message (from: {})", dead.from);
            self.refute(now, dead.incarnation);
            return;
        }
        self.counters.dead += 1;
        node.incarnation = dead.incarnation;
        let left = dead.is_leave();
        node.set_state(
            now,
            if left {
                NodeState::Left
            } else {
                NodeState::Dead
            },
        );
        let name = Arc::clone(&node.info.name);
        if id != local {
            self.others_present -= 1;
        }
        self.end_suspicion(id);
        let urgency = if id == local {
            Urgency::Urgent
        } else {
            Urgency::Normal
        };
        let message = Message::Dead(*dead).to_bytes();
        self.queue_membership(now, id, message, token, urgency);
        self.events.push_back(GossipEvent::Gone { name, left });
    }

    /// A node that is accused with that incarnation, unless the accusation is void.
    fn accused(&self, name: &str, incarnation: u32) -> Option<NodeId> {
        let id = self.nodes.find(name)?;
        let node = self.nodes.get(id)?;
        // The last incarnation can't be refuted: no honest node gets there.
        (incarnation >= node.incarnation && incarnation < u32::MAX).then_some(id)
    }

    /// Says that this node lives, with a higher incarnation than the accusation's.
    fn refute(&mut self, now: Instant, accused: u32) {
        self.counters.refuted += 1;
        self.incarnation = self.incarnation.max(accused).saturating_add(1);
        let incarnation = self.incarnation;
        // That others doubt this node may have its reason here.
        self.awareness.worsen(1);
        if let Some(node) = self.nodes.get_mut(self.local) {
            node.incarnation = incarnation;
        }
        self.broadcast_alive(now, self.local, None);
    }

    /// Changes what this node says of itself. The token's broadcast tells everybody, unless the node has left: to say
    /// anything would bring it back.
    pub fn set_meta(&mut self, now: Instant, meta: &[u8], token: BroadcastToken) {
        if self.left {
            self.events.push_back(GossipEvent::BroadcastDone(token));
            return;
        }
        self.incarnation = self.incarnation.saturating_add(1);
        let incarnation = self.incarnation;
        let Some(node) = self.nodes.get(self.local) else {
            return;
        };
        let changed = *node.info.meta() != *meta;
        let (name, addr) = (Arc::clone(&node.info.name), node.info.socket_addr());
        let info = describe(self.catalog.as_ref(), name, addr, meta, node.versions());
        if let Some(node) = self.nodes.get_mut(self.local) {
            node.incarnation = incarnation;
            node.info = info;
        }
        self.broadcast_alive(now, self.local, Some(token));
        if changed {
            self.tell_node(self.local, GossipEvent::Updated);
        }
    }

    /// Leaves: from now on this node refutes nothing. The token's broadcast tells everybody.
    pub fn leave(&mut self, now: Instant, token: BroadcastToken) {
        if self.left {
            return;
        }
        self.left = true;
        self.give_up_probe();
        let name = Arc::clone(&self.name);
        let dead = Dead {
            incarnation: self.incarnation,
            node: &name,
            from: &name,
        };
        self.dead_node(now, &dead, Some(token));
    }

    fn broadcast_alive(&mut self, now: Instant, id: NodeId, token: Option<BroadcastToken>) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let message = Message::Alive(node.alive()).to_bytes();
        self.queue_membership(now, id, message, token, Urgency::Normal);
    }

    /// Has everybody hear news about a node.
    fn queue_membership(
        &mut self,
        now: Instant,
        id: NodeId,
        message: Vec<u8>,
        token: Option<BroadcastToken>,
        urgency: Urgency,
    ) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let terms = Terms {
            about: Some(Arc::clone(&node.info.name)),
            token,
            urgency,
        };
        let limit = self.queue_limit();
        self.membership_queue.push(message.into(), terms, limit);
        self.take_finished();
        self.arm_gossip(now);
    }

    fn tell_node(&mut self, id: NodeId, event: impl FnOnce(Arc<NodeInfo>) -> GossipEvent) {
        if let Some(node) = self.nodes.get(id) {
            self.events.push_back(event(Arc::clone(&node.info)));
        }
    }
}
