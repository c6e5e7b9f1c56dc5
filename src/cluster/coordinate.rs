//! A node's place in the network's space of round-trip times.

use std::time::Duration;

/// A Vivaldi coordinate with height, as Serf keeps it. Distances are round-trip times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinate {
    /// The Euclidean part, in seconds.
    pub vec: Vec<f64>,
    /// Confidence in the coordinate: from 0 (sure) to 1.5 (knows nothing). Without unit.
    pub error: f64,
    /// An offset in seconds for what the model cannot explain.
    pub adjustment: f64,
    /// The access link's share of the distance, in seconds.
    pub height: f64,
}

impl Default for Coordinate {
    fn default() -> Self {
        Self {
            vec: vec![0.0; Self::DIMENSIONS],
            error: Self::ERROR_MAX,
            adjustment: 0.0,
            height: Self::HEIGHT_MIN,
        }
    }
}

impl Coordinate {
    /// Dimensions of the Euclidean part (Serf's `coordinate/config.go`).
    pub(crate) const DIMENSIONS: usize = 8;
    /// Height of a coordinate that knows nothing yet, in seconds; no height is lower.
    pub(crate) const HEIGHT_MIN: f64 = 10.0e-6;
    /// Error of a coordinate that knows nothing yet; no error is higher.
    pub(crate) const ERROR_MAX: f64 = 1.5;

    /// The estimated round-trip time between two nodes, or `None` where the dimensions differ.
    #[must_use]
    pub fn distance_to(&self, other: &Self) -> Option<Duration> {
        if self.vec.len() != other.vec.len() {
            return None;
        }
        let raw = self.raw_distance_to(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        let seconds = if adjusted > 0.0 { adjusted } else { raw };
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The distance in seconds before adjustments.
    pub(crate) fn raw_distance_to(&self, other: &Self) -> f64 {
        let squares: f64 = self
            .vec
            .iter()
            .zip(&other.vec)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        squares.sqrt() + self.height + other.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_heights_and_positive_adjustments() {
        let here = Coordinate::default();
        let mut there = Coordinate::default();
        there.vec[0] = 0.003;
        there.vec[1] = 0.004;
        assert_eq!(
            here.distance_to(&there),
            Some(Duration::from_nanos(5_020_000))
        );
        there.adjustment = 0.001;
        assert_eq!(
            here.distance_to(&there),
            Some(Duration::from_nanos(6_020_000))
        );
        there.adjustment = -1.0;
        assert_eq!(
            here.distance_to(&there),
            Some(Duration::from_nanos(5_020_000))
        );
        there.vec.pop();
        assert_eq!(here.distance_to(&there), None);
    }
}
