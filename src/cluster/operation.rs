//! Operations that may take time, how they end, and what a cluster refuses.

use std::fmt;

use super::tags::Tags;

/// Names a started operation until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that may take time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Join the cluster of the nodes at these addresses. Ends as [`Outcome::Joined`].
    Join {
        /// `host`, `host:port` or `name/host:port` each.
        addresses: Vec<String>,
        /// Whether to hear of user events from before the join.
        replay: bool,
    },
    /// Leave the cluster, gracefully. Ends as [`Outcome::Done`].
    Leave,
    /// Make the others take a failed node for one that left. Ends as [`Outcome::Done`].
    ForceLeave {
        /// The node's name.
        node: String,
        /// Whether to forget it altogether.
        prune: bool,
    },
    /// Replace this node's tags. Ends as [`Outcome::Done`].
    SetTags(Tags),
    /// Work on every node's keyring. Ends as [`Outcome::Keys`].
    Key(KeyOperation),
}

/// Work on every node's keyring. Keys are base64 text, as clients send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOperation {
    /// Accept messages under this key.
    Install(String),
    /// Encrypt with this key from now on.
    Use(String),
    /// Forget this key.
    Remove(String),
    /// Tell which keys there are.
    List,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, or refused.
    Done(Result<(), ClusterError>),
    /// A join ended. Some addresses may have failed though others did not.
    Joined {
        /// How many addresses answered.
        count: usize,
        /// What went wrong, if anything did.
        failures: Option<JoinFailures>,
    },
    /// A key operation ended.
    Keys {
        /// What the nodes said.
        report: KeyReport,
        /// What went wrong, if anything did.
        error: Option<ClusterError>,
    },
}

/// What the nodes said to a key operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Messages by node name: why it failed, as a rule.
    pub messages: Vec<(String, String)>,
    /// How many nodes have each key (base64); `None` when that was not asked.
    pub keys: Option<Vec<(String, u64)>>,
    /// How many nodes were asked.
    pub nodes: u64,
    /// How many failed.
    pub errors: u64,
    /// How many answered.
    pub responses: u64,
}

/// The addresses a join failed for, as one text.
///
/// Its form is the reference's (go-multierror's list), which scripts match on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinFailures(pub Vec<String>);

impl fmt::Display for JoinFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(
            f,
            "{count} {} occurred:",
            if count == 1 { "error" } else { "errors" }
        )?;
        for failure in &self.0 {
            writeln!(f, "\t* {failure}")?;
        }
        writeln!(f)
    }
}

impl std::error::Error for JoinFailures {}

/// What a cluster refuses. The texts are the reference's where it has them: clients and scripts match on them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Name and payload together are over the limit.
    #[error("user event exceeds configured limit of {limit} bytes before encoding")]
    EventTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The message on the wire is over the limit.
    #[error("encoded user event exceeds configured limit of {limit} bytes after encoding")]
    EncodedEventTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// Names starting so are internal.
    #[error("Queries cannot contain the '_serf_' prefix")]
    ReservedQueryName,
    /// The message on the wire is over the limit.
    #[error("query exceeds limit of {limit} bytes")]
    QueryTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// No such query waits for an answer.
    #[error("No pending queries matching ID")]
    UnknownQuery,
    /// This node has answered that query.
    #[error("failed to respond to key query: response already sent")]
    AlreadyResponded,
    /// The query waits no longer.
    #[error("failed to respond to key query: response is past the deadline")]
    ResponsePastDeadline,
    /// The message on the wire is over the limit.
    #[error("failed to respond to key query: response exceeds limit of {limit} bytes")]
    ResponseTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The tags on the wire are over the limit.
    #[error("Encoded length of tags exceeds limit of {limit} bytes")]
    TagsTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The tags could not be kept, so they stay as they were.
    #[error("Error writing tags file: {error}")]
    TagsNotWritten {
        /// What the system says.
        error: String,
    },
    /// The key is no base64.
    #[error("illegal base64 data at input byte {at}")]
    InvalidBase64 {
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// Some nodes could not do what was asked of their keyring.
    #[error("{failed}/{nodes} nodes reported failure")]
    KeyFailures {
        /// How many failed.
        failed: u64,
        /// How many were asked.
        nodes: u64,
    },
    /// Some nodes did not answer to a key operation.
    #[error("{responses}/{nodes} nodes reported success")]
    KeyUnanswered {
        /// How many answered.
        responses: u64,
        /// How many were asked.
        nodes: u64,
    },
    /// A second leave while the first goes on.
    #[error("Leave already in progress")]
    LeaveInProgress,
    /// The others could not be told in time.
    #[error("timed out broadcasting node removal")]
    RemovalTimedOut,
    /// The others could not be told in time.
    #[error("timeout waiting for update broadcast")]
    UpdateTimedOut,
    /// The cluster's protocol version lacks what was asked.
    #[error("feature not supported at current protocol version")]
    NotSupported,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_failures_read_as_the_reference_writes_them() {
        let one = JoinFailures(vec!["Failed to join 127.0.0.1: x".to_owned()]);
        assert_eq!(
            one.to_string(),
            "1 error occurred:\n\t* Failed to join 127.0.0.1: x\n\n"
        );
        let two = JoinFailures(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(two.to_string(), "2 errors occurred:\n\t* a\n\t* b\n\n");
    }
}
