//! Gossip between the nodes of a cluster: memberlist's protocol, without I/O and clock.
//!
//! [`Gossip`] is the node: it probes, suspects, refutes, spreads news and compares states. Its [`timing`] is memberlist's.
//!
//! Its codecs: a [`packet`] from outside in (an [`envelope`] of label, [`encryption`], checksum, [`compression`] and
//! compounds around [`message`]s), and a [`stream`] that is read as it comes. The [`keyring`] holds the keys of both.

pub mod awareness;
pub mod broadcast;
pub mod compression;
mod core;
mod counters;
pub mod encryption;
pub mod envelope;
mod exchange;
mod join;
pub mod keyring;
mod merge;
pub mod message;
mod nodes;
pub mod packet;
mod packets;
mod probe;
mod resources;
mod state;
pub mod stream;
pub mod suspicion;
pub mod timing;

pub use self::core::{Gossip, GossipConfig, GossipEvent, QUEUE_MIN, Queue};
pub use counters::GossipCounters;
pub use exchange::{ACCEPTED_MAX, HELD_BYTES_MAX, PUSH_PULLS_MAX};
pub use merge::NODES_PER_TURN;
pub use resources::GossipResources;

#[cfg(test)]
mod tests;
