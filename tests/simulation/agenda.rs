//! What is going to happen, in the order of time; what is planned for the same moment happens as it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

struct Entry<T> {
    at: Instant,
    number: u64,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// The heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What is going to happen.
pub(crate) struct Agenda<T> {
    entries: BinaryHeap<Entry<T>>,
    number: u64,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BinaryHeap::new(),
            number: 0,
        }
    }

    pub(crate) fn plan(&mut self, at: Instant, item: T) {
        let number = self.number;
        self.number += 1;
        self.entries.push(Entry { at, number, item });
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|entry| entry.at)
    }

    /// The next thing, if it happens by then.
    pub(crate) fn pop(&mut self, by: Instant) -> Option<T> {
        self.next().filter(|at| *at <= by)?;
        self.entries.pop().map(|entry| entry.item)
    }
}
