//! What gossip costs: packets handled, whole states compared.
//!
//! `cargo bench --bench gossip`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

#[path = "common/gossip.rs"]
mod gossip_fixture;

use divan::Bencher;
use divan::counter::ItemsCount;
use serfling::gossip::envelope::EnvelopeConfig;

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
