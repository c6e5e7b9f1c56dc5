//! Fuzzes with `decode_harness::request`: `fuzz/run` runs it.

#![no_main]

#[path = "../decode_harness.rs"]
mod decode_harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode_harness::request(data));
