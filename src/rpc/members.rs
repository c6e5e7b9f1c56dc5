//! Answers to `members` and `members-filtered`, encoded once for each state of the cluster.

use std::collections::VecDeque;

use regex::Regex;

use super::encode::push_body;
use super::message::MembersFilteredRequest;
use crate::cluster::{Cluster, Member};

/// How many different filters are remembered, compiled and with their answers.
const FILTERS_MAX: usize = 32;
/// Answers larger than this are not remembered for a filter, in bytes.
const FILTERED_BODY_BYTES_MAX: usize = 64 * 1024;
/// Size a compiled expression may have, in bytes.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Encoded answers by the version of the members.
#[derive(Debug, Default)]
pub(super) struct MembersCache {
    all: Option<(u64, Vec<u8>)>,
    /// The filter used last stands first.
    filtered: VecDeque<FilteredAnswer>,
}

#[derive(Debug)]
struct FilteredAnswer {
    filter: MemberFilter,
    body: Option<(u64, Vec<u8>)>,
}

impl MembersCache {
    /// Appends the body that lists all members.
    pub(super) fn push_all(&mut self, cluster: &impl Cluster, out: &mut Vec<u8>) {
        let version = cluster.members_version();
        if let Some((of, body)) = &self.all
            && *of == version
        {
            out.extend_from_slice(body);
            return;
        }
        let body = encode_members(cluster, |_| true);
        out.extend_from_slice(&body);
        self.all = Some((version, body));
    }

    /// Appends the body that lists the members that match. Says whether members had to be looked at one by one.
    ///
    /// # Errors
    /// [`FilterError`] when an expression is none; nothing is appended.
    pub(super) fn push_filtered(
        &mut self,
        cluster: &impl Cluster,
        request: &MembersFilteredRequest<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Scanned, FilterError> {
        let known = self
            .filtered
            .iter()
            .position(|answer| answer.filter.is_of(request));
        let answer = match known.and_then(|at| self.filtered.remove(at)) {
            Some(answer) => answer,
            None => FilteredAnswer {
                filter: MemberFilter::compile(request)?,
                body: None,
            },
        };
        self.filtered.truncate(FILTERS_MAX - 1);
        self.filtered.push_front(answer);
        let Some(answer) = self.filtered.front_mut() else {
            return Ok(Scanned::No);
        };

        let version = cluster.members_version();
        if let Some((of, body)) = &answer.body
            && *of == version
        {
            out.extend_from_slice(body);
            return Ok(Scanned::No);
        }
        let body = encode_members(cluster, |member| answer.filter.matches(member));
        out.extend_from_slice(&body);
        answer.body = (body.len() <= FILTERED_BODY_BYTES_MAX).then_some((version, body));
        Ok(Scanned::All)
    }
}

/// Whether an answer came from the cache or from looking at all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    No,
    All,
}

/// `{"Members": …` up to the list.
const MEMBERS_START: &[u8] = b"\x81\xa7Members";

fn encode_members(cluster: &impl Cluster, keep: impl Fn(&Member) -> bool) -> Vec<u8> {
    // A visitor can't lend what it shows, so members are encoded one by one behind room for their count.
    let mut count = 0;
    let mut members = Vec::new();
    cluster.visit_members(&mut |member| {
        if keep(member) {
            count += 1;
            push_body(&mut members, &super::message::Member::from(member));
        }
    });
    let mut body = Vec::with_capacity(MEMBERS_START.len() + 5 + members.len());
    body.extend_from_slice(MEMBERS_START);
    // Writing to a vector cannot fail.
    let _ = rmp::encode::write_array_len(&mut body, count);
    body.extend_from_slice(&members);
    body
}

/// Why a filter was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Failed to compile regex: {0}")]
pub(super) struct FilterError(String);

/// A compiled `members-filtered` request.
#[derive(Debug)]
struct MemberFilter {
    name: Pattern,
    status: Pattern,
    tags: Vec<(Box<str>, Pattern)>,
}

/// A regular expression that must match all of a text; the empty one is none, and lets everything pass.
#[derive(Debug)]
struct Pattern {
    source: Box<str>,
    regex: Option<Regex>,
}

impl Pattern {
    fn compile(source: &str) -> Result<Self, FilterError> {
        let regex = if source.is_empty() {
            None
        } else {
            Some(anchored(source)?)
        };
        Ok(Self {
            source: source.into(),
            regex,
        })
    }

    fn matches(&self, text: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

/// Compiles an expression so that it matches whole texts only, alternations included.
fn anchored(source: &str) -> Result<Regex, FilterError> {
    let compile = |pattern: &str| {
        let built = regex::RegexBuilder::new(pattern)
            .size_limit(REGEX_BYTES_MAX)
            .build();
        built.map_err(|error| FilterError(error.to_string()))
    };
    // Alone first, or `a)|(b` would become whole by the group around it.
    compile(source)?;
    compile(&format!("^(?:{source})$"))
}

impl MemberFilter {
    fn compile(request: &MembersFilteredRequest<'_>) -> Result<Self, FilterError> {
        let mut tags = Vec::with_capacity(request.tags.0.len());
        for (tag, pattern) in &request.tags.0 {
            // An empty expression for a tag asks for an empty or missing tag, unlike those for name and status.
            let regex = Some(anchored(pattern.0)?);
            tags.push((
                tag.0.into(),
                Pattern {
                    source: pattern.0.into(),
                    regex,
                },
            ));
        }
        Ok(Self {
            name: Pattern::compile(request.name.0)?,
            status: Pattern::compile(request.status.0)?,
            tags,
        })
    }

    /// Whether this is the request, compiled.
    fn is_of(&self, request: &MembersFilteredRequest<'_>) -> bool {
        let mut tags = self.tags.iter().zip(&request.tags.0);
        *self.name.source == *request.name.0
            && *self.status.source == *request.status.0
            && self.tags.len() == request.tags.0.len()
            && tags
                .all(|((tag, pattern), asked)| **tag == *asked.0.0 && *pattern.source == *asked.1.0)
    }

    fn matches(&self, member: &Member) -> bool {
        let mut tags = self.tags.iter();
        tags.all(|(tag, pattern)| pattern.matches(member.tags.get(tag).unwrap_or_default()))
            && self.status.matches(member.status.as_str())
            && self.name.matches(&member.name)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::rpc::message::{Pairs, Text};

    fn matches(request: &MembersFilteredRequest<'_>) -> bool {
        let member = Member::alive("web-1", Ipv4Addr::LOCALHOST.into(), 7946)
            .with_tags([("role", "webserver")].into_iter().collect());
        MemberFilter::compile(request).unwrap().matches(&member)
    }

    fn by_role(pattern: &str) -> MembersFilteredRequest<'_> {
        let tags: Pairs<'_> = [("role", Text(pattern))].into_iter().collect();
        MembersFilteredRequest {
            tags,
            ..Default::default()
        }
    }

    fn by_name(pattern: &str) -> MembersFilteredRequest<'_> {
        MembersFilteredRequest {
            name: Text(pattern),
            ..Default::default()
        }
    }

    #[test]
    fn anchored_regex_matches_whole_texts_only() {
        assert!(matches(&MembersFilteredRequest::default()));
        assert!(matches(&by_name("web-.")) && !matches(&by_name("web")));
        assert!(matches(&by_role("web.*")) && !matches(&by_role("web")));
        // The reference anchors the ends of the alternation only, and takes this for a match.
        assert!(!matches(&by_role("web|api")));
        assert!(matches(&by_role("api|webserver")));
    }

    #[test]
    fn empty_tag_expression_asks_for_a_missing_tag() {
        assert!(!matches(&by_role("")));
        let missing = [("dc", Text(""))].into_iter().collect();
        assert!(matches(&MembersFilteredRequest {
            tags: missing,
            ..Default::default()
        }));
    }

    #[test]
    fn invalid_regex_fails_with_a_message() {
        for bad in ["[invalid", "a)|(b", "(?:", "\\x{110000}"] {
            let error = MemberFilter::compile(&by_name(bad))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("Failed to compile regex: "), "{error}");
        }
    }

    #[test]
    fn huge_expressions_are_refused() {
        assert!(MemberFilter::compile(&by_name("((a{1000}){1000}){1000}")).is_err());
    }
}
