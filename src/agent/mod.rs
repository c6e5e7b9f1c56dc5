//! What makes a daemon of the protocol cores: configuration, log, the life of the process.

pub mod config;
pub mod daemon;
pub mod log;
pub mod snapshot_file;
