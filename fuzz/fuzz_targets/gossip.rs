//! Fuzzes with `gossip_harness::gossip`: `cargo fuzz run gossip fuzz/corpus/gossip fuzz/seeds/gossip`.

#![no_main]

#[path = "../gossip_harness.rs"]
mod gossip_harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gossip_harness::gossip(data));
