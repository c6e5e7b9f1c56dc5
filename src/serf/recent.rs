//! What was heard lately, so that each user event and each query is taken once however often it comes.
//!
//! A [`RecentBuffer`] owns the Lamport clock of its kind of message and a ring of [`SLOTS`] Lamport times, each with
//! the messages that carry it. A message is new when it is not in the ring, not older than the ring reaches back, and
//! not below the minimum set by a snapshot or a join (`handleUserEvent` and `handleQuery` in `serf/serf.go`).
//!
//! Invariant: what has been called new once is never called new again, as long as Lamport times stay believable.

use super::clock::LamportClock;

/// How many Lamport times are remembered: the reference's event and query buffers.
pub const SLOTS: usize = 512;
/// How many different messages may carry one Lamport time. More are dropped: they could not be told from repeats.
pub const ITEMS_PER_SLOT_MAX: usize = 1024;

/// What a [`RecentBuffer`] says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// Never heard before: act on it and pass it on.
    New,
    /// Heard before.
    Repeated,
    /// Too old to know whether it was heard before.
    TooOld,
    /// From before this node's time.
    BelowMinimum,
    /// Its Lamport time can't be, or too many others share it.
    Refused,
}

#[derive(Debug, Clone)]
struct Slot<T> {
    ltime: u64,
    items: Vec<T>,
}

/// Messages of one kind heard lately.
#[derive(Debug)]
pub struct RecentBuffer<T> {
    clock: LamportClock,
    minimum: u64,
    /// Grows to [`SLOTS`] as the clock goes on.
    slots: Vec<Slot<T>>,
}

impl<T> Default for RecentBuffer<T> {
    fn default() -> Self {
        Self {
            clock: LamportClock::default(),
            minimum: 0,
            slots: Vec::new(),
        }
    }
}

impl<T: PartialEq> RecentBuffer<T> {
    /// The clock of this kind of message.
    pub const fn clock(&self) -> &LamportClock {
        &self.clock
    }

    /// The clock, to be ticked or to witness what others say of theirs.
    pub const fn clock_mut(&mut self) -> &mut LamportClock {
        &mut self.clock
    }

    /// Takes no message from before `ltime` from now on.
    pub fn raise_minimum(&mut self, ltime: u64) {
        if self.clock.believes(ltime) {
            self.minimum = self.minimum.max(ltime);
        }
    }

    /// Takes note of a message and says what to do with it.
    pub fn receive(&mut self, ltime: u64, item: T) -> Reception {
        if !self.clock.believes(ltime) {
            return Reception::Refused;
        }
        self.clock.witness(ltime);
        if ltime < self.minimum {
            return Reception::BelowMinimum;
        }
        if ltime < self.clock.time().saturating_sub(SLOTS as u64) {
            return Reception::TooOld;
        }
        let slot = self.slot_of(ltime);
        if slot.items.contains(&item) {
            return Reception::Repeated;
        }
        if slot.items.len() >= ITEMS_PER_SLOT_MAX {
            return Reception::Refused;
        }
        slot.items.push(item);
        Reception::New
    }

    /// The messages still remembered, oldest first, by Lamport time.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[T])> {
        let mut full: Vec<&Slot<T>> = self.slots.iter().filter(|s| !s.items.is_empty()).collect();
        full.sort_unstable_by_key(|slot| slot.ltime);
        full.into_iter()
            .map(|slot| (slot.ltime, slot.items.as_slice()))
    }

    fn slot_of(&mut self, ltime: u64) -> &mut Slot<T> {
        let at = (ltime % SLOTS as u64) as usize;
        while self.slots.len() <= at {
            self.slots.push(Slot {
                ltime: 0,
                items: Vec::new(),
            });
        }
        let slot = &mut self.slots[at];
        if slot.ltime != ltime {
            slot.ltime = ltime;
            slot.items = Vec::new();
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_new_once() {
        let mut buffer = RecentBuffer::default();
        assert_eq!(buffer.receive(1, "deploy"), Reception::New);
        assert_eq!(buffer.receive(1, "deploy"), Reception::Repeated);
        assert_eq!(buffer.receive(1, "backup"), Reception::New);
        assert_eq!(buffer.receive(2, "deploy"), Reception::New);
        assert_eq!(buffer.clock().time(), 3);
    }

    #[test]
    fn the_ring_reaches_back_512_times() {
        let mut buffer = RecentBuffer::default();
        buffer.clock_mut().witness(600);
        // The clock shows 601, so 89 is the oldest time that is taken.
        assert_eq!(buffer.receive(88, "x"), Reception::TooOld);
        assert_eq!(buffer.receive(89, "x"), Reception::New);
        assert_eq!(buffer.receive(89, "x"), Reception::Repeated);
    }

    #[test]
    fn nothing_is_too_old_for_a_young_clock() {
        let mut buffer = RecentBuffer::default();
        buffer.clock_mut().witness(511);
        assert_eq!(buffer.receive(0, "x"), Reception::New);
    }

    #[test]
    fn messages_below_the_minimum_are_not_taken_but_witnessed() {
        let mut buffer = RecentBuffer::default();
        buffer.raise_minimum(10);
        buffer.raise_minimum(5);
        assert_eq!(buffer.receive(9, "x"), Reception::BelowMinimum);
        assert_eq!(buffer.clock().time(), 10);
        assert_eq!(buffer.receive(10, "x"), Reception::New);
    }

    #[test]
    fn impossible_times_change_nothing() {
        let mut buffer = RecentBuffer::default();
        assert_eq!(buffer.receive(u64::MAX, "x"), Reception::Refused);
        buffer.raise_minimum(u64::MAX);
        assert_eq!(buffer.receive(1, "x"), Reception::New);
        assert_eq!(buffer.clock().time(), 2);
    }

    #[test]
    fn one_time_holds_so_many_messages() {
        let mut buffer = RecentBuffer::default();
        for item in 0..ITEMS_PER_SLOT_MAX {
            assert_eq!(buffer.receive(1, item), Reception::New);
        }
        let one_more = buffer.receive(1, ITEMS_PER_SLOT_MAX);
        assert_eq!(one_more, Reception::Refused);
    }

    #[test]
    fn messages_come_out_in_lamport_order() {
        let mut buffer = RecentBuffer::default();
        for ltime in [700, 513, 512, 699, 511] {
            buffer.receive(ltime, ltime);
        }
        let times: Vec<u64> = buffer.iter().map(|(ltime, _)| ltime).collect();
        assert_eq!(times, [511, 512, 513, 699, 700]);
    }

    proptest! {
        #[test]
        fn nothing_is_new_twice(messages in proptest::collection::vec((0u64..1500, 0u8..3), 1..400)) {
            let mut buffer = RecentBuffer::default();
            let mut taken = HashSet::new();
            for (ltime, item) in messages {
                if buffer.receive(ltime, item) == Reception::New {
                    prop_assert!(taken.insert((ltime, item)));
                }
                prop_assert!(buffer.clock().time() > ltime);
            }
        }
    }
}
