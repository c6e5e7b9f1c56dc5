//! Serf's own layer on top of gossip, without I/O and clock.
//!
//! [`Serf`] is the node. Its parts: Lamport [`clock`]s; [`recent`] events and queries, by which each is told once; [`intent`]s and
//! [`membership`], which make members of nodes; [`coalesce`], which gathers bursts of events; network [`coordinate`]s;
//! the [`snapshot`] that a node rejoins from; and the [`message`]s that gossip carries.

pub mod clock;
mod cluster;
pub mod coalesce;
pub mod coordinate;
pub mod intent;
pub mod membership;
pub mod message;
pub mod recent;
pub mod snapshot;

pub use cluster::{FileCommand, Serf, SerfConfig, SerfError, SerfResources};
