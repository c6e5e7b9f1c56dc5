//! `info`: counters of the agent.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::CliError;
use super::flags::flag;
use super::hint::call_failed;
use super::output::{Format, print, to_json};
use super::rpc::{connect, format_flag, with_rpc_flags};

pub(super) fn command() -> Command {
    let command = Command::new("info")
        .about("Provides debugging information for operators")
        .arg(flag("format", "text|json", "Form of the output"));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let stats = connect(matches)?
        .stats()
        .map_err(call_failed("Error querying agent"))?;
    let output = match Format::parse(format_flag(matches))? {
        Format::Json => to_json(&stats)?,
        Format::Text => {
            let mut text = String::new();
            for (section, pairs) in &stats {
                text.push_str(&format!("{section}:\n"));
                for (key, value) in pairs {
                    text.push_str(&format!("\t{key} = {value}\n"));
                }
            }
            text.trim().to_owned()
        }
    };
    print(&output);
    Ok(ExitCode::SUCCESS)
}
