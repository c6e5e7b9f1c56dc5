//! `tags`: sets and deletes tags of the agent's node.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::CliError;
use super::flags::{repeated, texts};
use super::hint::call_failed;
use super::output::print;
use super::rpc::{connect, parse_tags, with_rpc_flags};

pub(super) fn command() -> Command {
    let command = Command::new("tags")
        .about("Modify tags of a running Serf agent")
        .arg(repeated(
            "set",
            "key=value",
            "Set a tag; may be given several times",
        ))
        .arg(repeated(
            "delete",
            "key",
            "Delete a tag; may be given several times",
        ));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let (set, delete) = (texts(matches, "set"), texts(matches, "delete"));
    if set.is_empty() && delete.is_empty() {
        return Err(CliError::Usage(
            "At least one of -set and -delete must be given.".to_owned(),
        ));
    }
    let mut client = connect(matches)?;
    let delete: Vec<&str> = delete.iter().map(String::as_str).collect();
    client
        .update_tags(&parse_tags(&set)?, &delete)
        .map_err(call_failed("Error setting tags"))?;
    print("Successfully updated agent tags");
    Ok(ExitCode::SUCCESS)
}
