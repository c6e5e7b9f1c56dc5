//! What is to be kept on disk, for whoever owns the files to carry out.

use std::collections::VecDeque;
use std::time::Instant;

use super::Serf;
use crate::cluster::{ClusterError, Outcome, QueryId, Tags, Ticket};
use crate::serf::message::KeyResponse;
use crate::serf::snapshot::SnapshotCommand;

/// Something to be done with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileCommand {
    /// Change the snapshot. A failure is told by [`Serf::snapshot_failed`].
    Snapshot(SnapshotCommand),
    /// Replace the keyring file by this text. The end is told by [`Serf::keyring_written`].
    Keyring(String),
    /// Replace the tags file by these. The end is told by [`Serf::tags_written`].
    Tags(Tags),
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Files {
    keyrings: VecDeque<String>,
    tags: VecDeque<Tags>,
    /// Key queries to be answered once the keyring is written, in the order of `keyrings`.
    key_answers: VecDeque<(QueryId, KeyResponse)>,
    /// Whether the keyring that is in use could not be written.
    keyring_unwritten: bool,
    /// Operations that go on once the tags are written, in the order of `tags`.
    tag_changes: VecDeque<(Ticket, Tags)>,
}

impl Files {
    /// How many operations and answers wait for a file to be written.
    pub(super) fn waiting(&self) -> usize {
        self.key_answers.len() + self.tag_changes.len()
    }

    /// How many files are to be written.
    pub(super) fn unpolled(&self) -> usize {
        self.keyrings.len() + self.tags.len()
    }

    /// Whether the keyring that is in use could not be written.
    pub(super) const fn keyring_unwritten(&self) -> bool {
        self.keyring_unwritten
    }

    pub(super) fn write_keyring(&mut self, json: String, query: QueryId, answer: KeyResponse) {
        self.keyrings.push_back(json);
        self.key_answers.push_back((query, answer));
    }

    pub(super) fn write_tags(&mut self, ticket: Ticket, tags: Tags) {
        self.tags.push_back(tags.clone());
        self.tag_changes.push_back((ticket, tags));
    }
}

impl Serf {
    /// The next thing to be done with a file. To be polled after every turn.
    pub fn poll_file(&mut self) -> Option<FileCommand> {
        if let Some(json) = self.files.keyrings.pop_front() {
            return Some(FileCommand::Keyring(json));
        }
        if let Some(tags) = self.files.tags.pop_front() {
            return Some(FileCommand::Tags(tags));
        }
        let snapshot = self.config.snapshot.as_mut()?;
        snapshot.poll_command().map(FileCommand::Snapshot)
    }

    /// The snapshot could not be changed. Nothing is lost: it is replaced later.
    pub fn snapshot_failed(&mut self, now: Instant) {
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.handle_write_error(now);
        }
    }

    /// Brings the snapshot up to date: before the process ends.
    pub fn flush_snapshot(&mut self, now: Instant) {
        if let Some(snapshot) = &mut self.config.snapshot {
            snapshot.flush(now);
        }
    }

    /// The keyring file was written, or why it was not. The node that asked for the change hears of it.
    pub fn keyring_written(&mut self, now: Instant, result: Result<(), String>) {
        if let Some((query, mut answer)) = self.files.key_answers.pop_front() {
            self.files.keyring_unwritten = result.is_err();
            if let Err(error) = result {
                log::error!("serf: Failed to write keyring file: {error}");
                answer.result = false;
                answer.message = format!("Failed to write keyring file: {error}");
            }
            self.answer_key_query(now, query, answer);
        }
        self.settle(now);
    }

    /// The tags file was written, or why it was not; the tags change only if it was.
    pub fn tags_written(&mut self, now: Instant, result: Result<(), String>) {
        if let Some((ticket, tags)) = self.files.tag_changes.pop_front() {
            match result {
                Ok(()) => self.set_tags(now, ticket, tags),
                Err(error) => {
                    log::error!("serf: Failed to write tags file: {error}");
                    let error = ClusterError::TagsNotWritten { error };
                    self.complete(ticket, Outcome::Done(Err(error)));
                }
            }
        }
        self.settle(now);
    }
}
