//! `join`: has the agent join others.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::flags::{is_on, switch, texts};
use super::output::print;
use super::rpc::{connect, failed, with_rpc_flags};

pub(super) fn command() -> Command {
    let command = Command::new("join")
        .about("Tell Serf agent to join cluster")
        .arg(switch(
            "replay",
            "false",
            "Whether to hear of user events from before the join",
        ))
        .arg(Arg::new("address").num_args(0..).value_name("address"));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let addresses = texts(matches, "address");
    if addresses.is_empty() {
        return Err(CliError::Usage(
            "At least one address to join must be specified.".to_owned(),
        ));
    }
    let mut client = connect(matches)?;
    let joined = client
        .join(&addresses, is_on(matches, "replay"))
        .map_err(failed("Error joining the cluster"))?;
    if let Some(error) = joined.error {
        return Err(CliError::Failed(format!(
            "Error joining the cluster: {error}"
        )));
    }
    print(&format!(
        "Successfully joined cluster by contacting {} nodes.",
        joined.count
    ));
    Ok(ExitCode::SUCCESS)
}
