//! What nodes tell each other when they compare states: intents and events that one of them may have missed.
//!
//! Source: hashicorp/serf, `serf/delegate.go` (`LocalState`, `MergeRemoteState`). Unlike there, events are taken in the
//! order of their Lamport times; and a living node is not taken for leaving on the word of one that knows it as left: see
//! `hear_left`.

use std::collections::HashSet;
use std::time::Instant;

use super::Serf;
use crate::cluster::{MemberStatus, UserEvent};
use crate::serf::message::{EventsAt, JoinMessage, LeaveMessage, PushPullMessage, StoredEvent};

impl Serf {
    /// What this node knows.
    pub(super) fn local_state(&self) -> Vec<u8> {
        let events = self.events.iter().map(|(ltime, events)| EventsAt {
            ltime,
            events: events
                .iter()
                .map(|event| StoredEvent {
                    name: &event.name,
                    payload: &event.payload,
                })
                .collect(),
        });
        let left = self.membership.with_status(MemberStatus::Left);
        let message = PushPullMessage {
            ltime: self.membership.clock().time(),
            status_ltimes: self.membership.status_ltimes().collect(),
            left_members: left.map(|member| &*member.name).collect(),
            event_ltime: self.events.clock().time(),
            events: events.collect(),
            query_ltime: self.queries.clock().time(),
        };
        let mut state = Vec::new();
        message.encode(&mut state);
        state
    }

    /// Takes in what another node knows.
    pub(super) fn merge_state(&mut self, now: Instant, state: &[u8], join: bool) {
        let state = match PushPullMessage::decode(state) {
            Ok(state) => state,
            Err(error) => {
                log::error!("serf: Failed to decode remote state: {error}");
                return;
            }
        };
        // They are the times of that node's next messages.
        let witnessed = |ltime: u64| ltime.checked_sub(1);
        if let Some(ltime) = witnessed(state.ltime) {
            self.membership.clock_mut().witness(ltime);
        }
        if let Some(ltime) = witnessed(state.event_ltime) {
            self.events.clock_mut().witness(ltime);
        }
        if let Some(ltime) = witnessed(state.query_ltime) {
            self.queries.clock_mut().witness(ltime);
        }
        self.merge_intents(now, &state);
        if join && self.joins.ignores_old_events() {
            self.events.raise_minimum(state.event_ltime);
        }
        let mut slots = state.events;
        slots.sort_by_key(|slot| slot.ltime);
        for slot in slots {
            for event in slot.events {
                let event = UserEvent {
                    ltime: slot.ltime,
                    name: event.name.to_owned(),
                    payload: event.payload.to_vec(),
                    coalesce: false,
                };
                self.hear_user_event(now, event);
            }
        }
    }

    fn merge_intents(&mut self, now: Instant, state: &PushPullMessage<'_>) {
        let left: HashSet<&str> = state.left_members.iter().copied().collect();
        for &(node, ltime) in &state.status_ltimes {
            if left.contains(node) {
                self.hear_left(now, node, ltime);
            } else {
                self.hear_join(now, &JoinMessage { ltime, node });
            }
        }
    }

    /// Another node counts a node among the left.
    fn hear_left(&mut self, now: Instant, node: &str, ltime: u64) {
        let status = self.membership.get(node).map(|member| member.status);
        let ltime = match status {
            // It came back, and gossip brings that there too. It would not hear of this, so nobody would take it back.
            Some(MemberStatus::Alive) if node != self.config.name => return,
            // As here. A later time would grow with every comparison.
            Some(MemberStatus::Left | MemberStatus::Leaving) => ltime,
            // Later than the last word on it, so that it counts.
            _ => ltime.saturating_add(1),
        };
        let prune = false;
        self.hear_leave(now, &LeaveMessage { ltime, node, prune });
    }
}
