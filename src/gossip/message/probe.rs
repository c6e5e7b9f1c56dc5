//! Messages of probes: pings, direct and indirect, and their answers.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use super::MessageType;
use super::field::{addr, bytes, text, write_addr};
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::or_zero;

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
