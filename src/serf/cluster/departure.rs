//! Operations that everybody is to hear of: leaving, forcing another to leave, changing tags.
//!
//! They end when the broadcast has been sent often enough, or after a time that grows with the cluster. Source:
//! hashicorp/serf, `serf/serf.go` (`Leave`, `forceLeave`, `SetTags`).

use std::time::Instant;

use log::warn;

use super::{LEAVE_PROPAGATE_DELAY, Life, Serf, Timer, encode_meta};
use crate::cluster::{ClusterError, MemberStatus, Outcome, Tags, Ticket};
use crate::gossip::Queue;
use crate::gossip::broadcast::{BroadcastToken, Terms, Urgency};
use crate::serf::message::{LeaveMessage, TAGS_BYTES_MAX};
use crate::timer_wheel::TimerKey;

/// What goes on once everybody has heard of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum WaitingOperation {
    /// The intent to leave is out; now gossip leaves.
    LeaveIntent,
    /// Gossip has left.
    Leave,
    ForceLeave(Ticket),
    SetTags(Ticket),
}

#[derive(Debug)]
pub(super) struct Waiting {
    operation: WaitingOperation,
    timer: TimerKey,
}

impl Serf {
    fn wait_for_broadcast(&mut self, now: Instant, operation: WaitingOperation) -> BroadcastToken {
        let token = BroadcastToken(self.next_token);
        self.next_token += 1;
        let timer = self.wheel.insert(
            now + self.broadcast_timeout(),
            Timer::BroadcastTimeout(token),
        );
        self.waiting.insert(token, Waiting { operation, timer });
        token
    }

    /// Everybody has heard, or had time to.
    pub(super) fn broadcast_ended(&mut self, now: Instant, token: BroadcastToken, heard: bool) {
        let Some(waiting) = self.waiting.remove(&token) else {
            return;
        };
        self.wheel.cancel(waiting.timer);
        let done = |error| Outcome::Done(if heard { Ok(()) } else { Err(error) });
        match waiting.operation {
            WaitingOperation::LeaveIntent => {
                if !heard {
                    warn!("serf: timeout while waiting for graceful leave");
                }
                self.leave_gossip(now);
            }
            WaitingOperation::Leave => {
                if !heard {
                    warn!("serf: timeout waiting for leave broadcast");
                }
                self.wheel
                    .insert(now + LEAVE_PROPAGATE_DELAY, Timer::LeavePropagated);
            }
            WaitingOperation::ForceLeave(ticket) => {
                self.complete(ticket, done(ClusterError::RemovalTimedOut));
            }
            WaitingOperation::SetTags(ticket) => {
                self.complete(ticket, done(ClusterError::UpdateTimedOut));
            }
        }
    }

    pub(super) fn start_leave(&mut self, now: Instant, ticket: Ticket) {
        match self.life {
            Life::Present => {}
            Life::Leaving => {
                let error = ClusterError::LeaveInProgress;
                return self.complete(ticket, Outcome::Done(Err(error)));
            }
            Life::Left => return self.complete(ticket, Outcome::Done(Ok(()))),
        }
        self.life = Life::Leaving;
        self.leave = Some(ticket);
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.handle_leave(now);
        }
        let name = self.config.name.clone();
        let message = self.intend_leave(now, &name, false);
        if self.membership.has_company() {
            self.broadcast_leave(now, &name, &message, WaitingOperation::LeaveIntent);
        } else {
            self.leave_gossip(now);
        }
    }

    /// Notes an intent to leave, of this node or another, and returns its message.
    fn intend_leave(&mut self, now: Instant, node: &str, prune: bool) -> Vec<u8> {
        let ltime = self.membership.clock_mut().tick();
        let leave = LeaveMessage { ltime, node, prune };
        self.hear_leave(now, &leave);
        let mut message = Vec::new();
        leave.encode(&mut message);
        message
    }

    /// Somebody waits until everybody has heard of it, so it goes first.
    fn broadcast_leave(
        &mut self,
        now: Instant,
        node: &str,
        message: &[u8],
        operation: WaitingOperation,
    ) {
        let terms = Terms {
            about: Some(node.into()),
            token: Some(self.wait_for_broadcast(now, operation)),
            urgency: Urgency::Urgent,
        };
        self.gossip.broadcast(now, Queue::Intents, message, terms);
    }

    fn leave_gossip(&mut self, now: Instant) {
        let company = self.gossip.present() > 1;
        let token = self.wait_for_broadcast(now, WaitingOperation::Leave);
        self.gossip.leave(now, token);
        if !company {
            // Nobody is there to hear of it, so nobody needs time to.
            if let Some(waiting) = self.waiting.remove(&token) {
                self.wheel.cancel(waiting.timer);
            }
            self.wheel.insert(now, Timer::LeavePropagated);
        }
    }

    pub(super) fn end_leave(&mut self, now: Instant) {
        self.life = Life::Left;
        // There is no later moment to tell what was gathered.
        if let Some(coalescer) = &mut self.config.coalescer {
            coalescer.handle_timeout(now + crate::serf::coalesce::PERIOD);
            self.take_coalesced();
        }
        if let Some(ticket) = self.leave.take() {
            self.complete(ticket, Outcome::Done(Ok(())));
        }
    }

    pub(super) fn force_leave(&mut self, now: Instant, ticket: Ticket, node: &str, prune: bool) {
        let status = self.membership.get(node).map(|member| member.status);
        if status == Some(MemberStatus::Alive) && node != self.config.name {
            warn!("serf: force-leave of '{node}', which is alive and will refute it");
        }
        let message = self.intend_leave(now, node, prune);
        if self.membership.has_company() {
            let operation = WaitingOperation::ForceLeave(ticket);
            self.broadcast_leave(now, node, &message, operation);
        } else {
            self.complete(ticket, Outcome::Done(Ok(())));
        }
    }

    /// Checks new tags before anything is written or told.
    pub(super) fn start_set_tags(&mut self, now: Instant, ticket: Ticket, tags: Tags) {
        let length = encode_meta(&tags, self.config.protocol).len();
        if length > TAGS_BYTES_MAX {
            let limit = TAGS_BYTES_MAX;
            let error = ClusterError::TagsTooLarge { limit };
            self.complete(ticket, Outcome::Done(Err(error)));
        } else if self.config.tags_file {
            self.files.write_tags(ticket, tags);
        } else {
            self.set_tags(now, ticket, tags);
        }
    }

    pub(super) fn set_tags(&mut self, now: Instant, ticket: Ticket, tags: Tags) {
        let meta = encode_meta(&tags, self.config.protocol);
        self.config.tags = tags;
        let company = self.gossip.present() > 1;
        let token = self.wait_for_broadcast(now, WaitingOperation::SetTags(ticket));
        self.gossip.set_meta(now, &meta, token);
        if !company {
            self.broadcast_ended(now, token, true);
        }
    }
}
