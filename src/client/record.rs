//! Records of subscriptions, decoded.

use rmp_serde::decode::Error;
use serde::de::Error as _;

use crate::cluster::{MemberEvent, MemberEventKind, UserEvent};
use crate::rpc::message::{
    LogRecord, MemberEventRecord, QueryEventRecord, QueryRecord, Text, UserEventRecord,
};

/// What comes for a subscription.
pub trait Record: Sized {
    /// Decodes a record.
    ///
    /// # Errors
    /// When it is none of this kind.
    fn decode(bytes: &[u8]) -> Result<Self, Error>;

    /// Whether nothing follows.
    fn is_last(&self) -> bool {
        false
    }
}

/// A record of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// Members came, went or changed.
    Member(MemberEvent),
    /// A user sent an event.
    User(UserEvent),
    /// Somebody asks; [`Client::respond`](super::Client::respond) answers.
    Query {
        /// To answer with.
        id: u64,
        /// Lamport time of the query.
        ltime: u64,
        /// Its name.
        name: String,
        /// What it carries.
        payload: Vec<u8>,
    },
}

impl Record for StreamEvent {
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        /// What all records of a stream have.
        #[derive(serde::Deserialize)]
        struct Kind<'a> {
            #[serde(rename = "Event", borrow)]
            event: Text<'a>,
        }
        let owned = |text: Text<'_>| text.0.to_owned();
        let kind: Kind<'_> = rmp_serde::from_slice(bytes)?;
        Ok(match kind.event.0 {
            "user" => {
                let record: UserEventRecord<'_> = rmp_serde::from_slice(bytes)?;
                Self::User(UserEvent {
                    ltime: record.ltime,
                    name: owned(record.name),
                    payload: record.payload.0.to_vec(),
                    coalesce: record.coalesce,
                })
            }
            "query" => {
                let record: QueryEventRecord<'_> = rmp_serde::from_slice(bytes)?;
                Self::Query {
                    id: record.id,
                    ltime: record.ltime,
                    name: owned(record.name),
                    payload: record.payload.0.to_vec(),
                }
            }
            name => {
                let kind = MemberEventKind::ALL
                    .into_iter()
                    .find(|kind| kind.as_str() == name);
                let unknown =
                    || Error::custom(format_args!("an event of the unknown kind '{name}'"));
                let kind = kind.ok_or_else(unknown)?;
                let record: MemberEventRecord<'_> = rmp_serde::from_slice(bytes)?;
                let members = record
                    .members
                    .iter()
                    .filter_map(crate::rpc::message::Member::to_member)
                    .collect();
                Self::Member(MemberEvent { kind, members })
            }
        })
    }
}

impl Record for String {
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let record: LogRecord<'_> = rmp_serde::from_slice(bytes)?;
        Ok(record.log.0.to_owned())
    }
}

/// A record of a query asked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryReply {
    /// A node has received the query.
    Ack {
        /// Its name.
        from: String,
    },
    /// A node answers.
    Response {
        /// Its name.
        from: String,
        /// The answer.
        payload: Vec<u8>,
    },
    /// The query has ended.
    Done,
}

impl Record for QueryReply {
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let record: QueryRecord<'_> = rmp_serde::from_slice(bytes)?;
        let from = record.from.0.to_owned();
        match record.r#type.0 {
            "ack" => Ok(Self::Ack { from }),
            "response" => Ok(Self::Response {
                from,
                payload: record.payload.0.to_vec(),
            }),
            "done" => Ok(Self::Done),
            other => Err(Error::custom(format_args!(
                "a query record of the unknown type '{other}'"
            ))),
        }
    }

    fn is_last(&self) -> bool {
        *self == Self::Done
    }
}
