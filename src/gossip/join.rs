//! Joins: addresses are looked up, dialled, and states compared with whoever answers.
//!
//! A join has an attempt for each of its addresses; a host name may stand for several nodes, which are tried one after
//! the other. Attempts run side by side, a bounded number at once. Source: hashicorp/memberlist, `memberlist.go` (`Join`,
//! `resolveAddr`), which tries them one after the other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use log::debug;

use super::core::{Gossip, GossipEvent, Timer};
use super::exchange::Purpose;
use crate::cluster::NetworkCommand;
use crate::cluster::address::JoinAddress;
use crate::timer_wheel::TimerKey;

/// Attempts that run at once.
const ATTEMPTS_MAX: usize = 16;

#[derive(Debug)]
struct Join {
    /// Attempts that have not ended.
    waiting: usize,
    count: usize,
    /// By address, and by what it stood for.
    failures: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Attempt {
    join: u64,
    /// Its place among the join's addresses.
    place: usize,
    /// As it was given.
    text: String,
    address: JoinAddress,
    dialled: Option<SocketAddr>,
    /// What is left to dial.
    rest: VecDeque<IpAddr>,
    /// While the name is looked up.
    timer: Option<TimerKey>,
}

/// The joins that go on.
#[derive(Debug, Default)]
pub(super) struct Joins {
    next_join: u64,
    next_attempt: u64,
    joins: HashMap<u64, Join>,
    running: HashMap<u64, Attempt>,
    waiting: BTreeMap<u64, Attempt>,
}

impl Joins {
    pub(super) fn len(&self) -> usize {
        self.joins.len()
    }
}

impl Gossip {
    /// Joins the cluster of the nodes at these addresses. Ends as a [`GossipEvent::Joined`] with the number returned.
    pub fn join(&mut self, now: Instant, addresses: &[String]) -> u64 {
        let number = self.joins.next_join;
        self.joins.next_join += 1;
        let mut join = Join {
            waiting: 0,
            count: 0,
            failures: vec![Vec::new(); addresses.len()],
        };
        let default_port = self.default_port;
        for (place, text) in addresses.iter().enumerate() {
            match JoinAddress::parse(text, default_port) {
                Ok(address) => {
                    let attempt = Attempt {
                        join: number,
                        place,
                        text: text.clone(),
                        rest: address.ip().into_iter().collect(),
                        address,
                        dialled: None,
                        timer: None,
                    };
                    join.waiting += 1;
                    let attempts = &mut self.joins;
                    attempts.waiting.insert(attempts.next_attempt, attempt);
                    attempts.next_attempt += 1;
                }
                Err(error) => {
                    if let Some(failures) = join.failures.get_mut(place) {
                        failures.push(error.to_string());
                    }
                }
            }
        }
        self.joins.joins.insert(number, join);
        self.start_attempts(now);
        self.end_join_if_done(number);
        number
    }

    fn start_attempts(&mut self, now: Instant) {
        while self.joins.running.len() < ATTEMPTS_MAX
            && let Some((number, mut attempt)) = self.joins.waiting.pop_first()
        {
            if attempt.rest.is_empty() {
                let deadline = now + self.timing.stream_timeout;
                attempt.timer = Some(self.wheel.insert(deadline, Timer::Resolve(number)));
                self.commands.push_back(NetworkCommand::Resolve {
                    request: number,
                    host: attempt.address.host.clone(),
                });
                self.joins.running.insert(number, attempt);
            } else {
                self.joins.running.insert(number, attempt);
                self.dial_next(now, number);
            }
        }
    }

    /// A name was looked up.
    pub(super) fn resolved(
        &mut self,
        now: Instant,
        number: u64,
        result: Result<Vec<IpAddr>, String>,
    ) {
        let Some(attempt) = self.joins.running.get_mut(&number) else {
            return;
        };
        let Some(timer) = attempt.timer.take() else {
            return;
        };
        self.wheel.cancel(timer);
        match result {
            Ok(addresses) => {
                attempt.rest = addresses.into();
                self.dial_next(now, number);
            }
            Err(error) => {
                self.note_failure(number, &error);
                self.end_attempt(now, number);
            }
        }
    }

    pub(super) fn resolve_timed_out(&mut self, now: Instant, number: u64) {
        self.resolved(now, number, Err("i/o timeout".to_owned()));
    }

    /// Dials the next address of an attempt, or ends it.
    fn dial_next(&mut self, now: Instant, number: u64) {
        let Some(attempt) = self.joins.running.get_mut(&number) else {
            return;
        };
        let Some(ip) = attempt.rest.pop_front() else {
            self.end_attempt(now, number);
            return;
        };
        let to = SocketAddr::new(ip, attempt.address.port);
        attempt.dialled = Some(to);
        debug!("memberlist: Initiating push/pull sync with: {to}");
        self.open_exchange(now, to, Purpose::Join(number));
    }

    pub(super) fn attempt_succeeded(&mut self, now: Instant, number: u64) {
        if let Some(attempt) = self.joins.running.get(&number)
            && let Some(join) = self.joins.joins.get_mut(&attempt.join)
        {
            join.count += 1;
        }
        self.dial_next(now, number);
    }

    pub(super) fn attempt_failed(&mut self, now: Instant, number: u64, error: &str) {
        self.note_failure(number, error);
        self.dial_next(now, number);
    }

    fn note_failure(&mut self, number: u64, error: &str) {
        let Some(attempt) = self.joins.running.get(&number) else {
            return;
        };
        let text = match attempt.dialled {
            Some(to) => format!("Failed to join {}: {error}", to.ip()),
            None => format!("Failed to resolve {}: {error}", attempt.text),
        };
        debug!("memberlist: {text}");
        let join = self.joins.joins.get_mut(&attempt.join);
        if let Some(failures) = join.and_then(|join| join.failures.get_mut(attempt.place)) {
            failures.push(text);
        }
    }

    fn end_attempt(&mut self, now: Instant, number: u64) {
        let Some(attempt) = self.joins.running.remove(&number) else {
            return;
        };
        if let Some(join) = self.joins.joins.get_mut(&attempt.join) {
            join.waiting -= 1;
        }
        self.end_join_if_done(attempt.join);
        self.start_attempts(now);
    }

    fn end_join_if_done(&mut self, number: u64) {
        let done = |join: &Join| join.waiting == 0;
        if self.joins.joins.get(&number).is_some_and(done)
            && let Some(join) = self.joins.joins.remove(&number)
        {
            self.events.push_back(GossipEvent::Joined {
                join: number,
                count: join.count,
                failures: join.failures.into_iter().flatten().collect(),
            });
        }
    }
}
