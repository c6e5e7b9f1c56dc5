//! Gossip between the nodes of a cluster: memberlist's protocol, without I/O and clock.
//!
//! Its codecs: a [`packet`] from outside in (an [`envelope`] of label, [`encryption`], checksum, [`compression`] and
//! compounds around [`message`]s), and a [`stream`] that is read as it comes. The [`keyring`] holds the keys of both.

pub mod compression;
pub mod encryption;
pub mod envelope;
pub mod keyring;
pub mod message;
pub mod packet;
pub mod stream;
