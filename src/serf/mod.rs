//! Serf's own layer on top of gossip: events, queries, keys.

pub mod clock;
pub mod coalesce;
pub mod coordinate;
pub mod intent;
pub mod membership;
pub mod message;
pub mod recent;
pub mod snapshot;
