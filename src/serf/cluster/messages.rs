//! Messages of other nodes: each is acted on once and passed on.
//!
//! Source: hashicorp/serf, `serf/delegate.go` (`NotifyMsg`) and `serf/serf.go` (`handle…`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::{HeardEvent, Life, Serf};
use crate::cluster::{Event, UserEvent};
use crate::gossip::Queue;
use crate::gossip::broadcast::Terms;
use crate::serf::coordinate::decode_payload;
use crate::serf::membership::{Departure, IntentReaction, LocalIntention};
use crate::serf::message::{
    DecodeError, JoinMessage, LeaveMessage, MessageType, QueryMessage, QueryResponseMessage,
    RelayMessage, UserEventMessage,
};
use crate::serf::recent::Reception;

impl Serf {
    /// Another node's message, type byte included.
    pub(super) fn handle_message(&mut self, now: Instant, message: &[u8]) {
        if let Err(error) = self.try_message(now, message) {
            warn!("serf: Error decoding a message: {error}");
        }
    }

    fn try_message(&mut self, now: Instant, message: &[u8]) -> Result<(), DecodeError> {
        let &kind = message.first().ok_or(DecodeError::Empty)?;
        let mut terms = Terms::default();
        let pass_on = match MessageType::from_byte(kind) {
            Some(MessageType::Leave) => {
                let leave = LeaveMessage::decode(message)?;
                debug!("serf: messageLeaveType: {}", leave.node);
                // A later intent of a node makes those before it void.
                terms.about = Some(leave.node.into());
                self.hear_leave(now, &leave).then_some(Queue::Intents)
            }
            Some(MessageType::Join) => {
                let join = JoinMessage::decode(message)?;
                debug!("serf: messageJoinType: {}", join.node);
                terms.about = Some(join.node.into());
                self.hear_join(now, &join).then_some(Queue::Intents)
            }
            Some(MessageType::UserEvent) => {
                let event = UserEventMessage::decode(message)?;
                debug!("serf: messageUserEventType: {}", event.name);
                let event = UserEvent {
                    ltime: event.ltime,
                    name: event.name.to_owned(),
                    payload: event.payload.to_vec(),
                    coalesce: event.coalesce,
                };
                self.hear_user_event(now, event).then_some(Queue::Events)
            }
            Some(MessageType::Query) => {
                let query = QueryMessage::decode(message)?;
                debug!("serf: messageQueryType: {}", query.name);
                self.hear_query(now, &query).then_some(Queue::Queries)
            }
            Some(MessageType::QueryResponse) => {
                let response = QueryResponseMessage::decode(message)?;
                debug!("serf: messageQueryResponseType: {}", response.from);
                self.hear_response(now, &response);
                None
            }
            Some(MessageType::Relay) => {
                let relay = RelayMessage::decode(message)?;
                debug!("serf: Relaying response to addr: {}", relay.to);
                self.gossip.send_user(relay.to, relay.message);
                None
            }
            Some(
                MessageType::PushPull
                | MessageType::ConflictResponse
                | MessageType::KeyRequest
                | MessageType::KeyResponse,
            )
            | None => return Err(DecodeError::Type(kind)),
        };
        if let Some(queue) = pass_on {
            self.gossip.broadcast(now, queue, message, terms);
        }
        Ok(())
    }

    /// Says whether to pass it on.
    pub(super) fn hear_leave(&mut self, now: Instant, leave: &LeaveMessage<'_>) -> bool {
        let intention = match self.life {
            Life::Present => LocalIntention::Stay,
            Life::Leaving | Life::Left => LocalIntention::Leave,
        };
        let reaction = self.membership.handle_leave_intent(
            now,
            leave.node,
            leave.ltime,
            leave.prune,
            intention,
        );
        if reaction == IntentReaction::Refute {
            debug!("serf: Refuting an older leave intent");
            self.broadcast_join_intent(now);
        }
        reaction == IntentReaction::PassOn
    }

    /// Says whether to pass it on.
    pub(super) fn hear_join(&mut self, now: Instant, join: &JoinMessage<'_>) -> bool {
        let reaction = self
            .membership
            .handle_join_intent(now, join.node, join.ltime);
        reaction == IntentReaction::PassOn
    }

    /// Says everywhere that this node is in the cluster.
    pub(super) fn broadcast_join_intent(&mut self, now: Instant) {
        let name = self.config.name.clone();
        let join = JoinMessage {
            ltime: self.membership.clock().time(),
            node: &name,
        };
        self.hear_join(now, &join);
        let mut message = Vec::new();
        join.encode(&mut message);
        let terms = Terms {
            about: Some(name.into()),
            ..Terms::default()
        };
        self.gossip.broadcast(now, Queue::Intents, &message, terms);
    }

    /// Tells of an event that was not heard before; says whether that is so.
    pub(super) fn hear_user_event(&mut self, now: Instant, event: UserEvent) -> bool {
        let heard = HeardEvent {
            name: event.name.clone(),
            payload: event.payload.clone(),
        };
        let reception = self.events.receive(event.ltime, heard);
        if reception == Reception::TooOld {
            warn!(
                "serf: received old event {} from time {} (current: {})",
                event.name,
                event.ltime,
                self.events.clock().time()
            );
        }
        let new = reception == Reception::New;
        if new {
            self.tell(now, Event::User(event));
        }
        new
    }

    pub(super) fn handle_gone(&mut self, now: Instant, name: &str, left: bool) {
        let departure = if left {
            Departure::Said
        } else {
            Departure::Silent
        };
        self.membership.handle_gone(now, name, departure);
    }

    /// A node answered a probe: its coordinate and the round trip say where this node is.
    pub(super) fn handle_acked(&mut self, name: &Arc<str>, round_trip: Duration, payload: &[u8]) {
        let Some(coordinates) = &mut self.coordinates else {
            return;
        };
        if payload.is_empty() {
            return;
        }
        match decode_payload(payload) {
            Ok(Some(coordinate)) => match coordinates.observe(name, coordinate, round_trip) {
                Ok(()) => self.refresh_ack_payload(),
                Err(error) => debug!("serf: Rejected coordinate from {name}: {error}"),
            },
            Ok(None) => {}
            Err(error) => {
                warn!("serf: Failed to decode coordinate from ping of {name}: {error}");
            }
        }
    }
}
