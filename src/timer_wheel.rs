//! A hierarchical timer wheel: many timers, each set, cancelled and fired in constant time.
//!
//! Time is counted in ticks of 1 ms from the wheel's start. Each of the eight levels has 64 slots; a slot of level `n`
//! spans 64^n ticks. A timer waits in the level where its tick first differs from the current one, and moves down
//! as that time comes, at most seven times. Slots are linked lists through one vector, so nothing is allocated for a
//! timer but its place there.
//!
//! Invariants: no timer fires early, or twice; deadlines are rounded up to the next tick; timers fire in the order of
//! their ticks. All timers of a level lie ahead in its current turn, so the first occupied slot of the lowest occupied
//! level is the next to come.

use std::time::{Duration, Instant};

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;
/// The last tick there is, some 8,900 years from the start. Later deadlines are never reached.
const TICK_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// An empty wheel gives memory back when there was room for more timers than this.
const KEPT_ENTRIES_MAX: usize = 1024;
/// No entry.
const NONE: u32 = u32::MAX;

/// Names a timer. One that fired or was cancelled is detected, not mistaken for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    /// Neighbours in the list of the slot, or the next free entry.
    next: u32,
    prev: u32,
    place: Place,
    tick: u64,
    value: Option<T>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// To be fired.
    Due,
    Slot {
        level: u8,
        slot: u8,
    },
}

/// A list of entries by its ends.
#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };
}

#[derive(Debug)]
struct Level {
    /// A bit for each slot that is not empty.
    occupied: u64,
    slots: [List; SLOTS],
}

/// A hierarchical timer wheel.
#[derive(Debug)]
pub struct TimerWheel<T> {
    start: Instant,
    /// Every timer up to and with this tick is due.
    tick: u64,
    due: List,
    levels: Vec<Level>,
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
    generation: u32,
}

impl<T> TimerWheel<T> {
    /// An empty wheel that starts at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            tick: 0,
            due: List::EMPTY,
            levels: Vec::new(),
            entries: Vec::new(),
            free: NONE,
            len: 0,
            generation: 0,
        }
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer.
    pub fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let elapsed = deadline.saturating_duration_since(self.start);
        let tick = u64::try_from(elapsed.as_nanos().div_ceil(1_000_000))
            .map_or(TICK_MAX, |tick| tick.min(TICK_MAX));
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            generation: self.generation,
            next: NONE,
            prev: NONE,
            place: Place::Due,
            tick,
            value: Some(value),
        };
        let index = self.free;
        let index = if let Some(free) = self.entries.get_mut(index as usize) {
            self.free = free.next;
            *free = entry;
            index
        } else {
            self.entries.push(entry);
            // Four thousand million timers don't fit into memory.
            (self.entries.len() - 1) as u32
        };
        self.len += 1;
        self.link(index);
        TimerKey {
            index,
            generation: self.generation,
        }
    }

    /// Cancels a timer; returns what it held, or `None` when it has fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.release(key.index)
    }

    /// The next timer whose deadline is not after `now`. To be called until it returns `None`.
    pub fn pop_expired(&mut self, now: Instant) -> Option<T> {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        self.advance(u64::try_from(elapsed).map_or(TICK_MAX, |tick| tick.min(TICK_MAX)));
        let index = self.due.head;
        if index == NONE {
            return None;
        }
        self.unlink(index);
        self.release(index)
    }

    /// A time not after that of any timer, to look again at: exact within 64 ms, and otherwise at worst the time when
    /// timers move down a level.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.due.head == NONE {
            self.next_slot()?.2
        } else {
            self.tick
        };
        self.start.checked_add(Duration::from_millis(tick))
    }

    /// The first occupied slot: its level, its number, and the tick at which it comes.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let (number, level) = self
            .levels
            .iter()
            .enumerate()
            .find(|(_, level)| level.occupied != 0)?;
        let slot = level.occupied.trailing_zeros();
        let shift = SLOT_BITS * number as u32;
        let turn = self.tick >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        Some((number, slot as usize, turn | u64::from(slot) << shift))
    }

    /// Makes time pass until timers are due or `target` is reached.
    fn advance(&mut self, target: u64) {
        while self.due.head == NONE && self.tick < target {
            match self.next_slot() {
                Some((level, slot, tick)) if tick <= target => {
                    self.tick = tick;
                    self.take_down(level, slot);
                }
                _ => self.tick = target,
            }
        }
    }

    /// Moves the timers of a slot whose time has come to where they belong now.
    fn take_down(&mut self, level: usize, slot: usize) {
        let Some(level) = self.levels.get_mut(level) else {
            return;
        };
        level.occupied &= !(1 << slot);
        let Some(list) = level.slots.get_mut(slot) else {
            return;
        };
        let mut index = std::mem::replace(list, List::EMPTY).head;
        while let Some(entry) = self.entries.get(index as usize) {
            let next = entry.next;
            self.link(index);
            index = next;
        }
    }

    fn list(&mut self, place: Place) -> Option<&mut List> {
        match place {
            Place::Due => Some(&mut self.due),
            Place::Slot { level, slot } => self
                .levels
                .get_mut(usize::from(level))?
                .slots
                .get_mut(usize::from(slot)),
        }
    }

    /// Puts an entry at the end of the list it belongs to.
    fn link(&mut self, index: u32) {
        let now = self.tick;
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        let place = place(entry.tick, now);
        entry.place = place;
        entry.next = NONE;
        if let Place::Slot { level, slot } = place {
            let level = usize::from(level);
            while self.levels.len() <= level {
                self.levels.push(Level {
                    occupied: 0,
                    slots: [List::EMPTY; SLOTS],
                });
            }
            if let Some(level) = self.levels.get_mut(level) {
                level.occupied |= 1 << slot;
            }
        }
        let Some(list) = self.list(place) else { return };
        let before = std::mem::replace(&mut list.tail, index);
        if before == NONE {
            list.head = index;
        }
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.prev = before;
        }
        if let Some(before) = self.entries.get_mut(before as usize) {
            before.next = index;
        }
    }

    /// Takes an entry out of its list.
    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.entries.get(index as usize) else {
            return;
        };
        let (place, prev, next) = (entry.place, entry.prev, entry.next);
        if let Some(prev) = self.entries.get_mut(prev as usize) {
            prev.next = next;
        }
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.prev = prev;
        }
        let Some(list) = self.list(place) else { return };
        if list.head == index {
            list.head = next;
        }
        if list.tail == index {
            list.tail = prev;
        }
        if list.head == NONE
            && let Place::Slot { level, slot } = place
            && let Some(level) = self.levels.get_mut(usize::from(level))
        {
            level.occupied &= !(1 << slot);
        }
    }

    /// Frees an entry that is in no list.
    fn release(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?;
        let value = entry.value.take();
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        if self.len == 0 && self.entries.capacity() > KEPT_ENTRIES_MAX {
            // Keys stay unique: generations go on.
            self.entries = Vec::new();
            self.free = NONE;
        }
        value
    }
}

/// Where a timer of `tick` waits at the tick `now`.
fn place(tick: u64, now: u64) -> Place {
    if tick <= now {
        return Place::Due;
    }
    let highest = 63 - (tick ^ now).leading_zeros();
    let level = highest / SLOT_BITS;
    let slot = tick >> (level * SLOT_BITS) & (SLOTS as u64 - 1);
    // Both fit: ticks are below 2^48.
    Place::Slot {
        level: level as u8,
        slot: slot as u8,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fire(wheel: &mut TimerWheel<u64>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| wheel.pop_expired(now)).collect()
    }

    #[test]
    fn timers_fire_in_order_and_never_early() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for at in [70, 5, 5000, 64, 63, 4096, 0] {
            wheel.insert(start + ms(at), at);
        }
        assert_eq!(fire(&mut wheel, start), [0]);
        assert_eq!(fire(&mut wheel, start + ms(62)), [5]);
        assert_eq!(fire(&mut wheel, start + ms(64)), [63, 64]);
        assert!(fire(&mut wheel, start + ms(10)).is_empty());
        assert_eq!(fire(&mut wheel, start + ms(100_000)), [70, 4096, 5000]);
        assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }

    #[test]
    fn parts_of_a_tick_round_up() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        wheel.insert(start + Duration::from_micros(1001), 1);
        assert!(fire(&mut wheel, start + Duration::from_micros(1999)).is_empty());
        assert_eq!(fire(&mut wheel, start + ms(2)), [1]);
    }

    #[test]
    fn a_stale_key_cancels_nothing() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        let old = wheel.insert(start + ms(1), 1);
        assert_eq!(wheel.cancel(old), Some(1));
        let new = wheel.insert(start + ms(1), 2);
        assert_eq!(wheel.cancel(old), None);
        assert_eq!(wheel.len(), 1);
        assert_eq!(wheel.cancel(new), Some(2));
    }

    #[test]
    fn far_deadlines_are_kept() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        wheel.insert(start + Duration::from_secs(1 << 40), 1);
        wheel.insert(start + Duration::from_secs(86_400 * 365), 2);
        assert_eq!(
            fire(&mut wheel, start + Duration::from_secs(86_400 * 365)),
            [2]
        );
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn a_hundred_thousand_timers_give_their_memory_back() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for at in 0..100_000 {
            wheel.insert(start + ms(at * 7919 % 100_000), at);
        }
        assert_eq!(fire(&mut wheel, start + ms(100_000)).len(), 100_000);
        assert_eq!(wheel.entries.capacity(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Cancel(proptest::sample::Index),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let span = prop_oneof![
            0..100u64,
            0..10_000u64,
            0..10_000_000u64,
            0..100_000_000_000u64
        ];
        prop_oneof![
            4 => span.clone().prop_map(Step::Insert),
            1 => any::<proptest::sample::Index>().prop_map(Step::Cancel),
            2 => span.prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_list(steps in proptest::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let mut now = 0;
            let mut wheel = TimerWheel::new(start);
            let mut model: BTreeMap<(u64, u64), TimerKey> = BTreeMap::new();
            for (number, step) in (0u64..).zip(steps) {
                match step {
                    Step::Insert(after) => {
                        let key = wheel.insert(start + ms(now + after), number);
                        model.insert((now + after, number), key);
                    }
                    Step::Cancel(which) if !model.is_empty() => {
                        let (&(at, id), &key) = model.iter().nth(which.index(model.len())).unwrap();
                        prop_assert_eq!(wheel.cancel(key), Some(id));
                        prop_assert_eq!(wheel.cancel(key), None);
                        model.remove(&(at, id));
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(by) => {
                        now += by;
                        let later = model.split_off(&(now + 1, 0));
                        let due = std::mem::replace(&mut model, later);
                        let fired = fire(&mut wheel, start + ms(now));
                        let mut want: Vec<_> = due.keys().copied().collect();
                        let mut got: Vec<_> =
                            fired.iter().map(|id| *due.keys().find(|(_, want)| want == id).unwrap()).collect();
                        // In the order of ticks; those of one tick in any order.
                        prop_assert!(got.is_sorted_by_key(|(at, _)| *at));
                        got.sort_unstable();
                        want.sort_unstable();
                        prop_assert_eq!(got, want);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next_deadline(), model.keys().next()) {
                    (Some(next), Some((first, _))) => prop_assert!(next <= start + ms(*first)),
                    (next, first) => prop_assert!(next.is_none() && first.is_none()),
                }
            }
        }
    }
}
