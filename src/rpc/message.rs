//! Requests, responses and records of the RPC protocol, for both ends of the wire.
//!
//! Fields stand in the order they have on the wire, which is alphabetical. Decoding borrows from the frame, takes keys
//! in any order, skips unknown ones and reads nil as zero; see [`Text`] and [`Bytes`] for what else it takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::cluster::{self, MemberStatus, VersionRange};
use crate::msgpack::value::or_zero;
pub use crate::msgpack::value::{Bytes, OptionalBytes, Pairs, Text, Texts};

/// The only version of the protocol.
pub const PROTOCOL_VERSION: i32 = 1;

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $request:ident, $response:ident;)*) => {
        /// The commands of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Command { $($(#[$doc])* $variant,)* }

        impl Command {
            /// Every command.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The command's name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The command of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// Whether a request has a body after its header.
            #[must_use]
            pub const fn request_has_body(self) -> bool {
                match self { $(Self::$variant => Body::$request.present(),)* }
            }

            /// Whether a response has a body after its header.
            #[must_use]
            pub const fn response_has_body(self) -> bool {
                match self { $(Self::$variant => Body::$response.present(),)* }
            }
        }
    };
}

enum Body {
    Body,
    Empty,
}

impl Body {
    const fn present(self) -> bool {
        matches!(self, Self::Body)
    }
}

commands! {
    /// Agree on the version; comes first.
    Handshake = "handshake", Body, Empty;
    /// Show the auth key.
    Auth = "auth", Body, Empty;
    /// Send a user event.
    Event = "event", Body, Empty;
    /// Make a failed node one that left.
    ForceLeave = "force-leave", Body, Empty;
    /// Join other nodes.
    Join = "join", Body, Body;
    /// List the members.
    Members = "members", Empty, Body;
    /// List the members that match.
    MembersFiltered = "members-filtered", Body, Body;
    /// Subscribe to events.
    Stream = "stream", Body, Empty;
    /// End a stream or monitor.
    Stop = "stop", Body, Empty;
    /// Subscribe to the log.
    Monitor = "monitor", Body, Empty;
    /// Leave the cluster and exit.
    Leave = "leave", Empty, Empty;
    /// Install an encryption key on every node.
    InstallKey = "install-key", Body, Body;
    /// Make a key the primary one on every node.
    UseKey = "use-key", Body, Body;
    /// Remove a key from every node.
    RemoveKey = "remove-key", Body, Body;
    /// List the keys of every node.
    ListKeys = "list-keys", Empty, Body;
    /// Change this node's tags.
    Tags = "tags", Body, Empty;
    /// Ask the cluster.
    Query = "query", Body, Empty;
    /// Answer a query.
    Respond = "respond", Body, Empty;
    /// Counters of the agent.
    Stats = "stats", Empty, Body;
    /// The network coordinate of a node.
    GetCoordinate = "get-coordinate", Body, Body;
}

/// Comes before every request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RequestHeader<'a> {
    /// Name of the command.
    #[serde(borrow)]
    pub command: Text<'a>,
    /// A number of the client's choice, repeated in the response and in every record that follows from the request.
    #[serde(deserialize_with = "or_zero")]
    pub seq: u64,
}

/// Comes before every response and every record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ResponseHeader<'a> {
    /// What went wrong; empty when nothing did.
    #[serde(borrow)]
    pub error: Text<'a>,
    /// The number of the request that is answered.
    #[serde(deserialize_with = "or_zero")]
    pub seq: u64,
}

/// Body of [`Command::Handshake`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HandshakeRequest {
    /// [`PROTOCOL_VERSION`].
    #[serde(deserialize_with = "or_zero")]
    pub version: i32,
}

/// Body of [`Command::Auth`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthRequest<'a> {
    /// The key.
    #[serde(borrow)]
    pub auth_key: Bytes<'a>,
}

/// Body of [`Command::Event`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EventRequest<'a> {
    /// Whether newer events of this name may replace it.
    #[serde(deserialize_with = "or_zero")]
    pub coalesce: bool,
    /// The event's name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// What it carries.
    pub payload: Bytes<'a>,
}

/// Body of [`Command::ForceLeave`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ForceLeaveRequest<'a> {
    /// Name of the node.
    #[serde(borrow)]
    pub node: Text<'a>,
    /// Whether to forget it altogether.
    #[serde(deserialize_with = "or_zero")]
    pub prune: bool,
}

/// Body of [`Command::Join`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JoinRequest<'a> {
    /// Addresses of members.
    #[serde(borrow)]
    pub existing: Texts<'a>,
    /// Whether to hear of user events from before.
    #[serde(deserialize_with = "or_zero")]
    pub replay: bool,
}

/// Body of the response to [`Command::Join`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JoinResponse {
    /// How many addresses answered.
    #[serde(deserialize_with = "or_zero")]
    pub num: i32,
}

/// Body of [`Command::MembersFiltered`]. An empty expression matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MembersFilteredRequest<'a> {
    /// Regular expression for the name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Regular expression for the status.
    pub status: Text<'a>,
    /// Regular expressions for tags.
    pub tags: Pairs<'a>,
}

/// Body of the response to [`Command::Members`] and [`Command::MembersFiltered`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MembersResponse<'a> {
    /// The members.
    #[serde(borrow, deserialize_with = "or_zero")]
    pub members: Vec<Member<'a>>,
}

/// A member, as responses and records show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Member<'a> {
    /// 4 or 16 bytes.
    #[serde(borrow)]
    pub addr: Address<'a>,
    /// Serf protocol in use.
    #[serde(deserialize_with = "or_zero")]
    pub delegate_cur: u8,
    /// Highest Serf protocol.
    #[serde(deserialize_with = "or_zero")]
    pub delegate_max: u8,
    /// Lowest Serf protocol.
    #[serde(deserialize_with = "or_zero")]
    pub delegate_min: u8,
    /// Its name.
    pub name: Text<'a>,
    /// Gossip port.
    #[serde(deserialize_with = "or_zero")]
    pub port: u16,
    /// memberlist protocol in use.
    #[serde(deserialize_with = "or_zero")]
    pub protocol_cur: u8,
    /// Highest memberlist protocol.
    #[serde(deserialize_with = "or_zero")]
    pub protocol_max: u8,
    /// Lowest memberlist protocol.
    #[serde(deserialize_with = "or_zero")]
    pub protocol_min: u8,
    /// A [`MemberStatus`], as a word.
    pub status: Text<'a>,
    /// Its tags.
    pub tags: Pairs<'a>,
}

/// An IP address as 4 or 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address<'a> {
    /// To be written.
    Ip(IpAddr),
    /// As read.
    Raw(Bytes<'a>),
}

impl Default for Address<'_> {
    fn default() -> Self {
        Self::Raw(Bytes::default())
    }
}

impl Address<'_> {
    /// The address, if the bytes are one. An IPv4 address in IPv6 form is taken for IPv4, as Go prints it.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Raw(Bytes(bytes)) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|octets| Ipv4Addr::from(octets).into()),
                16 => {
                    let octets = <[u8; 16]>::try_from(*bytes).ok()?;
                    Some(Ipv6Addr::from(octets).to_canonical())
                }
                _ => None,
            },
        }
    }
}

impl Serialize for Address<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ip(IpAddr::V4(ip)) => serializer.serialize_bytes(&ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => serializer.serialize_bytes(&ip.octets()),
            Self::Raw(bytes) => bytes.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Address<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Self::Raw)
    }
}

impl<'a> From<&'a cluster::Member> for Member<'a> {
    fn from(member: &'a cluster::Member) -> Self {
        Self {
            addr: Address::Ip(member.addr),
            delegate_cur: member.delegate.cur,
            delegate_max: member.delegate.max,
            delegate_min: member.delegate.min,
            name: Text(&member.name),
            port: member.port,
            protocol_cur: member.protocol.cur,
            protocol_max: member.protocol.max,
            protocol_min: member.protocol.min,
            status: Text(member.status.as_str()),
            tags: member
                .tags
                .iter()
                .map(|(key, value)| (key, Text(value)))
                .collect(),
        }
    }
}

impl Member<'_> {
    /// The member, or `None` when the address is no address. An unknown status reads as [`MemberStatus::None`].
    #[must_use]
    pub fn to_member(&self) -> Option<cluster::Member> {
        let tags = self.tags.0.iter().map(|(key, value)| (key.0, value.0));
        let protocol = VersionRange {
            min: self.protocol_min,
            max: self.protocol_max,
            cur: self.protocol_cur,
        };
        let delegate = VersionRange {
            min: self.delegate_min,
            max: self.delegate_max,
            cur: self.delegate_cur,
        };
        let mut member = cluster::Member::alive(self.name.0, self.addr.ip()?, self.port)
            .with_tags(tags.collect())
            .with_versions(protocol, delegate);
        member.status = match self.status.0 {
            "alive" => MemberStatus::Alive,
            "leaving" => MemberStatus::Leaving,
            "left" => MemberStatus::Left,
            "failed" => MemberStatus::Failed,
            _ => MemberStatus::None,
        };
        Some(member)
    }
}

/// Body of [`Command::InstallKey`], [`Command::UseKey`] and [`Command::RemoveKey`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyRequest<'a> {
    /// The key in base64.
    #[serde(borrow)]
    pub key: Text<'a>,
}

/// Body of the response to the key commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyResponse<'a> {
    /// How many nodes have each key; nil unless keys were listed.
    #[serde(borrow)]
    pub keys: Option<Pairs<'a, u64>>,
    /// What nodes had to say, by name.
    pub messages: Pairs<'a>,
    /// How many nodes failed.
    #[serde(deserialize_with = "or_zero")]
    pub num_err: u64,
    /// How many nodes there are.
    #[serde(deserialize_with = "or_zero")]
    pub num_nodes: u64,
    /// How many nodes answered.
    #[serde(deserialize_with = "or_zero")]
    pub num_resp: u64,
}

/// Body of [`Command::Stream`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StreamRequest<'a> {
    /// Comma-separated filters; empty for all.
    #[serde(borrow)]
    pub r#type: Text<'a>,
}

/// Body of [`Command::Stop`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StopRequest {
    /// Seq of the stream or monitor to end.
    #[serde(deserialize_with = "or_zero")]
    pub stop: u64,
}

/// Body of [`Command::Monitor`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MonitorRequest<'a> {
    /// The lowest level to show.
    #[serde(borrow)]
    pub log_level: Text<'a>,
}

/// Body of [`Command::Tags`]. A tag both set and deleted is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TagsRequest<'a> {
    /// Tags to remove.
    #[serde(borrow)]
    pub delete_tags: Texts<'a>,
    /// Tags to set.
    pub tags: Pairs<'a>,
}

/// Body of [`Command::Query`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryRequest<'a> {
    /// Only these nodes answer; all when empty.
    #[serde(borrow)]
    pub filter_nodes: Texts<'a>,
    /// Only nodes whose tags match these regular expressions answer.
    pub filter_tags: Pairs<'a>,
    /// The query's name.
    pub name: Text<'a>,
    /// What it carries.
    pub payload: OptionalBytes<'a>,
    /// How many nodes repeat each answer.
    #[serde(deserialize_with = "or_zero")]
    pub relay_factor: u8,
    /// Whether nodes confirm the query.
    #[serde(deserialize_with = "or_zero")]
    pub request_ack: bool,
    /// In nanoseconds; 0 for the cluster's default.
    #[serde(deserialize_with = "or_zero")]
    pub timeout: i64,
}

/// Body of [`Command::Respond`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RespondRequest<'a> {
    /// ID from the [`QueryEventRecord`].
    #[serde(rename = "ID", deserialize_with = "or_zero")]
    pub id: u64,
    /// The answer.
    #[serde(borrow)]
    pub payload: Bytes<'a>,
}

/// Body of [`Command::GetCoordinate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CoordinateRequest<'a> {
    /// Name of the node.
    #[serde(borrow)]
    pub node: Text<'a>,
}

/// Body of the response to [`Command::GetCoordinate`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CoordinateResponse {
    /// The coordinate; zeros when there is none.
    pub coord: Coordinate,
    /// Whether there is one.
    #[serde(deserialize_with = "or_zero")]
    pub ok: bool,
}

/// A network coordinate on the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Coordinate {
    /// In seconds.
    #[serde(deserialize_with = "or_zero")]
    pub adjustment: f64,
    /// Without unit.
    #[serde(deserialize_with = "or_zero")]
    pub error: f64,
    /// In seconds.
    #[serde(deserialize_with = "or_zero")]
    pub height: f64,
    /// In seconds; nil when there is no coordinate.
    pub vec: Option<Vec<f64>>,
}

/// Body of the response to [`Command::Stats`]: counters by section.
pub type StatsResponse<'a> = Pairs<'a, Pairs<'a>>;

/// Record of a stream: members came, went or changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MemberEventRecord<'a> {
    /// What happened, as `member-join`.
    #[serde(borrow)]
    pub event: Text<'a>,
    /// To whom.
    #[serde(deserialize_with = "or_zero")]
    pub members: Vec<Member<'a>>,
}

/// Record of a stream: a user event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UserEventRecord<'a> {
    /// Whether the sender lets newer events replace it.
    #[serde(deserialize_with = "or_zero")]
    pub coalesce: bool,
    /// `user`.
    #[serde(borrow)]
    pub event: Text<'a>,
    /// Its Lamport time.
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    pub ltime: u64,
    /// Its name.
    pub name: Text<'a>,
    /// What it carries.
    pub payload: Bytes<'a>,
}

/// Record of a stream: a query to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryEventRecord<'a> {
    /// `query`.
    #[serde(borrow)]
    pub event: Text<'a>,
    /// To answer with; of this client alone.
    #[serde(rename = "ID", deserialize_with = "or_zero")]
    pub id: u64,
    /// Its Lamport time.
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    pub ltime: u64,
    /// Its name.
    pub name: Text<'a>,
    /// What it carries.
    pub payload: Bytes<'a>,
}

/// Record of a monitor: one line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogRecord<'a> {
    /// The line, without its end.
    #[serde(borrow)]
    pub log: Text<'a>,
}

/// Record of a query: who got it, what they answer, that it is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryRecord<'a> {
    /// Name of the node; empty when it is over.
    #[serde(borrow)]
    pub from: Text<'a>,
    /// Its answer.
    pub payload: Bytes<'a>,
    /// `ack`, `response` or `done`.
    pub r#type: Text<'a>,
}

#[cfg(test)]
mod tests;
