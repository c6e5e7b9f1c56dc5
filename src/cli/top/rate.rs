//! How often something happens, over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a rate is the mean of, in seconds.
const WINDOW_SECONDS: u64 = 10;

/// Counts by second, of the last ten.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    start: Instant,
    counts: VecDeque<(u64, u64)>,
}

impl Rate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            start: now,
            counts: VecDeque::new(),
        }
    }

    /// It has happened.
    pub(super) fn count(&mut self, now: Instant) {
        let second = self.second(now);
        match self.counts.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.counts.push_back((second, 1)),
        }
        while self
            .counts
            .front()
            .is_some_and(|(first, _)| first + WINDOW_SECONDS <= second)
        {
            self.counts.pop_front();
        }
    }

    /// How often a second. In the first seconds there is less to take the mean of.
    pub(super) fn per_second(&self, now: Instant) -> f64 {
        let second = self.second(now);
        let recent = self
            .counts
            .iter()
            .filter(|(then, _)| then + WINDOW_SECONDS > second);
        let count: u64 = recent.map(|(_, count)| count).sum();
        let elapsed = now.saturating_duration_since(self.start);
        let window = elapsed.clamp(Duration::from_secs(1), Duration::from_secs(WINDOW_SECONDS));
        count as f64 / window.as_secs_f64()
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_seconds() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rate = Rate::new(start);
        assert_eq!(rate.per_second(start), 0.0);
        for _ in 0..4 {
            rate.count(at(100));
        }
        assert_eq!(rate.per_second(at(500)), 4.0, "at least a second's");
        assert_eq!(rate.per_second(at(4_000)), 1.0);
        for _ in 0..16 {
            rate.count(at(9_500));
        }
        assert_eq!(rate.per_second(at(9_999)), 20.0 / 9.999);
        assert_eq!(rate.per_second(at(12_000)), 1.6, "the first are long ago");
        assert_eq!(rate.per_second(at(60_000)), 0.0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        for second in 0..1000 {
            rate.count(start + Duration::from_secs(second));
        }
        assert_eq!(rate.counts.len(), 10);
    }
}
