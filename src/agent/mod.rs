//! What makes a daemon of the protocol cores: configuration, log, the life of the process, its files.

pub mod config;
pub mod daemon;
#[cfg_attr(not(feature = "mdns"), path = "no_discovery.rs")]
mod discovery;
mod files;
pub mod handlers;
mod joining;
pub mod log;
pub mod node;
mod readiness;
mod reload;
mod running;
pub mod snapshot_file;
mod statsd;
pub mod syslog;
