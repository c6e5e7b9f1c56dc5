//! `rtt`: the estimated round-trip time between two nodes.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::flags::texts;
use super::hint::{call_failed, with_hint};
use super::output::print;
use super::rpc::{connect, with_rpc_flags};
use crate::client::Client;
use crate::cluster::Coordinate;

/// What to do when a node has no coordinate.
const NO_COORDINATE: &str = "`serfling members` lists the names; a node has a coordinate once it was probed, unless \
                             its agent has disable_coordinates";

pub(super) fn command() -> Command {
    let command = Command::new("rtt")
        .about("Estimates network round trip time between nodes")
        .arg(Arg::new("node").num_args(0..).value_name("node1 [node2]"));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let mut nodes = texts(matches, "node");
    if nodes.is_empty() || nodes.len() > 2 {
        return Err(CliError::Usage(
            "One or two node names must be specified".to_owned(),
        ));
    }
    let mut client = connect(matches)?;
    if nodes.len() == 1 {
        let stats = client
            .stats()
            .map_err(call_failed("Error querying agent"))?;
        nodes.extend(
            stats
                .get("agent")
                .and_then(|agent| agent.get("name"))
                .cloned(),
        );
    }
    let [one, other] = &nodes[..] else {
        return Err(CliError::Failed(
            "Error querying agent: it does not tell its name".to_owned(),
        ));
    };
    let (here, there) = (
        coordinate(&mut client, one)?,
        coordinate(&mut client, other)?,
    );
    let Some(distance) = here.distance_to(&there) else {
        return Err(CliError::Failed(format!(
            "The coordinates of {one} and {other} have different dimensions"
        )));
    };
    print(&format!(
        "Estimated {one} <-> {other} rtt: {:.3} ms",
        distance.as_secs_f64() * 1000.0
    ));
    Ok(ExitCode::SUCCESS)
}

fn coordinate(client: &mut Client, node: &str) -> Result<Coordinate, CliError> {
    let coordinate = client
        .coordinate(node)
        .map_err(call_failed("Error getting coordinates"))?;
    coordinate.ok_or_else(|| {
        let text = format!("Could not find a coordinate for node {node:?}");
        CliError::Failed(with_hint(&text, Some(NO_COORDINATE)))
    })
}
