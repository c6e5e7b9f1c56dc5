//! A load generator for the RPC of any Serf agent, ours or the reference's: `serfling bench`.
//!
//! It is one mio loop in one thread, like the agent, so both can be kept to a processor each. A run has three parts:
//! every connection is opened and greeted; then requests are sent for a while; then what is on its way may come. Only
//! the middle is measured, up to the last answer.
//!
//! - Flat out, each client has as many requests in flight as it may (`depth`), and sends the next when one is answered.
//! - At a rate, each request has a time when it is due, whatever became of those before it. Its response time counts from
//!   then, also when it had to wait until a client had room: an agent that stalls does not hide how long others would
//!   have waited (coordinated omission). The time from its sending is reported too, as the service time.
//!
//! Every answer is checked: its Seq must be the next one of its connection, its Error empty, its body whole. An error of
//! the agent ends the run with that error. What got lost is no error but a result, and counted: events that did not
//! reach a subscriber, queries without an answer, idle connections that were closed.
//!
//! Events and queries are real, and reach the whole cluster behind the agent; their name is `serfling-bench`.
//!
//! `plan` says what a load is, `wire` makes requests and checks answers, `connection` is a socket and what waits there,
//! `load` the loop, `traffic` what each kind of connection does, `tally` counts.

mod connection;
mod load;
mod plan;
mod tally;
mod traffic;
mod wire;

pub use plan::{CONNECTIONS_MAX, DEPTH_MAX, PAYLOAD_BYTES_MAX, Plan, Workload};
pub use tally::{Report, Times};
pub use wire::{FIRST_SEQ, Template};

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::address::RpcAddr;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What is asked for makes no sense.
    #[error("{0}")]
    Plan(String),
    /// The agent can't be reached.
    #[error("can't connect to the agent at {address}: {source}")]
    Connect {
        /// Where it should be.
        address: RpcAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A connection ended.
    #[error("the agent ended a connection ({0})")]
    Closed(&'static str),
    /// A connection broke.
    #[error("a connection to the agent broke: {0}")]
    Io(#[from] io::Error),
    /// A request failed, in the agent's words.
    #[error("the agent refused a request: {0}")]
    Agent(String),
    /// What came is not the RPC protocol.
    #[error("the agent sent something else than RPC: {0}")]
    Protocol(String),
    /// Nothing came for too long.
    #[error("the agent did not answer within {waited:?}: {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Connections that are ready.
    pub ready: usize,
    /// Connections that there will be.
    pub connections: usize,
    /// How long requests have been sent.
    pub elapsed: Duration,
    /// Requests answered.
    pub answered: u64,
    /// Events delivered.
    pub delivered: u64,
    /// Response time, median so far.
    pub median: Duration,
}

/// Carries out a plan. Tells of its progress several times a second, and ends early on a break; what was measured until
/// then is reported.
///
/// # Errors
/// [`BenchError`].
pub fn run(
    plan: &Plan,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report, BenchError> {
    load::Load::new(plan)?.run(progress)
}
