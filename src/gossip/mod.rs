//! Gossip between the nodes of a cluster: memberlist's protocol.

pub mod keyring;
pub mod message;
