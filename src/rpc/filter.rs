//! Event filters, as streams and event handlers take them: `member-join,user:deploy,query`.

use std::fmt;

use crate::cluster::{Event, MemberEventKind};

/// One filter of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventFilter {
    /// `*`: every event.
    All,
    /// `member-join` and the like.
    Member(MemberEventKind),
    /// `user`, or `user:NAME` for the events of that name.
    User(Option<Box<str>>),
    /// `query`, or `query:NAME` for the queries of that name.
    Query(Option<Box<str>>),
}

/// A filter that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid event filter '{0}': expected '*', 'user', 'user:NAME', 'query', 'query:NAME', 'member-join', \
     'member-leave', 'member-failed', 'member-update' or 'member-reap'"
)]
pub struct InvalidFilter(pub String);

impl fmt::Display for EventFilter {
    /// As the section `event_handlers` of `stats` shows it: event and name, with a colon also where there is no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*:"),
            Self::Member(kind) => write!(f, "{}:", kind.as_str()),
            Self::User(name) => write!(f, "user:{}", name.as_deref().unwrap_or_default()),
            Self::Query(name) => write!(f, "query:{}", name.as_deref().unwrap_or_default()),
        }
    }
}

impl EventFilter {
    /// Reads one filter. Nothing is trimmed; the empty name after a colon stands for any name, as in the reference.
    ///
    /// # Errors
    /// [`InvalidFilter`] names what is not known.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        let any_if_empty = |name: &str| (!name.is_empty()).then(|| name.into());
        if let Some(name) = text.strip_prefix("user:") {
            return Ok(Self::User(any_if_empty(name)));
        }
        if let Some(name) = text.strip_prefix("query:") {
            return Ok(Self::Query(any_if_empty(name)));
        }
        match text {
            "*" => Ok(Self::All),
            "user" => Ok(Self::User(None)),
            "query" => Ok(Self::Query(None)),
            _ => {
                let kind = MemberEventKind::ALL
                    .into_iter()
                    .find(|kind| kind.as_str() == text);
                kind.map(Self::Member)
                    .ok_or_else(|| InvalidFilter(text.to_owned()))
            }
        }
    }

    /// Reads a comma-separated list; the empty list stands for `*`.
    ///
    /// # Errors
    /// [`InvalidFilter`] names the first that is not known.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidFilter> {
        if text.is_empty() {
            return Ok(vec![Self::All]);
        }
        text.split(',').map(Self::parse).collect()
    }

    /// Whether the filter lets the event pass.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::All, _) => true,
            (Self::Member(kind), Event::Member(event)) => *kind == event.kind,
            (Self::User(name), Event::User(event)) => {
                name.as_deref().is_none_or(|name| name == event.name)
            }
            (Self::Query(name), Event::Query(event)) => {
                name.as_deref().is_none_or(|name| name == event.name)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::UserEvent;

    #[test]
    fn lists_are_read_as_the_reference_reads_them() {
        assert_eq!(EventFilter::parse_list("").unwrap(), [EventFilter::All]);
        assert_eq!(
            EventFilter::parse_list("member-failed,user:a,query,user:").unwrap(),
            [
                EventFilter::Member(MemberEventKind::Failed),
                EventFilter::User(Some("a".into())),
                EventFilter::Query(None),
                EventFilter::User(None),
            ]
        );
        for bad in [
            ",",
            "user,",
            " user",
            "member-joined",
            "bogus",
            "user,bogus",
        ] {
            assert!(EventFilter::parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_match_by_kind_and_name() {
        let event = Event::User(UserEvent {
            ltime: 1,
            name: "a".into(),
            payload: vec![],
            coalesce: false,
        });
        let passes = |text: &str| EventFilter::parse(text).unwrap().matches(&event);
        assert!(passes("*") && passes("user") && passes("user:a"));
        assert!(!passes("user:b") && !passes("query:a") && !passes("member-join"));
    }
}
