//! Serf's messages, as gossip carries them: a type byte, then a MsgPack map in the old form.
//!
//! Source: hashicorp/serf, `serf/messages.go` and `serf/serf.go` (`encodeTags`).

use crate::cluster::Tags;
use crate::msgpack::raw::RawWriter;

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
    /// A user event.
    UserEvent = 3,
    /// A query.
    Query = 4,
    /// An answer or acknowledgement of a query.
    QueryResponse = 5,
}

/// Comes before the tags in a node's meta data.
const TAGS_MAGIC: u8 = 255;

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

impl UserEventMessage<'_> {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryMessage<'a> {
    /// Address to answer to, 4 or 16 bytes.
    pub addr: &'a [u8],
    /// Encoded filters.
    pub filters: &'a [Vec<u8>],
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

impl QueryMessage<'_> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::Query as u8);
        let mut writer = RawWriter(out);
        writer.map(11).raw("Addr").raw(self.addr).raw("Filters");
        if self.filters.is_empty() {
            writer.nil();
        } else {
            writer.array(self.filters.len());
            for filter in self.filters {
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

impl QueryResponseMessage<'_> {
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

/// Filter that only lets some nodes answer.
pub fn encode_node_filter(nodes: &[String]) -> Vec<u8> {
    let mut out = vec![0];
    let mut writer = RawWriter(&mut out);
    writer.array(nodes.len());
    for node in nodes {
        writer.raw(node);
    }
    out
}

/// Filter that only lets nodes answer whose tag matches an expression.
pub fn encode_tag_filter(tag: &str, expression: &str) -> Vec<u8> {
    let mut out = vec![1];
    RawWriter(&mut out)
        .map(2)
        .raw("Expr")
        .raw(expression)
        .raw("Tag")
        .raw(tag);
    out
}

/// A node's meta data: its tags.
pub fn encode_tags(tags: &Tags) -> Vec<u8> {
    let mut out = vec![TAGS_MAGIC];
    let mut writer = RawWriter(&mut out);
    writer.map(tags.len());
    for (key, value) in tags.iter() {
        writer.raw(key).raw(value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_events_count_their_keys() {
        let mut out = Vec::new();
        UserEventMessage {
            coalesce: false,
            ltime: 1,
            name: "n",
            payload: b"hi",
        }
        .encode(&mut out);
        assert_eq!(
            out,
            b"\x03\x84\xa2CC\xc2\xa5LTime\x01\xa4Name\xa1n\xa7Payload\xa2hi"
        );
    }

    #[test]
    fn tags_come_after_the_magic_byte() {
        let tags = [("role", "web")].into_iter().collect();
        assert_eq!(encode_tags(&tags), b"\xff\x81\xa4role\xa3web");
    }
}
