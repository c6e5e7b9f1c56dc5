//! What a node keeps over a restart, and what a crash leaves of it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;
use rand::rngs::StdRng;
use serfling::cluster::Tags;
use serfling::gossip::keyring::Keyring;
use serfling::rpc::Hub;
use serfling::serf::snapshot::{AfterLeave, Replay, Snapshot, SnapshotCommand};
use serfling::serf::{FileCommand, Serf, SerfConfig};

/// The files of one node.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    snapshot: Vec<u8>,
    /// How much of the snapshot survives a power failure for certain.
    synced: usize,
    pub(crate) keyring: Option<String>,
    pub(crate) tags: Option<Tags>,
    /// It takes no more bytes.
    pub(crate) full: bool,
}

impl Disk {
    /// Carries out what the node wants kept.
    pub(crate) fn carry_out(&mut self, now: Instant, hub: &mut Hub<Serf>) {
        while let Some(command) = hub.with_cluster(now, Serf::poll_file) {
            let result = if self.full {
                Err("no space left on device".to_owned())
            } else {
                Ok(())
            };
            match command {
                FileCommand::Snapshot(_) if self.full => {
                    hub.with_cluster(now, |serf| serf.snapshot_failed(now));
                }
                FileCommand::Snapshot(command) => self.keep(command),
                FileCommand::Keyring(json) => {
                    if !self.full {
                        self.keyring = Some(json);
                    }
                    hub.with_cluster(now, |serf| serf.keyring_written(now, result));
                }
                FileCommand::Tags(tags) => {
                    if !self.full {
                        self.tags = Some(tags);
                    }
                    hub.with_cluster(now, |serf| serf.tags_written(now, result));
                }
            }
        }
    }

    fn keep(&mut self, command: SnapshotCommand) {
        match command {
            SnapshotCommand::Append(lines) => self.snapshot.extend(lines),
            SnapshotCommand::Replace(lines) => {
                self.snapshot = lines;
                self.synced = self.snapshot.len();
            }
            SnapshotCommand::Sync => self.synced = self.snapshot.len(),
        }
    }

    /// What a power failure leaves: what was not synced is torn, and may be followed by zeros.
    pub(crate) fn tear(&mut self, rng: &mut StdRng) {
        let cut = rng.random_range(self.synced..=self.snapshot.len());
        let lost = self.snapshot.len() - cut;
        self.snapshot.truncate(cut);
        if rng.random::<bool>() {
            self.snapshot.resize(cut + lost, 0);
        }
        self.synced = self.snapshot.len();
    }

    /// Where the snapshot says that other nodes were.
    pub(crate) fn others(&self, name: &str) -> Vec<SocketAddr> {
        let mut replay = Replay::new(AfterLeave::StayAway);
        replay.handle_bytes(&self.snapshot);
        let known = Snapshot::new(Instant::now(), replay, AfterLeave::StayAway).recovered();
        let others = known.alive.into_iter().chain(known.failed);
        others
            .filter(|(other, _)| **other != *name)
            .map(|(_, addr)| addr)
            .collect()
    }

    /// How much it holds.
    pub(crate) fn snapshot_bytes(&self) -> usize {
        self.snapshot.capacity()
    }

    /// Forgets everything but the keys, which the operator puts back.
    pub(crate) fn wipe(&mut self) {
        let keyring = self.keyring.take();
        *self = Self {
            keyring,
            ..Self::default()
        };
    }

    /// Has a node start from these files.
    pub(crate) fn configure(&self, now: Instant, config: &mut SerfConfig) {
        let mut replay = Replay::new(AfterLeave::StayAway);
        replay.handle_bytes(&self.snapshot);
        config.snapshot = Some(Snapshot::new(now, replay, AfterLeave::StayAway));
        config.keyring_file = true;
        config.tags_file = true;
        if let Some(json) = &self.keyring {
            config.envelope.keyring = Some(Keyring::from_json(json).expect("a keyring"));
        }
        if let Some(tags) = &self.tags {
            config.tags = tags.clone();
        }
    }
}
