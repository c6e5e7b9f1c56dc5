//! `join`: has the agent join others.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::flags::{is_on, switch, texts};
use super::hint::{call_failed, with_hint};
use super::output::print;
use super::rpc::{connect, with_rpc_flags};
use super::{CliError, hint, progress};

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
    let pending = client
        .begin_join(&addresses, is_on(matches, "replay"))
        .map_err(call_failed("Error joining the cluster"))?;
    let what = match addresses.len() {
        1 => "Joining 1 address".to_owned(),
        count => format!("Joining {count} addresses"),
    };
    let joined = progress::wait(&mut client, &pending, &what)
        .map_err(call_failed("Error joining the cluster"))?;
    if let Some(error) = joined.error {
        let text = format!("Error joining the cluster: {}", error.trim_end());
        let some = format!("{} of {} answered", joined.count, addresses.len());
        let hint =
            hint::of_agent(&error).map_or_else(|| some.clone(), |hint| format!("{some}; {hint}"));
        return Err(CliError::Failed(with_hint(&text, Some(&hint))));
    }
    print(&format!(
        "Successfully joined cluster by contacting {} nodes.",
        joined.count
    ));
    Ok(ExitCode::SUCCESS)
}
