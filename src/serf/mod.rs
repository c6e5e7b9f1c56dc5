//! Serf on top of gossip: events, queries, intents, keys and coordinates.

mod coalesce;

pub use coalesce::{CoalesceConfig, Coalescer};
