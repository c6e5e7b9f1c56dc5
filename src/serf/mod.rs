//! Serf on top of gossip: events, queries, intents, keys and coordinates.

mod clock;
mod coalesce;
mod intent;
mod recent;

pub use coalesce::{CoalesceConfig, Coalescer};
