//! Event handlers: shell commands that run at events. The core, without processes and clock.
//!
//! Each handler has a queue of its own: events wait there while as many of its commands run as are allowed, one unless
//! it is told otherwise, so that they are handled in order. Nothing here holds up anything else: streams hear of an
//! event before its handlers start, a handler that hangs only fills its own queue. What does not fit there is dropped,
//! counted and logged.
//!
//! [`Handlers::poll_command`] says what to start and stop; what a command prints and how it ends comes in. A query is
//! answered with what its handler printed, if it ended well.
//!
//! Source: hashicorp/serf, `cmd/serf/command/agent/event_handler.go` and `invoke.go`.

mod invocation;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error, warn};

use self::invocation::Invocation;
use super::config::{EventScript, HandlerLimits};
use crate::cluster::{Event, Member, QueryId};
use crate::timer_wheel::{TimerKey, TimerWheel};

/// A command that runs longer than this is warned of (the reference's `warnSlow`).
const SLOW: Duration = Duration::from_secs(1);
/// The end of a command's output that is kept, in bytes (the reference's `maxBufSize`).
pub const OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// After it was told to end, a command has this long before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Events that wait for one handler.
const QUEUE_MAX: usize = 65_536;
/// What the events that wait for one handler may take, in bytes.
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A command to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Names it from now on.
    pub job: u64,
    /// For the shell.
    pub script: Arc<str>,
    /// Added to the agent's own environment.
    pub environment: Vec<(String, String)>,
    /// For its standard input.
    pub input: Vec<u8>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerCommand {
    /// Start a command.
    Launch(Launch),
    /// Tell a command, and all it has started, to end.
    Terminate(u64),
    /// End a command, and all it has started.
    Kill(u64),
    /// Answer a query with what its handler printed.
    Answer {
        /// Which query.
        query: QueryId,
        /// Its name, for the log.
        name: String,
        /// The answer.
        payload: Vec<u8>,
    },
}

/// What has happened to commands so far, and what goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerCounters {
    /// Commands that were started.
    pub started: u64,
    /// Commands that could not be started, or did not end well.
    pub failed: u64,
    /// Commands that took too long and were told to end.
    pub timeouts: u64,
    /// Events dropped because a handler's queue was full.
    pub dropped: u64,
    /// Commands that run.
    pub running: u64,
    /// Events that wait for their handler.
    pub queued: u64,
}

#[derive(Debug)]
struct Handler {
    script: EventScript,
    command: Arc<str>,
    queue: VecDeque<Arc<Invocation>>,
    queued_bytes: usize,
    running: usize,
}

/// A command that runs.
#[derive(Debug)]
struct Job {
    handler: usize,
    command: Arc<str>,
    invocation: Arc<Invocation>,
    output: Tail,
    /// Its standard error, where that is apart.
    errors: Tail,
    slow: TimerKey,
    limit: Option<TimerKey>,
}

/// The end of what a command prints.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    written: u64,
}

impl Tail {
    fn extend(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.bytes.drain(..excess);
    }
}

#[derive(Debug)]
enum Timer {
    Slow(u64),
    Timeout(u64),
    Kill(u64),
}

/// Event handlers.
#[derive(Debug)]
pub struct Handlers {
    limits: HandlerLimits,
    /// In the order of the configuration. Those that a reload took away go on until their queues are empty.
    handlers: Vec<Handler>,
    /// How many of them, the first ones, take new events.
    active: usize,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    wheel: TimerWheel<Timer>,
    counters: HandlerCounters,
    commands: VecDeque<HandlerCommand>,
}

impl Handlers {
    /// Handlers as they are configured.
    #[must_use]
    pub fn new(now: Instant, scripts: &[EventScript], limits: HandlerLimits) -> Self {
        Self {
            limits,
            handlers: scripts.iter().map(Handler::new).collect(),
            active: scripts.len(),
            jobs: BTreeMap::new(),
            next_job: 0,
            wheel: TimerWheel::new(now),
            counters: HandlerCounters::default(),
            commands: VecDeque::new(),
        }
    }

    /// Takes over other handlers. What was queued for those that are gone is handled all the same.
    pub fn set_scripts(&mut self, scripts: &[EventScript]) {
        let mut before: Vec<Handler> = std::mem::take(&mut self.handlers);
        let mut places: Vec<Option<usize>> = vec![None; before.len()];
        let mut after = Vec::new();
        for script in scripts {
            let same = before
                .iter()
                .enumerate()
                .position(|(at, handler)| handler.script == *script && places[at].is_none());
            match same {
                Some(at) => {
                    places[at] = Some(after.len());
                    let handler = Handler::new(script);
                    after.push(std::mem::replace(&mut before[at], handler));
                }
                None => after.push(Handler::new(script)),
            }
        }
        self.active = after.len();
        for (at, handler) in before.into_iter().enumerate() {
            if places[at].is_none() && (handler.running > 0 || !handler.queue.is_empty()) {
                places[at] = Some(after.len());
                after.push(handler);
            }
        }
        for job in self.jobs.values_mut() {
            if let Some(Some(place)) = places.get(job.handler) {
                job.handler = *place;
            }
        }
        self.handlers = after;
    }

    /// Whether an event would run anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.active == 0
    }

    /// What has happened so far, and what goes on.
    #[must_use]
    pub const fn counters(&self) -> HandlerCounters {
        self.counters
    }

    /// Something happened: `local` is this node as it is now.
    pub fn handle_event(&mut self, now: Instant, event: &Event, local: &Member) {
        let mut invocation = None;
        for handler in self.handlers.iter_mut().take(self.active) {
            if !handler
                .script
                .filters
                .iter()
                .any(|filter| filter.matches(event))
            {
                continue;
            }
            let invocation =
                invocation.get_or_insert_with(|| Arc::new(Invocation::new(event, local)));
            let bytes = handler.queued_bytes + invocation.bytes();
            if handler.queue.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX {
                self.counters.dropped += 1;
                if self.counters.dropped.is_power_of_two() {
                    error!(
                        "agent: Dropping events for '{}', which is too slow: {} so far",
                        handler.command, self.counters.dropped
                    );
                }
                continue;
            }
            handler.queued_bytes = bytes;
            handler.queue.push_back(Arc::clone(invocation));
            self.counters.queued += 1;
        }
        self.start_waiting(now);
    }

    /// Starts what may run now. Handlers take turns, so that a busy one keeps no other from running.
    fn start_waiting(&mut self, now: Instant) {
        let mut started = true;
        while started {
            started = false;
            for at in 0..self.handlers.len() {
                if self.jobs.len() >= self.limits.running.max(1) {
                    return;
                }
                started |= self.start_next(now, at);
            }
        }
    }

    fn start_next(&mut self, now: Instant, at: usize) -> bool {
        let Some(handler) = self.handlers.get_mut(at) else {
            return false;
        };
        if handler.running >= self.limits.parallel.max(1) {
            return false;
        }
        let Some(invocation) = handler.queue.pop_front() else {
            return false;
        };
        handler.queued_bytes -= invocation.bytes();
        handler.running += 1;
        let job = self.next_job;
        self.next_job += 1;
        self.counters.queued -= 1;
        self.counters.started += 1;
        self.counters.running += 1;
        let launch = Launch {
            job,
            script: Arc::clone(&handler.command),
            environment: invocation.environment.clone(),
            input: invocation.input.clone(),
        };
        let timeout = self.limits.timeout;
        let entry = Job {
            handler: at,
            command: Arc::clone(&handler.command),
            invocation,
            output: Tail::default(),
            errors: Tail::default(),
            slow: self.wheel.insert(now + SLOW, Timer::Slow(job)),
            limit: timeout.map(|time| self.wheel.insert(now + time, Timer::Timeout(job))),
        };
        self.jobs.insert(job, entry);
        self.commands.push_back(HandlerCommand::Launch(launch));
        true
    }

    /// A command printed something.
    pub fn handle_output(&mut self, job: u64, bytes: &[u8]) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.output.extend(bytes);
        }
    }

    /// A command printed something to its standard error, where that is no part of its output.
    pub fn handle_errors(&mut self, job: u64, bytes: &[u8]) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.errors.extend(bytes);
        }
    }

    /// A command has ended, well or as the text says.
    pub fn handle_exit(&mut self, now: Instant, job: u64, result: Result<(), String>) {
        let Some(job) = self.jobs.remove(&job) else {
            return;
        };
        self.wheel.cancel(job.slow);
        if let Some(limit) = job.limit {
            self.wheel.cancel(limit);
        }
        self.counters.running -= 1;
        if let Some(handler) = self.handlers.get_mut(job.handler) {
            handler.running -= 1;
        }
        if job.output.written > OUTPUT_BYTES_MAX as u64 {
            warn!(
                "agent: Script '{}' generated {} bytes of output, truncated to {OUTPUT_BYTES_MAX}",
                job.command, job.output.written
            );
        }
        let errors: Vec<u8> = job.errors.bytes.into();
        if !errors.is_empty() {
            warn!(
                "agent: Script '{}' printed errors: {}",
                job.command,
                String::from_utf8_lossy(&errors).trim_end()
            );
        }
        let output: Vec<u8> = job.output.bytes.into();
        debug!(
            "agent: Event '{}' script output: {}",
            job.invocation.event,
            String::from_utf8_lossy(&output)
        );
        match (result, &job.invocation.query) {
            (Err(error), _) => {
                self.counters.failed += 1;
                error!("agent: Error invoking script '{}': {error}", job.command);
            }
            (Ok(()), Some((query, name))) if !output.is_empty() => {
                self.commands.push_back(HandlerCommand::Answer {
                    query: *query,
                    name: name.clone(),
                    payload: output,
                });
            }
            (Ok(()), _) => {}
        }
        self.start_waiting(now);
    }

    /// Lets timers fire that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.wheel.pop_expired(now) {
            match timer {
                Timer::Slow(number) => {
                    if let Some(job) = self.jobs.get(&number) {
                        warn!(
                            "agent: Script '{}' slow, execution exceeding {SLOW:?}",
                            job.command
                        );
                    }
                }
                Timer::Timeout(number) => {
                    let Some(job) = self.jobs.get_mut(&number) else {
                        continue;
                    };
                    error!(
                        "agent: Script '{}' takes too long and is told to end",
                        job.command
                    );
                    self.counters.timeouts += 1;
                    job.limit = Some(self.wheel.insert(now + GRACE, Timer::Kill(number)));
                    self.commands.push_back(HandlerCommand::Terminate(number));
                }
                Timer::Kill(number) => {
                    if self.jobs.contains_key(&number) {
                        self.commands.push_back(HandlerCommand::Kill(number));
                    }
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<HandlerCommand> {
        self.commands.pop_front()
    }
}

impl Handler {
    fn new(script: &EventScript) -> Self {
        Self {
            command: script.script.as_str().into(),
            script: script.clone(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            running: 0,
        }
    }
}

#[cfg(test)]
mod tests;
