//! **serfling** is an agent for [HashiCorp Serf](https://www.serf.io) clusters in one thread and a few MiB, as a
//! program and as a library.
//!
//! # Architecture
//!
//! ```text
//! bytes ──> reactor ──> sessions / gossip ──> cluster          input: (now, bytes) or (now, timer)
//! bytes <── reactor <── outboxes          <── outputs           output: polled, never called back
//! ```
//!
//! Data flows one way through three rings:
//!
//! - [`reactor`] is the only code that touches sockets, signals and the clock: one mio `Poll`, one thread.
//! - [`rpc`] (sessions of RPC clients), [`gossip`] (SWIM packets and streams) and `mdns` (multicast DNS, a feature of
//!   the crate) are protocol cores. They do no I/O and read no clock: `now` is an argument, randomness comes from a generator they are given.
//! - [`cluster`] is what the RPC server needs of a cluster, as a trait; [`cluster::Standalone`] is a cluster of one.
//!
//! Every core speaks the same verbs: `handle_…` pushes input in, `poll_…` pulls output out until it returns `None`.
//! Polling too often is harmless.
//!
//! Around them: [`log_ring`] keeps what monitors are shown, [`agent`] makes a daemon of it (configuration, log), [`client`] is a blocking client over the same
//! wire types, and [`cli`] is the command line. The feature `bench`, on by default, adds a load generator.

pub mod address;
pub mod agent;
mod backlog;
#[cfg(feature = "bench")]
pub mod bench;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod gossip;
pub mod log_ring;
#[cfg(feature = "mdns")]
pub mod mdns;
pub mod msgpack;
pub mod reactor;
pub mod rpc;
pub mod serf;
pub mod timer_wheel;

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
