//! Members of a cluster and their tags, as every layer above gossip sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What the cluster believes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberStatus {
    /// Known by name only: an intent arrived before the member did.
    None,
    /// Answers probes.
    Alive,
    /// Has said that it is going, and is still there.
    Leaving,
    /// Went gracefully, or was forced to leave.
    Left,
    /// Stopped answering probes.
    Failed,
}

impl MemberStatus {
    /// The word that RPC clients and scripts see (`serf/serf.go`, `MemberStatus.String`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tags of a member: key/value pairs in the order of their keys.
///
/// Kept as one text and where its parts end, not as a tree of texts: a cluster of thousands has one of these for each
/// member, and most hold a tag or a few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// Keys and values, one after the other.
    text: Box<str>,
    /// Where each key and each value ends, in turn.
    ends: Box<[u32]>,
}

impl Tags {
    /// No tags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of the tag `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut tags = self.iter();
        tags.find(|(have, _)| *have == key).map(|(_, value)| value)
    }

    /// Sets a tag, replacing the value it had. Setting many at once is [`collect`](Iterator::collect)'s.
    pub fn insert(&mut self, key: &str, value: &str) {
        let mut tags: BTreeMap<&str, &str> = self.iter().collect();
        tags.insert(key, value);
        *self = Self::pack(&tags);
    }

    /// Removes a tag; says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let mut tags: BTreeMap<&str, &str> = self.iter().collect();
        let found = tags.remove(key).is_some();
        if found {
            *self = Self::pack(&tags);
        }
        found
    }

    /// The tags in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.chunks_exact(2).map(move |ends| {
            let mut part = |end: Option<&u32>| {
                let end = end.map_or(start, |end| *end as usize);
                self.text
                    .get(std::mem::replace(&mut start, end)..end)
                    .unwrap_or_default()
            };
            (part(ends.first()), part(ends.last()))
        })
    }

    /// How many tags there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is no tag.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn pack<K: AsRef<str>, V: AsRef<str>>(tags: &BTreeMap<K, V>) -> Self {
        let parts = || {
            tags.iter()
                .flat_map(|(key, value)| [key.as_ref(), value.as_ref()])
        };
        let mut text = String::with_capacity(parts().map(str::len).sum());
        let ends = parts().map(|part| {
            text.push_str(part);
            // Nobody has tags of 4 GiB.
            text.len() as u32
        });
        let ends = ends.collect();
        Self {
            text: text.into(),
            ends,
        }
    }
}

impl<K: AsRef<str> + Ord, V: AsRef<str>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self::pack(&pairs.into_iter().collect::<BTreeMap<K, V>>())
    }
}

/// The protocol versions a member speaks: the lowest, the highest, the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// Lowest version understood.
    pub min: u8,
    /// Highest version understood.
    pub max: u8,
    /// Version spoken now.
    pub cur: u8,
}

impl VersionRange {
    /// memberlist's versions as a Serf node of today announces them.
    pub const MEMBERLIST: Self = Self {
        min: 1,
        max: 5,
        cur: 2,
    };
    /// Serf's own versions (memberlist calls them the delegate's) as a Serf node of today announces them.
    pub const SERF: Self = Self {
        min: 2,
        max: 5,
        cur: 5,
    };
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The member's name, unique in the cluster.
    pub name: Arc<str>,
    /// Address of its gossip port.
    pub addr: IpAddr,
    /// Its gossip port.
    pub port: u16,
    /// Its tags.
    pub tags: Tags,
    /// What the cluster believes of it.
    pub status: MemberStatus,
    /// memberlist protocol versions.
    pub protocol: VersionRange,
    /// Serf protocol versions.
    pub delegate: VersionRange,
}

impl Member {
    /// A member that is alive, without tags, speaking today's protocol versions.
    #[must_use]
    pub fn alive(name: impl Into<Arc<str>>, addr: IpAddr, port: u16) -> Self {
        Self {
            name: name.into(),
            addr,
            port,
            tags: Tags::new(),
            status: MemberStatus::Alive,
            protocol: VersionRange::MEMBERLIST,
            delegate: VersionRange::SERF,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stay_sorted_and_unique() {
        let mut tags: Tags = [("role", "web"), ("dc", "east"), ("role", "db")]
            .into_iter()
            .collect();
        assert_eq!(
            tags.iter().collect::<Vec<_>>(),
            [("dc", "east"), ("role", "db")]
        );
        assert!(tags.remove("dc"));
        assert!(!tags.remove("dc"));
        assert_eq!(tags.get("role"), Some("db"));
        assert_eq!(tags.get("dc"), None);
    }
}
