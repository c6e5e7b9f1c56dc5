//! Joins of a cluster of one: they fail, each address with its reason.
//!
//! Addresses are dialled all the same, so that whoever asks learns what is wrong with them first.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Standalone, Timer};
use crate::cluster::address::JoinAddress;
use crate::cluster::{JoinFailures, NetworkCommand, NetworkEvent, Outcome, StreamId, Ticket};
use crate::timer_wheel::TimerKey;

/// How long an address may take to be looked up, and to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An address of a join that is being tried.
#[derive(Debug)]
struct Attempt {
    join: Ticket,
    /// Its place among the join's failures.
    place: usize,
    /// As it was given.
    address: String,
    port: u16,
    /// What is dialled now, once that is known.
    dialled: Option<SocketAddr>,
    /// What is left to dial.
    rest: VecDeque<IpAddr>,
    timer: TimerKey,
}

#[derive(Debug)]
struct Join {
    waiting: usize,
    /// By address, and by what it stood for.
    failures: Vec<Vec<String>>,
}

/// All joins that go on.
#[derive(Debug, Default)]
pub(super) struct Joins {
    next_attempt: u64,
    attempts: HashMap<u64, Attempt>,
    joins: HashMap<Ticket, Join>,
    commands: VecDeque<NetworkCommand>,
}

impl Joins {
    pub(super) fn poll_network(&mut self) -> Option<NetworkCommand> {
        self.commands.pop_front()
    }

    /// Dials the next address of an attempt; `None` when there is none.
    fn dial_next(&mut self, number: u64) -> Option<()> {
        let attempt = self.attempts.get_mut(&number)?;
        let to = SocketAddr::new(attempt.rest.pop_front()?, attempt.port);
        attempt.dialled = Some(to);
        self.commands.push_back(NetworkCommand::Connect {
            stream: StreamId::opened(number),
            to,
        });
        Some(())
    }

    /// The attempt that a stream belongs to.
    fn of_stream(&self, stream: StreamId) -> Option<u64> {
        self.attempts
            .keys()
            .copied()
            .find(|number| StreamId::opened(*number) == stream)
    }
}

impl Standalone {
    pub(super) fn start_join(&mut self, now: Instant, ticket: Ticket, addresses: &[String]) {
        let mut join = Join {
            waiting: 0,
            failures: vec![Vec::new(); addresses.len()],
        };
        for (place, text) in addresses.iter().enumerate() {
            let address = match JoinAddress::parse(text, self.local.port) {
                Ok(address) => address,
                Err(error) => {
                    if let Some(failures) = join.failures.get_mut(place) {
                        failures.push(error.to_string());
                    }
                    continue;
                }
            };
            join.waiting += 1;
            let number = self.joins.next_attempt;
            self.joins.next_attempt += 1;
            let attempt = Attempt {
                join: ticket,
                place,
                address: text.clone(),
                port: address.port,
                dialled: None,
                rest: address.ip().into_iter().collect(),
                timer: self
                    .wheel
                    .insert(now + TIMEOUT, Timer::JoinTimedOut(number)),
            };
            self.joins.attempts.insert(number, attempt);
            if self.joins.dial_next(number).is_none() {
                self.joins.commands.push_back(NetworkCommand::Resolve {
                    request: number,
                    host: address.host,
                });
            }
        }
        self.joins.joins.insert(ticket, join);
        self.end_join_if_done(ticket);
    }

    pub(super) fn handle_join_network(&mut self, _: Instant, event: NetworkEvent<'_>) {
        match event {
            NetworkEvent::Resolved { request, result } => match result {
                Ok(addresses) => {
                    if let Some(attempt) = self.joins.attempts.get_mut(&request) {
                        attempt.rest = addresses.into();
                    }
                    if self.joins.dial_next(request).is_none() {
                        self.end_attempt(request, "no address found");
                    }
                }
                Err(error) => self.end_attempt(request, &error),
            },
            NetworkEvent::Connected { stream } => {
                self.joins
                    .commands
                    .push_back(NetworkCommand::Close { stream });
                self.fail_dialled(
                    stream,
                    "this agent does not gossip, so it can't join others",
                );
            }
            NetworkEvent::Ended { stream, error } => {
                self.fail_dialled(
                    stream,
                    error.as_deref().unwrap_or("the connection was closed"),
                );
            }
            NetworkEvent::Packet { .. }
            | NetworkEvent::PacketFailed { .. }
            | NetworkEvent::Accepted { .. }
            | NetworkEvent::Received { .. } => {}
        }
    }

    pub(super) fn join_timed_out(&mut self, number: u64) {
        if self.joins.attempts.contains_key(&number) {
            self.joins.commands.push_back(NetworkCommand::Close {
                stream: StreamId::opened(number),
            });
            self.end_attempt(number, "i/o timeout");
        }
    }

    fn fail_dialled(&mut self, stream: StreamId, error: &str) {
        let Some(number) = self.joins.of_stream(stream) else {
            return;
        };
        self.note_failure(number, error);
        if self.joins.dial_next(number).is_none() {
            self.forget_attempt(number);
        }
    }

    fn end_attempt(&mut self, number: u64, error: &str) {
        self.note_failure(number, error);
        self.forget_attempt(number);
    }

    fn note_failure(&mut self, number: u64, error: &str) {
        let Some(attempt) = self.joins.attempts.get(&number) else {
            return;
        };
        let text = match attempt.dialled {
            Some(to) => format!(
                "Failed to join {}: dial tcp {to}: connect: {error}",
                to.ip()
            ),
            None => format!("Failed to resolve {}: {error}", attempt.address),
        };
        let join = self.joins.joins.get_mut(&attempt.join);
        if let Some(failures) = join.and_then(|join| join.failures.get_mut(attempt.place)) {
            failures.push(text);
        }
    }

    fn forget_attempt(&mut self, number: u64) {
        let Some(attempt) = self.joins.attempts.remove(&number) else {
            return;
        };
        self.wheel.cancel(attempt.timer);
        if let Some(join) = self.joins.joins.get_mut(&attempt.join) {
            join.waiting -= 1;
        }
        self.end_join_if_done(attempt.join);
    }

    fn end_join_if_done(&mut self, ticket: Ticket) {
        if self
            .joins
            .joins
            .get(&ticket)
            .is_some_and(|join| join.waiting == 0)
            && let Some(join) = self.joins.joins.remove(&ticket)
        {
            let failures: Vec<String> = join.failures.into_iter().flatten().collect();
            let failures = (!failures.is_empty()).then_some(JoinFailures(failures));
            self.complete(ticket, Outcome::Joined { count: 0, failures });
        }
    }
}
