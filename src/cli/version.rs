//! `version`: what this is.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::output::print;
use crate::cluster::VersionRange;

pub(super) fn command() -> Command {
    Command::new("version")
        .about("Prints the version")
        .arg(Arg::new("ignored").num_args(0..).hide(true))
}

pub(super) fn run(_: &ArgMatches) -> Result<ExitCode, CliError> {
    show();
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show() {
    let protocol = VersionRange::SERF;
    print(&format!(
        "serfling {}\nAgent Protocol: {} (Understands back to: {})",
        env!("CARGO_PKG_VERSION"),
        protocol.max,
        protocol.min
    ));
}
