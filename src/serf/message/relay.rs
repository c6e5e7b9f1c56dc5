//! A message to pass on to another node.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{DecodeError, MessageType, body, ip, write_ip};
use crate::msgpack;
use crate::msgpack::frame::{Limits, Progress, Scanner};
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, Text, or_zero};

/// Containers within one another in the header; there are two, unless some are unknown.
const HEADER_DEPTH_MAX: usize = 16;

/// A message to pass on to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayMessage<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// To whom.
    pub name: &'a str,
    /// What, type byte included.
    pub message: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header<'a> {
    #[serde(rename = "DestAddr", borrow, deserialize_with = "or_zero")]
    addr: Address<'a>,
    #[serde(rename = "DestName", borrow)]
    name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address<'a> {
    #[serde(rename = "IP", borrow)]
    ip: Bytes<'a>,
    #[serde(rename = "Port", deserialize_with = "or_zero")]
    port: u16,
}

impl<'a> RelayMessage<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Relay as u8);
        let mut writer = RawWriter(out);
        writer.map(2).raw("DestAddr").map(3).raw("IP");
        write_ip(&mut writer, self.to.ip());
        writer.raw("Port").uint(self.to.port().into());
        writer.raw("Zone").raw("");
        writer.raw("DestName").raw(self.name);
        out.extend_from_slice(self.message);
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let body = body(bytes, MessageType::Relay)?;
        let length = header_length(body)?;
        let (header, message) = body.split_at_checked(length).ok_or(DecodeError::Empty)?;
        let header: Header<'a> = msgpack::decode(header)?;
        if message.is_empty() {
            return Err(DecodeError::Empty);
        }
        Ok(Self {
            to: SocketAddr::new(ip(header.addr.ip.0)?, header.addr.port),
            name: header.name.0,
            message,
        })
    }
}

/// Where the header ends and the message begins.
fn header_length(body: &[u8]) -> Result<usize, DecodeError> {
    let limits = Limits {
        bytes_max: body.len(),
        depth_max: HEADER_DEPTH_MAX,
    };
    match Scanner::new(limits).scan(body) {
        Ok(Progress::Complete(length)) => Ok(length),
        Ok(Progress::Incomplete) | Err(_) => Err(DecodeError::RelayHeader),
    }
}
