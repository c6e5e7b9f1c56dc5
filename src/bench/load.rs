//! The loop of a run: opens connections, sends what is due, takes what comes.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::connection::{Connection, Role, Stage, Target, Waiting};
use super::plan::{Plan, Workload};
use super::tally::Report;
use super::traffic::Traffic;
use super::{BenchError, Progress};
use crate::reactor::socket;

/// Connections that are on their way at the same time: fewer than a listener's queue holds.
const OPENING_MAX: usize = 100;
/// How long the agent may take over the next connection, or over the last answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long without a delivery nothing more comes to subscribers.
const QUIET: Duration = Duration::from_secs(1);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// The loop looks up after so long at the latest.
const TURN_MAX: Duration = Duration::from_millis(50);
/// The poll waits for whole milliseconds only.
const POLL_GRAIN: Duration = Duration::from_millis(1);
const EVENTS_MAX: usize = 1024;
/// What is read at once, in bytes.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Reads from a connection before others have their turn.
const READS_PER_TURN: usize = 8;

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Opens connections.
    Opening,
    /// Sends requests.
    Sending,
    /// Sends no more; what is on its way may come.
    Draining {
        /// Since when.
        since: Duration,
    },
}

/// A run.
pub(super) struct Load<'p> {
    plan: &'p Plan,
    target: Target,
    poll: Poll,
    connections: Vec<Connection>,
    traffic: Traffic<'p>,
    phase: Phase,
    /// When connecting began, then when sending began.
    start: Instant,
    /// Connections that were opened so far, and how many of them are not ready.
    opened: usize,
    opening: usize,
    /// Connections with more to read than was their turn.
    unread: VecDeque<usize>,
    /// The client whose turn it is to send.
    turn: usize,
    scratch: Vec<u8>,
}

impl<'p> Load<'p> {
    pub(super) fn new(plan: &'p Plan) -> Result<Self, BenchError> {
        plan.check()?;
        raise_descriptor_limit();
        let traffic = Traffic::new(plan)?;
        Ok(Self {
            plan,
            target: Target::resolve(&plan.address).map_err(|source| BenchError::Connect {
                address: plan.address.clone(),
                source,
            })?,
            poll: Poll::new()?,
            connections: traffic.connections(),
            traffic,
            phase: Phase::Opening,
            start: Instant::now(),
            opened: 0,
            opening: 0,
            unread: VecDeque::new(),
            turn: 0,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    pub(super) fn run(
        mut self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Report, BenchError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut setup = Duration::ZERO;
        let mut told = Duration::ZERO;
        // When the last connection became ready.
        let (mut opened_at, mut opening_before) = (Duration::ZERO, usize::MAX);
        loop {
            let elapsed = self.start.elapsed();
            match self.phase {
                Phase::Opening => {
                    self.open_connections()?;
                    let left = self.connections_left();
                    if left < opening_before {
                        (opened_at, opening_before) = (elapsed, left);
                    } else if elapsed > opened_at + PATIENCE {
                        return Err(BenchError::Timeout {
                            what: format!("{left} of {} connections", self.connections.len()),
                            waited: PATIENCE,
                        });
                    }
                    if left == 0 {
                        setup = elapsed;
                        told = Duration::ZERO;
                        self.begin_sending()?;
                        continue;
                    }
                }
                Phase::Sending if elapsed >= self.plan.duration || self.has_sent_all() => {
                    self.phase = Phase::Draining { since: elapsed };
                    if self.plan.workload == Workload::Idle {
                        self.traffic.tally.last = nanos(elapsed);
                    }
                    continue;
                }
                Phase::Sending => self.send_due(elapsed)?,
                Phase::Draining { since } => {
                    if self.is_drained(since, elapsed)? {
                        break;
                    }
                }
            }
            if elapsed >= told + PROGRESS_EVERY {
                told = elapsed;
                if progress(self.progress(elapsed)).is_break() {
                    if self.phase == Phase::Opening {
                        setup = elapsed;
                    }
                    break;
                }
            }
            self.poll_once(&mut events, elapsed)?;
        }
        self.count_losses();
        Ok(self.traffic.tally.report(self.plan, setup))
    }

    fn progress(&self, elapsed: Duration) -> Progress {
        let opening = self.phase == Phase::Opening;
        let connections = self.connections.len();
        let tally = &self.traffic.tally;
        Progress {
            ready: connections - self.connections_left(),
            connections,
            elapsed: if opening { Duration::ZERO } else { elapsed },
            answered: tally.answered,
            delivered: tally.delivered,
            median: tally.median(),
        }
    }

    /// Connections that are not ready. Visitors come later.
    fn connections_left(&self) -> usize {
        if self.phase == Phase::Opening {
            self.connections.len() - self.opened + self.opening
        } else {
            0
        }
    }

    fn open_connections(&mut self) -> Result<(), BenchError> {
        while self.opening < OPENING_MAX
            && let Some(connection) = self.connections.get_mut(self.opened)
        {
            if !matches!(connection.role, Role::Visitor) {
                if !open(connection, self.opened, &self.target, &self.poll, self.plan)? {
                    break;
                }
                self.opening += 1;
            }
            self.opened += 1;
        }
        Ok(())
    }

    fn begin_sending(&mut self) -> Result<(), BenchError> {
        self.phase = Phase::Sending;
        self.start = Instant::now();
        self.traffic.tally.received_bytes = 0;
        if self.plan.rate.is_none() {
            for index in 0..self.plan.clients {
                self.fill(index, 0)?;
            }
        }
        Ok(())
    }

    fn has_sent_all(&self) -> bool {
        self.plan
            .requests
            .is_some_and(|requests| self.traffic.tally.sent >= requests)
    }

    fn may_send(&self) -> bool {
        self.phase == Phase::Sending && self.plan.workload != Workload::Idle && !self.has_sent_all()
    }

    /// When the next request is due, at a rate.
    fn next_due(&self) -> Option<Duration> {
        let rate = self.plan.rate?;
        let nanos = u128::from(self.traffic.tally.sent) * 1_000_000_000 / u128::from(rate);
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    /// Sends what is due by now, as far as clients have room.
    fn send_due(&mut self, elapsed: Duration) -> Result<(), BenchError> {
        let room = self.plan.clients * self.depth();
        let mut touched = Vec::new();
        while self.may_send()
            && self.traffic.in_flight < room
            && let Some(due) = self.next_due()
            && due <= elapsed
        {
            let index = self.turn;
            self.turn = (self.turn + 1) % self.plan.clients;
            let depth = self.depth();
            let has_room = |connection: &Connection| connection.in_flight < depth;
            if !self.connections.get(index).is_some_and(has_room) {
                continue;
            }
            if !self.send(index, nanos(due), nanos(elapsed))? {
                break;
            }
            if touched.last() != Some(&index) {
                touched.push(index);
            }
        }
        touched.into_iter().try_for_each(|index| self.flush(index))
    }

    /// A visitor has one visit at a time.
    fn depth(&self) -> usize {
        if self.plan.workload == Workload::Connect {
            1
        } else {
            self.plan.depth
        }
    }

    /// Has a client send until it has as many requests in flight as it may, flat out.
    fn fill(&mut self, index: usize, now: u64) -> Result<(), BenchError> {
        let depth = self.depth();
        while index < self.plan.clients
            && self.may_send()
            && self
                .connections
                .get(index)
                .is_some_and(|connection| connection.in_flight < depth)
        {
            if !self.send(index, now, now)? {
                break;
            }
        }
        self.flush(index)
    }

    /// Sends one request. Says whether it could.
    fn send(&mut self, index: usize, due: u64, sent: u64) -> Result<bool, BenchError> {
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(false);
        };
        let waiting = Waiting { due, sent };
        if let Role::Visitor = connection.role {
            if !open(connection, index, &self.target, &self.poll, self.plan)? {
                return Ok(false);
            }
            connection.waiting.push_back(waiting);
            self.traffic.note_sent(connection);
        } else {
            self.traffic.ask(index, connection, waiting);
        }
        Ok(true)
    }

    fn flush(&mut self, index: usize) -> Result<(), BenchError> {
        match self.connections.get_mut(index).map(Connection::flush) {
            Some(Err(error)) => self.handle_end(index, Some(error)),
            _ => Ok(()),
        }
    }

    /// Whether all has come that will come.
    fn is_drained(&self, since: Duration, elapsed: Duration) -> Result<bool, BenchError> {
        let tally = &self.traffic.tally;
        if self.traffic.in_flight > 0 {
            let over = elapsed >= since + PATIENCE;
            if over && self.plan.workload != Workload::Query {
                return Err(BenchError::Timeout {
                    what: format!("{} requests", self.traffic.in_flight),
                    waited: PATIENCE,
                });
            }
            return Ok(over);
        }
        let expected = tally.answered * self.plan.subscribers as u64;
        let last = Duration::from_nanos(tally.last).max(since);
        Ok(tally.delivered >= expected || elapsed >= last + QUIET)
    }

    fn count_losses(&mut self) {
        let tally = &mut self.traffic.tally;
        match self.plan.workload {
            Workload::FanOut => {
                let expected = tally.answered * self.plan.subscribers as u64;
                tally.lost = expected.saturating_sub(tally.delivered);
            }
            Workload::Query => tally.lost += self.traffic.in_flight as u64,
            _ => {}
        }
    }

    fn poll_once(&mut self, events: &mut Events, elapsed: Duration) -> Result<(), BenchError> {
        let timeout = if self.unread.is_empty() {
            self.poll_timeout(elapsed)
        } else {
            Duration::ZERO
        };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for _ in 0..self.unread.len() {
            if let Some(index) = self.unread.pop_front() {
                self.read(index)?;
            }
        }
        for event in events.iter() {
            self.handle_event(event)?;
        }
        Ok(())
    }

    fn poll_timeout(&self, elapsed: Duration) -> Duration {
        if self.phase != Phase::Sending {
            return if self.phase == Phase::Opening && self.opening == 0 {
                // The listener's queue is full.
                POLL_GRAIN
            } else {
                TURN_MAX
            };
        }
        let end = self.plan.duration.saturating_sub(elapsed);
        let due = self.next_due().filter(|_| self.may_send());
        match due.map(|due| due.saturating_sub(elapsed)) {
            // A wait would be too long; the loop has its processor for itself.
            Some(wait) if wait < POLL_GRAIN => Duration::ZERO,
            // Rounded down, as the poll rounds up.
            Some(wait) => {
                Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
                    .min(TURN_MAX)
            }
            None => end.min(TURN_MAX),
        }
    }

    fn handle_event(&mut self, event: &mio::event::Event) -> Result<(), BenchError> {
        let Token(index) = event.token();
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(());
        };
        match connection.stage {
            Stage::Gone => return Ok(()),
            Stage::Connecting => {
                if let Err(source) = connection.handle_connected() {
                    return Err(BenchError::Connect {
                        address: self.plan.address.clone(),
                        source,
                    });
                }
                self.traffic.greet(index, connection);
            }
            Stage::Greeting(_) | Stage::Ready => {}
        }
        if event.is_writable() {
            connection.note_writable();
            self.flush(index)?;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index)?;
        }
        Ok(())
    }

    /// Reads what there is, and goes on with what its client does next.
    fn read(&mut self, index: usize) -> Result<(), BenchError> {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(index) else {
                return Ok(());
            };
            let greeting = matches!(connection.stage, Stage::Greeting(_));
            match connection.read(&mut self.scratch) {
                socket::Progress::Bytes(count) => {
                    let now = nanos(self.start.elapsed());
                    let (traffic, bytes) = (&mut self.traffic, self.scratch.get(..count));
                    traffic.tally.received_bytes += count as u64;
                    connection.handle_bytes(bytes.unwrap_or_default(), |connection, bytes| {
                        traffic.take(now, connection, bytes)
                    })?;
                    if greeting && connection.stage == Stage::Ready {
                        self.opening = self.opening.saturating_sub(1);
                    }
                    self.go_on(index, now)?;
                    // A short read has emptied the socket.
                    if count < self.scratch.len() {
                        return Ok(());
                    }
                }
                socket::Progress::Blocked => return Ok(()),
                socket::Progress::Ended => return self.handle_end(index, None),
                socket::Progress::Broken(error) => return self.handle_end(index, Some(error)),
            }
        }
        self.unread.push_back(index);
        Ok(())
    }

    fn go_on(&mut self, index: usize, now: u64) -> Result<(), BenchError> {
        if self.plan.rate.is_none() {
            self.fill(index, now)
        } else {
            self.flush(index)
        }
    }

    fn handle_end(&mut self, index: usize, error: Option<io::Error>) -> Result<(), BenchError> {
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(());
        };
        let greeting = connection.stage != Stage::Ready;
        connection.close();
        if self.plan.workload == Workload::Idle && !greeting {
            self.traffic.tally.lost += 1;
            return Ok(());
        }
        if let Some(error) = error
            && error.kind() != io::ErrorKind::ConnectionReset
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error.into());
        }
        Err(BenchError::Closed(match connection.role {
            _ if greeting => "while greeting",
            Role::Client | Role::Asker { .. } | Role::Visitor => "of a client",
            Role::Subscriber { .. } => "of a subscriber",
            Role::Responder => "of the responder",
            Role::Idle => "that was idle",
        }))
    }
}

/// Begins to connect. Says whether it could: the queue of a Unix socket may be full.
fn open(
    connection: &mut Connection,
    index: usize,
    target: &Target,
    poll: &Poll,
    plan: &Plan,
) -> Result<bool, BenchError> {
    match connection.open(target, poll.registry(), Token(index)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(source) => Err(BenchError::Connect {
            address: plan.address.clone(),
            source,
        }),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets this process have as many connections as the system allows it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If it is refused, connections beyond the limit fail with the system's words.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}
