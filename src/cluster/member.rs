//! Members of a cluster and their tags, as every layer above gossip sees them.

use std::fmt;
use std::net::IpAddr;

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
/// A sorted slice, not a tree: most members have no tag or a few, and a cluster of thousands keeps one of these for
/// each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(Vec<(Box<str>, Box<str>)>);

impl Tags {
    /// No tags.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of the tag `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.position(key).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// Sets a tag, replacing the value it had.
    pub fn insert(&mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) {
        let (key, value) = (key.into(), value.into());
        match self.position(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Removes a tag; says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let found = self.position(key);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }

    /// The tags in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many tags there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| (**have).cmp(key))
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut tags = Self::new();
        for (key, value) in pairs {
            tags.insert(key, value);
        }
        tags
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
    pub name: String,
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
    pub fn alive(name: impl Into<String>, addr: IpAddr, port: u16) -> Self {
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
