//! Serf's own layer on top of gossip: events, queries, keys.

pub mod coalesce;
pub mod message;
