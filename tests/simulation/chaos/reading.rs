//! What clients write and read: bytes go between them and their nodes in any split, and what comes is checked.

use rand::RngExt;
use rmpv::Value;
use serfling::rpc::message::Command;
use serfling::rpc::{Flushed, SessionId};

use super::Chaos;
use crate::client::{Client, EventStream, Read, Subscription, map};

impl Chaos {
    fn clients_of(&self, node: usize) -> Vec<(usize, SessionId)> {
        let of_node = |(of, _): &&(usize, SessionId)| *of == node;
        self.clients.keys().filter(of_node).copied().collect()
    }

    /// Lets the clients of a node write what it takes. Says whether anything moved.
    pub(super) fn have_clients_write(&mut self, node: usize) -> bool {
        let now = self.world.now;
        let keys = self.clients_of(node);
        let Some(process) = self.world.get_mut(node).filter(|process| !process.paused) else {
            return false;
        };
        let mut moved = false;
        for key in keys {
            let Some(client) = self.clients.get_mut(&key) else {
                continue;
            };
            while !client.unsent.is_empty() && process.hub.wants_read(key.1) {
                // The system cuts as it likes.
                let count = self.rng.random_range(1..=client.unsent.len());
                let bytes: Vec<u8> = client.unsent.drain(..count).collect();
                process.hub.handle_bytes(now, key.1, &bytes);
                moved = true;
            }
        }
        moved
    }

    /// Lets the clients of a node read. Says whether anything moved.
    pub(super) fn have_clients_read(&mut self, node: usize) -> bool {
        let now = self.world.now;
        let Some(process) = self.world.get_mut(node).filter(|process| !process.paused) else {
            return false;
        };
        let mut moved = false;
        while process.hub.poll_dirty().is_some() {}
        while let Some(id) = process.hub.poll_close() {
            process.hub.handle_gone(now, id);
            self.clients.remove(&(node, id));
            self.sending
                .retain(|(of, whose, _), _| (*of, *whose) != (node, id));
            moved = true;
        }
        for key in self.clients_of(node) {
            moved |= self.have_client_read(key);
        }
        moved
    }

    fn have_client_read(&mut self, key: (usize, SessionId)) -> bool {
        let (now, id) = (self.world.now, key.1);
        let (Some(process), Some(client)) = (self.world.get_mut(key.0), self.clients.get_mut(&key))
        else {
            return false;
        };
        if client.stalled {
            return false;
        }
        let pending = process.hub.pending(id);
        if pending.is_empty() {
            if process.hub.handle_flushed(now, id) == Flushed::Keep {
                return false;
            }
            assert_eq!(client.unanswered(), 0, "closed with requests unanswered");
            process.hub.handle_eof(now, id);
            self.vanish(key);
            return true;
        }
        let count = self.rng.random_range(1..=pending.len());
        client.take(&pending[..count]);
        process.hub.handle_sent(id, count);
        // One by one: what a response ends, records before it still belong to.
        while let Some(read) = self.clients.get_mut(&key).and_then(Client::read) {
            self.take(key, read);
        }
        true
    }

    /// A client read something.
    pub(super) fn take(&mut self, key: (usize, SessionId), read: Read) {
        let now = self.world.now;
        if matches!(read, Read::UserEvent { .. }) {
            // Another client's end may have had the node tell more since it was last looked at.
            self.hear_all(key.0);
        }
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let process = (key.0, client.run);
        match read {
            Read::Response {
                seq,
                command,
                error,
                body,
            } => {
                self.summary.requests += 1;
                let told = self.ledger.process(process).told.len();
                match (command, client.subscriptions.get_mut(&seq)) {
                    (Command::Stream, Some(Subscription::Events(stream))) => stream.starts.1 = told,
                    (Command::Query, Some(_)) => client.query_taken(now, seq),
                    _ => {}
                }
                if let Some(name) = self.sending.remove(&(key.0, key.1, seq)) {
                    assert_eq!(error, "", "{name}");
                    self.ledger.accepted(&name);
                }
                if command == Command::Members {
                    let body = body.expect("a body");
                    let members = crate::client::field(&body, "Members").as_array();
                    assert!(members.is_some_and(|members| !members.is_empty()));
                }
                if command == Command::Join {
                    self.ledger.joined(process);
                }
            }
            Read::UserEvent { seq, ltime, name } => {
                self.summary.records += 1;
                let told = &self.ledger.process(process).told;
                let subscription = client.subscriptions.get_mut(&seq);
                let Some(Subscription::Events(stream)) = subscription else {
                    panic!("an event for what is no stream");
                };
                follow(stream, told, (ltime, name), client.was_stalled);
            }
            Read::Query { id, name } => {
                self.summary.records += 1;
                if name.len().is_multiple_of(2) || self.rng.random() {
                    let answer = format!("{name} n{}", key.0);
                    let payload = Value::Binary(answer.into_bytes());
                    let body = map([("ID", id.into()), ("Payload", payload)]);
                    client.ask(Command::Respond, Some(body));
                }
            }
            Read::Done { acks, responses } => {
                self.summary.records += 1;
                let nodes = self.nodes;
                assert!(acks <= nodes && responses <= nodes);
            }
        }
    }
}

/// A record of a stream is what its node told next.
fn follow(stream: &mut EventStream, told: &[(u64, String)], event: (u64, String), drops: bool) {
    let at = told.iter().rposition(|have| *have == event);
    let at = at.unwrap_or_else(|| panic!("a stream tells {event:?}, its node does not"));
    match stream.next {
        Some(next) if drops => assert!(at >= next, "{event:?} comes late or twice"),
        Some(next) => assert_eq!(at, next, "{event:?} is not what comes next"),
        None => assert!(
            at >= stream.starts.0 && (drops || at <= stream.starts.1),
            "{event:?} is number {at}, expected within {:?}",
            stream.starts
        ),
    }
    stream.next = Some(at + 1);
}
