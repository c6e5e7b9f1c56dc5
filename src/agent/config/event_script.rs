//! Event handlers as they are configured: `filter=command`, or a command for every event; and what they may use.

use std::time::Duration;

use crate::rpc::filter::{EventFilter, InvalidFilter};

/// A command to run at events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventScript {
    /// The events to run it at: any of these.
    pub filters: Vec<EventFilter>,
    /// The command, for the shell.
    pub script: String,
}

/// How many commands may run, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandlerLimits {
    /// Of one handler at once. More than one give up its order.
    pub parallel: usize,
    /// Of all handlers at once.
    pub running: usize,
    /// How long one may run; without end where there is none.
    pub timeout: Option<Duration>,
}

/// An event handler whose filter is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {error}")]
pub struct InvalidEventScript {
    /// The whole text.
    pub text: String,
    /// What is wrong with the filter.
    pub error: InvalidFilter,
}

impl EventScript {
    /// Reads a handler: what is in front of the first `=` is the filter.
    ///
    /// # Errors
    /// The filter names an event that there is not.
    pub fn parse(text: &str) -> Result<Self, InvalidEventScript> {
        let (filter, script) = text.split_once('=').unwrap_or(("", text));
        let filters = EventFilter::parse_list(filter).map_err(|error| InvalidEventScript {
            text: text.to_owned(),
            error,
        })?;
        Ok(Self {
            filters,
            script: script.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_ends_the_filter() {
        for (text, filters, script) in [
            ("a.sh", "*", "a.sh"),
            ("=a.sh", "*", "a.sh"),
            ("member-join=a.sh", "member-join", "a.sh"),
            (
                "user:deploy,query=X=1 a.sh",
                "user:deploy,query",
                "X=1 a.sh",
            ),
            ("*=a.sh --x=y", "*", "a.sh --x=y"),
            ("user=", "user", ""),
        ] {
            let handler = EventScript::parse(text).unwrap();
            assert_eq!(
                handler.filters,
                EventFilter::parse_list(filters).unwrap(),
                "{text:?}"
            );
            assert_eq!(handler.script, script, "{text:?}");
        }
    }

    #[test]
    fn a_command_with_an_equals_sign_needs_a_filter() {
        let error = EventScript::parse("a.sh --x=y").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("\"a.sh --x=y\": invalid event filter 'a.sh --x'")
        );
    }
}
