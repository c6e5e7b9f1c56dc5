//! `monitor`: shows the agent's log and events as they come.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::CliError;
use super::flags::{flag, text};
use super::hint::call_failed;
use super::output::print;
use super::rpc::{connect, failed, with_rpc_flags};
use crate::client::{Client, ClientError, StreamEvent, Subscription};
use crate::cluster::Member;

/// How often to look whether the user wants to stop.
const LOOK_UP: Duration = Duration::from_millis(200);

pub(super) fn command() -> Command {
    let command = Command::new("monitor")
        .about("Stream logs from a Serf agent")
        .arg(flag(
            "log-level",
            "level",
            "The lowest level to show: trace, debug, info (default), warn or err",
        ));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let mut client = connect(matches)?;
    let events = client
        .stream("*")
        .map_err(call_failed("Error starting stream"))?;
    let level = text(matches, "log-level").unwrap_or("INFO");
    let log = client
        .monitor(level)
        .map_err(call_failed("Error starting monitor"))?;
    let interrupted = watch_interrupt()?;
    while !interrupted.load(Ordering::Relaxed) {
        if let Err(error) = show_next(&mut client, &events, &log) {
            if let ClientError::Closed = error {
                print(
                    "\nRemote side ended the monitor! This usually means that the\nremote side has exited or crashed.",
                );
            } else {
                return Err(call_failed("Error reading from the agent")(error));
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A flag that an interrupt sets.
pub(super) fn watch_interrupt() -> Result<Arc<AtomicBool>, CliError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
        .map_err(failed("Error watching for an interrupt"))?;
    Ok(interrupted)
}

fn show_next(
    client: &mut Client,
    events: &Subscription<StreamEvent>,
    log: &Subscription<String>,
) -> Result<(), ClientError> {
    client.wait(Some(LOOK_UP))?;
    while let Some(line) = client.take(log)? {
        print(&line);
    }
    while let Some(event) = client.take(events)? {
        print(&format!("Event Info:{}", describe(&event)));
    }
    Ok(())
}

/// The record's fields as the reference shows them: in Go's syntax.
fn describe(event: &StreamEvent) -> String {
    let (kind, mut fields) = match event {
        StreamEvent::Member(event) => {
            let members: Vec<String> = event.members.iter().map(go_member).collect();
            let list = format!("[]interface {{}}{{{}}}", members.join(", "));
            (event.kind.as_str(), vec![("Members", list)])
        }
        StreamEvent::User(event) => (
            "user",
            vec![
                ("Coalesce", event.coalesce.to_string()),
                ("LTime", go_number(event.ltime)),
                ("Name", go_text(&event.name)),
                ("Payload", go_payload(&event.payload)),
            ],
        ),
        StreamEvent::Query {
            id,
            ltime,
            name,
            payload,
        } => (
            "query",
            vec![
                ("ID", go_number(*id)),
                ("LTime", go_number(*ltime)),
                ("Name", go_text(name)),
                ("Payload", go_payload(payload)),
            ],
        ),
    };
    fields.push(("Event", go_text(kind)));
    fields.sort_unstable();
    fields
        .into_iter()
        .map(|(key, value)| format!("\n\t{key}: {value}"))
        .collect()
}

/// Go decodes a number of one byte as signed, and shows unsigned ones in hexadecimal.
fn go_number(number: u64) -> String {
    if number < 128 {
        number.to_string()
    } else {
        format!("{number:#x}")
    }
}

fn go_text(text: &str) -> String {
    format!("{text:?}")
}

fn go_bytes(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:#x}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn go_payload(payload: &[u8]) -> String {
    if payload.is_empty() {
        "<nil>".to_owned()
    } else {
        format!("[]byte{{{}}}", go_bytes(payload))
    }
}

fn go_member(member: &Member) -> String {
    let addr = match member.addr {
        std::net::IpAddr::V4(addr) => go_bytes(&addr.octets()),
        std::net::IpAddr::V6(addr) => go_bytes(&addr.octets()),
    };
    let tags: Vec<String> = member
        .tags
        .iter()
        .map(|(key, value)| format!("{}:{}", go_text(key), go_text(value)))
        .collect();
    let fields = [
        ("Addr", format!("[]uint8{{{addr}}}")),
        ("DelegateCur", go_number(member.delegate.cur.into())),
        ("DelegateMax", go_number(member.delegate.max.into())),
        ("DelegateMin", go_number(member.delegate.min.into())),
        ("Name", go_text(&member.name)),
        ("Port", go_number(member.port.into())),
        ("ProtocolCur", go_number(member.protocol.cur.into())),
        ("ProtocolMax", go_number(member.protocol.max.into())),
        ("ProtocolMin", go_number(member.protocol.min.into())),
        ("Status", go_text(member.status.as_str())),
        (
            "Tags",
            format!("map[interface {{}}]interface {{}}{{{}}}", tags.join(", ")),
        ),
    ];
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    format!("map[interface {{}}]interface {{}}{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{MemberEvent, MemberEventKind, UserEvent};

    #[test]
    fn events_read_as_the_reference_shows_them() {
        let event = UserEvent {
            ltime: 200,
            name: "x".into(),
            payload: b"hi".to_vec(),
            coalesce: false,
        };
        assert_eq!(
            describe(&StreamEvent::User(event)),
            "\n\tCoalesce: false\n\tEvent: \"user\"\n\tLTime: 0xc8\n\tName: \"x\"\n\tPayload: []byte{0x68, 0x69}"
        );
        let member = Member::alive("n1", std::net::Ipv4Addr::LOCALHOST.into(), 17946)
            .with_tags([("role", "web")].into_iter().collect());
        let event = MemberEvent {
            kind: MemberEventKind::Join,
            members: vec![member],
        };
        assert_eq!(
            describe(&StreamEvent::Member(event)),
            "\n\tEvent: \"member-join\"\n\tMembers: []interface {}{map[interface {}]interface {}{\
             \"Addr\":[]uint8{0x7f, 0x0, 0x0, 0x1}, \"DelegateCur\":5, \"DelegateMax\":5, \"DelegateMin\":2, \
             \"Name\":\"n1\", \"Port\":0x461a, \"ProtocolCur\":2, \"ProtocolMax\":5, \"ProtocolMin\":1, \
             \"Status\":\"alive\", \"Tags\":map[interface {}]interface {}{\"role\":\"web\"}}}"
        );
    }
}
