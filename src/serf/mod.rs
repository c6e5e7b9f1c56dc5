//! Serf's own layer on top of gossip: events, queries, keys.

mod clock;
pub mod coalesce;
mod coordinate;
mod intent;
pub mod message;
mod recent;
pub mod snapshot;
