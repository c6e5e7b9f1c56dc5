//! What the RPC server needs of a cluster, as the trait [`Cluster`], and the words they share.
//!
//! A cluster is a protocol core: it does no I/O and reads no clock. Requests go in as method calls with the current
//! time; what happened comes out of [`Cluster::poll_output`]; bytes for the network come out of
//! [`Cluster::poll_network`] and in through [`Cluster::handle_network`]. Whatever takes time (a join, a leave, a key
//! operation, new tags) is [started](Cluster::start) under a [`Ticket`] and ends as an [`Output::Completed`], perhaps
//! at once, so nothing ever waits.
//!
//! [`Standalone`] is a cluster of one. An embedder can bring its own.

pub mod address;
mod catalog;
mod coordinate;
mod event;
mod figure;
mod member;
mod network;
mod operation;
mod standalone;
mod tags;

pub use catalog::Catalog;
pub use coordinate::Coordinate;
pub use event::{
    Event, MemberEvent, MemberEventKind, QueryEvent, QueryId, QueryRequest, UserEvent,
};
pub use figure::{Figure, VisitFigure};
pub use member::{Member, MemberStatus, NodeInfo, VersionRange};
pub use network::{NetworkCommand, NetworkEvent, StreamId};
pub use operation::{
    ClusterError, JoinFailures, KeyOperation, KeyReport, Operation, Outcome, Ticket,
};
pub use standalone::{Standalone, StandaloneConfig};
pub use tags::{Tags, TagsError};

use std::time::Instant;

/// What a cluster has to tell its owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Something happened that streams and event handlers may want to know.
    Event(Event),
    /// `from` has received the query.
    QueryAck {
        /// The query that was asked here.
        query: QueryId,
        /// Name of the node that acknowledges.
        from: String,
    },
    /// `from` answers the query.
    QueryResponse {
        /// The query that was asked here.
        query: QueryId,
        /// Name of the node that answers.
        from: String,
        /// Its answer.
        payload: Vec<u8>,
    },
    /// The query has reached its deadline; nothing follows. Comes once for every query asked here.
    QueryDone {
        /// The query that was asked here.
        query: QueryId,
    },
    /// The cluster takes another node for this one: it has to go.
    Evicted {
        /// Why, for people.
        reason: String,
    },
    /// An operation has ended. Comes once for every [`Cluster::start`].
    Completed {
        /// What [`Cluster::start`] returned.
        ticket: Ticket,
        /// How it ended.
        outcome: Outcome,
    },
}

/// A cluster, seen from the RPC server.
///
/// After any call that takes `&mut self` and a time, poll [`poll_output`](Self::poll_output),
/// [`poll_network`](Self::poll_network) and [`poll_timeout`](Self::poll_timeout) again. Spurious polls are harmless.
pub trait Cluster {
    /// This node, as a member.
    fn local(&self) -> &Member;

    /// A number that grows with every change of anything [`visit_members`](Self::visit_members) shows.
    ///
    /// The RPC server caches its answer to `members` by it.
    fn members_version(&self) -> u64;

    /// Shows every member, this node included, in a stable order.
    fn visit_members(&self, visit: &mut dyn FnMut(&Member));

    /// How many members there are, of any status.
    fn member_count(&self) -> usize;

    /// Sends a user event to every node, this one included.
    ///
    /// # Errors
    /// [`ClusterError::EventTooLarge`] and [`ClusterError::EncodedEventTooLarge`].
    fn user_event(
        &mut self,
        now: Instant,
        name: &str,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<(), ClusterError>;

    /// Asks every node that matches the request's filters.
    ///
    /// Acknowledgements and answers come as outputs, and [`Output::QueryDone`] at the deadline.
    ///
    /// # Errors
    /// [`ClusterError::ReservedQueryName`] and [`ClusterError::QueryTooLarge`].
    fn query(&mut self, now: Instant, request: QueryRequest) -> Result<QueryId, ClusterError>;

    /// Answers a query that came as an [`Event::Query`]. A node answers a query once.
    ///
    /// # Errors
    /// [`ClusterError::UnknownQuery`], [`ClusterError::AlreadyResponded`], [`ClusterError::ResponsePastDeadline`] and
    /// [`ClusterError::ResponseTooLarge`].
    fn respond(&mut self, now: Instant, query: QueryId, payload: &[u8])
    -> Result<(), ClusterError>;

    /// Starts an operation that may take time; its end comes as [`Output::Completed`].
    fn start(&mut self, now: Instant, operation: Operation) -> Ticket;

    /// The network coordinate of a node, if one is known.
    fn coordinate(&self, node: &str) -> Option<Coordinate>;

    /// Shows the counters for the section `serf` of `stats`, in the order of their names.
    fn visit_stats(&self, visit: &mut VisitFigure<'_>);

    /// Shows the counters for the section `gossip` of `stats`, which is this program's own, in the order of their names.
    fn visit_counters(&self, visit: &mut VisitFigure<'_>) {
        let _ = visit;
    }

    /// Lets timers fire that are due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next thing to tell.
    fn poll_output(&mut self) -> Option<Output>;

    /// Takes in what the network brought.
    fn handle_network(&mut self, now: Instant, event: NetworkEvent<'_>);

    /// The next thing to ask of the network.
    fn poll_network(&mut self) -> Option<NetworkCommand>;
}
