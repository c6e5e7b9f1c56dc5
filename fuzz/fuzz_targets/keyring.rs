//! Fuzzes with `gossip_harness::keyring`: `cargo fuzz run keyring fuzz/corpus/keyring fuzz/seeds/keyring`.

#![no_main]

#[path = "../gossip_harness.rs"]
mod gossip_harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gossip_harness::keyring(data));
