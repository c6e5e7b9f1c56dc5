//! `keys`: works on the keyrings of the cluster.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::flags::{flag, is_on, switch, text};
use super::hint::{call_failed, with_hint};
use super::output::{columns, print, print_error};
use super::rpc::{connect, with_rpc_flags};
use super::{CliError, hint, progress};
use crate::client::KeyOperation;

pub(super) fn command() -> Command {
    let command = Command::new("keys")
        .about("Manipulate the internal encryption keyring used by Serf")
        .arg(flag(
            "install",
            "key",
            "Install a key on all members, for decryption",
        ))
        .arg(flag(
            "use",
            "key",
            "Encrypt with this key, which all members must have",
        ))
        .arg(flag(
            "remove",
            "key",
            "Remove a key, which must not be the primary one, from all members",
        ))
        .arg(switch(
            "list",
            "false",
            "List all keys, and how many members have each",
        ));
    with_rpc_flags(command)
}

/// What one of the flags does, in words.
struct Action {
    starting: &'static str,
    done: &'static str,
    failed: &'static str,
    operation: fn(&str) -> KeyOperation<'_>,
}

const INSTALL: Action = Action {
    starting: "Installing key on all members...",
    done: "Successfully installed key!",
    failed: "Error installing key",
    operation: |key| KeyOperation::Install(key),
};
const USE: Action = Action {
    starting: "Changing primary key on all members...",
    done: "Successfully changed primary key!",
    failed: "Error changing primary key",
    operation: |key| KeyOperation::Use(key),
};
const REMOVE: Action = Action {
    starting: "Removing key on all members...",
    done: "Successfully removed key!",
    failed: "Error removing key",
    operation: |key| KeyOperation::Remove(key),
};
const LIST: Action = Action {
    starting: "Asking all members for installed keys...",
    done: "Keys gathered, listing cluster keys...",
    failed: "Failed to gather member keys",
    operation: |_| KeyOperation::List,
};

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let asked = [("install", INSTALL), ("use", USE), ("remove", REMOVE)];
    let mut actions: Vec<(Action, &str)> = asked
        .into_iter()
        .filter_map(|(name, action)| text(matches, name).map(|key| (action, key)))
        .collect();
    if is_on(matches, "list") {
        actions.push((LIST, ""));
    }
    if actions.len() > 1 {
        return Err(CliError::Failed(
            "Only one of -install, -use, -remove, or -list allowed".to_owned(),
        ));
    }
    let Some((action, key)) = actions.pop() else {
        return Err(CliError::Usage(
            "One of -install, -use, -remove or -list must be given.".to_owned(),
        ));
    };
    let mut client = connect(matches)?;
    print(&format!("==> {}", action.starting));
    let (report, error) = client
        .begin_keys((action.operation)(key))
        .and_then(|pending| progress::wait(&mut client, &pending, "Waiting for all members"))
        .map_err(call_failed(action.failed))?;
    if let Some(error) = error {
        if !report.messages.is_empty() {
            let row = |(node, text): &(String, String)| {
                vec!["failed:".to_owned(), node.clone(), text.clone()]
            };
            print_error(&columns(
                &report.messages.iter().map(row).collect::<Vec<_>>(),
            ));
        }
        let mut said = report.messages.iter().map(|(_, text)| text.as_str());
        let hint = hint::of_agent(&error).or_else(|| said.find_map(hint::of_agent));
        let text = format!("\n{}: {error}", action.failed);
        return Err(CliError::Failed(with_hint(&text, hint)));
    }
    print(&format!("==> {}", action.done));
    if let Some(keys) = &report.keys {
        let row =
            |(key, count): &(String, u64)| vec![key.clone(), format!("[{count}/{}]", report.nodes)];
        print(&format!(
            "\n{}",
            columns(&keys.iter().map(row).collect::<Vec<_>>())
        ));
    }
    Ok(ExitCode::SUCCESS)
}
