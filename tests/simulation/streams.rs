//! Streams between nodes: what is written comes in order, perhaps in pieces, late where some of it was lost; they may
//! break.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use serfling::cluster::{Cluster, NetworkEvent, StreamId};

use super::{Delivery, World};
use crate::network::{OPENING_TIMEOUT, SEGMENT_TIMEOUT};

/// One end of a stream.
pub(super) struct End {
    /// The other end, once there is one.
    peer: Option<(usize, StreamId)>,
    /// When the last piece on its way from here arrives: those after it come later.
    arrives: Instant,
    /// Nothing comes through any more.
    broken: bool,
}

fn reset() -> Option<String> {
    Some("connection reset by peer".to_owned())
}

impl World {
    /// Puts an end of a stream where a node is; `arrives` is when the other can get something first.
    fn put_end(
        &mut self,
        end: (usize, StreamId),
        peer: Option<(usize, StreamId)>,
        arrives: Instant,
    ) {
        let broken = false;
        let state = End {
            peer,
            arrives,
            broken,
        };
        self.streams.insert(end, state);
    }

    /// A node wants a stream. From where nobody is, nothing comes back.
    pub(super) fn connect(&mut self, node: usize, stream: StreamId, to: SocketAddr) {
        self.put_end((node, stream), None, self.now);
        let Some(other) = self.reachable(node, to) else {
            return;
        };
        if let Some(late) = self.network.retransmission(&mut self.rng, OPENING_TIMEOUT) {
            let open = Delivery::Open { from: node, stream };
            self.deliver(other, self.network.delay.1 + late, open);
        }
    }

    /// Nobody is there for a stream.
    pub(super) fn refuse(&mut self, opener: usize, stream: StreamId) {
        if let Some(late) = self.network.retransmission(&mut self.rng, OPENING_TIMEOUT) {
            let refused = Some("connection refused".to_owned());
            let delay = self.network.delay.1 + late;
            self.deliver(opener, delay, Delivery::Ended(stream, refused));
        }
    }

    /// A node gets a stream, if who wants it still waits for it and hears of it.
    pub(super) fn accept(&mut self, node: usize, opener: usize, stream: StreamId) {
        let waits = self.streams.get(&(opener, stream));
        if waits.is_none_or(|end| end.peer.is_some()) || !self.network.passes(node, opener) {
            return;
        }
        let late = self.network.retransmission(&mut self.rng, OPENING_TIMEOUT);
        let Some(late) = late else { return };
        let here = StreamId::accepted(self.accepted);
        self.accepted += 1;
        let opened = self.now + self.network.delay.1 + late;
        self.put_end((node, here), Some((opener, stream)), opened);
        self.put_end((opener, stream), Some((node, here)), self.now);
        let (now, from) = (self.now, self.address(opener));
        let accepted = NetworkEvent::Accepted { stream: here, from };
        self.node(node)
            .hub
            .with_cluster(now, |serf| serf.handle_network(now, accepted));
        self.deliver_at(opener, opened, Delivery::Opened(stream));
    }

    /// Sends bytes on a stream.
    pub(super) fn write(&mut self, node: usize, stream: StreamId, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for piece in bytes.chunks(self.network.piece_bytes()) {
            let (shortest, longest) = self.network.delay;
            let delay = self.rng.random_range(shortest..=longest);
            let cut = self.network.cuts > 0.0 && self.rng.random::<f64>() < self.network.cuts;
            let Some(end) = self.streams.get_mut(&(node, stream)) else {
                return;
            };
            let Some((other, there)) = end.peer else {
                return;
            };
            let late = self.network.retransmission(&mut self.rng, SEGMENT_TIMEOUT);
            end.broken |= late.is_none() || !self.network.passes(node, other);
            if end.broken {
                return;
            }
            end.arrives = end.arrives.max(self.now + delay + late.unwrap_or_default());
            let arrives = end.arrives;
            if cut {
                self.end_stream(node, stream, reset());
                self.deliver(node, longest, Delivery::Ended(stream, reset()));
                return;
            }
            self.deliver_at(other, arrives, Delivery::Bytes(there, piece.to_vec()));
        }
    }

    /// Lets go of one end of a stream; the other hears of it after all that was written. That it ended is sent again
    /// until it comes; that it broke is not.
    pub(super) fn end_stream(&mut self, node: usize, stream: StreamId, error: Option<String>) {
        let Some(end) = self.streams.remove(&(node, stream)) else {
            return;
        };
        let Some((other, there)) = end.peer else {
            return;
        };
        if end.broken || !self.network.passes(node, other) {
            return;
        }
        let late = match error {
            Some(_) if self.network.loses(&mut self.rng) => None,
            Some(_) => Some(Duration::ZERO),
            None => self.network.retransmission(&mut self.rng, SEGMENT_TIMEOUT),
        };
        if let Some(late) = late {
            let at = end.arrives.max(self.now + self.network.delay.1 + late);
            self.deliver_at(other, at, Delivery::Ended(there, error));
        }
    }

    /// Lets go of all streams of a node that has died.
    pub(super) fn end_streams(&mut self, node: usize) {
        let mut ends: Vec<_> = self.streams.keys().copied().collect();
        ends.retain(|(owner, _)| *owner == node);
        // In the same order each time.
        ends.sort_by_key(|(_, stream)| format!("{stream:?}"));
        for (_, stream) in ends {
            self.end_stream(node, stream, reset());
        }
    }
}
