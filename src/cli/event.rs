//! `event`: sends a user event.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::flags::{is_on, switch, texts};
use super::hint::call_failed;
use super::output::print;
use super::rpc::{connect, name_and_payload, with_rpc_flags};

pub(super) fn command() -> Command {
    let command = Command::new("event")
        .about("Send a custom event through the Serf cluster")
        .arg(switch(
            "coalesce",
            "true",
            "Whether newer events of this name may replace it within a short time",
        ))
        .arg(Arg::new("words").num_args(0..).value_name("name [payload]"));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let (name, payload) = name_and_payload(&texts(matches, "words"), "An event")?;
    let coalesce = is_on(matches, "coalesce");
    let mut client = connect(matches)?;
    client
        .user_event(&name, &payload.unwrap_or_default(), coalesce)
        .map_err(call_failed("Error sending event"))?;
    print(&format!(
        "Event '{name}' dispatched! Coalescing enabled: {coalesce}"
    ));
    Ok(ExitCode::SUCCESS)
}
