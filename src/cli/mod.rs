//! The command line: the reference's commands, flags, output and exit codes.
//!
//! Differences on purpose: errors go to standard error, not to standard output; `members -format=json` prints an empty
//! list, not `null`, when nobody matches; tags are printed in the order of their names.

mod agent;
#[cfg(feature = "bench")]
mod bench;
mod event;
mod flags;
mod force_leave;
mod hint;
mod info;
mod join;
mod keygen;
mod keys;
mod leave;
mod members;
mod monitor;
mod output;
mod progress;
mod query;
mod reachability;
mod rpc;
mod rtt;
mod tags;
#[cfg(feature = "top")]
mod top;
mod version;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use self::flags::Translated;
use self::output::{print, print_error};

/// What the reference exits with when it does not know the command.
const UNKNOWN_COMMAND: u8 = 127;

/// Why a command did not do what was asked. Each ends the program with status 1.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The arguments are wrong; the command's usage is shown too.
    #[error("{0}")]
    Usage(String),
    /// Anything else, in words for the user.
    #[error("{0}")]
    Failed(String),
}

type Run = fn(&ArgMatches) -> Result<ExitCode, CliError>;

/// How a command is defined, and what carries it out.
type Entry = (fn() -> Command, Run);

/// Every command.
const COMMANDS: &[Entry] = &[
    (agent::command, agent::run),
    #[cfg(feature = "bench")]
    (bench::command, bench::run),
    (event::command, event::run),
    (force_leave::command, force_leave::run),
    (info::command, info::run),
    (join::command, join::run),
    (keygen::command, keygen::run),
    (keys::command, keys::run),
    (leave::command, leave::run),
    (members::command, members::run),
    (monitor::command, monitor::run),
    (query::command, query::run),
    (reachability::command, reachability::run),
    (rtt::command, rtt::run),
    (tags::command, tags::run),
    #[cfg(feature = "top")]
    (top::command, top::run),
    (version::command, version::run),
];

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|text| text.to_string_lossy().into_owned())
        .collect();
    if arguments
        .iter()
        .any(|argument| argument == "-v" || argument == "--version")
    {
        version::show();
        return ExitCode::SUCCESS;
    }
    let Some((name, arguments)) = arguments.split_first() else {
        print_error(&overview());
        return ExitCode::from(UNKNOWN_COMMAND);
    };
    if matches!(name.as_str(), "-h" | "-help" | "--help" | "help") {
        print(&overview());
        return ExitCode::SUCCESS;
    }
    let known = COMMANDS
        .iter()
        .map(|(define, run)| (define(), run))
        .find(|(command, _)| command.get_name() == name);
    let Some((command, run)) = known else {
        print_error(&format!("Unknown command: {name}\n\n{}", overview()));
        return ExitCode::from(UNKNOWN_COMMAND);
    };
    run_command(command, *run, arguments)
}

/// The whole command line, defined: for manual pages and the shells' completions.
#[must_use]
pub fn command() -> Command {
    Command::new("serfling")
        .about("An agent for HashiCorp Serf clusters, in one thread and a few MiB")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommands(COMMANDS.iter().map(|(define, _)| define()))
}

fn run_command(command: Command, run: Run, arguments: &[String]) -> ExitCode {
    let name = command.get_name().to_owned();
    let command = command
        .bin_name(format!("serfling {name}"))
        .no_binary_name(true)
        .disable_help_flag(true);
    // Only who needs help pays for it: an agent that is small stays so.
    let usage = || command.clone().render_help().to_string();
    let result = match flags::translate(&command, arguments) {
        Ok(Translated::Help) => {
            print(&usage());
            return ExitCode::SUCCESS;
        }
        Ok(Translated::Arguments(arguments)) => command
            .clone()
            .try_get_matches_from(arguments)
            .map_err(|error| CliError::Usage(error.render().to_string().trim_end().to_owned()))
            .and_then(|matches| run(&matches)),
        Err(error) => Err(CliError::Usage(error.to_string())),
    };
    match result {
        Ok(code) => code,
        Err(CliError::Usage(text)) => {
            print_error(&format!("{text}\n\n{}", usage().trim_end()));
            ExitCode::FAILURE
        }
        Err(CliError::Failed(text)) => {
            print_error(&text);
            ExitCode::FAILURE
        }
    }
}

fn overview() -> String {
    let mut text =
        "Usage: serfling [--version] [--help] <command> [<args>]\n\nAvailable commands are:"
            .to_owned();
    for (define, _) in COMMANDS {
        let command = define();
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        text.push_str(&format!("\n    {:<14}  {about}", command.get_name()));
    }
    text
}
