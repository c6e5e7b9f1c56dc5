//! How long a node is suspected before it is taken for dead.
//!
//! At first long, so that a node which is merely slow can refute it. Each independent confirmation shortens what is
//! left, along a logarithm, down to the shortest time. Source: hashicorp/memberlist, `suspicion.go` (Lifeguard).

use std::time::{Duration, Instant};

/// A suspicion that is going on.
#[derive(Debug)]
pub struct Suspicion {
    since: Instant,
    min: Duration,
    max: Duration,
    /// How many confirmations bring `max` down to `min`.
    expected: u32,
    /// Who suspects, the first one included. Never more than `expected` and one.
    from: Vec<Box<str>>,
}

impl Suspicion {
    /// `from` begins to suspect a node.
    #[must_use]
    pub fn new(now: Instant, from: &str, expected: u32, min: Duration, max: Duration) -> Self {
        Self {
            since: now,
            min,
            max,
            expected,
            from: vec![from.into()],
        }
    }

    /// How many others have confirmed it.
    #[must_use]
    pub fn confirmations(&self) -> u32 {
        self.from.len().saturating_sub(1) as u32
    }

    /// `from` suspects it too. Says whether that is news that counts, to be passed on.
    pub fn confirm(&mut self, from: &str) -> bool {
        let news =
            self.confirmations() < self.expected && !self.from.iter().any(|known| **known == *from);
        if news {
            self.from.push(from.into());
        }
        news
    }

    /// When the node is taken for dead.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.since + self.timeout()
    }

    fn timeout(&self) -> Duration {
        if self.expected == 0 {
            return self.min;
        }
        let share = f64::from(self.confirmations() + 1).ln() / f64::from(self.expected + 1).ln();
        let span = self.max.saturating_sub(self.min).as_secs_f64();
        let seconds = self.max.as_secs_f64() - share * span;
        // In whole milliseconds, as memberlist rounds it.
        Duration::from_millis((seconds * 1000.0) as u64).max(self.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(2);
    const MAX: Duration = Duration::from_secs(30);

    fn left(suspicion: &Suspicion) -> u128 {
        (suspicion.deadline() - suspicion.since).as_millis()
    }

    /// The cases of memberlist's own `TestSuspicion_Timer`.
    #[test]
    fn confirmations_shorten_it_along_a_logarithm() {
        let mut suspicion = Suspicion::new(Instant::now(), "me", 3, MIN, MAX);
        assert_eq!(left(&suspicion), 30_000);
        for (from, news, millis) in [
            ("me", false, 30_000),
            ("a", true, 16_000),
            ("a", false, 16_000),
            ("b", true, 7_810),
            ("c", true, 2_000),
            ("d", false, 2_000),
        ] {
            assert_eq!(suspicion.confirm(from), news, "{from}");
            assert_eq!(left(&suspicion), millis, "{from}");
        }
        assert_eq!(suspicion.confirmations(), 3);
    }

    #[test]
    fn where_nobody_can_confirm_it_is_short_at_once() {
        let mut suspicion = Suspicion::new(Instant::now(), "me", 0, MIN, MAX);
        assert_eq!(left(&suspicion), 2_000);
        assert!(!suspicion.confirm("a"));
    }
}
