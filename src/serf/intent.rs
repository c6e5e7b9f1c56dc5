//! Intents to join or leave that arrived before the member they are about.
//!
//! Intents travel on their own and may overtake the membership news of gossip. The newest of each node is kept for
//! [`INTENT_LIFETIME`], so that a late member gets its status and Lamport time, and so that a repeated intent is not
//! passed on again and again (`recentIntents` in `serf/serf.go`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long an intent about an unknown node is kept.
pub const INTENT_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// What a node means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentKind {
    /// It joins.
    Join,
    /// It leaves.
    Leave,
}

/// The newest intent of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// What it means to do.
    pub kind: IntentKind,
    /// Since when, in the members' Lamport time.
    pub ltime: u64,
    since: Instant,
}

/// The newest intents of nodes that are not members.
#[derive(Debug, Default)]
pub struct Intents(HashMap<String, Intent>);

impl Intents {
    /// Takes note of an intent; says whether it is news, to be passed on. Of a node not yet noted there is no news
    /// once `count_max` others are: to pass on what can't be remembered would make it echo without end.
    pub fn note(
        &mut self,
        now: Instant,
        node: &str,
        kind: IntentKind,
        ltime: u64,
        count_max: usize,
    ) -> bool {
        let news = Intent {
            kind,
            ltime,
            since: now,
        };
        if let Some(known) = self.0.get_mut(node) {
            let newer = ltime > known.ltime;
            if newer {
                *known = news;
            }
            return newer;
        }
        let room = self.0.len() < count_max;
        if room {
            self.0.insert(node.to_owned(), news);
        }
        room
    }

    /// The newest intent of a node.
    pub fn get(&self, node: &str) -> Option<Intent> {
        self.0.get(node).copied()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Forgets intents that are too old.
    pub fn expire(&mut self, now: Instant) {
        let before = self.0.len();
        self.0
            .retain(|_, intent| now.saturating_duration_since(intent.since) <= INTENT_LIFETIME);
        if self.0.len() < before / 2 {
            self.0.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 10;

    #[test]
    fn the_newest_intent_of_a_node_counts() {
        let now = Instant::now();
        let mut intents = Intents::default();
        assert!(intents.note(now, "a", IntentKind::Join, 5, ROOM));
        assert!(!intents.note(now, "a", IntentKind::Leave, 5, ROOM));
        assert!(intents.note(now, "a", IntentKind::Leave, 6, ROOM));
        assert!(!intents.note(now, "a", IntentKind::Join, 4, ROOM));
        let newest = intents.get("a").map(|intent| (intent.kind, intent.ltime));
        assert_eq!(newest, Some((IntentKind::Leave, 6)));
        assert_eq!(intents.get("b"), None);
    }

    #[test]
    fn intents_expire_after_five_minutes_without_news() {
        let start = Instant::now();
        let mut intents = Intents::default();
        intents.note(start, "old", IntentKind::Join, 1, ROOM);
        intents.note(start, "renewed", IntentKind::Join, 1, ROOM);
        let later = start + Duration::from_secs(60);
        intents.note(later, "renewed", IntentKind::Leave, 2, ROOM);
        intents.expire(start + INTENT_LIFETIME);
        assert!(intents.get("old").is_some());
        intents.expire(start + INTENT_LIFETIME + Duration::from_secs(1));
        assert!(intents.get("old").is_none());
        assert!(intents.get("renewed").is_some());
    }

    #[test]
    fn a_full_buffer_takes_news_of_known_nodes_only() {
        let now = Instant::now();
        let mut intents = Intents::default();
        assert!(intents.note(now, "a", IntentKind::Join, 1, 1));
        assert!(!intents.note(now, "b", IntentKind::Join, 1, 1));
        assert!(intents.note(now, "a", IntentKind::Join, 2, 1));
        assert!(intents.get("b").is_none());
    }
}
