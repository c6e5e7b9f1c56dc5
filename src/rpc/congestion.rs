//! Back pressure from subscribers to publishers.
//!
//! A client that sends events faster than a subscriber can take them would fill the subscriber's outbox and lose its
//! records, though it reads as fast as it can. So while a subscriber is [behind](BEHIND_BYTES) *and reads*, clients that
//! send events wait. One that does not read, or only trickles (less than [`PROGRESS_BYTES_MIN`] within [`PATIENCE`]), is
//! stalled: nobody waits for it until it has caught up. So a slow client costs others one [`PATIENCE`], or a rate no
//! lower than what it does take.

use std::time::{Duration, Instant};

use super::hub::{Hub, Timer};
use super::session::{Congestion, SessionId};
use crate::cluster::Cluster;

/// A subscriber with more than this to take is behind, in bytes.
pub(super) const BEHIND_BYTES: usize = 512 * 1024;
/// How long a subscriber that is behind may go without progress.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// Less than this within [`PATIENCE`] is no progress, in bytes.
const PROGRESS_BYTES_MIN: usize = 32 * 1024;

/// Who waits for subscribers to catch up.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    waiting: Vec<SessionId>,
    /// How many subscribers are behind and read.
    behind: usize,
}

impl Publishers {
    pub(super) fn must_wait(&self) -> bool {
        self.behind > 0
    }

    pub(super) fn wait(&mut self, id: SessionId) {
        self.waiting.push(id);
    }

    pub(super) fn fell_behind(&mut self) {
        self.behind += 1;
    }

    fn no_longer_behind(&mut self) {
        self.behind = self.behind.saturating_sub(1);
    }
}

impl<C: Cluster> Hub<C> {
    /// Takes in that a client took `count` bytes and has `left` to take.
    pub(super) fn note_taken(&mut self, id: SessionId, count: usize, left: usize) {
        let extras = self.session(id).and_then(|session| session.extras.as_mut());
        let Some(extras) = extras else { return };
        match &mut extras.congestion {
            Congestion::Clear => {}
            Congestion::Behind { timer, .. } if left < BEHIND_BYTES / 2 => {
                let timer = *timer;
                extras.congestion = Congestion::Clear;
                self.wheel.cancel(timer);
                self.let_publishers_go();
            }
            Congestion::Behind { taken, .. } => *taken += count,
            Congestion::Stalled if left < BEHIND_BYTES / 2 => extras.congestion = Congestion::Clear,
            Congestion::Stalled => {}
        }
    }

    /// A subscriber has been behind for a while: is it reading?
    pub(super) fn handle_congestion_timer(&mut self, now: Instant, id: SessionId) {
        let timer = self.wheel.insert(now + PATIENCE, Timer::Congestion(id));
        let extras = self.session(id).and_then(|session| session.extras.as_mut());
        match extras.map(|extras| &mut extras.congestion) {
            Some(Congestion::Behind {
                timer: current,
                taken,
            }) if *taken >= PROGRESS_BYTES_MIN => {
                *current = timer;
                *taken = 0;
            }
            Some(congestion @ Congestion::Behind { .. }) => {
                *congestion = Congestion::Stalled;
                self.wheel.cancel(timer);
                self.let_publishers_go();
            }
            _ => {
                self.wheel.cancel(timer);
            }
        }
    }

    /// One subscriber fewer is behind; when it was the last, publishers go on.
    pub(super) fn let_publishers_go(&mut self) {
        self.publishers.no_longer_behind();
        if !self.publishers.must_wait() {
            for id in std::mem::take(&mut self.publishers.waiting) {
                self.release(id);
            }
        }
    }
}
