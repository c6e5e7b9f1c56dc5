//! What comes of a query.

use serfling::client::{Client, QueryReply, Subscription};

use super::PATIENCE;
use super::agent::Kind;

/// Everything up to the end of a query that an agent of this kind was asked.
///
/// The reference may tell of acks and answers from nobody at a query's deadline: it reads from channels that were closed
/// a moment before its own timer. They are left out.
pub fn replies(
    kind: Kind,
    client: &mut Client,
    query: &Subscription<QueryReply>,
) -> Vec<QueryReply> {
    let mut replies = Vec::new();
    loop {
        let reply = client.next(query, Some(PATIENCE)).expect("a reply");
        let reply = reply.expect("the query is done in time");
        let from_nobody = match &reply {
            QueryReply::Ack { from } | QueryReply::Response { from, .. } => from.is_empty(),
            QueryReply::Done => false,
        };
        if kind == Kind::Reference && from_nobody {
            continue;
        }
        let done = reply == QueryReply::Done;
        replies.push(reply);
        if done {
            return replies;
        }
    }
}
