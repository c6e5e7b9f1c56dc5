//! Network coordinates: each node places itself so that distances come close to the round-trip times it measures.
//!
//! The model is Vivaldi with a height for the access link, extended as the reference does it (`coordinate/client.go`,
//! `config.go`): a median of the last round-trip times filters spikes, an adjustment term takes up what the model
//! can't explain, and a weak gravity keeps the whole cloud near the origin. The tuning constants must be the
//! reference's, since all nodes of a cluster share one space.
//!
//! Invariant: every coordinate kept here is finite and of the own dimensions; should the arithmetic ever break that,
//! the own coordinate starts over, which is counted.

mod payload;

pub use payload::{PayloadError, decode_payload, encode_payload};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::cluster::Coordinate;

/// How much one observation may change the error estimate.
const ERROR_SHARE: f64 = 0.25;
/// How much one observation may move the coordinate.
const MOVE_SHARE: f64 = 0.25;
/// How many observations the adjustment term averages.
const ADJUSTMENT_WINDOW: usize = 20;
/// How many round-trip times of each peer the median filter keeps.
const LATENCY_WINDOW: usize = 3;
/// Distance from the origin, in seconds, at which gravity pulls by one second.
const GRAVITY_RHO_SECONDS: f64 = 150.0;
/// Below this two places, two times or two errors are the same.
const ZERO_THRESHOLD: f64 = 1.0e-6;
/// Longer round-trip times are not believed.
const RTT_MAX: Duration = Duration::from_secs(10);

/// Why an observation was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The peer lives in another space.
    #[error("the coordinate has {got} dimensions, not {expected}")]
    Dimensions {
        /// Ours.
        expected: usize,
        /// The peer's.
        got: usize,
    },
    /// The peer's coordinate is no place.
    #[error("the coordinate is not finite, or has a negative height or error")]
    Invalid,
    /// The measurement can't be.
    #[error("a round trip of {0:?} is over 10 s")]
    RoundTrip(Duration),
}

#[derive(Debug)]
struct Peer {
    coordinate: Coordinate,
    latencies: LatencyWindow,
}

/// This node's coordinate and what it knows of others'.
#[derive(Debug)]
pub struct CoordinateClient {
    own: Coordinate,
    /// Boxed: as long as there is room to spare in the table it is none for all this.
    peers: HashMap<Arc<str>, Box<Peer>>,
    adjustments: [f64; ADJUSTMENT_WINDOW],
    adjustment_at: usize,
    resets: u64,
    rng: StdRng,
}

impl CoordinateClient {
    /// A node that knows nothing yet.
    pub fn new(rng: StdRng) -> Self {
        Self::with_dimensions(Coordinate::DIMENSIONS, rng)
    }

    fn with_dimensions(dimensions: usize, rng: StdRng) -> Self {
        Self {
            own: origin(dimensions),
            peers: HashMap::new(),
            adjustments: [0.0; ADJUSTMENT_WINDOW],
            adjustment_at: 0,
            resets: 0,
            rng,
        }
    }

    /// This node's coordinate.
    pub const fn own(&self) -> &Coordinate {
        &self.own
    }

    /// The last coordinate that a peer told.
    pub fn peer(&self, name: &str) -> Option<&Coordinate> {
        self.peers.get(name).map(|peer| &peer.coordinate)
    }

    /// How many peers' coordinates are known.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Forgets a peer.
    pub fn forget(&mut self, name: &str) {
        self.peers.remove(name);
    }

    /// How often the own coordinate had to start over.
    pub const fn resets(&self) -> u64 {
        self.resets
    }

    /// Moves this node by what it measured: `rtt` to the peer `name`, who says it is at `there`.
    pub fn observe(
        &mut self,
        name: &Arc<str>,
        there: Coordinate,
        rtt: Duration,
    ) -> Result<(), Rejected> {
        self.check(&there)?;
        if rtt > RTT_MAX {
            return Err(Rejected::RoundTrip(rtt));
        }
        let rtt_seconds = self.remember(name, &there, rtt.as_secs_f64());
        self.pull(&there, rtt_seconds);
        self.adjust(&there, rtt_seconds);
        self.gravitate();
        if !is_valid(&self.own) {
            self.resets += 1;
            self.own = origin(self.own.vec.len());
            self.adjustments = [0.0; ADJUSTMENT_WINDOW];
        }
        Ok(())
    }

    fn check(&self, there: &Coordinate) -> Result<(), Rejected> {
        let (expected, got) = (self.own.vec.len(), there.vec.len());
        if got != expected {
            return Err(Rejected::Dimensions { expected, got });
        }
        if !is_valid(there) {
            return Err(Rejected::Invalid);
        }
        Ok(())
    }

    /// Keeps the peer's coordinate and returns the median of its last round-trip times.
    fn remember(&mut self, name: &Arc<str>, there: &Coordinate, rtt_seconds: f64) -> f64 {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.coordinate.clone_from(there);
            return peer.latencies.push(rtt_seconds);
        }
        let mut peer = Box::new(Peer {
            coordinate: there.clone(),
            latencies: LatencyWindow::default(),
        });
        let median = peer.latencies.push(rtt_seconds);
        self.peers.insert(Arc::clone(name), peer);
        median
    }

    /// The spring of Vivaldi: the surer of the two nodes moves less.
    fn pull(&mut self, there: &Coordinate, rtt_seconds: f64) {
        let distance = distance_seconds(&self.own, there);
        let rtt_seconds = rtt_seconds.max(ZERO_THRESHOLD);
        let wrongness = (distance - rtt_seconds).abs() / rtt_seconds;
        let weight = self.own.error / (self.own.error + there.error).max(ZERO_THRESHOLD);
        let share = ERROR_SHARE * weight;
        self.own.error =
            (share * wrongness + self.own.error * (1.0 - share)).min(Coordinate::ERROR_MAX);
        let force = MOVE_SHARE * weight * (rtt_seconds - distance);
        self.push_from(there, force);
    }

    fn adjust(&mut self, there: &Coordinate, rtt_seconds: f64) {
        let unexplained = rtt_seconds - self.own.raw_distance_to(there);
        if let Some(sample) = self.adjustments.get_mut(self.adjustment_at) {
            *sample = unexplained;
        }
        self.adjustment_at = (self.adjustment_at + 1) % ADJUSTMENT_WINDOW;
        let sum: f64 = self.adjustments.iter().sum();
        self.own.adjustment = sum / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    fn gravitate(&mut self) {
        let centre = origin(self.own.vec.len());
        let ratio = distance_seconds(&centre, &self.own) / GRAVITY_RHO_SECONDS;
        self.push_from(&centre, -ratio * ratio);
    }

    /// Moves this node away from `there` by `force` seconds; towards it when negative.
    fn push_from(&mut self, there: &Coordinate, force: f64) {
        let (direction, distance) = self.direction_from(there);
        for (place, step) in self.own.vec.iter_mut().zip(direction) {
            *place += step * force;
        }
        if distance > ZERO_THRESHOLD {
            let height = self.own.height;
            let moved = (height + there.height) * force / distance + height;
            // `f64::max` would turn a height that is not a number into the minimum and so hide it.
            self.own.height = if moved < Coordinate::HEIGHT_MIN {
                Coordinate::HEIGHT_MIN
            } else {
                moved
            };
        }
    }

    /// The unit vector from `there` to this node, and how far that is; any direction and 0 for nodes in one place.
    fn direction_from(&mut self, there: &Coordinate) -> (Vec<f64>, f64) {
        let pairs = self.own.vec.iter().zip(&there.vec);
        let apart: Vec<f64> = pairs.map(|(here, there)| here - there).collect();
        if let Some((unit, length)) = normalize(apart) {
            return (unit, length);
        }
        let dimensions = self.own.vec.len();
        let any = (0..dimensions)
            .map(|_| self.rng.random_range(-0.5..0.5))
            .collect();
        if let Some((unit, _)) = normalize(any) {
            return (unit, 0.0);
        }
        let mut first = vec![0.0; dimensions];
        if let Some(axis) = first.first_mut() {
            *axis = 1.0;
        }
        (first, 0.0)
    }
}

/// The last round-trip times of a peer in seconds, oldest first.
#[derive(Debug, Default)]
struct LatencyWindow {
    samples: [f64; LATENCY_WINDOW],
    count: usize,
}

impl LatencyWindow {
    /// Adds a sample and returns the median; of two the larger.
    fn push(&mut self, seconds: f64) -> f64 {
        if self.count == LATENCY_WINDOW {
            self.samples.rotate_left(1);
        } else {
            self.count += 1;
        }
        self.samples[self.count - 1] = seconds;
        let mut sorted = self.samples;
        let sorted = &mut sorted[..self.count];
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[self.count / 2]
    }
}

fn origin(dimensions: usize) -> Coordinate {
    Coordinate {
        vec: vec![0.0; dimensions],
        ..Coordinate::default()
    }
}

fn is_valid(coordinate: &Coordinate) -> bool {
    coordinate.vec.iter().all(|place| place.is_finite())
        && coordinate.adjustment.is_finite()
        && [coordinate.error, coordinate.height]
            .iter()
            .all(|part| part.is_finite() && *part >= 0.0)
}

/// As [`Coordinate::distance_to`], for coordinates of the same dimensions, and without its bounds.
fn distance_seconds(here: &Coordinate, there: &Coordinate) -> f64 {
    let raw = here.raw_distance_to(there);
    let adjusted = raw + here.adjustment + there.adjustment;
    if adjusted > 0.0 { adjusted } else { raw }
}

fn normalize(mut vector: Vec<f64>) -> Option<(Vec<f64>, f64)> {
    let length = vector.iter().map(|part| part * part).sum::<f64>().sqrt();
    if length <= ZERO_THRESHOLD {
        return None;
    }
    for part in &mut vector {
        *part /= length;
    }
    Some((vector, length))
}

#[cfg(test)]
mod tests;
