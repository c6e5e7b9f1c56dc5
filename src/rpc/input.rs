//! What clients say, cut into requests, and when it is worked on.
//!
//! Bytes are worked on where the loop read them to; only what is left of an incomplete request, or has to wait, is kept.
//! A client's requests wait while one of them takes time, while the client has much to take, and when it has had its
//! turn's share of work, so nobody waits long for another.

use std::time::Instant;

use log::error;

use super::hub::{Hub, OUTBOX_HIGH_WATER_BYTES};
use super::message::RequestHeader;
use super::session::{Access, Expect, Held, Life, SessionId};
use crate::cluster::Cluster;
use crate::msgpack::frame::{Limits, Progress, Scanner};

/// What a client may have sent ahead while its requests wait, in bytes.
const INBOX_HELD_BYTES_MAX: usize = 64 * 1024;
/// Requests before the client is let in are short, in bytes.
const GREETING_BYTES_MAX: usize = 16 * 1024;
/// Nesting of a request.
const REQUEST_DEPTH_MAX: usize = 32;
/// Work done for a client before others have their turn. A plain request is one.
const WORK_PER_TURN: usize = 2048;

/// Records that events may bring in a turn, in bytes: among thousands of subscribers a burst of events would else hold up
/// everybody for as long as it takes to copy it to each.
const FAN_OUT_PER_TURN: usize = 4 * 1024 * 1024;

/// What became of a frame.
pub(super) enum Handled {
    /// It is used up; its cost counts against the client's turn.
    Done { cost: usize },
    /// It must be looked at again later, or never.
    Wait,
}

impl<C: Cluster> Hub<C> {
    /// Takes in bytes of a client.
    pub fn handle_bytes(&mut self, now: Instant, id: SessionId, bytes: &[u8]) {
        let Some(session) = self.session(id) else {
            return;
        };
        if session.life != Life::Open {
            return;
        }
        if session.inbox.is_empty() {
            let used = self.work(now, id, bytes);
            if let Some(session) = self.session(id)
                && session.life == Life::Open
                && let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty())
            {
                session.inbox = rest.to_vec();
            }
        } else {
            session.inbox.extend_from_slice(bytes);
            self.work_on_inbox(now, id);
        }
        self.settle(now);
    }

    /// Takes in that a client has ended its side; what it asked before is still answered.
    pub fn handle_eof(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.session(id) else {
            return;
        };
        session.eof = true;
        self.finish_after_eof(now, id);
        self.settle(now);
    }

    /// Whether to read from the client.
    #[must_use]
    pub fn wants_read(&self, id: SessionId) -> bool {
        self.peek(id).is_some_and(|session| {
            session.life != Life::Open
                || session.inbox.len() < INBOX_HELD_BYTES_MAX
                || (session.scanner.is_some() && session.may_proceed(OUTBOX_HIGH_WATER_BYTES))
        })
    }

    /// Whether events brought as many records as they may in a turn.
    pub(super) const fn has_fanned_out(&self) -> bool {
        self.fanned_out >= FAN_OUT_PER_TURN
    }

    /// Goes on with requests that had to wait for their turn: to be called once in a turn, when all that came in is
    /// handled. Says whether there are more.
    pub fn handle_ready(&mut self, now: Instant) -> bool {
        self.fanned_out = 0;
        for _ in 0..self.sessions.ready_len() {
            // Whoever is next now is the first to go on in the next turn.
            if self.has_fanned_out() {
                break;
            }
            let Some(id) = self.sessions.next_ready() else {
                break;
            };
            self.work_on_inbox(now, id);
        }
        self.settle(now);
        self.fanned_out = 0;
        self.has_ready()
    }

    /// Whether requests wait for their turn.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.sessions.ready_len() > 0
    }

    /// Lets a client whose operation has ended go on.
    pub(super) fn release(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.held = Held::No;
            if session.eof || !session.inbox.is_empty() {
                self.sessions.mark_ready(id);
            }
        }
    }

    fn work_on_inbox(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.session(id) else {
            return;
        };
        let mut inbox = std::mem::take(&mut session.inbox);
        let used = self.work(now, id, &inbox);
        let Some(session) = self.session(id) else {
            return;
        };
        if session.life != Life::Open || used == inbox.len() {
            return;
        }
        inbox.drain(..used);
        session.inbox = inbox;
    }

    /// Works on the requests in `input`, which begins with an object's first byte. Returns how many bytes are done.
    fn work(&mut self, now: Instant, id: SessionId, input: &[u8]) -> usize {
        let mut used = 0;
        let mut work = 0;
        while let Some(session) = self.session(id) {
            if !session.may_proceed(OUTBOX_HIGH_WATER_BYTES) {
                break;
            }
            if work >= WORK_PER_TURN {
                self.sessions.mark_ready(id);
                break;
            }
            let rest = input.get(used..).unwrap_or_default();
            let Some(length) = self.next_frame(now, id, rest) else {
                break;
            };
            let frame = rest.get(..length).unwrap_or_default();
            match self.handle_frame(now, id, frame) {
                Handled::Done { cost } => {
                    used += length;
                    work += cost;
                }
                Handled::Wait => break,
            }
            self.show_log_before_it_wraps(now);
        }
        self.stats = None;
        self.finish_after_eof(now, id);
        used
    }

    /// Length of the whole object `input` begins with, or `None` when it is not all there, or is no object.
    fn next_frame(&mut self, now: Instant, id: SessionId, input: &[u8]) -> Option<usize> {
        if input.is_empty() {
            return None;
        }
        let bytes_max = self.config.request_bytes_max;
        let session = self.session(id)?;
        let let_in = session.access == Access::Granted;
        let bytes_max = if let_in {
            bytes_max
        } else {
            bytes_max.min(GREETING_BYTES_MAX)
        };
        let mut scanner = session.scanner.take().map_or_else(
            || {
                Scanner::new(Limits {
                    bytes_max,
                    depth_max: REQUEST_DEPTH_MAX,
                })
            },
            |boxed| *boxed,
        );
        match scanner.scan(input) {
            Ok(Progress::Complete(length)) => Some(length),
            Ok(Progress::Incomplete) => {
                session.scanner = Some(Box::new(scanner));
                None
            }
            Err(error) => {
                self.refuse(now, id, format_args!("its request can't be read: {error}"));
                None
            }
        }
    }

    fn handle_frame(&mut self, now: Instant, id: SessionId, frame: &[u8]) -> Handled {
        let Some(session) = self.session(id) else {
            return Handled::Wait;
        };
        match session.expect {
            Expect::Header => match rmp_serde::from_slice::<RequestHeader<'_>>(frame) {
                Ok(header) => self.handle_header(now, id, header),
                Err(error) => {
                    self.refuse(
                        now,
                        id,
                        format_args!("failed to decode request header: {error}"),
                    );
                    Handled::Wait
                }
            },
            Expect::SkippedBody => {
                session.expect = Expect::Header;
                // A client that learns of the refusal first may send its next request instead of the body.
                match rmp_serde::from_slice::<RequestHeader<'_>>(frame) {
                    Ok(header) if !header.command.0.is_empty() => {
                        self.handle_header(now, id, header)
                    }
                    _ => Handled::Done { cost: 1 },
                }
            }
            Expect::Body { command, seq } => self.handle_request(now, id, command, seq, frame),
        }
    }

    /// Closes a client that does not speak the protocol.
    pub(super) fn refuse(&mut self, now: Instant, id: SessionId, why: std::fmt::Arguments<'_>) {
        let Some(session) = self.session(id) else {
            return;
        };
        let peer = session.peer;
        error!(client = id.number(); "agent.ipc: Closing client {peer}: {why}");
        self.counters.bad_requests += 1;
        self.finish(now, id);
    }

    fn finish_after_eof(&mut self, now: Instant, id: SessionId) {
        if let Some(session) = self.session(id)
            && session.eof
            && !session.ready
            && session.may_proceed(OUTBOX_HIGH_WATER_BYTES)
        {
            self.finish(now, id);
        }
    }
}
