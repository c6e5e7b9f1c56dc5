//! The RPC protocol: what a client of a Serf agent sees on the RPC port.
//!
//! A request is a MsgPack map (the header) followed, for most commands, by a second one (the body); a response
//! likewise. Nothing has a length in front, so [`crate::msgpack::frame`] finds where an object ends. [`message`] holds
//! the types of both directions, which the server and [`crate::client`] share.
//!
//! [`Hub`] is the whole server without its sockets: look at it first. Like every protocol core here it does no I/O and
//! reads no clock.
//!
//! Source of the protocol facts: hashicorp/serf, `cmd/serf/command/agent/ipc.go`, and the bytes of a running agent.

mod congestion;
mod delivery;
mod dispatch;
mod encode;
pub mod filter;
mod hub;
mod input;
mod members;
pub mod message;
mod metrics;
mod outbox;
mod session;
mod sessions;
mod stats;
mod subscriptions;

pub use hub::{
    AcceptError, Config, FAILED_AUTHS_MAX, Flushed, Hub, HubEvent, OUTBOX_HIGH_WATER_BYTES,
    Overflow, OwnerStats,
};
pub use session::{Peer, SessionId};
pub use stats::{Counters, Resources};

#[cfg(test)]
mod tests;
