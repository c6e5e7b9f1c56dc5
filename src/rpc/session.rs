//! What the hub knows of one client.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::message::Command;
use super::outbox::Outbox;
use super::subscriptions::StreamKey;
use crate::cluster::QueryId;
use crate::log_ring::Level;
use crate::msgpack::frame::Scanner;
use crate::timer_wheel::TimerKey;

/// Names a client for as long as it is connected. One of a client that has gone is detected, not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl SessionId {
    #[cfg(test)]
    pub(super) const fn for_test(slot: u32) -> Self {
        Self {
            slot,
            generation: 0,
        }
    }

    /// A small number that no other connected client has.
    pub(crate) const fn slot(self) -> usize {
        self.slot as usize
    }

    /// As one number, for the log.
    #[must_use]
    pub const fn number(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }
}

/// Who a client is, for the log and for stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a Unix socket; the number tells such clients apart.
    Unix(u64),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(number) => write!(f, "unix:{number}"),
        }
    }
}

/// Where in a request the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Header,
    Body {
        command: Command,
        seq: u64,
    },
    /// The request is answered; its body, if it comes, is of no interest.
    SkippedBody,
}

/// Why a client's next requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    No,
    /// An operation that takes time has not ended.
    Operation,
    /// Subscribers that keep reading must catch up before the next event.
    Congestion,
}

/// Whether the client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// There are too many clients: its first request is answered with that.
    Refused,
    /// It has yet to perform the handshake.
    AwaitHandshake,
    /// It has yet to authenticate.
    AwaitAuth,
    /// It may do anything.
    Granted,
}

/// The end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// Takes no more requests; ends once the outbox is empty.
    Finishing,
    /// Everything is sent; waits for the client to end its side.
    Lingering,
}

/// One client. Small, as most clients are idle: what few have is boxed.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) generation: u32,
    pub(super) peer: Peer,
    pub(super) access: Access,
    pub(super) expect: Expect,
    pub(super) held: Held,
    pub(super) life: Life,
    /// The client has ended its side.
    pub(super) eof: bool,
    /// Stands in the hub's list of sessions with something to send.
    pub(super) dirty: bool,
    /// Stands in the hub's list of sessions with requests to go on with.
    pub(super) ready: bool,
    pub(super) failed_auths: u8,
    /// Bytes not yet worked on; they begin with an object's first.
    pub(super) inbox: Vec<u8>,
    /// How far an incomplete object at the start of the inbox was looked at.
    pub(super) scanner: Option<Box<Scanner>>,
    pub(super) outbox: Outbox,
    /// Ends a client that does not get on with it.
    pub(super) deadline: Option<TimerKey>,
    pub(super) extras: Option<Box<Extras>>,
}

/// What a client that subscribes or asks has.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Open streams by the Seq that opened them.
    pub(super) streams: BTreeMap<u64, StreamKey>,
    pub(super) monitor: Option<Monitor>,
    /// Queries delivered here and not past their deadline, by the ID the client knows.
    pub(super) pending_queries: HashMap<u64, PendingQuery>,
    /// The ID of the newest.
    pub(super) last_query: u64,
    /// Queries this client asked that are not done.
    pub(super) asked: HashSet<QueryId>,
    /// Records this client never got.
    pub(super) dropped: u64,
    /// How many of them the log has told of.
    pub(super) dropped_told: u64,
    /// When the log last told.
    pub(super) told_at: Option<Instant>,
    pub(super) congestion: Congestion,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Monitor {
    pub(super) seq: u64,
    pub(super) level: Level,
    /// Number of the next line to show.
    pub(super) next: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PendingQuery {
    pub(super) query: QueryId,
    pub(super) timer: TimerKey,
}

/// Whether a subscriber keeps up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Congestion {
    #[default]
    Clear,
    /// Behind, and reading: publishers wait for it.
    Behind {
        timer: TimerKey,
        /// Bytes it took since the timer was set.
        taken: usize,
    },
    /// Behind, and not reading: nobody waits for it.
    Stalled,
}

impl Session {
    pub(super) fn new(generation: u32, peer: Peer, access: Access) -> Self {
        Self {
            generation,
            peer,
            access,
            expect: Expect::Header,
            held: Held::No,
            life: Life::Open,
            eof: false,
            dirty: false,
            ready: false,
            failed_auths: 0,
            inbox: Vec::new(),
            scanner: None,
            outbox: Outbox::default(),
            deadline: None,
            extras: None,
        }
    }

    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Whether requests are worked on now.
    pub(super) fn may_proceed(&self, outbox_high_water: usize) -> bool {
        self.life == Life::Open && self.held == Held::No && self.outbox.len() < outbox_high_water
    }
}
