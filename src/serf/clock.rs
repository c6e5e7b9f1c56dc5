//! Lamport clocks: the order of what happens in a cluster without a common clock.
//!
//! The rule is the reference's (`serf/lamport.go`): a clock shows the time that the next message here will carry, and
//! a message from elsewhere sets it past that message's time. There is one difference: times past [`LTIME_MAX`]
//! are not believed. No honest cluster gets there, and the reference's clock would wrap around.

/// The latest time that is believed of a message. At a million messages a second it takes 292,000 years to come here.
pub const LTIME_MAX: u64 = u64::MAX / 2;

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
        self.0 += 1;
        time
    }

    /// Takes note of a message's time.
    pub const fn witness(&mut self, ltime: u64) {
        if ltime >= self.0 && ltime <= LTIME_MAX {
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
        clock.witness(LTIME_MAX + 1);
        assert_eq!(clock.time(), 1);
        clock.witness(LTIME_MAX);
        assert_eq!(clock.tick(), LTIME_MAX + 1);
        clock.witness(u64::MAX);
        assert_eq!(clock.time(), LTIME_MAX + 2);
    }
}
