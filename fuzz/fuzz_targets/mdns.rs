//! Fuzzes with `mdns_harness::mdns`: `cargo fuzz run mdns fuzz/corpus/mdns fuzz/seeds/mdns`.

#![no_main]

#[path = "../mdns_harness.rs"]
mod mdns_harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mdns_harness::mdns(data));
