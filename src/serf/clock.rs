//! Lamport clocks: the order of what happens in a cluster without a common clock.
//!
//! The rule is the reference's (`serf/lamport.go`): a clock shows the time that the next message here will carry, and
//! a message from elsewhere sets it past that message's time. There is one difference: times far past [`LTIME_MAX`]
//! are not believed. No honest cluster gets there, and the reference's clock would wrap around. A cluster that somebody
//! has brought there goes on: its clocks believe what is within [`REACH`] of them.

/// Times up to here are believed. At a million messages a second it takes 292,000 years to come here.
pub const LTIME_MAX: u64 = u64::MAX / 2;
/// Past [`LTIME_MAX`], times are believed that are so far ahead at the most.
pub const REACH: u64 = 1 << 32;

/// A Lamport clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LamportClock(u64);

impl Default for LamportClock {
    /// A clock at 1: time 0 stands for "never".
    fn default() -> Self {
        Self(1)
    }
}

impl LamportClock {
    /// The time that the next message here will carry.
    pub const fn time(&self) -> u64 {
        self.0
    }

    /// The time for a message from here; the next one gets another.
    pub const fn tick(&mut self) -> u64 {
        let time = self.0;
        self.0 = self.0.saturating_add(1);
        time
    }

    /// Whether a message's time can be.
    pub const fn believes(&self, ltime: u64) -> bool {
        let latest = if self.0 > LTIME_MAX {
            self.0
        } else {
            LTIME_MAX
        };
        ltime <= latest.saturating_add(REACH) && ltime < u64::MAX
    }

    /// Takes note of a message's time.
    pub const fn witness(&mut self, ltime: u64) {
        if ltime >= self.0 && self.believes(ltime) {
            self.0 = ltime + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_up_from_one() {
        let mut clock = LamportClock::default();
        assert_eq!((clock.tick(), clock.tick(), clock.time()), (1, 2, 3));
    }

    #[test]
    fn a_witnessed_time_is_passed() {
        let mut clock = LamportClock::default();
        clock.witness(41);
        assert_eq!(clock.time(), 42);
        clock.witness(41);
        clock.witness(7);
        assert_eq!(clock.time(), 42);
        clock.witness(42);
        assert_eq!(clock.time(), 43);
    }

    #[test]
    fn absurd_times_are_not_believed() {
        let mut clock = LamportClock::default();
        clock.witness(u64::MAX);
        clock.witness(LTIME_MAX + REACH + 1);
        assert_eq!(clock.time(), 1);
    }

    #[test]
    fn a_clock_that_was_brought_far_goes_on() {
        let mut clock = LamportClock::default();
        clock.witness(LTIME_MAX + REACH);
        let time = LTIME_MAX + REACH + 1;
        assert_eq!(clock.tick(), time);
        assert!(clock.believes(time) && clock.believes(time + 1));
        assert!(!clock.believes(u64::MAX));
        clock.witness(time + 1);
        assert_eq!(clock.time(), time + 2);
    }
}
