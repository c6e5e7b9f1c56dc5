//! The made-up network: who reaches whom, after how long, and what becomes of packets and streams on the way.
//!
//! A packet that is lost is lost. What is lost of a stream is sent again, as TCP does it: see
//! [`Network::retransmission`].

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashSet;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// The first byte of a packet with a checksum, which tells when it changed on its way.
const HAS_CHECKSUM: u8 = 12;

/// When an opening of a stream that was lost is sent again first (RFC 6298, and Linux).
pub(crate) const OPENING_TIMEOUT: Duration = Duration::from_secs(1);
/// When a segment of a stream that was lost is sent again first: Linux's shortest, as trips are short here.
pub(crate) const SEGMENT_TIMEOUT: Duration = Duration::from_millis(200);
/// How often anything of a stream is sent before its sender gives up. Nodes give streams up much earlier.
const TRANSMISSIONS_MAX: u32 = 8;
/// What a segment carries, in bytes: what an Ethernet frame has room for.
const SEGMENT_BYTES_MAX: usize = 1448;

/// How the network treats what is sent. Shares are from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Packets take between these, at random; so a long span reorders them.
    pub(crate) delay: (Duration, Duration),
    /// Share of packets, and of segments of streams, that are lost.
    pub(crate) loss: f64,
    /// Share of packets that come twice.
    pub(crate) duplication: f64,
    /// Share of packets that are changed, where the receiver can tell.
    pub(crate) corruption: f64,
    /// Share of pieces of streams at which the stream breaks.
    pub(crate) cuts: f64,
    /// The largest piece of a stream that comes at once, in bytes.
    pub(crate) piece_bytes: usize,
    /// The islands that a node is on, as bits; nodes with one in common reach each other. All are on the first if
    /// there is nothing here.
    islands: Vec<u8>,
    /// From whom nothing comes to whom.
    deaf: HashSet<(usize, usize)>,
    /// Whether packets are encrypted, so that every change is noticed.
    pub(crate) encrypted: bool,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            delay: (Duration::from_micros(200), Duration::from_millis(3)),
            loss: 0.0,
            duplication: 0.0,
            corruption: 0.0,
            cuts: 0.0,
            piece_bytes: usize::MAX,
            islands: Vec::new(),
            deaf: HashSet::new(),
            encrypted: false,
        }
    }

    /// Puts a node on islands, given as bits.
    pub(crate) fn put(&mut self, node: usize, islands: u8) {
        if self.islands.len() <= node {
            self.islands.resize(node + 1, 1);
        }
        self.islands[node] = islands;
    }

    /// Nothing comes from one node to the other; the other way is as before.
    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.deaf.insert((from, to));
    }

    /// Everybody reaches everybody again.
    pub(crate) fn heal(&mut self) {
        self.islands.clear();
        self.deaf.clear();
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        let islands = |node: usize| self.islands.get(node).copied().unwrap_or(1);
        islands(from) & islands(to) != 0 && !self.deaf.contains(&(from, to))
    }

    /// After how long a packet comes, each time that it comes.
    pub(crate) fn arrivals(&self, rng: &mut StdRng) -> impl Iterator<Item = Duration> + use<> {
        let times = match () {
            () if rng.random::<f64>() < self.loss => 0,
            () if rng.random::<f64>() < self.duplication => 2,
            () => 1,
        };
        let (shortest, longest) = self.delay;
        let delays: Vec<_> = (0..times)
            .map(|_| rng.random_range(shortest..=longest))
            .collect();
        delays.into_iter()
    }

    /// How much later something of a stream comes for being lost on its way, perhaps more than once: it is sent again
    /// after `timeout`, then after twice that, and so on. Nothing if its sender gives up.
    ///
    /// That an acknowledgement is lost delays nothing: it costs a segment that the receiver has. Each segment waits by
    /// itself, as if the window were always open, and always for its timeout, though TCP often notices a hole earlier when
    /// more follows; most streams here have a segment or two, after which nothing follows.
    pub(crate) fn retransmission(&self, rng: &mut StdRng, timeout: Duration) -> Option<Duration> {
        let mut late = Duration::ZERO;
        for times in 0..TRANSMISSIONS_MAX {
            if !self.loses(rng) {
                return Some(late);
            }
            late += timeout * 2_u32.pow(times);
        }
        None
    }

    /// Whether something is lost that is not sent again.
    pub(crate) fn loses(&self, rng: &mut StdRng) -> bool {
        self.loss > 0.0 && rng.random::<f64>() < self.loss
    }

    /// How much of a stream comes, or is lost, as one.
    pub(crate) fn piece_bytes(&self) -> usize {
        let segment = if self.loss > 0.0 {
            SEGMENT_BYTES_MAX
        } else {
            usize::MAX
        };
        self.piece_bytes.clamp(1, segment)
    }

    /// May change a packet, if the receiver can tell.
    pub(crate) fn touch(&self, rng: &mut StdRng, packet: &mut Vec<u8>) {
        let can_tell = self.encrypted || packet.first() == Some(&HAS_CHECKSUM);
        if !can_tell || rng.random::<f64>() >= self.corruption {
            return;
        }
        if rng.random::<bool>() {
            packet.truncate(rng.random_range(0..packet.len()));
            // Without the checksum's mark what is left would be another packet.
            packet.truncate(if self.encrypted { packet.len() } else { 3 });
        } else if packet.len() > 5 {
            let at = rng.random_range(5..packet.len());
            packet[at] ^= 1 << rng.random_range(0..8);
        }
    }
}
