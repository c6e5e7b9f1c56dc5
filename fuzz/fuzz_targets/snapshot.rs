//! Fuzzes with `gossip_harness::snapshot`: `cargo fuzz run snapshot fuzz/corpus/snapshot fuzz/seeds/snapshot`.

#![no_main]

#[path = "../gossip_harness.rs"]
mod gossip_harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gossip_harness::snapshot(data));
