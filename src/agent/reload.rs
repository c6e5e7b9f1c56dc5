//! What a running agent takes over of a changed configuration, and what it can't.
//!
//! The log level, event handlers and tags are taken over. Tags that came from a tags file or over RPC are nobody's to
//! change but theirs: only what the configuration itself has changed is changed.

use log::{info, warn};

use super::config::Config;
use crate::cluster::Tags;

/// The keys that a running agent takes over.
const RELOADED: [&str; 4] = ["log_level", "event_handlers", "tags", "role"];

/// What a reload does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reload {
    /// The node's tags from now on, if they change.
    pub(super) tags: Option<Tags>,
    done: Vec<String>,
    /// The keys of what else has changed.
    more: Vec<&'static str>,
}

impl Reload {
    /// Compares the configuration there is with the one to come; `tags` are the node's now.
    pub(super) fn plan(from: &Config, to: &Config, tags: &Tags) -> Self {
        let mut done = Vec::new();
        if from.log_level != to.log_level {
            done.push(format!("the log level, {}", to.log_level));
        }
        if from.event_handlers != to.event_handlers {
            done.push(format!("{} event handlers", to.event_handlers.len()));
        }
        let tags = changed_tags(from, to, tags);
        if tags.is_some() {
            done.push("tags".to_owned());
        }
        let mut more = from.set.differing(&to.set);
        more.retain(|key| !RELOADED.contains(key));
        Self { tags, done, more }
    }

    pub(super) fn tell(&self) {
        if self.done.is_empty() {
            info!(
                "agent: Reloaded the configuration; nothing has changed that a running agent takes over"
            );
        } else {
            info!("agent: Reloaded {}", self.done.join(", "));
        }
        if !self.more.is_empty() {
            warn!(
                "agent: Changes of {} take effect at the next start: only the log level, event handlers and tags are taken over",
                self.more.join(", ")
            );
        }
    }
}

/// The node's tags with the changes of the configuration's.
fn changed_tags(from: &Config, to: &Config, now: &Tags) -> Option<Tags> {
    if from.tags_file.is_some() || from.tags == to.tags {
        return None;
    }
    let mut tags = now.clone();
    for (key, value) in from.tags.iter() {
        if to.tags.get(key).is_none() && now.get(key) == Some(value) {
            tags.remove(key);
        }
    }
    for (key, value) in to.tags.iter() {
        if from.tags.get(key) != Some(value) {
            tags.insert(key, value);
        }
    }
    (tags != *now).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::PartialConfig;

    fn config(json: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        let (config, _) = Config::load(PartialConfig::default(), &[path]).unwrap();
        config
    }

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().copied().collect()
    }

    #[test]
    fn only_what_the_configuration_changed_is_changed() {
        let from = config(r#"{"tags": {"role": "web", "old": "1", "mine": "a"}}"#);
        let to = config(r#"{"tags": {"role": "db", "new": "2"}, "log_level": "debug"}"#);
        // Over RPC one tag came, and one was changed.
        let now = tags(&[("role", "web"), ("old", "1"), ("mine", "b"), ("rpc", "x")]);
        let reload = Reload::plan(&from, &to, &now);
        let expected = tags(&[("role", "db"), ("new", "2"), ("mine", "b"), ("rpc", "x")]);
        assert_eq!(reload.tags, Some(expected));
        assert_eq!(reload.done, ["the log level, DEBUG", "tags"]);
        assert!(reload.more.is_empty());
    }

    #[test]
    fn a_tags_file_is_left_alone_and_other_changes_are_noticed() {
        let from = config(r#"{"tags_file": "/x"}"#);
        let to = config(r#"{"tags": {"a": "b"}, "bind": "127.0.0.1:1"}"#);
        let reload = Reload::plan(&from, &to, &tags(&[("kept", "1")]));
        assert_eq!(
            (reload.tags, reload.done.len(), reload.more),
            (None, 0, vec!["tags_file", "bind"])
        );
        let same = Reload::plan(&to, &to, &tags(&[("rpc", "1")]));
        assert_eq!((same.tags, same.more), (None, vec![]));
    }
}
