//! Gossip between the nodes of a cluster: memberlist's protocol.

pub mod compression;
pub mod encryption;
pub mod envelope;
pub mod keyring;
pub mod message;
pub mod packet;
pub mod stream;
