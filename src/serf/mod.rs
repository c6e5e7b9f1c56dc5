//! Serf's own layer on top of gossip: events, queries, keys.

mod clock;
pub mod coalesce;
mod coordinate;
mod intent;
mod membership;
pub mod message;
mod recent;
pub mod snapshot;
