//! What a node knows, for another to compare.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{DecodeError, MessageType, body};
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, Text, or_zero};

/// Most items of a list: as many as memberlist takes nodes. With the lists' zero values left out, this keeps what is
/// decoded to a few times the size of what came.
const ITEMS_MAX: usize = 1024 * 1024;

/// What a node knows, for another to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushPullMessage<'a> {
    /// The members' Lamport time.
    pub ltime: u64,
    /// The Lamport time of each member's status.
    pub status_ltimes: Vec<(&'a str, u64)>,
    /// Names of the members that left.
    pub left_members: Vec<&'a str>,
    /// The user events' Lamport time.
    pub event_ltime: u64,
    /// The user events of late.
    pub events: Vec<EventsAt<'a>>,
    /// The queries' Lamport time.
    pub query_ltime: u64,
}

/// The user events of one Lamport time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsAt<'a> {
    /// The time.
    pub ltime: u64,
    /// The events.
    pub events: Vec<StoredEvent<'a>>,
}

/// A user event of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredEvent<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it carried.
    pub payload: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(rename = "EventLTime", deserialize_with = "or_zero")]
    event_ltime: u64,
    /// The reference writes all its 512 slots, most of them nil.
    #[serde(rename = "Events", borrow, deserialize_with = "list")]
    events: Vec<Option<EventsFields<'a>>>,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
    #[serde(rename = "LeftMembers", borrow, deserialize_with = "list")]
    left_members: Vec<Text<'a>>,
    #[serde(rename = "QueryLTime", deserialize_with = "or_zero")]
    query_ltime: u64,
    #[serde(rename = "StatusLTimes", borrow, deserialize_with = "pairs")]
    status_ltimes: Vec<(Text<'a>, u64)>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(default)]
struct EventsFields<'a> {
    #[serde(rename = "Events", borrow, deserialize_with = "list")]
    events: Vec<EventFields<'a>>,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct EventFields<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    payload: Bytes<'a>,
}

impl<'a> PushPullMessage<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MessageType::PushPull as u8);
        let mut writer = RawWriter(out);
        writer.map(6).raw("EventLTime").uint(self.event_ltime);
        writer.raw("Events").array(self.events.len());
        for slot in &self.events {
            writer.map(2).raw("Events").array(slot.events.len());
            for event in &slot.events {
                writer.map(2).raw("Name").raw(event.name);
                writer.raw("Payload").raw_or_nil(event.payload);
            }
            writer.raw("LTime").uint(slot.ltime);
        }
        writer.raw("LTime").uint(self.ltime);
        writer.raw("LeftMembers").array(self.left_members.len());
        for name in &self.left_members {
            writer.raw(name);
        }
        writer.raw("QueryLTime").uint(self.query_ltime);
        writer.raw("StatusLTimes").map(self.status_ltimes.len());
        for (name, ltime) in &self.status_ltimes {
            writer.raw(name).uint(*ltime);
        }
    }

    /// Reads a message, type byte included.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let read: Fields<'a> = msgpack::decode(body(bytes, MessageType::PushPull)?)?;
        let events = read
            .events
            .into_iter()
            .flatten()
            .filter(|slot| !slot.events.is_empty());
        let events = events.map(|slot| EventsAt {
            ltime: slot.ltime,
            events: slot
                .events
                .into_iter()
                .map(|event| StoredEvent {
                    name: event.name.0,
                    payload: event.payload.0,
                })
                .collect(),
        });
        Ok(Self {
            ltime: read.ltime,
            status_ltimes: read
                .status_ltimes
                .into_iter()
                .map(|(name, ltime)| (name.0, ltime))
                .collect(),
            left_members: read.left_members.into_iter().map(|name| name.0).collect(),
            event_ltime: read.event_ltime,
            events: events.collect(),
            query_ltime: read.query_ltime,
        })
    }
}

/// Reads a list, or nil, without its zero values: they say nothing, and a byte each brings them.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

/// Reads a map from names to times, or nil, likewise.
fn pairs<'de, D>(deserializer: D) -> Result<Vec<(Text<'de>, u64)>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(PairsVisitor)
}

fn keep<T: Default + PartialEq, E: Error>(items: &mut Vec<T>, item: T) -> Result<(), E> {
    if item == T::default() {
        return Ok(());
    }
    if items.len() == ITEMS_MAX {
        return Err(E::custom(format_args!("a list of more than {ITEMS_MAX}")));
    }
    items.push(item);
    Ok(())
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default + PartialEq> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // No capacity from the declared length: memory follows what came.
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            keep(&mut items, item)?;
        }
        Ok(items)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Vec<(Text<'de>, u64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = map.next_entry()? {
            keep(&mut items, item)?;
        }
        Ok(items)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}
