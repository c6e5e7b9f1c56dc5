//! Name conflicts: when another node claims this one's name, the cluster is asked who it knows by it.
//!
//! The node that most know stays; the other goes. Source: hashicorp/serf, `serf/serf.go` (`handleNodeConflict`,
//! `resolveNodeConflict`) and `serf/internal_query.go` (`handleConflict`).

use std::net::SocketAddr;
use std::time::Instant;

use log::{debug, error, info, warn};

use super::Serf;
use super::queries::{Asker, INTERNAL_PREFIX};
use crate::cluster::{Output, QueryId, QueryRequest};
use crate::serf::message::ConflictResponse;

impl Serf {
    pub(super) fn handle_conflict(
        &mut self,
        now: Instant,
        name: &str,
        existing: SocketAddr,
        other: SocketAddr,
    ) {
        if name != self.config.name {
            warn!("serf: Name conflict for '{name}' both {existing} and {other} are claiming");
            return;
        }
        let resolve = self.config.resolve_conflicts;
        error!(
            "serf: Node name conflicts with another node at {other}. Names must be unique! (Resolution enabled: {resolve})"
        );
        // One vote at a time says it all.
        if !resolve || self.conflict_running {
            return;
        }
        let request = QueryRequest {
            name: format!("{INTERNAL_PREFIX}conflict"),
            payload: Some(name.into()),
            ..QueryRequest::default()
        };
        let asker = Asker::Conflict {
            answers: 0,
            ours: 0,
        };
        match self.ask(now, request, asker) {
            Ok(_) => self.conflict_running = true,
            Err(error) => error!("serf: Failed to start name resolution query: {error}"),
        }
    }

    /// Tells who this node knows by a name, unless it is its own.
    pub(super) fn answer_conflict_query(&mut self, now: Instant, query: QueryId, payload: &[u8]) {
        let Ok(name) = std::str::from_utf8(payload) else {
            return;
        };
        if name == self.config.name {
            return;
        }
        debug!("serf: Got conflict resolution query for '{name}'");
        let mut response = Vec::new();
        ConflictResponse::encode(self.membership.get(name), &mut response);
        if let Err(error) = self.answer(now, query, &response) {
            error!("serf: Failed to respond to conflict query: {error}");
        }
    }

    pub(super) fn take_conflict_answer(&mut self, ltime: u64, payload: &[u8]) {
        let here = self.gossip.advertise();
        let Some(asked) = self.asked.get_mut(&ltime) else {
            return;
        };
        let Asker::Conflict { answers, ours } = &mut asked.asker else {
            return;
        };
        match ConflictResponse::decode(payload) {
            Ok(response) => {
                *answers += 1;
                *ours += u32::from(response.addr == Some(here));
            }
            Err(error) => error!("serf: Failed to decode conflict query response: {error}"),
        }
    }

    /// Stays if most of those who answered know this node by its name.
    pub(super) fn end_conflict(&mut self, answers: u32, ours: u32) {
        self.conflict_running = false;
        if ours > answers / 2 {
            info!("serf: majority in name conflict resolution [{ours} / {answers}]");
            return;
        }
        warn!("serf: minority in name conflict resolution, quiting [{ours} / {answers}]");
        let name = &self.config.name;
        self.outputs.push_back(Output::Evicted {
            reason: format!(
                "another node has the name '{name}' ({ours} of {answers} nodes know this one by it): give this node another name"
            ),
        });
    }
}
