//! Members of a cluster, as every layer sees them.
//!
//! What a node is and says of itself is a [`NodeInfo`], made once and shared: by gossip, by the membership above it, by
//! events on their way. What is believed of it is the [`Member`]'s own.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use super::tags::Tags;

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

/// Who a node is and what it says of itself. A change makes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node's name, unique in the cluster.
    pub name: Arc<str>,
    /// Address of its gossip port.
    pub addr: IpAddr,
    /// Its gossip port.
    pub port: u16,
    /// Its tags.
    pub tags: Tags,
    /// memberlist protocol versions.
    pub protocol: VersionRange,
    /// Serf protocol versions.
    pub delegate: VersionRange,
    /// What the tags were read from.
    meta: Arc<[u8]>,
}

impl NodeInfo {
    /// A node of which this was heard. If `meta` is no tags, it has none.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        addr: SocketAddr,
        meta: &[u8],
        protocol: VersionRange,
        delegate: VersionRange,
    ) -> Self {
        let meta: Arc<[u8]> = meta.into();
        let tags = Tags::from_meta(&meta).unwrap_or_else(|error| {
            log::error!("serf: Failed to decode tags of {name}: {error}");
            Tags::new()
        });
        let (addr, port) = (addr.ip(), addr.port());
        Self {
            name,
            addr,
            port,
            tags,
            protocol,
            delegate,
            meta,
        }
    }

    /// Its gossip port and where it is.
    #[must_use]
    pub const fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.addr, self.port)
    }

    /// What it says of itself, as it came.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }
}

/// One member of the cluster: a node, and what is believed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    node: Arc<NodeInfo>,
    /// What the cluster believes of it.
    pub status: MemberStatus,
}

impl Member {
    /// A node of which this is believed.
    #[must_use]
    pub const fn new(node: Arc<NodeInfo>, status: MemberStatus) -> Self {
        Self { node, status }
    }

    /// A member that is alive, without tags, speaking today's protocol versions.
    #[must_use]
    pub fn alive(name: impl Into<Arc<str>>, addr: IpAddr, port: u16) -> Self {
        let tags = Tags::new();
        let node = NodeInfo {
            name: name.into(),
            addr,
            port,
            meta: tags.to_meta(),
            tags,
            protocol: VersionRange::MEMBERLIST,
            delegate: VersionRange::SERF,
        };
        Self::new(Arc::new(node), MemberStatus::Alive)
    }

    /// The same, of which something else is believed.
    #[must_use]
    pub fn with_status(self, status: MemberStatus) -> Self {
        Self { status, ..self }
    }

    /// The same with other tags.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        let node = Arc::make_mut(&mut self.node);
        node.meta = tags.to_meta();
        node.tags = tags;
        self
    }

    /// The same with other protocol versions: memberlist's, and Serf's.
    #[must_use]
    pub fn with_versions(mut self, protocol: VersionRange, delegate: VersionRange) -> Self {
        let node = Arc::make_mut(&mut self.node);
        (node.protocol, node.delegate) = (protocol, delegate);
        self
    }
}

impl Deref for Member {
    type Target = NodeInfo;

    fn deref(&self) -> &NodeInfo {
        &self.node
    }
}
