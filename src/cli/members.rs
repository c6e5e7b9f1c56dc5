//! `members`: lists the members.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde::Serialize;

use super::CliError;
use super::flags::{flag, is_on, repeated, switch, text, texts};
use super::hint::call_failed;
use super::output::{Format, columns, print, to_json};
use super::rpc::{connect, format_flag, parse_tags, with_rpc_flags};
use crate::cluster::Member;

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
    let given = |name| text(matches, name).unwrap_or_default();
    let mut client = connect(matches)?;
    let members = client.members_filtered(&tags, given("status"), given("name"));
    let members = members.map_err(call_failed("Error retrieving members"))?;
    let output = match Format::parse(format_flag(matches))? {
        Format::Json => to_json(&Members {
            members: members.iter().map(JsonMember::from).collect(),
        })?,
        Format::Text => {
            let detailed = is_on(matches, "detailed");
            columns(
                &members
                    .iter()
                    .map(|member| row(member, detailed))
                    .collect::<Vec<_>>(),
            )
        }
    };
    print(&output);
    Ok(ExitCode::SUCCESS)
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
