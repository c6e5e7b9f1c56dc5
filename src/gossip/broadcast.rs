//! Messages on their way to everybody: each is sent so many times, piggybacked on whatever packet has room.
//!
//! What was sent least goes first, and of that the longest that fits, then the newest. A broadcast about a name replaces
//! the one before about it. Source: hashicorp/memberlist, `queue.go`.
//!
//! Unlike there the bound is kept when a message is queued: the one that was sent most makes room, and is counted. And
//! what is urgent goes before all else: whoever waits to leave must not wait for a storm of others' news to pass.
//! Invariant: `names` holds exactly the keys of the named broadcasts in `entries`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// Stands for a broadcast whose end somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BroadcastToken(pub u64);

/// Whether a message may wait for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It goes first.
    Urgent,
    /// It waits its turn.
    #[default]
    Normal,
}

/// How a message is queued.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The name it is about: it replaces what is queued about it.
    pub about: Option<Arc<str>>,
    /// Who waits for its end.
    pub token: Option<BroadcastToken>,
    /// Whether it may wait for others.
    pub urgency: Urgency,
}

/// The order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    urgency: Urgency,
    transmits: u32,
    length: Reverse<usize>,
    number: Reverse<u64>,
}

#[derive(Debug)]
struct Entry {
    message: Arc<[u8]>,
    name: Option<Arc<str>>,
    token: Option<BroadcastToken>,
}

/// Room for this many names stays when they are gone.
const NAMES_KEPT: usize = 64;

/// Messages on their way to everybody.
#[derive(Debug, Default)]
pub struct BroadcastQueue {
    entries: BTreeMap<Key, Entry>,
    names: HashMap<Arc<str>, Key>,
    next_number: u64,
    dropped: u64,
    finished: Vec<BroadcastToken>,
}

impl BroadcastQueue {
    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many messages had to make room for others before they were sent often enough.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The broadcasts that have ended since the last call: sent often enough, replaced or dropped.
    pub fn take_finished(&mut self) -> impl Iterator<Item = BroadcastToken> + '_ {
        self.finished.drain(..)
    }

    /// Queues a message. At most `count_max` are kept.
    pub fn push(&mut self, message: Arc<[u8]>, terms: Terms, count_max: usize) {
        let Terms {
            about: name,
            token,
            urgency,
        } = terms;
        if let Some(old) = name.as_ref().and_then(|name| self.names.get(name)) {
            self.remove(*old);
        }
        while self.entries.len() >= count_max.max(1) {
            let Some((&last, _)) = self.entries.last_key_value() else {
                break;
            };
            self.remove(last);
            self.dropped += 1;
        }
        let key = Key {
            urgency,
            transmits: 0,
            length: Reverse(message.len()),
            number: Reverse(self.next_number),
        };
        self.next_number += 1;
        let entry = Entry {
            message,
            name,
            token,
        };
        self.insert(key, entry);
    }

    /// Takes messages for one packet that has `room` bytes, each message taking `overhead` more than its length, and
    /// counts them as sent. Those sent `transmit_limit` times end. Returns how much of the room they take.
    pub fn take(
        &mut self,
        room: usize,
        overhead: usize,
        transmit_limit: u32,
        messages: &mut Vec<Arc<[u8]>>,
    ) -> usize {
        let (chosen, used) = self.choose(room, overhead);
        for key in chosen {
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            messages.push(Arc::clone(&entry.message));
            if key.transmits + 1 >= transmit_limit {
                self.remove(key);
            } else if let Some(entry) = self.entries.remove(&key) {
                let transmits = key.transmits + 1;
                self.insert(Key { transmits, ..key }, entry);
            }
        }
        used
    }

    /// The same messages, without counting them as sent.
    pub fn peek(&self, room: usize, overhead: usize, messages: &mut Vec<Arc<[u8]>>) -> usize {
        let (chosen, used) = self.choose(room, overhead);
        let entries = chosen.iter().filter_map(|key| self.entries.get(key));
        messages.extend(entries.map(|entry| Arc::clone(&entry.message)));
        used
    }

    /// Which messages come next, and how much room they take.
    fn choose(&self, room: usize, overhead: usize) -> (Vec<Key>, usize) {
        let mut left = room;
        let mut chosen: Vec<Key> = Vec::new();
        let mut after = Bound::Unbounded;
        while let Some(free) = left.checked_sub(overhead).filter(|free| *free > 0) {
            let Some((&key, _)) = self.entries.range((after, Bound::Unbounded)).next() else {
                break;
            };
            let length = key.length.0;
            if length <= free {
                left -= overhead + length;
                chosen.push(key);
                after = Bound::Excluded(key);
            } else {
                // Of those that were sent as often, those that fit come after it.
                let length = Reverse(free);
                let number = Reverse(u64::MAX);
                after = Bound::Included(Key {
                    length,
                    number,
                    ..key
                });
            }
        }
        (chosen, room - left)
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if let Some(name) = &entry.name {
            self.names.insert(Arc::clone(name), key);
        }
        self.entries.insert(key, entry);
    }

    /// Lets go of room that a storm of news has left.
    fn give_back(&mut self) {
        let wanted = NAMES_KEPT.max(2 * self.names.len());
        if self.names.capacity() > 4 * wanted {
            self.names.shrink_to(wanted);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            if let Some(name) = entry.name {
                self.names.remove(&name);
                self.give_back();
            }
            self.finished.extend(entry.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn about(name: Option<&str>, token: Option<u64>) -> Terms {
        Terms {
            about: name.map(Into::into),
            token: token.map(BroadcastToken),
            urgency: Urgency::Normal,
        }
    }

    fn taken(queue: &mut BroadcastQueue, room: usize, limit: u32) -> Vec<String> {
        let mut messages = Vec::new();
        queue.take(room, 2, limit, &mut messages);
        messages
            .iter()
            .map(|message| String::from_utf8_lossy(message).into_owned())
            .collect()
    }

    #[test]
    fn what_was_sent_least_goes_first_then_the_longest_then_the_newest() {
        let mut queue = BroadcastQueue::default();
        for text in ["old", "long one", "new"] {
            queue.push(message(text), Terms::default(), 100);
        }
        assert_eq!(taken(&mut queue, 15, 9), ["long one", "new"]);
        assert_eq!(taken(&mut queue, 15, 9), ["old", "long one"]);
        assert_eq!(taken(&mut queue, 5, 9), ["new"]);
        assert_eq!(taken(&mut queue, 4, 9), Vec::<String>::new());
    }

    #[test]
    fn a_message_ends_after_its_transmits_and_is_in_no_packet_twice() {
        let mut queue = BroadcastQueue::default();
        queue.push(message("x"), about(None, Some(7)), 100);
        assert_eq!(taken(&mut queue, 1000, 3), ["x"]);
        assert_eq!(taken(&mut queue, 1000, 3), ["x"]);
        assert_eq!(queue.take_finished().next(), None);
        assert_eq!(taken(&mut queue, 1000, 3), ["x"]);
        assert_eq!(
            queue.take_finished().collect::<Vec<_>>(),
            [BroadcastToken(7)]
        );
        assert!(queue.is_empty() && queue.names.is_empty());
    }

    #[test]
    fn news_of_a_name_replaces_what_was_said_of_it() {
        let mut queue = BroadcastQueue::default();
        queue.push(message("alive"), about(Some("node"), Some(1)), 100);
        taken(&mut queue, 1000, 9);
        queue.push(message("dead"), about(Some("node"), None), 100);
        assert_eq!(
            queue.take_finished().collect::<Vec<_>>(),
            [BroadcastToken(1)]
        );
        assert_eq!(taken(&mut queue, 1000, 9), ["dead"]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_look_counts_for_nothing() {
        let mut queue = BroadcastQueue::default();
        for text in ["a", "b", "long"] {
            queue.push(message(text), Terms::default(), 100);
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.clear();
            assert_eq!(queue.peek(9, 2, &mut seen), 9);
        }
        assert_eq!(seen, [message("long"), message("b")]);
        assert_eq!(taken(&mut queue, 9, 1), ["long", "b"]);
        assert_eq!(taken(&mut queue, 9, 1), ["a"]);
    }

    #[test]
    fn what_is_urgent_goes_first_and_ends_as_soon() {
        let mut queue = BroadcastQueue::default();
        queue.push(message("a long one"), Terms::default(), 100);
        let terms = Terms {
            urgency: Urgency::Urgent,
            ..Terms::default()
        };
        queue.push(message("now"), terms, 100);
        assert_eq!(taken(&mut queue, 12, 2), ["now"]);
        assert_eq!(taken(&mut queue, 1000, 2), ["now", "a long one"]);
        assert_eq!(taken(&mut queue, 1000, 2), ["a long one"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_full_queue_drops_what_was_sent_most() {
        let mut queue = BroadcastQueue::default();
        queue.push(message("sent"), Terms::default(), 2);
        taken(&mut queue, 1000, 9);
        queue.push(message("a"), Terms::default(), 2);
        queue.push(message("b"), Terms::default(), 2);
        assert_eq!(queue.dropped(), 1);
        assert_eq!(taken(&mut queue, 1000, 9), ["b", "a"]);
    }

    proptest! {
        #[test]
        fn packets_are_never_overfull_and_everything_is_sent_often_enough(
            lengths in proptest::collection::vec(1usize..300, 1..60),
            room in 310usize..1400,
            limit in 1u32..6,
        ) {
            let mut queue = BroadcastQueue::default();
            for length in &lengths {
                let urgency = if length % 7 == 0 { Urgency::Urgent } else { Urgency::Normal };
                queue.push(vec![0; *length].into(), Terms { urgency, ..Terms::default() }, 1000);
            }
            let mut sent = 0;
            while !queue.is_empty() {
                let mut messages = Vec::new();
                let used = queue.take(room, 2, limit, &mut messages);
                prop_assert!(used <= room && !messages.is_empty());
                prop_assert_eq!(used, messages.iter().map(|message| message.len() + 2).sum::<usize>());
                sent += messages.len();
            }
            prop_assert_eq!(sent, lengths.len() * limit as usize);
        }
    }
}
