//! The flags and the connection that all commands have that talk to an agent.

use clap::{ArgMatches, Command};

use super::CliError;
use super::flags::{flag, text};
use crate::client::{Client, Options};

/// Where an agent listens by default.
pub(super) const DEFAULT_RPC_ADDR: &str = "127.0.0.1:7373";

/// Adds the flags that say where the agent is.
pub(super) fn with_rpc_flags(command: Command) -> Command {
    command
        .arg(flag(
            "rpc-addr",
            "address",
            "RPC address of the agent: host:port or unix:/path [env: SERF_RPC_ADDR]",
        ))
        .arg(flag(
            "rpc-auth",
            "key",
            "RPC auth key of the agent [env: SERF_RPC_AUTH]",
        ))
}

/// Where the agent is, by the flags or the environment, and its key.
pub(super) fn options(matches: &ArgMatches) -> Result<Options, CliError> {
    let given = |name: &str, variable: &str| {
        let flag = matches.get_one::<String>(name).cloned();
        flag.or_else(|| std::env::var(variable).ok())
            .filter(|text| !text.is_empty())
    };
    let address = given("rpc-addr", "SERF_RPC_ADDR").unwrap_or_else(|| DEFAULT_RPC_ADDR.to_owned());
    let key = given("rpc-auth", "SERF_RPC_AUTH").unwrap_or_default();
    let address = address
        .parse()
        .map_err(failed("Error connecting to Serf agent"))?;
    Ok(Options::new(address).auth_key(&key))
}

/// Connects to the agent that the flags or the environment name.
pub(super) fn connect(matches: &ArgMatches) -> Result<Client, CliError> {
    Client::connect(&options(matches)?).map_err(failed("Error connecting to Serf agent"))
}

/// Makes an error of a call one of the command: `what` failed.
pub(super) fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> CliError {
    move |error| CliError::Failed(format!("{what}: {error}"))
}

/// Reads `key=value` pairs.
pub(super) fn parse_tags(pairs: &[String]) -> Result<Vec<(&str, &str)>, CliError> {
    let split = |pair: &str| -> Option<(usize, usize)> {
        let at = pair.find('=').filter(|at| *at > 0)?;
        Some((at, at + 1))
    };
    pairs
        .iter()
        .map(|pair| {
            let (end, start) = split(pair)
                .ok_or_else(|| CliError::Failed(format!("Error: Invalid tag: '{pair}'")))?;
            Ok((
                pair.get(..end).unwrap_or_default(),
                pair.get(start..).unwrap_or_default(),
            ))
        })
        .collect()
}

/// The one or two words that name and payload are.
pub(super) fn name_and_payload(
    words: &[String],
    what: &str,
) -> Result<(String, Option<Vec<u8>>), CliError> {
    match words {
        [] => Err(CliError::Usage(format!("{what} name must be specified."))),
        [name] => Ok((name.clone(), None)),
        [name, payload] => Ok((name.clone(), Some(payload.clone().into_bytes()))),
        _ => {
            let text =
                "Too many command line arguments. Only a name and payload must be specified.";
            Err(CliError::Usage(text.to_owned()))
        }
    }
}

/// The format flag's value.
pub(super) fn format_flag(matches: &ArgMatches) -> &str {
    text(matches, "format").unwrap_or("text")
}
