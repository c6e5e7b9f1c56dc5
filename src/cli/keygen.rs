//! `keygen`: makes an encryption key.

use std::process::ExitCode;

use base64::Engine as _;
use clap::{ArgMatches, Command};

use super::CliError;
use super::output::print;

pub(super) fn command() -> Command {
    Command::new("keygen").about("Generates a new encryption key")
}

pub(super) fn run(_: &ArgMatches) -> Result<ExitCode, CliError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key)
        .map_err(|error| CliError::Failed(format!("Error reading random data: {error}")))?;
    print(&base64::engine::general_purpose::STANDARD.encode(key));
    Ok(ExitCode::SUCCESS)
}
