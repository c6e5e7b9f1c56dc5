//! Clusters in which the reference's agents and ours are members of the same kind.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod encryption;
mod events;
mod membership;
mod persistence;
