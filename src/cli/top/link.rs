//! The connection to the agent: what is asked when, and what happens when the agent goes.
//!
//! A stream brings what happens. Counters are asked for every second, the list of members every few (a member that is
//! leaving is no event), coordinates in rounds. Requests are sent and their answers taken as they come, so a slow agent
//! holds nothing up; only the connecting itself waits, for a few seconds at the most.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::Time;

use super::state::{Connection, State};
use crate::client::{Client, ClientError, Options, Pending, Stats, StreamEvent, Subscription};
use crate::cluster::{Coordinate, Member};

/// How long connecting, and each step of it, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An agent that leaves a request without an answer for so long is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const STATS_INTERVAL: Duration = Duration::from_secs(1);
const MEMBERS_INTERVAL: Duration = Duration::from_secs(5);
/// How many coordinates are asked for at once, every [`STATS_INTERVAL`].
const COORDINATES_MAX: usize = 64;
/// Between tries to connect; each wait is twice the one before.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// The connection to the agent, or the tries to get one.
pub(super) struct Link {
    options: Options,
    open: Option<Open>,
    retry_wait: Duration,
    retry_at: Instant,
}

/// A connection, and what is being asked over it.
struct Open {
    client: Client,
    events: Subscription<StreamEvent>,
    stats: Asked<Stats>,
    members: Asked<Vec<Member>>,
    coordinates: Vec<(Arc<str>, Pending<Option<Coordinate>>)>,
    coordinates_due: Instant,
    /// The last node whose coordinate was asked for.
    last_node: Option<Arc<str>>,
}

/// Something that is asked again and again.
struct Asked<T> {
    pending: Option<Pending<T>>,
    /// When to ask again, or, of what was asked, to give up waiting.
    due: Instant,
    interval: Duration,
}

impl<T> Asked<T> {
    const fn new(now: Instant, interval: Duration) -> Self {
        Self {
            pending: None,
            due: now,
            interval,
        }
    }

    /// Whether to ask now. An answer that is overdue is an error.
    fn is_due(&self, now: Instant) -> Result<bool, ClientError> {
        if now < self.due {
            return Ok(false);
        }
        match self.pending {
            Some(_) => Err(ClientError::Timeout),
            None => Ok(true),
        }
    }

    fn sent(&mut self, now: Instant, pending: Pending<T>) {
        self.pending = Some(pending);
        self.due = now + ANSWER_TIMEOUT;
    }

    /// The answer, if it has come.
    fn take(&mut self, now: Instant, client: &mut Client) -> Result<Option<T>, ClientError> {
        let Some(pending) = &self.pending else {
            return Ok(None);
        };
        let answer = client.take_answer(pending)?;
        if answer.is_some() {
            self.pending = None;
            self.due = now + self.interval;
        }
        Ok(answer)
    }
}

impl Link {
    /// Connects; fails as any command does when there is no agent.
    pub(super) fn open(options: Options) -> Result<Self, ClientError> {
        let now = Instant::now();
        let options = Options {
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: CONNECT_TIMEOUT,
            ..options
        };
        let open = Open::connect(&options)?;
        Ok(Self {
            options,
            open: Some(open),
            retry_wait: RETRY_MIN,
            retry_at: now,
        })
    }

    /// Waited for together with other things, while there is a connection.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.client.as_fd())
    }

    /// Takes in what the agent has sent.
    pub(super) fn receive(&mut self, now: Instant, at: Time, state: &mut State) {
        if let Some(open) = &mut self.open
            && let Err(error) = open.receive(now, at, state)
        {
            self.lose(now, state, &error);
        }
    }

    /// Asks for what is due, or tries to connect.
    pub(super) fn advance(&mut self, now: Instant, state: &mut State) {
        let result = match &mut self.open {
            Some(open) => open.ask(now, state),
            None if now >= self.retry_at => Open::connect(&self.options).map(|open| {
                self.open = Some(open);
                self.retry_wait = RETRY_MIN;
                state.connection = Connection::Open;
            }),
            None => Ok(()),
        };
        if let Err(error) = result {
            // Connecting may have taken its time.
            self.lose(now.max(Instant::now()), state, &error);
        }
    }

    /// When there is something to ask for or to try.
    pub(super) fn due(&self) -> Instant {
        match &self.open {
            Some(open) => open.due(),
            None => self.retry_at,
        }
    }

    fn lose(&mut self, now: Instant, state: &mut State, error: &ClientError) {
        self.open = None;
        self.retry_at = now + self.retry_wait;
        self.retry_wait = (self.retry_wait * 2).min(RETRY_MAX);
        let why = match error {
            // Where is shown already.
            ClientError::Connect { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        state.connection = Connection::Lost {
            why,
            retry_at: self.retry_at,
        };
    }
}

impl Open {
    fn connect(options: &Options) -> Result<Self, ClientError> {
        let mut client = Client::connect(options)?;
        let events = client.stream("*")?;
        let now = Instant::now();
        Ok(Self {
            client,
            events,
            stats: Asked::new(now, STATS_INTERVAL),
            members: Asked::new(now, MEMBERS_INTERVAL),
            coordinates: Vec::new(),
            coordinates_due: now,
            last_node: None,
        })
    }

    fn receive(&mut self, now: Instant, at: Time, state: &mut State) -> Result<(), ClientError> {
        self.client.receive()?;
        let known = &mut state.live;
        // Before the events: a list that was made before them must not undo them.
        if let Some(members) = self.members.take(now, &mut self.client)? {
            known.apply_list(members);
        }
        while let Some(event) = self.client.take(&self.events)? {
            known.apply_event(now, at, &event);
        }
        if let Some(stats) = self.stats.take(now, &mut self.client)? {
            known.apply_stats(now, &stats);
        }
        let mut answered = 0;
        for (node, pending) in &self.coordinates {
            match self.client.take_answer(pending) {
                Ok(None) => break,
                Ok(Some(coordinate)) => known.apply_coordinate(node, coordinate),
                // Such as that there are none.
                Err(ClientError::Agent(_)) => known.apply_coordinate(node, None),
                Err(error) => return Err(error),
            }
            answered += 1;
        }
        self.coordinates.drain(..answered);
        Ok(())
    }

    fn ask(&mut self, now: Instant, state: &State) -> Result<(), ClientError> {
        if self.stats.is_due(now)? {
            self.stats.sent(now, self.client.begin_stats()?);
        }
        if self.members.is_due(now)? {
            self.members.sent(now, self.client.begin_members()?);
        }
        if self.coordinates.is_empty() && now >= self.coordinates_due {
            self.coordinates_due = now + STATS_INTERVAL;
            self.ask_coordinates(state)?;
        }
        Ok(())
    }

    fn ask_coordinates(&mut self, state: &State) -> Result<(), ClientError> {
        let Some(own) = state.live.figures.name.as_deref() else {
            return Ok(());
        };
        let others = state
            .live
            .others_after(self.last_node.as_deref(), COORDINATES_MAX);
        self.last_node = others.last().cloned();
        for node in std::iter::once(own.into()).chain(others) {
            let pending = self.client.begin_coordinate(&node)?;
            self.coordinates.push((node, pending));
        }
        Ok(())
    }

    fn due(&self) -> Instant {
        let first = self.stats.due.min(self.members.due);
        if self.coordinates.is_empty() {
            first.min(self.coordinates_due)
        } else {
            first
        }
    }
}
