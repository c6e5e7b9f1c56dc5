//! Fuzzes with `node_harness::node`: `fuzz/run` runs it.

#![no_main]

#[path = "../node_harness.rs"]
mod node_harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| node_harness::node(data));
