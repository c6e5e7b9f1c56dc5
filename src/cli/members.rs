//! `members`: lists the members, once or whenever they change.
//!
//! `-watch` follows a stream of member events and reads the list anew after each, so that filters are the agent's. On a
//! terminal the table takes the place of the one before; elsewhere an empty line comes between them. Members come in the
//! order of their names, and a list only if it differs from the one before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde::Serialize;

use super::CliError;
use super::flags::{flag, is_on, repeated, switch, text, texts};
use super::hint::call_failed;
use super::output::{Format, columns, print, print_anew, to_json, to_json_line, try_print};
use super::rpc::{connect, format_flag, parse_tags, with_rpc_flags};
use crate::client::Client;
use crate::cluster::Member;

/// The events that change the list.
const CHANGES: &str = "member-join,member-leave,member-failed,member-update,member-reap";

pub(super) fn command() -> Command {
    let command = Command::new("members")
        .about("Lists the members of a Serf cluster")
        .arg(switch(
            "detailed",
            "false",
            "Show protocol versions too, in text",
        ))
        .arg(flag("format", "text|json", "Form of the output"))
        .arg(flag(
            "name",
            "regexp",
            "Only members whose whole name matches",
        ))
        .arg(flag(
            "role",
            "regexp",
            "Only members whose whole role matches (deprecated: use -tag role=...)",
        ))
        .arg(flag(
            "status",
            "regexp",
            "Only members whose whole status matches",
        ))
        .arg(repeated(
            "tag",
            "key=regexp",
            "Only members with a tag whose whole value matches",
        ))
        .arg(switch(
            "watch",
            "false",
            "List them again whenever they change; in JSON, one list a line",
        ));
    with_rpc_flags(command)
}

#[derive(Serialize)]
struct Members {
    members: Vec<JsonMember>,
}

#[derive(Serialize)]
struct JsonMember {
    name: String,
    addr: String,
    port: u16,
    tags: BTreeMap<String, String>,
    status: &'static str,
    protocol: BTreeMap<&'static str, u8>,
}

impl From<&Member> for JsonMember {
    fn from(member: &Member) -> Self {
        let versions = member.delegate;
        Self {
            name: member.name.to_string(),
            addr: address(member),
            port: member.port,
            tags: member
                .tags
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            status: member.status.as_str(),
            protocol: [
                ("max", versions.max),
                ("min", versions.min),
                ("version", versions.cur),
            ]
            .into(),
        }
    }
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let mut tags = texts(matches, "tag");
    if let Some(role) = text(matches, "role") {
        print("Deprecation warning: 'Role' has been replaced with 'Tags'");
        tags.push(format!("role={role}"));
    }
    let tags = parse_tags(&tags)?;
    let listing = Listing {
        tags: &tags,
        status: text(matches, "status").unwrap_or_default(),
        name: text(matches, "name").unwrap_or_default(),
        detailed: is_on(matches, "detailed"),
        watch: is_on(matches, "watch"),
    };
    let mut client = connect(matches)?;
    let format = Format::parse(format_flag(matches))?;
    if listing.watch {
        return watch(&mut client, &listing, format);
    }
    let members = listing.members(&mut client)?;
    print(&listing.show(&members, format)?);
    Ok(ExitCode::SUCCESS)
}

/// Which members to list, and how.
struct Listing<'a> {
    tags: &'a [(&'a str, &'a str)],
    status: &'a str,
    name: &'a str,
    detailed: bool,
    watch: bool,
}

impl Listing<'_> {
    fn members(&self, client: &mut Client) -> Result<Vec<Member>, CliError> {
        client
            .members_filtered(self.tags, self.status, self.name)
            .map_err(call_failed("Error retrieving members"))
    }

    fn show(&self, members: &[Member], format: Format) -> Result<String, CliError> {
        match format {
            Format::Json => {
                let members = members.iter().map(JsonMember::from).collect();
                if self.watch {
                    to_json_line(&Members { members })
                } else {
                    to_json(&Members { members })
                }
            }
            Format::Text => {
                let rows = members.iter().map(|member| row(member, self.detailed));
                Ok(columns(&rows.collect::<Vec<_>>()))
            }
        }
    }
}

/// Lists members until the agent goes, or nobody reads any more.
fn watch(client: &mut Client, listing: &Listing<'_>, format: Format) -> Result<ExitCode, CliError> {
    let changes = client
        .stream(CHANGES)
        .map_err(call_failed("Error starting stream"))?;
    let mut shown = None;
    loop {
        let mut members = listing.members(client)?;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let output = listing.show(&members, format)?;
        if shown.as_ref() != Some(&output) {
            let printed = match format {
                Format::Json => try_print(&output),
                Format::Text => print_anew(&output, shown.is_none()),
            };
            if printed.is_err() {
                return Ok(ExitCode::SUCCESS);
            }
            shown = Some(output);
        }
        // What has happened up to now is one change.
        client
            .next(&changes, None)
            .map_err(call_failed("Error waiting for changes"))?;
        while client
            .take(&changes)
            .map_err(call_failed("Error waiting for changes"))?
            .is_some()
        {}
    }
}

fn address(member: &Member) -> String {
    SocketAddr::new(member.addr, member.port).to_string()
}

fn row(member: &Member, detailed: bool) -> Vec<String> {
    let tags: Vec<String> = member
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut row = vec![
        member.name.to_string(),
        address(member),
        member.status.to_string(),
        tags.join(","),
    ];
    if detailed {
        let versions = member.delegate;
        row.push(format!("Protocol Version: {}", versions.cur));
        row.push(format!(
            "Available Protocol Range: [{}, {}]",
            versions.min, versions.max
        ));
    }
    row
}
