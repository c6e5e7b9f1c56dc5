//! What gossip costs: packets handled, whole states compared, memory per member.
//!
//! `cargo bench --bench gossip`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

#[path = "common/gossip.rs"]
mod gossip_fixture;

use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::ItemsCount;
use serfling::cluster::Cluster;
use serfling::gossip::envelope::EnvelopeConfig;
use serfling::serf::{Serf, SerfConfig};

use gossip_fixture::{Wrapping, merge, packets, sealed, serf, take_packets};

fn main() {
    divan::main();
}

/// Decoded, acted on, answered with whatever is to be passed on.
#[divan::bench(args = Wrapping::ALL)]
fn packet(bencher: Bencher<'_, '_>, wrapping: Wrapping) {
    const COUNT: u32 = 1000;
    let packets = packets(wrapping, COUNT);
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| serf(wrapping.envelope()))
        .bench_values(|mut serf| {
            take_packets(&mut serf, &packets);
            serf
        });
}

/// A push/pull of nodes that are new to the one that takes it in.
#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn merge_new(bencher: Bencher<'_, '_>, count: u32) {
    let bytes = sealed(
        EnvelopeConfig {
            compress: false,
            ..EnvelopeConfig::default()
        },
        count,
    );
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| serf(EnvelopeConfig::default()))
        .bench_values(|mut serf| {
            merge(&mut serf, 0, &bytes);
            serf
        });
}

/// A push/pull that brings nothing new, as most do.
#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn merge_known(bencher: Bencher<'_, '_>, count: u32) {
    let bytes = sealed(
        EnvelopeConfig {
            compress: false,
            ..EnvelopeConfig::default()
        },
        count,
    );
    let mut serf = serf(EnvelopeConfig::default());
    merge(&mut serf, 0, &bytes);
    let mut number = 0;
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        number += 1;
        merge(&mut serf, number, &bytes)
    });
}

/// Not a time but the longest turn while 10,000 nodes are taken in, printed.
#[divan::bench(args = Wrapping::ALL, sample_count = 3)]
fn longest_turn(bencher: Bencher<'_, '_>, wrapping: Wrapping) {
    let bytes = sealed(wrapping.envelope(), 10_000);
    bencher
        .with_inputs(|| serf(wrapping.envelope()))
        .bench_values(|mut serf| {
            let new = merge(&mut serf, 0, &bytes);
            let known = merge(&mut serf, 1, &bytes);
            println!(
                "{wrapping:?}, {} KiB: longest turn {new:?} when all are new, {known:?} when none is",
                bytes.len() / 1024
            );
            serf
        });
}

/// Not a time but what a known member takes, printed: resident, and beyond its name and tags.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn memory_per_member(bencher: Bencher<'_, '_>) {
    const COUNT: u32 = 20_000;
    let bytes = sealed(
        EnvelopeConfig {
            compress: false,
            ..EnvelopeConfig::default()
        },
        COUNT,
    );
    // Name and tags of each, once: what any list of members must hold.
    let bare = "node-00000".len() + "dceastroleweb".len();
    bencher
        .with_inputs(|| {
            let mut config = SerfConfig::new("me", ([10, 0, 0, 0], 7946).into(), [3; 32]);
            // Nobody answers, and whom it found dead it would not count as having heard the news.
            config.timing.probe_interval = Duration::from_secs(24 * 60 * 60);
            Serf::new(Instant::now(), config).expect("it starts")
        })
        .bench_values(|mut serf| {
            let before = resident();
            merge(&mut serf, 0, &bytes);
            // What is to be passed on is gone after a while.
            let mut now = Instant::now();
            for _ in 0..100_000 {
                let Some(next) = serf
                    .poll_timeout()
                    .filter(|_| serf.gossip().queued_news() > 0)
                else {
                    break;
                };
                now = now.max(next);
                serf.handle_timeout(now);
                while serf.poll_network().is_some() {}
                while serf.poll_output().is_some() {}
            }
            assert_eq!(serf.gossip().queued_news(), 0);
            let each = (resident() - before) / COUNT as usize;
            println!(
                "{each} bytes resident for each of {COUNT} members, {} beyond name and tags",
                each - bare
            );
            serf
        });
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
