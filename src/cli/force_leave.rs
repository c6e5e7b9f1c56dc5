//! `force-leave`: makes a failed node one that left.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::flags::{is_on, switch, texts};
use super::hint::call_failed;
use super::rpc::{connect, with_rpc_flags};

pub(super) fn command() -> Command {
    let command = Command::new("force-leave")
        .about("Forces a member of the cluster to enter the \"left\" state")
        .arg(switch("prune", "false", "Forget the member altogether"))
        .arg(Arg::new("node").num_args(0..).value_name("name"));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let nodes = texts(matches, "node");
    let [node] = &nodes[..] else {
        return Err(CliError::Usage(
            "A node name must be specified to force leave.".to_owned(),
        ));
    };
    connect(matches)?
        .force_leave(node, is_on(matches, "prune"))
        .map_err(call_failed("Error force leaving"))?;
    Ok(ExitCode::SUCCESS)
}
