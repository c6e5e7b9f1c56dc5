//! memberlist's messages: a type byte, then a MsgPack map in the old form (user messages: a type byte, then bytes).
//!
//! Written as the reference writes them: fields in alphabetical order, text and bytes alike. Read liberally: fields
//! in any order, unknown ones skipped, absent ones and nil zero, text and bytes as str, bin or raw. What is read
//! borrows from the packet.
//!
//! [`Message`] is what a packet holds once it is opened. The parts of a push/pull ([`PushPullHeader`], [`PushNode`]) and
//! [`UserHeader`] and [`ErrorMessage`] are seen on streams only.
//!
//! Source: hashicorp/memberlist, `net.go`.

use std::net::IpAddr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::cluster::VersionRange;
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, or_zero};

/// Longest meta data of a node (memberlist's `MetaMaxSize`), in bytes.
pub const META_BYTES_MAX: usize = 512;

/// What the first byte of a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Are you there?
    Ping = 0,
    /// Ping another for me.
    IndirectPing = 1,
    /// I am, or the other is.
    Ack = 2,
    /// A node may be dead.
    Suspect = 3,
    /// A node lives.
    Alive = 4,
    /// A node is dead, or left.
    Dead = 5,
    /// All that a node knows (streams only).
    PushPull = 6,
    /// Several messages in one packet.
    Compound = 7,
    /// Of the layer above.
    User = 8,
    /// A compressed message.
    Compress = 9,
    /// An encrypted message (streams only).
    Encrypt = 10,
    /// The other did not answer me in time.
    Nack = 11,
    /// A checksum, then a message (packets only).
    HasCrc = 12,
    /// What went wrong (streams only).
    Error = 13,
    /// A label, then everything else.
    HasLabel = 244,
}

impl MessageType {
    /// The type that a byte stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Ping,
            1 => Self::IndirectPing,
            2 => Self::Ack,
            3 => Self::Suspect,
            4 => Self::Alive,
            5 => Self::Dead,
            6 => Self::PushPull,
            7 => Self::Compound,
            8 => Self::User,
            9 => Self::Compress,
            10 => Self::Encrypt,
            11 => Self::Nack,
            12 => Self::HasCrc,
            13 => Self::Error,
            244 => Self::HasLabel,
            _ => return None,
        })
    }
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is not even a type byte.
    #[error("missing message type byte")]
    Empty,
    /// The type is unknown, or has no place there.
    #[error("message type {0} is not expected here")]
    Type(u8),
    /// What follows the type byte is not what belongs there; says which field if it is a field's fault.
    #[error("malformed message of type {kind:?}: {source}")]
    Malformed {
        /// What the message is.
        kind: MessageType,
        /// What is wrong with it.
        source: rmp_serde::decode::Error,
    },
}

/// Reads the fields of a message of type `kind`, which has no type byte any more.
fn fields<'a, T: Deserialize<'a>>(kind: MessageType, body: &'a [u8]) -> Result<T, WireError> {
    msgpack::decode(body).map_err(|source| WireError::Malformed { kind, source })
}

/// A message as packets carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Are you there?
    Ping(Ping<'a>),
    /// Ping another for me.
    IndirectPing(IndirectPing<'a>),
    /// I am, or the other is.
    Ack(Ack<'a>),
    /// The other did not answer me in time.
    Nack(Nack),
    /// A node may be dead.
    Suspect(Suspect<'a>),
    /// A node lives.
    Alive(Alive<'a>),
    /// A node is dead, or left.
    Dead(Dead<'a>),
    /// A message of the layer above, without the type byte.
    User(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads a message, type byte included. Bytes after its end are not looked at, as in memberlist.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (&byte, body) = bytes.split_first().ok_or(WireError::Empty)?;
        let kind = MessageType::from_byte(byte).ok_or(WireError::Type(byte))?;
        Ok(match kind {
            MessageType::Ping => Self::Ping(fields(kind, body)?),
            MessageType::IndirectPing => Self::IndirectPing(fields(kind, body)?),
            MessageType::Ack => Self::Ack(fields(kind, body)?),
            MessageType::Nack => Self::Nack(fields(kind, body)?),
            MessageType::Suspect => Self::Suspect(fields(kind, body)?),
            MessageType::Alive => Self::Alive(fields(kind, body)?),
            MessageType::Dead => Self::Dead(fields(kind, body)?),
            MessageType::User => Self::User(body),
            MessageType::PushPull
            | MessageType::Compound
            | MessageType::Compress
            | MessageType::Encrypt
            | MessageType::HasCrc
            | MessageType::Error
            | MessageType::HasLabel => return Err(WireError::Type(byte)),
        })
    }

    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping(message) => message.encode(out),
            Self::IndirectPing(message) => message.encode(out),
            Self::Ack(message) => message.encode(out),
            Self::Nack(message) => message.encode(out),
            Self::Suspect(message) => message.encode(out),
            Self::Alive(message) => message.encode(out),
            Self::Dead(message) => message.encode(out),
            Self::User(body) => {
                out.push(MessageType::User as u8);
                out.extend_from_slice(body);
            }
        }
    }

    /// The message on its own, type byte included.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Where an answer is to go, if not to the address the message came from.
///
/// memberlist writes each part only if it has one, and reads the address only if it has a port too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Source<'a> {
    /// Address of the asking node.
    pub addr: Option<IpAddr>,
    /// Its gossip port; 0 for none.
    pub port: u16,
    /// Its name.
    pub node: &'a str,
}

impl Source<'_> {
    fn entries(&self) -> usize {
        usize::from(self.addr.is_some())
            + usize::from(self.port != 0)
            + usize::from(!self.node.is_empty())
    }

    fn write(&self, writer: &mut RawWriter<'_>) {
        if self.addr.is_some() {
            writer.raw("SourceAddr");
            write_addr(writer, self.addr);
        }
        if !self.node.is_empty() {
            writer.raw("SourceNode").raw(self.node);
        }
        if self.port != 0 {
            writer.raw("SourcePort").uint(self.port.into());
        }
    }
}

/// Asks a node whether it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ping<'a> {
    /// A number to tell answers apart.
    pub seq: u32,
    /// Who is asked: another node at the same address must not answer. Empty for whoever is there.
    pub node: &'a str,
    /// Who asks.
    pub source: Source<'a>,
}

impl Ping<'_> {
    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Ping as u8);
        let mut writer = RawWriter(out);
        writer.map(2 + self.source.entries());
        writer.raw("Node").raw(self.node);
        writer.raw("SeqNo").uint(self.seq.into());
        self.source.write(&mut writer);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Ping<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Fields<'a> {
            #[serde(rename = "SeqNo", deserialize_with = "or_zero")]
            seq: u32,
            #[serde(deserialize_with = "text::node")]
            node: &'a str,
            #[serde(deserialize_with = "addr::source_addr")]
            source_addr: Option<IpAddr>,
            #[serde(deserialize_with = "or_zero")]
            source_port: u16,
            #[serde(deserialize_with = "text::source_node")]
            source_node: &'a str,
        }
        let fields = Fields::deserialize(deserializer)?;
        Ok(Self {
            seq: fields.seq,
            node: fields.node,
            source: Source {
                addr: fields.source_addr,
                port: fields.source_port,
                node: fields.source_node,
            },
        })
    }
}

/// Asks a node to ping another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndirectPing<'a> {
    /// A number to tell answers apart.
    pub seq: u32,
    /// Address of the node to ping.
    pub target: Option<IpAddr>,
    /// Its port; 0 for the one that all use.
    pub port: u16,
    /// Its name.
    pub node: &'a str,
    /// Whether the asking node wants to hear when no answer came in time.
    pub nack: bool,
    /// Who asks.
    pub source: Source<'a>,
}

impl IndirectPing<'_> {
    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::IndirectPing as u8);
        let mut writer = RawWriter(out);
        writer.map(5 + self.source.entries());
        writer.raw("Nack").bool(self.nack);
        writer.raw("Node").raw(self.node);
        writer.raw("Port").uint(self.port.into());
        writer.raw("SeqNo").uint(self.seq.into());
        self.source.write(&mut writer);
        writer.raw("Target");
        write_addr(&mut writer, self.target);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for IndirectPing<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Fields<'a> {
            #[serde(rename = "SeqNo", deserialize_with = "or_zero")]
            seq: u32,
            #[serde(deserialize_with = "addr::target")]
            target: Option<IpAddr>,
            #[serde(deserialize_with = "or_zero")]
            port: u16,
            #[serde(deserialize_with = "text::node")]
            node: &'a str,
            #[serde(deserialize_with = "or_zero")]
            nack: bool,
            #[serde(deserialize_with = "addr::source_addr")]
            source_addr: Option<IpAddr>,
            #[serde(deserialize_with = "or_zero")]
            source_port: u16,
            #[serde(deserialize_with = "text::source_node")]
            source_node: &'a str,
        }
        let fields = Fields::deserialize(deserializer)?;
        Ok(Self {
            seq: fields.seq,
            target: fields.target,
            port: fields.port,
            node: fields.node,
            nack: fields.nack,
            source: Source {
                addr: fields.source_addr,
                port: fields.source_port,
                node: fields.source_node,
            },
        })
    }
}

/// Answers a ping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ack<'a> {
    /// Number of the ping.
    #[serde(rename = "SeqNo", deserialize_with = "or_zero")]
    pub seq: u32,
    /// Of the layer above; Serf sends its coordinate.
    #[serde(deserialize_with = "bytes")]
    pub payload: &'a [u8],
}

impl Ack<'_> {
    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Ack as u8);
        let mut writer = RawWriter(out);
        writer.map(2).raw("Payload").raw_or_nil(self.payload);
        writer.raw("SeqNo").uint(self.seq.into());
    }
}

/// Tells that an indirect ping had no answer in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Nack {
    /// Number of the indirect ping.
    #[serde(rename = "SeqNo", deserialize_with = "or_zero")]
    pub seq: u32,
}

impl Nack {
    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Nack as u8);
        RawWriter(out).map(1).raw("SeqNo").uint(self.seq.into());
    }
}

/// Tells that a node may be dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Suspect<'a> {
    /// Incarnation of the node that is suspected; a higher one is cleared.
    #[serde(deserialize_with = "or_zero")]
    pub incarnation: u32,
    /// Who is suspected.
    #[serde(deserialize_with = "text::node")]
    pub node: &'a str,
    /// Who suspects.
    #[serde(deserialize_with = "text::from")]
    pub from: &'a str,
}

impl Suspect<'_> {
    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_accusation(
            MessageType::Suspect,
            self.incarnation,
            self.node,
            self.from,
            out,
        );
    }
}

/// Tells that a node is dead, or, where it says so itself, that it left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Dead<'a> {
    /// Incarnation of the node that is dead; a higher one lives.
    #[serde(deserialize_with = "or_zero")]
    pub incarnation: u32,
    /// Who is dead.
    #[serde(deserialize_with = "text::node")]
    pub node: &'a str,
    /// Who says so.
    #[serde(deserialize_with = "text::from")]
    pub from: &'a str,
}

impl Dead<'_> {
    /// Whether the node left instead of dying: it says so itself.
    #[must_use]
    pub fn is_leave(&self) -> bool {
        self.node == self.from
    }

    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_accusation(
            MessageType::Dead,
            self.incarnation,
            self.node,
            self.from,
            out,
        );
    }
}

fn write_accusation(
    kind: MessageType,
    incarnation: u32,
    node: &str,
    from: &str,
    out: &mut Vec<u8>,
) {
    out.push(kind as u8);
    let mut writer = RawWriter(out);
    writer.map(3).raw("From").raw(from);
    writer.raw("Incarnation").uint(incarnation.into());
    writer.raw("Node").raw(node);
}

/// The protocol versions that a node speaks, six bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// memberlist's.
    pub protocol: VersionRange,
    /// Serf's, which memberlist calls the delegate's.
    pub delegate: VersionRange,
}

impl Versions {
    /// What a Serf node of today announces.
    pub const CURRENT: Self = Self {
        protocol: VersionRange::MEMBERLIST,
        delegate: VersionRange::SERF,
    };

    /// The versions, or `None` where there are too few. memberlist takes those for none, and looks at none past the
    /// sixth.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[pmin, pmax, pcur, dmin, dmax, dcur, ..] = bytes else {
            return None;
        };
        Some(Self {
            protocol: VersionRange {
                min: pmin,
                max: pmax,
                cur: pcur,
            },
            delegate: VersionRange {
                min: dmin,
                max: dmax,
                cur: dcur,
            },
        })
    }

    /// As on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 6] {
        let Self { protocol, delegate } = self;
        [
            protocol.min,
            protocol.max,
            protocol.cur,
            delegate.min,
            delegate.max,
            delegate.cur,
        ]
    }
}

/// Tells that a node lives, where, and what it says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Alive<'a> {
    /// The node's count of its own lives.
    #[serde(deserialize_with = "or_zero")]
    pub incarnation: u32,
    /// Its name.
    #[serde(deserialize_with = "text::node")]
    pub node: &'a str,
    /// Its address.
    #[serde(deserialize_with = "addr::addr")]
    pub addr: Option<IpAddr>,
    /// Its gossip port; 0 for the one that all use.
    #[serde(deserialize_with = "or_zero")]
    pub port: u16,
    /// Of the layer above; Serf sends its tags.
    #[serde(deserialize_with = "bytes")]
    pub meta: &'a [u8],
    /// The protocols that it speaks.
    #[serde(rename = "Vsn", deserialize_with = "versions")]
    pub versions: Option<Versions>,
}

impl Alive<'_> {
    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Alive as u8);
        let mut writer = RawWriter(out);
        writer.map(6).raw("Addr");
        write_addr(&mut writer, self.addr);
        writer.raw("Incarnation").uint(self.incarnation.into());
        writer.raw("Meta").raw_or_nil(self.meta);
        writer.raw("Node").raw(self.node);
        writer.raw("Port").uint(self.port.into());
        write_versions(&mut writer, self.versions);
    }
}

/// Comes first in a push/pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PushPullHeader {
    /// How many nodes follow.
    #[serde(deserialize_with = "or_zero")]
    pub nodes: u64,
    /// How many bytes of the layer above follow the nodes.
    #[serde(deserialize_with = "or_zero")]
    pub user_state_len: u64,
    /// Whether the sender joins, or compares what it knows from time to time.
    #[serde(deserialize_with = "or_zero")]
    pub join: bool,
}

impl PushPullHeader {
    /// Reads what follows the type byte.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        fields(MessageType::PushPull, body)
    }

    /// Appends the header, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::PushPull as u8);
        let mut writer = RawWriter(out);
        writer.map(3).raw("Join").bool(self.join);
        writer.raw("Nodes").uint(self.nodes);
        writer.raw("UserStateLen").uint(self.user_state_len);
    }
}

/// What a node believes of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// It answers.
    #[default]
    Alive = 0,
    /// It does not answer; it may yet.
    Suspect = 1,
    /// It stopped answering.
    Dead = 2,
    /// It said that it goes.
    Left = 3,
}

/// A node in a push/pull, as its sender sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PushNode<'a> {
    /// The node's name.
    #[serde(deserialize_with = "text::name")]
    pub name: &'a str,
    /// Its address.
    #[serde(deserialize_with = "addr::addr")]
    pub addr: Option<IpAddr>,
    /// Its gossip port; 0 for the one that all use.
    #[serde(deserialize_with = "or_zero")]
    pub port: u16,
    /// Of the layer above; Serf sends its tags.
    #[serde(deserialize_with = "bytes")]
    pub meta: &'a [u8],
    /// The node's count of its own lives.
    #[serde(deserialize_with = "or_zero")]
    pub incarnation: u32,
    /// What the sender believes.
    #[serde(deserialize_with = "state")]
    pub state: NodeState,
    /// The protocols that the node speaks.
    #[serde(rename = "Vsn", deserialize_with = "versions")]
    pub versions: Option<Versions>,
}

impl<'a> PushNode<'a> {
    /// Reads a node; there is no type byte.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        fields(MessageType::PushPull, bytes)
    }

    /// Appends the node; there is no type byte.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = RawWriter(out);
        writer.map(7).raw("Addr");
        write_addr(&mut writer, self.addr);
        writer.raw("Incarnation").uint(self.incarnation.into());
        writer.raw("Meta").raw_or_nil(self.meta);
        writer.raw("Name").raw(self.name);
        writer.raw("Port").uint(self.port.into());
        writer.raw("State").uint(self.state as u64);
        write_versions(&mut writer, self.versions);
    }
}

/// Comes before a user message on a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserHeader {
    /// How many bytes follow.
    #[serde(rename = "UserMsgLen", deserialize_with = "or_zero")]
    pub len: u64,
}

impl UserHeader {
    /// Reads what follows the type byte.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        fields(MessageType::User, body)
    }

    /// Appends the header, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::User as u8);
        RawWriter(out).map(1).raw("UserMsgLen").uint(self.len);
    }
}

/// Tells the other end of a stream what went wrong here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ErrorMessage<'a> {
    /// For people.
    #[serde(deserialize_with = "text::error")]
    pub error: &'a str,
}

impl<'a> ErrorMessage<'a> {
    /// Reads what follows the type byte.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        fields(MessageType::Error, body)
    }

    /// Appends the message, type byte included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Error as u8);
        RawWriter(out).map(1).raw("Error").raw(self.error);
    }
}

fn write_addr(writer: &mut RawWriter<'_>, addr: Option<IpAddr>) {
    match addr {
        Some(IpAddr::V4(addr)) => writer.raw(addr.octets()),
        Some(IpAddr::V6(addr)) => writer.raw(addr.octets()),
        None => writer.nil(),
    };
}

fn write_versions(writer: &mut RawWriter<'_>, versions: Option<Versions>) {
    writer.raw("Vsn");
    match versions {
        Some(versions) => writer.raw(versions.to_bytes()),
        None => writer.nil(),
    };
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
    Bytes::deserialize(deserializer).map(|bytes| bytes.0)
}

fn versions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Versions>, D::Error> {
    bytes(deserializer).map(Versions::from_bytes)
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeState, D::Error> {
    Ok(match or_zero::<_, u64>(deserializer)? {
        0 => NodeState::Alive,
        1 => NodeState::Suspect,
        2 => NodeState::Dead,
        3 => NodeState::Left,
        other => {
            return Err(D::Error::custom(format_args!(
                "State is {other}, expected 0 to 3"
            )));
        }
    })
}

/// Readers of text that name their field in errors.
mod text {
    use super::{Deserializer, bytes};
    use serde::de::Error;

    fn read<'de, D: Deserializer<'de>>(field: &str, deserializer: D) -> Result<&'de str, D::Error> {
        std::str::from_utf8(bytes(deserializer)?)
            .map_err(|_| D::Error::custom(format_args!("{field} is not UTF-8")))
    }

    macro_rules! readers {
        ($($reader:ident $field:literal)*) => {$(
            pub(super) fn $reader<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
                read($field, deserializer)
            }
        )*};
    }

    readers! { node "Node" from "From" name "Name" source_node "SourceNode" error "Error" }
}

/// Readers of addresses that name their field in errors.
mod addr {
    use super::{Deserializer, IpAddr, bytes};
    use serde::de::Error;

    /// An IPv4 address in IPv6 form is taken for IPv4, as Go does.
    fn read<'de, D: Deserializer<'de>>(
        field: &str,
        deserializer: D,
    ) -> Result<Option<IpAddr>, D::Error> {
        let bytes = bytes(deserializer)?;
        if bytes.is_empty() {
            Ok(None)
        } else if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            Ok(Some(IpAddr::from(octets)))
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
            Ok(Some(IpAddr::from(octets).to_canonical()))
        } else {
            let length = bytes.len();
            Err(D::Error::custom(format_args!(
                "{field} has {length} bytes, expected 4 or 16"
            )))
        }
    }

    macro_rules! readers {
        ($($reader:ident $field:literal)*) => {$(
            pub(super) fn $reader<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<IpAddr>, D::Error> {
                read($field, deserializer)
            }
        )*};
    }

    readers! { addr "Addr" source_addr "SourceAddr" target "Target" }
}

#[cfg(test)]
mod tests;
