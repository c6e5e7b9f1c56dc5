//! Fuzzes with `harness::session`: `cargo fuzz run session fuzz/corpus/session fuzz/seeds/session`.

#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::session(data));
