//! Nodes that find each other by multicast DNS (RFC 6762) and DNS-SD (RFC 6763). A core without sockets and clock.
//!
//! [`Mdns`] asks who else belongs to the cluster's service and answers for this node. It asks at the start, soon again,
//! and at last once a minute; what it hears within a round counts, as hashicorp/mdns has it. [`Mdns::poll_found`] says
//! where other nodes are, also those that are members already: who to join is the owner's to decide.
//!
//! Bounds, since anybody on the network may speak: a round asks twice, whatever it hears; answers are limited in each
//! second, those to everybody to one; packets, instances and records beyond a number are not looked at. Only queries
//! that came to the group are answered, so that nobody outside of the network can have this node send anything.
//!
//! Sources: hashicorp/serf, `cmd/serf/command/agent/mdns.go`; hashicorp/mdns.

mod message;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use log::{debug, warn};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use simple_dns::{Name, Packet, PacketFlag};

use self::message::{Records, Service};

/// The port of multicast DNS.
pub const PORT: u16 = 5353;
/// The group of multicast DNS for IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The same for IPv6.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// The time between rounds, in the end (the reference's `mdnsPollInterval`).
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// The time between the first two rounds; it doubles from one to the next.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Nodes that started together do not go on together: rounds may come earlier by this share.
const JITTER: f64 = 0.1;
/// What comes later than this after a question does not count (hashicorp/mdns' `Timeout`).
const ROUND: Duration = Duration::from_secs(1);
/// When a round asks where those are who were named only.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// When nobody else was found for this long, those found are told (the reference's `mdnsQuietInterval`).
const QUIET: Duration = Duration::from_millis(100);
/// Instances of a round.
const INSTANCES_MAX: usize = 1024;
/// Instances that a round asks about.
const ASKED_MAX: usize = 16;
/// Answers to single askers in a second.
const ANSWERS_PER_SECOND: u32 = 64;
/// The time between answers to everybody (RFC 6762, 6).
const EVERYBODY_INTERVAL: Duration = Duration::from_secs(1);
/// Answers to everybody wait between these, so that those of many do not meet (RFC 6762, 6).
const EVERYBODY_DELAY_MS: std::ops::Range<u64> = 20..120;
/// Longer packets are not read (RFC 6762, 17), in bytes.
const PACKET_BYTES_MAX: usize = 9000;
/// Packets that wait to be sent.
const TRANSMITS_MAX: usize = 128;

/// Why there is no discovery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MdnsError {
    /// The cluster's name makes no name of a service.
    #[error(
        "{0:?} makes no service name of DNS: it must have 1 to 57 bytes, and of a name with dots each part 1 to 63"
    )]
    Name(String),
}

/// Checks that a cluster can be found under this name.
///
/// # Errors
/// [`MdnsError::Name`].
pub fn check_name(cluster: &str) -> Result<(), MdnsError> {
    message::service_name(cluster).map(drop)
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// To everybody who takes part.
    Group,
    /// To the port that this node asks from.
    Own,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To everybody, from the port that this node asks from.
    Ask,
    /// To everybody, from the port of multicast DNS.
    Group,
    /// To one asker, from the port of multicast DNS.
    One(SocketAddr),
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: Destination,
    /// What.
    pub payload: Vec<u8>,
}

/// One time of asking.
#[derive(Debug)]
struct Round {
    until: Instant,
    ask_again: Option<Instant>,
    /// Who was named, and whether it is known where they are.
    instances: HashMap<Name<'static>, bool>,
    found: Vec<SocketAddr>,
    quiet: Option<Instant>,
}

/// An answer to everybody that waits for its time.
#[derive(Debug, Default)]
struct Pending {
    records: Records,
    due: Option<Instant>,
    sent: Option<Instant>,
}

/// Multicast DNS for one node.
#[derive(Debug)]
pub struct Mdns {
    service: Service,
    rng: StdRng,
    next_round: Instant,
    interval: Duration,
    round: Option<Round>,
    everybody: Pending,
    /// The second that answers are counted in, and how many there were.
    second: Instant,
    answers: u32,
    unanswered: u64,
    transmits: VecDeque<Transmit>,
    found: VecDeque<Vec<SocketAddr>>,
}

impl Mdns {
    /// Has the node `node` of the cluster `cluster` found at `addr`, and finds others, beginning now.
    ///
    /// # Errors
    /// [`MdnsError::Name`].
    pub fn new(
        now: Instant,
        cluster: &str,
        node: &str,
        addr: SocketAddr,
        seed: [u8; 32],
    ) -> Result<Self, MdnsError> {
        Ok(Self {
            service: Service::new(cluster, node, addr)?,
            rng: StdRng::from_seed(seed),
            next_round: now,
            interval: FIRST_INTERVAL,
            round: None,
            everybody: Pending::default(),
            second: now,
            answers: 0,
            unanswered: 0,
            transmits: VecDeque::new(),
            found: VecDeque::new(),
        })
    }

    /// A packet came.
    pub fn handle_packet(&mut self, now: Instant, via: Via, from: SocketAddr, payload: &[u8]) {
        if payload.len() > PACKET_BYTES_MAX {
            return;
        }
        let Some(packet) = message::parse(payload) else {
            debug!("agent.mdns: {from} sent what is no packet of multicast DNS");
            return;
        };
        if packet.has_flags(PacketFlag::RESPONSE) {
            self.handle_response(now, &packet);
        } else if via == Via::Group {
            self.handle_query(now, from, &packet);
        }
    }

    fn handle_query(&mut self, now: Instant, from: SocketAddr, query: &Packet<'_>) {
        let (mut alone, mut everybody) = self.service.asked(query);
        let legacy = from.port() != PORT;
        if legacy {
            alone.add(std::mem::take(&mut everybody));
        }
        if !alone.is_empty() && self.may_answer(now) {
            let payload = if legacy {
                self.service.legacy_answer(alone, query)
            } else {
                self.service.answer(alone)
            };
            self.send(Destination::One(from), payload);
        }
        if !everybody.is_empty() {
            self.everybody.records.add(everybody);
            let delay = Duration::from_millis(self.rng.random_range(EVERYBODY_DELAY_MS));
            let earliest = self.everybody.sent.map(|sent| sent + EVERYBODY_INTERVAL);
            let due = earliest.map_or(now + delay, |earliest| earliest.max(now + delay));
            self.everybody.due.get_or_insert(due);
        }
    }

    /// Counts an answer to a single asker; says whether it may be sent.
    fn may_answer(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.answers) = (now, 0);
        }
        if self.answers < ANSWERS_PER_SECOND {
            self.answers += 1;
            return true;
        }
        self.unanswered += 1;
        if self.unanswered.is_power_of_two() {
            warn!(
                "agent.mdns: More than {ANSWERS_PER_SECOND} queries a second; {} so far are not answered",
                self.unanswered
            );
        }
        false
    }

    fn handle_response(&mut self, now: Instant, response: &Packet<'_>) {
        let Some(round) = self.round.as_mut().filter(|round| now < round.until) else {
            return;
        };
        let heard = self.service.hear(response);
        for location in heard.locations {
            let known = round.instances.len() < INSTANCES_MAX
                || round.instances.contains_key(&location.instance);
            if known && round.instances.insert(location.instance, true) != Some(true) {
                round.found.push(location.addr);
                round.quiet = Some(now + QUIET);
            }
        }
        for instance in heard.instances {
            if round.instances.len() < INSTANCES_MAX {
                round.instances.entry(instance).or_insert(false);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let round = self.round.iter();
        let round = round
            .flat_map(|round| [round.ask_again, round.quiet])
            .flatten();
        round
            .chain(self.everybody.due)
            .chain([self.next_round])
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.everybody.due.is_some_and(|due| due <= now) {
            let records = std::mem::take(&mut self.everybody.records);
            (self.everybody.due, self.everybody.sent) = (None, Some(now));
            self.send(Destination::Group, self.service.answer(records));
        }
        let round = self.round.as_mut();
        if let Some(round) = round.filter(|round| round.ask_again.is_some_and(|at| at <= now)) {
            round.ask_again = None;
            self.ask_again();
        }
        // What was found before the next round is told, however quiet it was.
        let next = self.next_round;
        let is_quiet = |at: Instant| at <= now || next <= now;
        let round = self.round.as_mut();
        if let Some(round) = round.filter(|round| round.quiet.is_some_and(is_quiet)) {
            round.quiet = None;
            self.found.push_back(std::mem::take(&mut round.found));
        }
        if self.next_round <= now {
            self.begin_round(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.send(Destination::Ask, self.service.question());
        self.round = Some(Round {
            until: now + ROUND,
            ask_again: Some(now + ASK_AGAIN),
            instances: HashMap::new(),
            found: Vec::new(),
            quiet: None,
        });
        let share = 1.0 - JITTER * self.rng.random::<f64>();
        self.next_round = now + self.interval.mul_f64(share);
        self.interval = (self.interval * 2).min(POLL_INTERVAL);
    }

    fn ask_again(&mut self) {
        let Some(round) = &self.round else {
            return;
        };
        let unknown = round.instances.iter().filter(|(_, found)| !**found);
        let mut unknown = unknown.map(|(name, _)| name).take(ASKED_MAX).peekable();
        if unknown.peek().is_some() {
            let payload = Service::question_about(unknown);
            self.send(Destination::Ask, payload);
        }
    }

    fn send(&mut self, to: Destination, payload: Vec<u8>) {
        if !payload.is_empty() && self.transmits.len() < TRANSMITS_MAX {
            self.transmits.push_back(Transmit { to, payload });
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Where other nodes are, the next ones that were found.
    pub fn poll_found(&mut self) -> Option<Vec<SocketAddr>> {
        self.found.pop_front()
    }
}
