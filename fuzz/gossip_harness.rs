//! What is fuzzed of gossip, the snapshot and the keyring, and what must hold.

#![allow(dead_code, reason = "each target uses a part of it")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serfling::cluster::{Cluster, NetworkCommand, NetworkEvent, StreamId};
use serfling::gossip::keyring::Keyring;
use serfling::serf::snapshot::{AfterLeave, Replay, Snapshot};
use serfling::serf::{Serf, SerfConfig};

/// What one operation's bytes may make a node send, in bytes: packets and whole states, a bounded number.
const SENT_MAX: usize = 4 * 1024 * 1024;

fn serf(now: Instant) -> Serf {
    let here: SocketAddr = ([127, 0, 0, 1], 7946).into();
    Serf::new(now, SerfConfig::new("front", here, [4; 32])).expect("it starts")
}

fn drain(serf: &mut Serf) -> usize {
    let mut sent = 0;
    while let Some(command) = serf.poll_network() {
        sent += match command {
            NetworkCommand::SendPacket { payload, .. } => payload.len(),
            NetworkCommand::Write { bytes, .. } => bytes.len(),
            _ => 0,
        };
    }
    while serf.poll_output().is_some() {}
    while serf.poll_file().is_some() {}
    sent
}

/// Lets time pass; timers fire at their times.
fn wait(serf: &mut Serf, now: &mut Instant, time: Duration) {
    let end = *now + time;
    let mut turns = 0;
    while let Some(next) = serf.poll_timeout().filter(|next| *next <= end) {
        *now = next.max(*now);
        serf.handle_timeout(*now);
        drain(serf);
        turns += 1;
        assert!(turns < 100_000, "timers fire without end");
    }
    *now = end;
}

/// Packets, streams and pauses, one after the other: a byte for what, a byte for how long, then the bytes.
///
/// The node stays a member of its own cluster, sends no more than a bounded amount, and all it held for streams goes
/// with them.
pub(crate) fn gossip(data: &[u8]) {
    let mut now = Instant::now();
    let mut serf = serf(now);
    let from: SocketAddr = ([127, 0, 0, 9], 7946).into();
    let mut rest = data;
    let mut stream = None;
    let mut streams = 0;
    while let [what, length, following @ ..] = rest {
        // Long enough for whole states: lengths are in steps of eight.
        let length = (usize::from(*length) * 8).min(following.len());
        let (bytes, following) = following.split_at(length);
        rest = following;
        match what % 8 {
            0..=3 => {
                let payload = bytes;
                serf.handle_network(now, NetworkEvent::Packet { from, payload });
            }
            4 | 5 => {
                let stream = *stream.get_or_insert_with(|| {
                    let stream = StreamId::accepted(streams);
                    streams += 1;
                    serf.handle_network(now, NetworkEvent::Accepted { stream, from });
                    stream
                });
                serf.handle_network(now, NetworkEvent::Received { stream, bytes });
            }
            6 => {
                if let Some(stream) = stream.take() {
                    let error = None;
                    serf.handle_network(now, NetworkEvent::Ended { stream, error });
                }
            }
            _ => wait(
                &mut serf,
                &mut now,
                Duration::from_millis(length as u64 * 4),
            ),
        }
        assert!(drain(&mut serf) <= SENT_MAX);
        assert_eq!(serf.local().name.as_ref(), "front");
    }
    wait(&mut serf, &mut now, Duration::from_secs(20));
    assert_eq!(serf.gossip().held_bytes(), 0);
}

/// Any file is replayed; what is recovered can be written and found again.
pub(crate) fn snapshot(data: &[u8]) {
    let mut replay = Replay::new(AfterLeave::Rejoin);
    for piece in data.chunks(7) {
        replay.handle_bytes(piece);
    }
    let now = Instant::now();
    let mut snapshot = Snapshot::new(now, replay, AfterLeave::Rejoin);
    let recovered = snapshot.recovered();
    snapshot.flush(now);
    let mut file = data.to_vec();
    while let Some(command) = snapshot.poll_command() {
        match command {
            serfling::serf::snapshot::SnapshotCommand::Append(lines) => file.extend(lines),
            serfling::serf::snapshot::SnapshotCommand::Replace(lines) => file = lines,
            serfling::serf::snapshot::SnapshotCommand::Sync => {}
        }
    }
    let mut replay = Replay::new(AfterLeave::Rejoin);
    replay.handle_bytes(&file);
    let again = Snapshot::new(now, replay, AfterLeave::Rejoin).recovered();
    assert_eq!(recovered, again);
}

/// Any keyring file is read or refused; what was read is written and read the same.
pub(crate) fn keyring(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(ring) = Keyring::from_json(text) {
        assert_eq!(Keyring::from_json(&ring.to_json()), Ok(ring));
    }
}
