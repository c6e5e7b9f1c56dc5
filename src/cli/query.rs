//! `query`: asks the cluster and shows who answers what.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use serde::Serialize;

use super::CliError;
use super::flags::{flag, is_on, repeated, switch, text, texts};
use super::hint::call_failed;
use super::monitor::watch_interrupt;
use super::output::{Format, print, to_json};
use super::rpc::{connect, format_flag, name_and_payload, parse_tags, with_rpc_flags};
use crate::agent::config::duration;
use crate::client::QueryReply;
use crate::cluster::QueryRequest;

/// How often to look whether the user wants to stop.
const LOOK_UP: Duration = Duration::from_millis(200);

pub(super) fn command() -> Command {
    let command = Command::new("query")
        .about("Send a query to the Serf cluster")
        .arg(flag("format", "text|json", "Form of the output"))
        .arg(repeated(
            "node",
            "name",
            "Only ask this node; may be given several times",
        ))
        .arg(repeated(
            "tag",
            "key=regexp",
            "Only ask nodes whose tag matches; may be given several times",
        ))
        .arg(flag(
            "timeout",
            "duration",
            "How long to take answers, as 15s; the agent chooses by default",
        ))
        .arg(switch(
            "no-ack",
            "false",
            "Don't have nodes acknowledge the query",
        ))
        .arg(flag(
            "relay-factor",
            "n",
            "How many other nodes repeat each answer, against loss",
        ))
        .arg(Arg::new("words").num_args(0..).value_name("name [payload]"));
    with_rpc_flags(command)
}

#[derive(Serialize, Default)]
struct Answers {
    #[serde(rename = "Acks")]
    acks: Option<Vec<String>>,
    #[serde(rename = "Responses")]
    responses: BTreeMap<String, String>,
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let tags = texts(matches, "tag");
    let filter_tags = parse_tags(&tags)?
        .into_iter()
        .map(|(tag, regex)| (tag.to_owned(), regex.to_owned()))
        .collect();
    let timeout = text(matches, "timeout").map(duration::parse).transpose();
    let timeout = timeout
        .map_err(|error| CliError::Usage(format!("invalid value for flag -timeout: {error}")))?;
    let (name, payload) = name_and_payload(&texts(matches, "words"), "A query")?;
    let relay_factor = text(matches, "relay-factor").unwrap_or("0");
    let relay_factor: i64 = relay_factor.parse().map_err(|_| {
        CliError::Usage(format!(
            "invalid value {relay_factor:?} for flag -relay-factor: expected a number"
        ))
    })?;
    let relay_factor = u8::try_from(relay_factor)
        .map_err(|_| CliError::Failed("Relay factor must be between 0 and 255".to_owned()))?;
    let no_ack = is_on(matches, "no-ack");
    let request = QueryRequest {
        name: name.clone(),
        payload,
        filter_nodes: texts(matches, "node"),
        filter_tags,
        request_ack: !no_ack,
        relay_factor,
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
    };
    let mut client = connect(matches)?;
    let format = Format::parse(format_flag(matches))
        .map_err(|_| CliError::Failed(format!("Invalid format: {}", format_flag(matches))))?;
    let interrupted = watch_interrupt()?;
    let replies = client
        .query(&request)
        .map_err(call_failed("Error sending query"))?;
    let show = |line: String| {
        if format == Format::Text {
            print(&line);
        }
    };
    show(format!("Query '{name}' dispatched"));
    let (mut acks, mut responses) = (0, 0);
    let mut answers = Answers::default();
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(ExitCode::FAILURE);
        }
        match client
            .next(&replies, Some(LOOK_UP))
            .map_err(call_failed("Error waiting for answers"))?
        {
            None => {}
            Some(QueryReply::Ack { from }) => {
                acks += 1;
                show(format!("Ack from '{from}'"));
                answers.acks.get_or_insert_default().push(from);
            }
            Some(QueryReply::Response { from, payload }) => {
                responses += 1;
                let payload = String::from_utf8_lossy(&payload).into_owned();
                show(format!(
                    "Response from '{from}': {}",
                    payload.strip_suffix('\n').unwrap_or(&payload)
                ));
                answers.responses.insert(from, payload);
            }
            Some(QueryReply::Done) => break,
        }
    }
    if !no_ack {
        show(format!("Total Acks: {acks}"));
    }
    show(format!("Total Responses: {responses}"));
    if format == Format::Json {
        print(&to_json(&answers)?);
    }
    Ok(ExitCode::SUCCESS)
}
