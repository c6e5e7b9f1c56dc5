//! Serf's messages, as gossip carries them: a type byte, then a MsgPack map in the old form.
//!
//! Written as the reference writes it: fields in alphabetical order, text and bytes alike. Read liberally: fields in any
//! order, unknown ones skipped, absent ones and nil zero.
//!
//! Source: hashicorp/serf, `serf/messages.go`, `serf/internal_query.go` and `serf/serf.go` (`encodeTags`).

mod filter;
mod key;
mod relay;
mod sync;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, Text, or_zero};

pub use filter::{Filter, encode_node_filter, encode_tag_filter};
pub use key::{ConflictResponse, KeyRequest, KeyResponse};
pub use relay::RelayMessage;
pub use sync::{EventsAt, PushPullMessage, StoredEvent};

/// Limit of a user event on the wire, in bytes.
pub const USER_EVENT_BYTES_MAX: usize = 512;
/// Limit of a query on the wire, in bytes.
pub const QUERY_BYTES_MAX: usize = 1024;
/// Limit of an answer to a query on the wire, in bytes.
pub const QUERY_RESPONSE_BYTES_MAX: usize = 1024;
/// Limit of the tags on the wire (memberlist's `MetaMaxSize`), in bytes.
pub const TAGS_BYTES_MAX: usize = 512;

/// What the first byte of a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// A node leaves, or is to be taken for one that left.
    Leave = 0,
    /// A node joined, or says that it lives.
    Join = 1,
    /// What a node knows, for another to compare.
    PushPull = 2,
    /// A user event.
    UserEvent = 3,
    /// A query.
    Query = 4,
    /// An answer or acknowledgement of a query.
    QueryResponse = 5,
    /// What a node knows of a name that two claim.
    ConflictResponse = 6,
    /// A key to work on.
    KeyRequest = 7,
    /// How the work on a keyring went.
    KeyResponse = 8,
    /// A message to pass on to another node.
    Relay = 9,
}

impl MessageType {
    /// The type that a byte stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Leave,
            1 => Self::Join,
            2 => Self::PushPull,
            3 => Self::UserEvent,
            4 => Self::Query,
            5 => Self::QueryResponse,
            6 => Self::ConflictResponse,
            7 => Self::KeyRequest,
            8 => Self::KeyResponse,
            9 => Self::Relay,
            _ => return None,
        })
    }
}

/// Flag of a query that is to be acknowledged, and of an acknowledgement.
pub const FLAG_ACK: u32 = 1;
/// Flag of a query that is not to be passed on.
pub const FLAG_NO_BROADCAST: u32 = 2;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing.
    #[error("the message is empty")]
    Empty,
    /// It is of a type that is not expected here.
    #[error("message of type {0} where another was expected")]
    Type(u8),
    /// It is no MsgPack, or lacks the fields' types.
    #[error("malformed message: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// What comes before a relayed message is no MsgPack, or not all there.
    #[error("malformed header of a message to relay")]
    RelayHeader,
    /// An address is neither 4 nor 16 bytes long.
    #[error("an address of {0} bytes, expected 4 or 16")]
    Address(usize),
}

/// What comes after the type byte, if that is the expected one.
fn body(bytes: &[u8], expected: MessageType) -> Result<&[u8], DecodeError> {
    let (&kind, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if kind != expected as u8 {
        return Err(DecodeError::Type(kind));
    }
    Ok(body)
}

/// Reads an address of 4 or 16 bytes.
fn ip(bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(octets))
    } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(octets).to_canonical())
    } else {
        Err(DecodeError::Address(bytes.len()))
    }
}

fn write_ip(writer: &mut RawWriter<'_>, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => writer.raw(addr.octets()),
        IpAddr::V6(addr) => writer.raw(addr.octets()),
    };
}

/// Reads Go's durations, which have a sign, as nanoseconds.
fn nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let signed: i64 = or_zero(deserializer)?;
    Ok(u64::try_from(signed).unwrap_or(0))
}

/// A node joined, or says that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinMessage<'a> {
    /// Since when, in the members' Lamport time.
    pub ltime: u64,
    /// Its name.
    pub node: &'a str,
}

impl<'a> JoinMessage<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Join as u8);
        let mut writer = RawWriter(out);
        writer.map(2).raw("LTime").uint(self.ltime);
        writer.raw("Node").raw(self.node);
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: Intent<'a> = msgpack::decode(body(bytes, MessageType::Join)?)?;
        Ok(Self {
            ltime: read.ltime,
            node: read.node.0,
        })
    }
}

/// A node leaves, or is to be taken for one that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaveMessage<'a> {
    /// Since when, in the members' Lamport time.
    pub ltime: u64,
    /// Its name.
    pub node: &'a str,
    /// Whether it is to be forgotten.
    pub prune: bool,
}

impl<'a> LeaveMessage<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Leave as u8);
        let mut writer = RawWriter(out);
        writer.map(3).raw("LTime").uint(self.ltime);
        writer.raw("Node").raw(self.node);
        writer.raw("Prune").bool(self.prune);
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: Intent<'a> = msgpack::decode(body(bytes, MessageType::Leave)?)?;
        Ok(Self {
            ltime: read.ltime,
            node: read.node.0,
            prune: read.prune,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Intent<'a> {
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
    #[serde(rename = "Node", borrow)]
    node: Text<'a>,
    #[serde(rename = "Prune", deserialize_with = "or_zero")]
    prune: bool,
}

/// A user event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserEventMessage<'a> {
    /// Whether newer events of this name may replace it.
    pub coalesce: bool,
    /// Its Lamport time.
    pub ltime: u64,
    /// Its name.
    pub name: &'a str,
    /// What it carries.
    pub payload: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserEventFields<'a> {
    #[serde(rename = "CC", deserialize_with = "or_zero")]
    coalesce: bool,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
    #[serde(rename = "Name", borrow)]
    name: Text<'a>,
    #[serde(rename = "Payload", borrow)]
    payload: Bytes<'a>,
}

impl<'a> UserEventMessage<'a> {
    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: UserEventFields<'a> = msgpack::decode(body(bytes, MessageType::UserEvent)?)?;
        Ok(Self {
            coalesce: read.coalesce,
            ltime: read.ltime,
            name: read.name.0,
            payload: read.payload.0,
        })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::UserEvent as u8);
        let mut writer = RawWriter(out);
        writer
            .map(4)
            .raw("CC")
            .bool(self.coalesce)
            .raw("LTime")
            .uint(self.ltime);
        writer
            .raw("Name")
            .raw(self.name)
            .raw("Payload")
            .raw_or_nil(self.payload);
    }
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMessage<'a> {
    /// Address to answer to.
    pub addr: IpAddr,
    /// Encoded [`Filter`]s.
    pub filters: Vec<&'a [u8]>,
    /// 1: acknowledge; 2: don't pass on.
    pub flags: u32,
    /// Tells queries of the same time apart.
    pub id: u32,
    /// Its Lamport time.
    pub ltime: u64,
    /// Its name.
    pub name: &'a str,
    /// What it carries.
    pub payload: &'a [u8],
    /// Port to answer to.
    pub port: u16,
    /// How many nodes repeat each answer.
    pub relay_factor: u8,
    /// Name of the node that asks.
    pub source_node: &'a str,
    /// In nanoseconds.
    pub timeout: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct QueryFields<'a> {
    #[serde(rename = "Addr", borrow)]
    addr: Bytes<'a>,
    #[serde(rename = "Filters", borrow, deserialize_with = "or_zero")]
    filters: Vec<Bytes<'a>>,
    #[serde(rename = "Flags", deserialize_with = "or_zero")]
    flags: u32,
    #[serde(rename = "ID", deserialize_with = "or_zero")]
    id: u32,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
    #[serde(rename = "Name", borrow)]
    name: Text<'a>,
    #[serde(rename = "Payload", borrow)]
    payload: Bytes<'a>,
    #[serde(rename = "Port", deserialize_with = "or_zero")]
    port: u16,
    #[serde(rename = "RelayFactor", deserialize_with = "or_zero")]
    relay_factor: u8,
    #[serde(rename = "SourceNode", borrow)]
    source_node: Text<'a>,
    #[serde(rename = "Timeout", deserialize_with = "nanoseconds")]
    timeout: u64,
}

impl<'a> QueryMessage<'a> {
    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: QueryFields<'a> = msgpack::decode(body(bytes, MessageType::Query)?)?;
        Ok(Self {
            addr: ip(read.addr.0)?,
            filters: read.filters.into_iter().map(|filter| filter.0).collect(),
            flags: read.flags,
            id: read.id,
            ltime: read.ltime,
            name: read.name.0,
            payload: read.payload.0,
            port: read.port,
            relay_factor: read.relay_factor,
            source_node: read.source_node.0,
            timeout: read.timeout,
        })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Query as u8);
        let mut writer = RawWriter(out);
        writer.map(11).raw("Addr");
        write_ip(&mut writer, self.addr);
        writer.raw("Filters");
        if self.filters.is_empty() {
            writer.nil();
        } else {
            writer.array(self.filters.len());
            for filter in &self.filters {
                writer.raw(filter);
            }
        }
        writer
            .raw("Flags")
            .uint(self.flags.into())
            .raw("ID")
            .uint(self.id.into());
        writer
            .raw("LTime")
            .uint(self.ltime)
            .raw("Name")
            .raw(self.name);
        writer
            .raw("Payload")
            .raw_or_nil(self.payload)
            .raw("Port")
            .uint(self.port.into());
        writer
            .raw("RelayFactor")
            .uint(self.relay_factor.into())
            .raw("SourceNode")
            .raw(self.source_node);
        writer.raw("Timeout").uint(self.timeout);
    }
}

/// An answer or acknowledgement of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryResponseMessage<'a> {
    /// 1: an acknowledgement.
    pub flags: u32,
    /// Name of the node that answers.
    pub from: &'a str,
    /// Which query.
    pub id: u32,
    /// Its Lamport time.
    pub ltime: u64,
    /// The answer.
    pub payload: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct QueryResponseFields<'a> {
    #[serde(rename = "Flags", deserialize_with = "or_zero")]
    flags: u32,
    #[serde(rename = "From", borrow)]
    from: Text<'a>,
    #[serde(rename = "ID", deserialize_with = "or_zero")]
    id: u32,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
    #[serde(rename = "Payload", borrow)]
    payload: Bytes<'a>,
}

impl<'a> QueryResponseMessage<'a> {
    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: QueryResponseFields<'a> =
            msgpack::decode(body(bytes, MessageType::QueryResponse)?)?;
        Ok(Self {
            flags: read.flags,
            from: read.from.0,
            id: read.id,
            ltime: read.ltime,
            payload: read.payload.0,
        })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::QueryResponse as u8);
        let mut writer = RawWriter(out);
        writer
            .map(5)
            .raw("Flags")
            .uint(self.flags.into())
            .raw("From")
            .raw(self.from);
        writer
            .raw("ID")
            .uint(self.id.into())
            .raw("LTime")
            .uint(self.ltime);
        writer.raw("Payload").raw_or_nil(self.payload);
    }
}
