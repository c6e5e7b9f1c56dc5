//! What internal queries and their answers carry: keys, and who has a name.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{DecodeError, MessageType, body, ip, write_ip};
use crate::cluster::{Member, MemberStatus};
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, Text, Texts, or_zero};

/// A key to work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRequest<'a> {
    /// The key itself; empty where none is needed.
    pub key: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct KeyRequestFields<'a> {
    #[serde(borrow)]
    key: Bytes<'a>,
}

impl<'a> KeyRequest<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::KeyRequest as u8);
        RawWriter(out).map(1).raw("Key").raw_or_nil(self.key);
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: KeyRequestFields<'a> = msgpack::decode(body(bytes, MessageType::KeyRequest)?)?;
        Ok(Self { key: read.key.0 })
    }
}

/// How the work on a keyring went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyResponse {
    /// The keys a node has, in base64; only where they were asked for.
    pub keys: Vec<String>,
    /// What went wrong, or what there is to say.
    pub message: String,
    /// The key it encrypts with, in base64; only where keys were asked for.
    pub primary_key: String,
    /// Whether it was done.
    pub result: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct KeyResponseFields<'a> {
    #[serde(borrow)]
    keys: Texts<'a>,
    #[serde(borrow)]
    message: Text<'a>,
    #[serde(borrow)]
    primary_key: Text<'a>,
    #[serde(deserialize_with = "or_zero")]
    result: bool,
}

impl KeyResponse {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::KeyResponse as u8);
        let mut writer = RawWriter(out);
        writer.map(4).raw("Keys");
        if self.keys.is_empty() {
            writer.nil();
        } else {
            writer.array(self.keys.len());
            for key in &self.keys {
                writer.raw(key);
            }
        }
        writer.raw("Message").raw(&self.message);
        writer.raw("PrimaryKey").raw(&self.primary_key);
        writer.raw("Result").bool(self.result);
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read: KeyResponseFields<'_> = msgpack::decode(body(bytes, MessageType::KeyResponse)?)?;
        Ok(Self {
            keys: read.keys.0.into_iter().map(str::to_owned).collect(),
            message: read.message.0.to_owned(),
            primary_key: read.primary_key.0.to_owned(),
            result: read.result,
        })
    }
}

/// What a node knows of a name that two claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictResponse {
    /// Where the node of that name is; `None` when it knows none.
    pub addr: Option<SocketAddr>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConflictFields<'a> {
    #[serde(borrow)]
    addr: Bytes<'a>,
    #[serde(deserialize_with = "or_zero")]
    port: u16,
}

impl ConflictResponse {
    /// Appends the answer of a node that knows this member, or none, by the name.
    pub fn encode(member: Option<&Member>, out: &mut Vec<u8>) {
        out.push(MessageType::ConflictResponse as u8);
        let mut writer = RawWriter(out);
        let Some(member) = member else {
            writer.nil();
            return;
        };
        let versions = [
            ("DelegateCur", member.delegate.cur),
            ("DelegateMax", member.delegate.max),
            ("DelegateMin", member.delegate.min),
        ];
        writer.map(11).raw("Addr");
        write_ip(&mut writer, member.addr);
        for (key, version) in versions {
            writer.raw(key).uint(version.into());
        }
        writer.raw("Name").raw(&*member.name);
        writer.raw("Port").uint(member.port.into());
        let versions = [
            ("ProtocolCur", member.protocol.cur),
            ("ProtocolMax", member.protocol.max),
            ("ProtocolMin", member.protocol.min),
        ];
        for (key, version) in versions {
            writer.raw(key).uint(version.into());
        }
        writer.raw("Status").uint(status_number(member.status));
        writer.raw("Tags").map(member.tags.len());
        for (key, value) in member.tags.iter() {
            writer.raw(key).raw(value);
        }
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read: Option<ConflictFields<'_>> =
            msgpack::decode(body(bytes, MessageType::ConflictResponse)?)?;
        let addr = match read {
            Some(read) if !read.addr.0.is_empty() => {
                let ip: IpAddr = ip(read.addr.0)?;
                Some(SocketAddr::new(ip, read.port))
            }
            _ => None,
        };
        Ok(Self { addr })
    }
}

/// The reference's numbers (`MemberStatus` in `serf/serf.go`).
const fn status_number(status: MemberStatus) -> u64 {
    match status {
        MemberStatus::None => 0,
        MemberStatus::Alive => 1,
        MemberStatus::Leaving => 2,
        MemberStatus::Left => 3,
        MemberStatus::Failed => 4,
    }
}
