//! Merges what other nodes know into what this node knows.
//!
//! A push/pull of thousands of nodes is merged over many turns, so that nobody waits for it: first all its nodes are
//! looked at, whether their protocol versions go with the cluster's, then they are taken in one by one, then the layer
//! above gets its part. Merging the same twice changes nothing. Source: hashicorp/memberlist, `state.go`
//! (`verifyProtocol`, `mergeState`).
//!
//! Unlike there a node that was alone does not pass on what its join brings, or the first push/pull of somebody who knows
//! it already, as long as nobody else has its state: whom it could tell knows it from where that came from. In a cluster of
//! thousands it would have nothing else to say for many minutes.

use std::time::Instant;

use super::core::{Gossip, GossipEvent};
use super::exchange::Purpose;
use super::message::{Alive, Dead, NodeState, PushNode, Suspect, Versions};
use super::state::Hearing;
use super::stream::PushPull;
use crate::cluster::VersionRange;

/// Nodes looked at or taken in per turn: about a millisecond's worth, by `benches/gossip.rs`.
pub const NODES_PER_TURN: usize = 256;

/// A push/pull that is being merged.
#[derive(Debug)]
pub(super) struct Merge {
    push_pull: PushPull,
    purpose: Purpose,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Verify(Box<[Compatibility; 2]>),
    Merge {
        /// This node knew nobody, and the other one does not join it.
        newcomer: bool,
    },
}

impl Merge {
    pub(super) fn new(push_pull: PushPull, purpose: Purpose) -> Self {
        Self {
            push_pull,
            purpose,
            stage: Stage::Verify(Box::default()),
        }
    }
}

/// Whether everybody understands what everybody speaks, in one of the two protocols.
#[derive(Debug)]
struct Compatibility {
    /// The highest of the lowest versions that living nodes understand.
    min: u8,
    /// The lowest of the highest.
    max: u8,
    lowest: Option<(u8, String)>,
    highest: Option<(u8, String)>,
}

impl Default for Compatibility {
    fn default() -> Self {
        Self {
            min: 0,
            max: u8::MAX,
            lowest: None,
            highest: None,
        }
    }
}

impl Compatibility {
    fn add(&mut self, name: &str, range: VersionRange, alive: bool) {
        if alive {
            self.min = self.min.max(range.min);
            self.max = self.max.min(range.max);
        }
        let cur = range.cur;
        if self.lowest.as_ref().is_none_or(|(lowest, _)| cur < *lowest) {
            self.lowest = Some((cur, name.to_owned()));
        }
        if self
            .highest
            .as_ref()
            .is_none_or(|(highest, _)| cur > *highest)
        {
            self.highest = Some((cur, name.to_owned()));
        }
    }

    /// The node that speaks what not all understand, and what it speaks.
    fn outsider(&self) -> Option<&(u8, String)> {
        let too_low = self.lowest.as_ref().filter(|(cur, _)| *cur < self.min);
        too_low.or_else(|| self.highest.as_ref().filter(|(cur, _)| *cur > self.max))
    }

    fn check(&self, protocol: &str) -> Result<(), String> {
        match self.outsider() {
            Some((cur, name)) => Err(format!(
                "Node '{name}' {protocol} version ({cur}) is incompatible: [{}, {}]",
                self.min, self.max
            )),
            None => Ok(()),
        }
    }
}

fn add_versions(both: &mut [Compatibility; 2], name: &str, versions: Versions, alive: bool) {
    let [protocol, delegate] = both;
    protocol.add(name, versions.protocol, alive);
    delegate.add(name, versions.delegate, alive);
}

impl Gossip {
    /// Goes on with the push/pull that came first.
    pub(super) fn merge_some(&mut self, now: Instant) {
        let Some(mut merge) = self.merges.pop_front() else {
            return;
        };
        match self.merge_step(now, &mut merge) {
            Ok(true) => {
                self.streams.held -= merge.push_pull.held();
                self.counters.push_pulls += 1;
                self.events.push_back(GossipEvent::StateReceived {
                    state: merge.push_pull.user_state().to_vec(),
                    join: merge.push_pull.is_join() || matches!(merge.purpose, Purpose::Join(_)),
                });
                if let Purpose::Join(attempt) = merge.purpose {
                    self.attempt_succeeded(now, attempt);
                }
            }
            Ok(false) => self.merges.push_front(merge),
            Err(error) => {
                self.streams.held -= merge.push_pull.held();
                self.exchange_failed(now, merge.purpose, &error);
            }
        }
    }

    /// Says whether it was the last step.
    fn merge_step(&mut self, now: Instant, merge: &mut Merge) -> Result<bool, String> {
        let hearing = match merge.stage {
            Stage::Merge { newcomer: true } if self.streams.states_sent == 1 => Hearing::Known,
            _ => Hearing::News,
        };
        let push_pull = &mut merge.push_pull;
        for _ in 0..NODES_PER_TURN {
            let Some(node) = push_pull.next_node() else {
                break;
            };
            // One that can't be read does no harm to the others.
            let Ok(node) = node else {
                self.counters.malformed += 1;
                continue;
            };
            match &mut merge.stage {
                Stage::Verify(both) => {
                    // Of nodes that are gone and such that don't say, it does not matter what they speak.
                    let present = matches!(node.state, NodeState::Alive | NodeState::Suspect);
                    if let Some(versions) = node.versions.filter(|_| present) {
                        let alive = node.state == NodeState::Alive;
                        add_versions(both, node.name, versions, alive);
                    }
                }
                Stage::Merge { .. } => self.merge_node(now, &node, hearing),
            }
        }
        if push_pull.nodes_left() > 0 {
            return Ok(false);
        }
        if let Stage::Verify(both) = &mut merge.stage {
            for node in self.nodes.iter().filter(|node| !node.is_gone()) {
                let alive = node.state == NodeState::Alive;
                add_versions(both, &node.info.name, node.versions(), alive);
            }
            let [protocol, delegate] = &**both;
            protocol.check("protocol")?;
            delegate.check("delegate protocol")?;
            merge.push_pull.rewind();
            let joins = matches!(merge.purpose, Purpose::Join(_));
            merge.stage = Stage::Merge {
                newcomer: self.nodes.len() == 1 && (joins || !merge.push_pull.is_join()),
            };
            return Ok(merge.push_pull.nodes_left() == 0);
        }
        Ok(true)
    }

    fn merge_node(&mut self, now: Instant, node: &PushNode<'_>, hearing: Hearing) {
        match node.state {
            NodeState::Alive => self.alive_node(
                now,
                &Alive {
                    incarnation: node.incarnation,
                    node: node.name,
                    addr: node.addr,
                    port: node.port,
                    meta: node.meta,
                    versions: node.versions,
                },
                hearing,
            ),
            NodeState::Left => self.dead_node(
                now,
                &Dead {
                    incarnation: node.incarnation,
                    node: node.name,
                    from: node.name,
                },
                None,
            ),
            // Rather suspected than taken for dead on another's word, so that it can refute.
            NodeState::Dead | NodeState::Suspect => {
                let from = self.name.clone();
                let suspect = Suspect {
                    incarnation: node.incarnation,
                    node: node.name,
                    from: &from,
                };
                self.suspect_node(now, &suspect);
            }
        }
    }
}
