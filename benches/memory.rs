//! What a node takes for each member that it knows: allocated, at the most while it takes them in, and resident.
//!
//! `cargo bench --bench memory`. Each row is a process of its own; in the first rows the node joins all at once, in the
//! others all join it, so that it has to pass on the news of all. Without the member's name and its tags'
//! keys and values, which any list of members must hold.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

#[path = "common/gossip.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod gossip_fixture;

use std::process::Command;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serfling::cluster::{Cluster, NetworkCommand, NetworkEvent, Operation};
use serfling::gossip::envelope::{Envelope, EnvelopeConfig};
use serfling::gossip::stream::StreamEnd;
use serfling::serf::{Serf, SerfConfig};

use gossip_fixture::{addr, merge, sealed, state};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Just over and just under a power of two: tables have most room to spare in the first, least in the second.
const COUNTS: [u32; 6] = [1_000, 10_000, 16_400, 20_000, 32_700, 100_000];
const JOINS: &str = "joins";
const WAYS: [&str; 2] = [JOINS, "is joined"];
/// Name and tags of each, once.
const BARE_BYTES: usize = "node-00000".len() + "dceastroleweb".len();

fn main() {
    let mut words = std::env::args().skip(1);
    if let Some(way) = words.next().filter(|word| WAYS.contains(&&**word)) {
        let count = words.next().and_then(|word| word.parse().ok());
        measure(&way, count.expect("a number of members"));
        return;
    }
    println!("Bytes for each known member, beyond its name and tags:\n");
    println!("| the node | members | allocated | at the most, while they come | resident |");
    println!("|---|---|---|---|---|");
    for way in WAYS {
        for count in COUNTS {
            let itself = std::env::current_exe().expect("its own path");
            let status = Command::new(itself)
                .args([way, &count.to_string()])
                .status();
            assert!(status.expect("it runs").success(), "no figures");
        }
    }
}

/// Takes in so many members, lets all news of them pass, and prints a row.
fn measure(way: &str, count: u32) {
    let mut config = SerfConfig::new("me", ([10, 0, 0, 0], 7946).into(), [3; 32]);
    // Nobody answers, and whom it found dead it would not count as having heard the news.
    config.timing.probe_interval = Duration::from_secs(24 * 60 * 60);
    let mut serf = Serf::new(Instant::now(), config).expect("it starts");
    let resident_before = resident_bytes();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    if way == JOINS {
        join(&mut serf, count);
    } else {
        merge(&mut serf, 0, &sealed(plain(), count));
    }
    let mut now = Instant::now();
    while serf.gossip().queued_news() > 0 {
        now = now.max(serf.poll_timeout().expect("gossip goes on"));
        serf.handle_timeout(now);
        while serf.poll_network().is_some() {}
        while serf.poll_output().is_some() {}
    }
    assert_eq!(serf.member_count(), count as usize + 1);
    let each = |bytes: usize| (bytes / count as usize).saturating_sub(BARE_BYTES);
    println!(
        "| {way} | {count} | {} | {} | {} |",
        each(ALLOCATOR.current_usage() - before),
        each(ALLOCATOR.peak_usage() - before),
        each(resident_bytes().saturating_sub(resident_before)),
    );
}

fn plain() -> EnvelopeConfig {
    EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    }
}

/// Joins a node that knows so many.
fn join(serf: &mut Serf, count: u32) {
    let now = Instant::now();
    let addresses = vec![addr(1).to_string()];
    let replay = false;
    serf.start(now, Operation::Join { addresses, replay });
    let Some(NetworkCommand::Connect { stream, .. }) = serf.poll_network() else {
        panic!("it dials nobody");
    };
    serf.handle_network(now, NetworkEvent::Connected { stream });
    while serf.poll_network().is_some() {}
    let mut rng = StdRng::seed_from_u64(1);
    let bytes = Envelope::new(plain()).seal_stream(StreamEnd::Accepter, &state(count), &mut rng);
    for bytes in bytes.chunks(64 * 1024) {
        serf.handle_network(now, NetworkEvent::Received { stream, bytes });
    }
    drop(bytes);
    while serf.poll_timeout() == Some(now) {
        serf.handle_timeout(now);
        while serf.poll_output().is_some() {}
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
