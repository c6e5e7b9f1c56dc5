//! What is fuzzed, and what must hold. The fuzz targets and the bounded run among the tests share it.

#![allow(dead_code, reason = "each target uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serfling::cluster::{Standalone, StandaloneConfig};
use serfling::log_ring::LogRing;
use serfling::msgpack::frame::{Limits, Scanner};
use serfling::rpc::{Config, Hub, Peer, Resources, SessionId};

const HANDSHAKE: &[u8] = b"\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01";
const MEMBERS: &[u8] = b"\x82\xa7Command\xa7members\xa3Seq\x01";
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// The scanner finds the same end however the bytes come; the first byte says how they are cut.
pub(crate) fn frame(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        bytes_max: 4096,
        depth_max: 16,
    };
    let whole = Scanner::new(limits).scan(bytes);
    let mut scanner = Scanner::new(limits);
    let mut last = None;
    let step = usize::from(cut) + 1;
    for end in (0..=bytes.len()).step_by(step).chain([bytes.len()]) {
        let progress = scanner.scan(&bytes[..end]);
        let done = !matches!(progress, Ok(serfling::msgpack::frame::Progress::Incomplete));
        last = Some(progress);
        if done {
            break;
        }
    }
    assert_eq!(last, Some(whole), "in steps of {step}");
}

/// A client says `data`, in pieces and with pauses; nobody else is harmed, and everything it had goes with it.
///
/// The first byte says whether it performs the handshake, whether there is an auth key, and how the bytes are cut.
pub(crate) fn session(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else {
        return;
    };
    let mut now = Instant::now();
    let config = Config {
        auth_key: (how & 2 != 0).then(|| "key".to_owned()),
        request_bytes_max: REQUEST_BYTES_MAX,
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        ..Config::default()
    };
    let cluster = Standalone::new(now, StandaloneConfig::new("n1"));
    let mut hub = Hub::new(now, config, cluster, Arc::new(LogRing::new()));
    let accept = |hub: &mut Hub<Standalone>| hub.accept(now, Peer::Unix(0)).expect("there is room");
    let (fuzzed, watcher) = (accept(&mut hub), accept(&mut hub));
    if how & 1 != 0 {
        hub.handle_bytes(now, fuzzed, HANDSHAKE);
    }
    for piece in bytes.chunks(usize::from(how >> 2) + 1) {
        hub.handle_bytes(now, fuzzed, piece);
        go_on(&mut hub, now);
        assert!(
            hub.pending(fuzzed).len() <= 2 * OUTBOX_BYTES_MAX + REQUEST_BYTES_MAX,
            "what waits is bounded"
        );
        if how & 4 != 0 {
            take(&mut hub, fuzzed);
        }
        now += Duration::from_millis(1);
        hub.handle_timeout(now);
        while hub.poll_network().is_some() {}
    }
    hub.handle_eof(now, fuzzed);
    go_on(&mut hub, now);

    hub.handle_bytes(now, watcher, HANDSHAKE);
    assert_eq!(take(&mut hub, watcher), 13, "others are served on");
    hub.handle_bytes(now, watcher, MEMBERS);
    assert!(take(&mut hub, watcher) >= 13);
    hub.handle_gone(now, fuzzed);
    hub.handle_gone(now, watcher);
    // The cluster's own queries and joins end by themselves.
    hub.handle_timeout(now + Duration::from_secs(3600));
    assert_eq!(
        hub.resources(),
        Resources::default(),
        "everything goes with its client"
    );
}

fn go_on(hub: &mut Hub<Standalone>, now: Instant) {
    for _ in 0..100 {
        if !hub.handle_ready(now) {
            break;
        }
    }
}

fn take(hub: &mut Hub<Standalone>, id: SessionId) -> usize {
    let count = hub.pending(id).len();
    hub.handle_sent(id, count);
    count
}
