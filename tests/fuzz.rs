//! A bounded run of the fuzz targets' harness: over the committed seeds, and over what a mutator makes of them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../fuzz/decode_harness.rs"]
mod decode_harness;
#[path = "../fuzz/gossip_harness.rs"]
mod gossip_harness;
#[path = "../fuzz/harness.rs"]
mod harness;
#[cfg(feature = "mdns")]
#[path = "../fuzz/mdns_harness.rs"]
mod mdns_harness;
#[path = "../fuzz/node_harness.rs"]
mod node_harness;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Runs the target on every seed, and on seeds with bytes changed, taken out, doubled and put together.
fn run(target: &str, harness: fn(&[u8]), cases: u32) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| harness(seed));
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    let strategy = (
        prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        prop::collection::vec(change, 0..8),
    );
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(parts, changes)| {
            let mut data: Vec<u8> = parts
                .iter()
                .flat_map(|part| part.get(&seeds).clone())
                .collect();
            for (at, byte, kind) in changes {
                if data.is_empty() {
                    break;
                }
                let at = at.index(data.len());
                match kind {
                    0 => data[at] = byte,
                    1 => drop(data.remove(at)),
                    2 => data.insert(at, byte),
                    _ => data.truncate(at),
                }
            }
            harness(&data);
            Ok(())
        })
        .unwrap();
}

#[test]
fn frames() {
    run("frame", harness::frame, 20_000);
}

#[test]
fn sessions() {
    run("session", harness::session, 3_000);
}

#[test]
fn gossip() {
    run("gossip", gossip_harness::gossip, 1_000);
}

#[test]
fn snapshots() {
    run("snapshot", gossip_harness::snapshot, 10_000);
}

#[test]
fn keyrings() {
    run("keyring", gossip_harness::keyring, 10_000);
}

#[cfg(feature = "mdns")]
#[test]
fn multicast_dns() {
    run("mdns", mdns_harness::mdns, 10_000);
}

#[test]
fn requests() {
    run("request", decode_harness::request, 5000);
}

#[test]
fn packets() {
    run("packet", decode_harness::packet, 3000);
}

#[test]
fn streams() {
    run("stream", decode_harness::stream, 2000);
}

#[test]
fn serf_messages() {
    run("serf_message", decode_harness::serf_message, 5000);
}

#[test]
fn configs() {
    run("config", decode_harness::config, 2000);
}

#[test]
fn texts() {
    run("text", decode_harness::text, 5000);
}

#[test]
fn nodes() {
    run("node", node_harness::node, 300);
}
