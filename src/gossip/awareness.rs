//! Local health awareness: a node that has trouble of its own is slower to blame others (Lifeguard).
//!
//! The score is 0 for a healthy node. Failed probes whose helpers stayed silent, accusations that had to be refuted and
//! a late event loop raise it; answered probes lower it. Source: hashicorp/memberlist, `awareness.go`.

use std::time::Duration;

/// How healthy this node takes itself to be.
#[derive(Debug, Clone)]
pub struct Awareness {
    score: u32,
    /// The score stays below this.
    limit: u32,
}

impl Awareness {
    /// A healthy node, whose score stays below `limit`.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { score: 0, limit }
    }

    /// 0 for a healthy node.
    #[must_use]
    pub const fn score(&self) -> u32 {
        self.score
    }

    /// Something went wrong that is likely this node's own fault; `by` says how badly.
    pub fn worsen(&mut self, by: u32) {
        let highest = self.limit.saturating_sub(1);
        self.score = self.score.saturating_add(by).min(highest);
    }

    /// Something went well.
    pub const fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// A time, stretched by ill health.
    #[must_use]
    pub fn scale(&self, time: Duration) -> Duration {
        time * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_within_its_bounds_and_stretches_times() {
        let mut awareness = Awareness::new(8);
        awareness.improve();
        assert_eq!(awareness.score(), 0);
        awareness.worsen(3);
        assert_eq!(
            awareness.scale(Duration::from_secs(1)),
            Duration::from_secs(4)
        );
        awareness.worsen(u32::MAX);
        assert_eq!(awareness.score(), 7);
        awareness.improve();
        assert_eq!(awareness.score(), 6);
    }
}
