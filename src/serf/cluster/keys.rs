//! Key operations: internal queries by which one node works on the keyring of all.
//!
//! One operation runs at a time, others wait: two at once could leave the cluster without a common key. Source:
//! hashicorp/serf, `serf/keymanager.go` and `serf/internal_query.go`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use log::{error, info, warn};

use super::Serf;
use super::queries::{Asker, INTERNAL_PREFIX};
use crate::cluster::{
    ClusterError, KeyOperation, KeyReport, Outcome, QueryId, QueryRequest, Ticket,
};
use crate::gossip::keyring::{Key, Keyring, KeyringError, decode_base64};
use crate::serf::message::{KeyRequest, KeyResponse, MessageType};

const NO_KEYRING_TO_MODIFY: &str = "No keyring to modify (encryption not enabled)";
const NO_KEYRING_TO_LIST: &str = "Keyring is empty (encryption not enabled)";

/// The operation that runs, and those that wait.
#[derive(Debug, Default)]
pub(super) struct KeyState {
    running: Option<Running>,
    waiting: VecDeque<(Ticket, KeyOperation)>,
}

#[derive(Debug)]
struct Running {
    ticket: Ticket,
    report: KeyReport,
    keys: BTreeMap<String, u64>,
}

impl KeyState {
    /// How many operations run or wait.
    pub(super) fn len(&self) -> usize {
        usize::from(self.running.is_some()) + self.waiting.len()
    }
}

impl Serf {
    pub(super) fn start_key_operation(
        &mut self,
        now: Instant,
        ticket: Ticket,
        operation: KeyOperation,
    ) {
        if self.keys.running.is_some() {
            self.keys.waiting.push_back((ticket, operation));
            return;
        }
        if let Err(error) = self.run_key_operation(now, ticket, operation) {
            let report = KeyReport::default();
            let error = Some(error);
            self.complete(ticket, Outcome::Keys { report, error });
            self.run_waiting_key_operation(now);
        }
    }

    fn run_key_operation(
        &mut self,
        now: Instant,
        ticket: Ticket,
        operation: KeyOperation,
    ) -> Result<(), ClusterError> {
        let (name, key) = match &operation {
            KeyOperation::Install(key) => ("install-key", key.as_str()),
            KeyOperation::Use(key) => ("use-key", key.as_str()),
            KeyOperation::Remove(key) => ("remove-key", key.as_str()),
            KeyOperation::List => ("list-keys", ""),
        };
        let key =
            decode_base64(key).map_err(|error| ClusterError::InvalidBase64 { at: error.0 })?;
        if self.config.protocol < super::QUERY_PROTOCOL_MIN {
            return Err(ClusterError::NotSupported);
        }
        let mut payload = Vec::new();
        KeyRequest { key: &key }.encode(&mut payload);
        let nodes = self.gossip.present() as u64;
        self.keys.running = Some(Running {
            ticket,
            report: KeyReport {
                nodes,
                // Asked for or not, the reference shows them.
                keys: (operation == KeyOperation::List).then(Vec::new),
                ..KeyReport::default()
            },
            keys: BTreeMap::new(),
        });
        let request = QueryRequest {
            name: format!("{INTERNAL_PREFIX}{name}"),
            payload: Some(payload),
            ..QueryRequest::default()
        };
        let asked = self.ask(now, request, Asker::Keys);
        if asked.is_err() {
            self.keys.running = None;
        }
        asked.map(drop)
    }

    fn run_waiting_key_operation(&mut self, now: Instant) {
        if let Some((ticket, operation)) = self.keys.waiting.pop_front() {
            self.start_key_operation(now, ticket, operation);
        }
    }

    /// A node's report on the operation that runs.
    pub(super) fn take_key_report(&mut self, now: Instant, ltime: u64, from: &str, payload: &[u8]) {
        let Some(running) = &mut self.keys.running else {
            return;
        };
        let report = &mut running.report;
        report.responses += 1;
        let typed = payload.first() == Some(&(MessageType::KeyResponse as u8));
        let failure = match KeyResponse::decode(payload) {
            Ok(response) => {
                for key in response.keys {
                    *running.keys.entry(key).or_default() += 1;
                }
                if response.result && !response.message.is_empty() {
                    warn!("serf: {}", response.message);
                    report
                        .messages
                        .push((from.to_owned(), response.message.clone()));
                }
                (!response.result).then_some(response.message)
            }
            Err(_) if typed => Some(format!("Failed to decode key query response: {payload:?}")),
            Err(_) => Some(format!("Invalid key query response type: {payload:?}")),
        };
        if let Some(failure) = failure {
            report.errors += 1;
            report.messages.push((from.to_owned(), failure));
        }
        if report.responses == report.nodes {
            // Its timer finds nothing.
            self.asked.remove(&ltime);
            self.end_key_operation(now);
        }
    }

    /// All nodes have reported, or the time is over.
    pub(super) fn end_key_operation(&mut self, now: Instant) {
        let Some(Running {
            ticket,
            mut report,
            keys,
            ..
        }) = self.keys.running.take()
        else {
            return;
        };
        if report.keys.is_some() {
            report.keys = Some(keys.into_iter().collect());
        }
        let KeyReport {
            nodes,
            errors,
            responses,
            ..
        } = report;
        let error = if errors > 0 {
            let failed = errors;
            Some(ClusterError::KeyFailures { failed, nodes })
        } else {
            (responses != nodes).then_some(ClusterError::KeyUnanswered { responses, nodes })
        };
        self.complete(ticket, Outcome::Keys { report, error });
        self.run_waiting_key_operation(now);
    }

    /// Another node, or this one, asks for work on the keyring.
    pub(super) fn act_on_key_query(
        &mut self,
        now: Instant,
        query: QueryId,
        name: &str,
        payload: &[u8],
    ) {
        let key = match KeyRequest::decode(payload) {
            Ok(request) => request.key,
            Err(error) => {
                error!("serf: Failed to decode key request: {error}");
                return self.answer_key_query(now, query, KeyResponse::default());
            }
        };
        let list = name == "list-keys";
        let Some(ring) = self.gossip.keyring() else {
            let message = if list {
                NO_KEYRING_TO_LIST
            } else {
                NO_KEYRING_TO_MODIFY
            };
            error!("serf: {message}");
            return self.answer_key_query(now, query, refusal(message));
        };
        info!("serf: Received {name} query");
        if list {
            let keys: Vec<String> = ring.keys().iter().map(Key::to_base64).collect();
            let response = KeyResponse {
                primary_key: keys.first().cloned().unwrap_or_default(),
                keys,
                message: String::new(),
                result: true,
            };
            return self.answer_key_query(now, query, response);
        }
        let mut changed = ring.clone();
        if let Err(error) = change(&mut changed, name, key) {
            error!("serf: Failed to carry out {name}: {error}");
            return self.answer_key_query(now, query, refusal(&error.to_string()));
        }
        let response = KeyResponse {
            result: true,
            ..KeyResponse::default()
        };
        let news = changed != *ring;
        // Who asks again for what could not be written means the file.
        if self.config.keyring_file && (news || self.files.keyring_unwritten()) {
            let json = changed.to_json();
            self.files.write_keyring(json, query, response);
            self.gossip.set_keyring(changed);
        } else {
            if news {
                self.gossip.set_keyring(changed);
            }
            self.answer_key_query(now, query, response);
        }
    }

    /// Answers a key query; a list of keys that is too long is cut, and says so.
    pub(super) fn answer_key_query(
        &mut self,
        now: Instant,
        query: QueryId,
        mut response: KeyResponse,
    ) {
        let count = response.keys.len();
        loop {
            let mut payload = Vec::new();
            response.encode(&mut payload);
            let length = self.encode_answer(query, 0, &payload).len();
            if length > self.config.query_response_bytes_max && response.keys.pop().is_some() {
                response.message = format!(
                    "truncated key list response, showing first {} of {count} keys",
                    response.keys.len()
                );
                continue;
            }
            if let Err(error) = self.answer(now, query, &payload) {
                error!("serf: Failed to respond to key query: {error}");
            }
            return;
        }
    }
}

fn refusal(message: &str) -> KeyResponse {
    KeyResponse {
        message: message.to_owned(),
        ..KeyResponse::default()
    }
}

fn change(ring: &mut Keyring, name: &str, key: &[u8]) -> Result<(), KeyringError> {
    match name {
        "install-key" => ring.install(Key::new(key)?),
        "use-key" => ring.make_primary(key)?,
        _ => ring.remove(key)?,
    }
    Ok(())
}
