//! Fuzzes with `harness::frame`: `cargo fuzz run frame fuzz/corpus/frame fuzz/seeds/frame`.

#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::frame(data));
