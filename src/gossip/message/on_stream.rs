//! What is seen on streams only: the parts of a push/pull, what comes before a user message, and errors.

use std::net::IpAddr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::field::{addr, bytes, text, versions, write_addr, write_versions};
use super::{MessageType, Versions, WireError, fields};
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::or_zero;

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
