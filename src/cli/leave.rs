//! `leave`: has the agent leave the cluster and exit.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::hint::call_failed;
use super::output::print;
use super::rpc::{connect, with_rpc_flags};

pub(super) fn command() -> Command {
    let command = Command::new("leave")
        .about("Gracefully leaves the Serf cluster and shuts down")
        // The reference takes any arguments here and does not look at them.
        .arg(Arg::new("ignored").num_args(0..).hide(true));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    connect(matches)?
        .leave()
        .map_err(call_failed("Error leaving"))?;
    print("Graceful leave complete");
    Ok(ExitCode::SUCCESS)
}
