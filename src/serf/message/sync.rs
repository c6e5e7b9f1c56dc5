//! What a node knows, for another to compare.

use serde::Deserialize;

use super::{DecodeError, MessageType, body};
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, Pairs, Text, Texts, or_zero};

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
    #[serde(rename = "Events", borrow, deserialize_with = "or_zero")]
    events: Vec<Option<EventsFields<'a>>>,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
    #[serde(rename = "LeftMembers", borrow)]
    left_members: Texts<'a>,
    #[serde(rename = "QueryLTime", deserialize_with = "or_zero")]
    query_ltime: u64,
    #[serde(rename = "StatusLTimes", borrow)]
    status_ltimes: Pairs<'a, u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventsFields<'a> {
    #[serde(rename = "Events", borrow, deserialize_with = "or_zero")]
    events: Vec<EventFields<'a>>,
    #[serde(rename = "LTime", deserialize_with = "or_zero")]
    ltime: u64,
}

#[derive(Default, Deserialize)]
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
        let read: Fields<'a> = rmp_serde::from_slice(body(bytes, MessageType::PushPull)?)?;
        let events = read.events.into_iter().flatten().map(|slot| EventsAt {
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
                .0
                .into_iter()
                .map(|(name, ltime)| (name.0, ltime))
                .collect(),
            left_members: read.left_members.0,
            event_ltime: read.event_ltime,
            events: events.collect(),
            query_ltime: read.query_ltime,
        })
    }
}
