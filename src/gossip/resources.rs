//! What gossip holds that comes and goes, so that tests and owners can see that it goes.

use super::core::Gossip;

/// What gossip holds at the moment. At rest there are a few timers and nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GossipResources {
    /// Nodes known, this one included.
    pub nodes: usize,
    /// Timers set.
    pub timers: usize,
    /// Streams open, of either side.
    pub streams: usize,
    /// Pings made for other nodes that have no answer yet.
    pub relays: usize,
    /// Push/pulls being merged.
    pub merges: usize,
    /// Joins going on.
    pub joins: usize,
    /// Messages waiting to be passed on, of all queues.
    pub broadcasts: usize,
    /// Bytes held for streams and merges.
    pub held_bytes: usize,
}

impl Gossip {
    /// What is held at the moment.
    #[must_use]
    pub fn resources(&self) -> GossipResources {
        let queued = self.queues.iter().map(|queue| queue.len());
        GossipResources {
            nodes: self.nodes.len(),
            timers: self.wheel.len(),
            streams: self.streams.len(),
            relays: self.relays.len(),
            merges: self.merges.len(),
            joins: self.joins.len(),
            broadcasts: self.membership_queue.len() + queued.sum::<usize>(),
            held_bytes: self.streams.held,
        }
    }
}
