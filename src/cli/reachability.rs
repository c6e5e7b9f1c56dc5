//! `reachability`: whether every live member hears of a query and can tell so.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};

use super::CliError;
use super::flags::{is_on, switch};
use super::hint::call_failed;
use super::monitor::watch_interrupt;
use super::output::print;
use super::progress::Progress;
use super::rpc::{connect, with_rpc_flags};
use crate::client::QueryReply;
use crate::cluster::{MemberStatus, QueryRequest};

/// How often to look whether the user wants to stop.
const LOOK_UP: Duration = Duration::from_millis(200);
const TOO_MANY_ACKS: &str = "Members that answer are taken for failed: look for a wrong configuration or a network \
                             that drops packets.";
const TOO_FEW_ACKS: &str = "Gossip to these members, or their answers, got lost.";
const DUPLICATES: &str = "More than one node answers to the same name: node names must be unique.";
const WHAT_TO_CHECK: &str = "
What to check:
* every node can reach the bind address and port of every other
* an advertised address leads to the bind address
* no node is behind a NAT
* firewalls let TCP and UDP pass on the port
* the network itself works";

pub(super) fn command() -> Command {
    let command = Command::new("reachability")
        .about("Test network reachability")
        .arg(switch(
            "verbose",
            "false",
            "Show every answer, and how long it took",
        ));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let verbose = is_on(matches, "verbose");
    let mut client = connect(matches)?;
    let members = client
        .members()
        .map_err(call_failed("Error getting members"))?;
    let live: BTreeSet<String> = members
        .iter()
        .filter(|member| member.status == MemberStatus::Alive)
        .map(|member| member.name.to_string())
        .collect();
    print(&format!(
        "Total members: {}, live members: {}",
        members.len(),
        live.len()
    ));

    let request = QueryRequest {
        name: "_serf_ping".to_owned(),
        request_ack: true,
        ..QueryRequest::default()
    };
    let interrupted = watch_interrupt()?;
    let replies = client
        .query(&request)
        .map_err(call_failed("Error sending query"))?;
    print("Starting reachability test...");
    let start = Instant::now();
    let mut last = start;
    let mut acks = 0;
    let mut duplicates = false;
    let mut from_whom = BTreeSet::new();
    let mut progress = Progress::new();
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(CliError::Failed("Test interrupted".to_owned()));
        }
        progress.show(&format!(
            "{} of {} live members have answered",
            from_whom.len(),
            live.len()
        ));
        match client
            .next(&replies, Some(LOOK_UP))
            .map_err(call_failed("Error waiting for acks"))?
        {
            Some(QueryReply::Ack { from }) => {
                progress.clear();
                if verbose {
                    print(&format!("\tAck from '{from}'"));
                }
                acks += 1;
                if from_whom.contains(&from) {
                    duplicates = true;
                    print(&format!("Duplicate response from '{from}'"));
                }
                from_whom.insert(from);
                last = Instant::now();
            }
            Some(QueryReply::Done) => break,
            Some(QueryReply::Response { .. }) | None => {}
        }
    }
    drop(progress);
    if verbose {
        let (total, to_last) = (start.elapsed().as_secs_f64(), (last - start).as_secs_f64());
        print(&format!(
            "Query time: {total:.2} sec, time to last response: {to_last:.2} sec"
        ));
    }
    if duplicates {
        print(DUPLICATES);
    }
    let list = |names: &BTreeSet<String>, than: &BTreeSet<String>| {
        names
            .difference(than)
            .for_each(|name| print(&format!("\t{name}")));
    };
    if acks > live.len() {
        print("Received more acks than live nodes! Acks from non-live nodes:");
        list(&from_whom, &live);
        print(&format!("{TOO_MANY_ACKS}\n{WHAT_TO_CHECK}"));
    } else if acks < live.len() {
        print("Received less acks than live nodes! Missing acks from:");
        list(&live, &from_whom);
        print(&format!("{TOO_FEW_ACKS}\n{WHAT_TO_CHECK}"));
    } else {
        print("Successfully contacted all live nodes");
        return Ok(if duplicates {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    Ok(ExitCode::FAILURE)
}
