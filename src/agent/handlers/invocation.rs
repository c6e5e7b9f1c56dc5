//! What an event handler gets to see of an event: its environment and its standard input.
//!
//! Source: hashicorp/serf, `cmd/serf/command/agent/invoke.go`. Unlike there, tags are in the order of their keys.

use std::fmt::Write as _;

use crate::cluster::{Event, Member, MemberEvent, QueryId};

/// An event, as commands see it.
#[derive(Debug)]
pub(super) struct Invocation {
    /// What happened, for the log.
    pub(super) event: &'static str,
    pub(super) environment: Vec<(String, String)>,
    pub(super) input: Vec<u8>,
    /// The query to answer, and its name.
    pub(super) query: Option<(QueryId, String)>,
}

impl Invocation {
    pub(super) fn new(event: &Event, local: &Member) -> Self {
        let (kind, input) = match event {
            Event::Member(event) => (event.kind.as_str(), members(event)),
            Event::User(event) => ("user", line(&event.payload)),
            Event::Query(event) => ("query", line(&event.payload)),
        };
        let mut environment = vec![
            ("SERF_EVENT".to_owned(), kind.to_owned()),
            ("SERF_SELF_NAME".to_owned(), local.name.to_string()),
            (
                "SERF_SELF_ROLE".to_owned(),
                local.tags.get("role").unwrap_or_default().to_owned(),
            ),
            // The reference has no variables for these two.
            ("SERF_SELF_IP".to_owned(), local.addr.to_string()),
            ("SERF_SELF_PORT".to_owned(), local.port.to_string()),
        ];
        for (key, value) in local.tags.iter() {
            environment.push((variable(key), value.to_owned()));
        }
        let mut set = |key: &str, value: String| environment.push((key.to_owned(), value));
        let mut query = None;
        match event {
            Event::Member(_) => {}
            Event::User(event) => {
                set("SERF_USER_EVENT", event.name.clone());
                set("SERF_USER_LTIME", event.ltime.to_string());
            }
            Event::Query(event) => {
                set("SERF_QUERY_NAME", event.name.clone());
                set("SERF_QUERY_LTIME", event.id.ltime.to_string());
                query = Some((event.id, event.name.clone()));
            }
        }
        // A variable can't hold NUL, which a name or tag from elsewhere may: the command runs all the same.
        for (_, value) in &mut environment {
            value.retain(|char| char != '\0');
        }
        Self {
            event: kind,
            environment,
            input,
            query,
        }
    }

    /// What it takes up while it waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let pair = |(key, value): &(String, String)| key.len() + value.len() + 48;
        self.input.len() + self.environment.iter().map(pair).sum::<usize>()
    }
}

/// The variable that a tag is in.
fn variable(tag: &str) -> String {
    let upper = tag.to_uppercase();
    let allowed = |char: char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_';
    let clean = upper
        .chars()
        .map(|char| if allowed(char) { char } else { '_' });
    "SERF_TAG_".chars().chain(clean).collect()
}

/// A payload, ended as a line.
fn line(payload: &[u8]) -> Vec<u8> {
    let mut line = payload.to_vec();
    if !line.is_empty() && !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    line
}

/// A line for each member: name, address, role, tags.
fn members(event: &MemberEvent) -> Vec<u8> {
    let clean = |text: &str| text.replace('\t', "\\t").replace('\n', "\\n");
    let mut lines = String::new();
    for member in &event.members {
        let tags: Vec<String> = member
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        // Writing to a string can't fail.
        let _ = writeln!(
            lines,
            "{}\t{}\t{}\t{}",
            clean(&member.name),
            member.addr,
            clean(member.tags.get("role").unwrap_or_default()),
            clean(&tags.join(","))
        );
    }
    lines.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{MemberEventKind, UserEvent};

    fn local() -> Member {
        let tags = [("role", "web"), ("data-centre.1", "é\0x")];
        Member::alive("me", [10, 0, 0, 1].into(), 7946).with_tags(tags.into_iter().collect())
    }

    #[test]
    fn tags_are_variables_without_what_a_variable_can_t_hold() {
        let event = Event::User(UserEvent {
            ltime: 7,
            name: "deploy".into(),
            payload: b"v1".to_vec(),
            coalesce: false,
        });
        let invocation = Invocation::new(&event, &local());
        let environment: Vec<(&str, &str)> = invocation
            .environment
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            environment,
            [
                ("SERF_EVENT", "user"),
                ("SERF_SELF_NAME", "me"),
                ("SERF_SELF_ROLE", "web"),
                ("SERF_SELF_IP", "10.0.0.1"),
                ("SERF_SELF_PORT", "7946"),
                ("SERF_TAG_DATA_CENTRE_1", "éx"),
                ("SERF_TAG_ROLE", "web"),
                ("SERF_USER_EVENT", "deploy"),
                ("SERF_USER_LTIME", "7"),
            ]
        );
        assert_eq!(invocation.input, b"v1\n");
    }

    #[test]
    fn members_are_lines_whatever_their_names() {
        let tags = [("x", "1\n2"), ("role", "db")];
        let odd = Member::alive("a\tb\n", [10, 0, 0, 2].into(), 7946)
            .with_tags(tags.into_iter().collect());
        let event = Event::Member(MemberEvent {
            kind: MemberEventKind::Join,
            members: vec![local(), odd],
        });
        let invocation = Invocation::new(&event, &local());
        let expected = "me\t10.0.0.1\tweb\tdata-centre.1=é\0x,role=web\n\
                        a\\tb\\n\t10.0.0.2\tdb\trole=db,x=1\\n2\n";
        assert_eq!(String::from_utf8(invocation.input).unwrap(), expected);
    }
}
