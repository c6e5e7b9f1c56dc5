//! What happens in a cluster: member events, user events and queries.

use std::fmt;
use std::time::{Duration, Instant};

use super::member::Member;

/// Something that streams and event handlers may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Members came, went or changed.
    Member(MemberEvent),
    /// A user sent an event.
    User(UserEvent),
    /// Somebody asks this node something.
    Query(QueryEvent),
}

impl fmt::Display for Event {
    /// As the agent's log names it (`serf/event.go`, the `String` methods).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(event) => f.write_str(event.kind.as_str()),
            Self::User(event) => write!(f, "user-event: {}", event.name),
            Self::Query(event) => write!(f, "query: {}", event.name),
        }
    }
}

/// What happened to the members of a [`MemberEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberEventKind {
    /// They are new, or back.
    Join,
    /// They went gracefully.
    Leave,
    /// They stopped answering.
    Failed,
    /// Their tags or address changed.
    Update,
    /// They are forgotten.
    Reap,
}

impl MemberEventKind {
    /// Every kind, in the order of [`index`](Self::index).
    pub const ALL: [Self; 5] = [
        Self::Join,
        Self::Leave,
        Self::Failed,
        Self::Update,
        Self::Reap,
    ];

    /// The word that clients and scripts see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "member-join",
            Self::Leave => "member-leave",
            Self::Failed => "member-failed",
            Self::Update => "member-update",
            Self::Reap => "member-reap",
        }
    }

    /// The kind's place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Members came, went or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberEvent {
    /// What happened.
    pub kind: MemberEventKind,
    /// To whom, as they are now.
    pub members: Vec<Member>,
}

/// A user sent an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEvent {
    /// Lamport time of the event.
    pub ltime: u64,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Whether the sender lets newer events of this name replace it.
    pub coalesce: bool,
}

/// Names a query in the whole cluster, on the wire too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId {
    /// Lamport time of the query.
    pub ltime: u64,
    /// A random number that tells queries of the same time apart.
    pub id: u32,
}

/// Somebody asks this node something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryEvent {
    /// Which query.
    pub id: QueryId,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Answers after this are refused.
    pub deadline: Instant,
}

/// A query to ask the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryRequest {
    /// Its name.
    pub name: String,
    /// What it carries; `None` differs from empty for the internal ping only.
    pub payload: Option<Vec<u8>>,
    /// Only these nodes are to answer; all when empty.
    pub filter_nodes: Vec<String>,
    /// Only nodes whose tags match these regular expressions (not anchored) are to answer.
    pub filter_tags: Vec<(String, String)>,
    /// Whether every node that matches confirms that it received the query.
    pub request_ack: bool,
    /// How many other nodes repeat each answer, against loss.
    pub relay_factor: u8,
    /// How long answers are taken; the cluster chooses when `None`.
    pub timeout: Option<Duration>,
}
