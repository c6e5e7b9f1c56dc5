//! memberlist's messages: a type byte, then a MsgPack map in the old form (user messages: a type byte, then bytes).
//!
//! Written as the reference writes them: fields in alphabetical order, text and bytes alike. Read liberally: fields
//! in any order, unknown ones skipped, absent ones and nil zero, text and bytes as str, bin or raw. What is read
//! borrows from the packet.
//!
//! [`Message`] is what a packet holds once it is opened.
//!
//! Source: hashicorp/memberlist, `net.go`.

mod field;
mod on_stream;
mod probe;
#[cfg(test)]
mod tests;

pub use on_stream::{ErrorMessage, NodeState, PushNode, PushPullHeader, UserHeader};
pub use probe::{Ack, IndirectPing, Nack, Ping, Source};

use std::net::IpAddr;

use serde::Deserialize;

use self::field::{addr, bytes, text, versions, write_addr, write_versions};
use crate::cluster::VersionRange;
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::or_zero;

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
