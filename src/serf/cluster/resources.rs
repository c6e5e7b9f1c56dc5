//! What a node holds that comes and goes, so that tests and owners can see that it goes.

use super::Serf;
use crate::gossip::GossipResources;
use crate::serf::coordinate::CoordinateClient;

/// What a node holds at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SerfResources {
    /// What gossip below holds.
    pub gossip: GossipResources,
    /// Members, this one and those that are gone included.
    pub members: usize,
    /// Pruned members that are remembered so that they stay away.
    pub tombstones: usize,
    /// What nodes that are no members are said to be about to do.
    pub intents: usize,
    /// Nodes whose network coordinates are known.
    pub peers: usize,
    /// Timers set, besides gossip's.
    pub timers: usize,
    /// Queries asked here that are not done.
    pub asked: usize,
    /// Queries that can be answered.
    pub received: usize,
    /// Joins going on, this node's own attempts included.
    pub joins: usize,
    /// Operations that wait for others to hear of something, or for a file.
    pub waiting: usize,
    /// Outputs and file commands that nobody has polled.
    pub unpolled: usize,
}

impl Serf {
    /// What is held at the moment.
    #[must_use]
    pub fn resources(&self) -> SerfResources {
        SerfResources {
            gossip: self.gossip.resources(),
            members: self.membership.count(),
            tombstones: self.membership.tombstones(),
            intents: self.membership.intents(),
            peers: self.coordinates.as_ref().map_or(0, CoordinateClient::peers),
            timers: self.wheel.len(),
            asked: self.asked.len(),
            received: self.received.len(),
            joins: self.joins.len(),
            waiting: self.waiting.len() + self.keys.len() + self.files.waiting(),
            unpolled: self.outputs.len() + self.files.unpolled(),
        }
    }
}
