//! Tags of a member, kept as they go over the wire.
//!
//! A cluster of thousands has tags for each member, and most hold one or a few: what came is kept in one piece, shared
//! with whoever else holds it, and read anew each time. Only what is not in order is written again.
//!
//! Source of the form: hashicorp/serf, `serf/serf.go` (`encodeTags`): a magic byte, then a MsgPack map in the old form.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::Pairs;

/// What tags begin with. Very old nodes send their role alone, which never begins so.
const MAGIC: u8 = 255;

/// What a node says of itself in gossip is no tags.
#[derive(Debug, thiserror::Error)]
#[error("malformed tags: {0}")]
pub struct TagsError(#[from] rmp_serde::decode::Error);

/// Tags of a member: key/value pairs in the order of their keys.
///
/// Invariant: what is encoded is a map with its keys in order, each once, in the shortest form; no tags are `None`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[u8]>>);

impl Tags {
    /// No tags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what a node says of itself in gossip. Without the magic byte it is the role alone, as very old nodes send it.
    ///
    /// # Errors
    /// [`TagsError`] if it is no map of texts.
    pub fn from_meta(meta: &Arc<[u8]>) -> Result<Self, TagsError> {
        let Some((&MAGIC, map)) = meta.split_first() else {
            return Ok([("role", String::from_utf8_lossy(meta))]
                .into_iter()
                .collect());
        };
        let pairs: Pairs<'_> = msgpack::decode(map)?;
        let pairs = pairs.0.into_iter().map(|(key, value)| (key.0, value.0));
        let tags: Self = pairs.collect();
        Ok(match tags.0 {
            Some(encoded) if encoded == *meta => Self(Some(Arc::clone(meta))),
            encoded => Self(encoded),
        })
    }

    /// What a node of these tags says of itself in gossip.
    #[must_use]
    pub fn to_meta(&self) -> Arc<[u8]> {
        match &self.0 {
            Some(encoded) => Arc::clone(encoded),
            None => encode(&BTreeMap::<&str, &str>::new()),
        }
    }

    /// The value of the tag `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut tags = self.iter();
        tags.find(|(have, _)| *have == key).map(|(_, value)| value)
    }

    /// Sets a tag, replacing the value it had. Setting many at once is [`collect`](Iterator::collect)'s.
    pub fn insert(&mut self, key: &str, value: &str) {
        let mut tags: BTreeMap<&str, &str> = self.iter().collect();
        tags.insert(key, value);
        *self = Self::pack(&tags);
    }

    /// Removes a tag; says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let mut tags: BTreeMap<&str, &str> = self.iter().collect();
        let found = tags.remove(key).is_some();
        if found {
            *self = Self::pack(&tags);
        }
        found
    }

    /// The tags in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let mut map = self
            .0
            .as_ref()
            .and_then(|encoded| encoded.get(1..))
            .unwrap_or_default();
        let count = rmp::decode::read_map_len(&mut map).unwrap_or(0);
        (0..count).map(move |_| (take_text(&mut map), take_text(&mut map)))
    }

    /// How many tags there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().len()
    }

    /// Whether there is no tag.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn pack<K: AsRef<str>, V: AsRef<str>>(tags: &BTreeMap<K, V>) -> Self {
        Self((!tags.is_empty()).then(|| encode(tags)))
    }
}

fn encode<K: AsRef<str>, V: AsRef<str>>(tags: &BTreeMap<K, V>) -> Arc<[u8]> {
    let mut out = vec![MAGIC];
    let mut writer = RawWriter(&mut out);
    writer.map(tags.len());
    for (key, value) in tags {
        writer.raw(key.as_ref()).raw(value.as_ref());
    }
    out.into()
}

/// Takes the text that what is encoded begins with.
fn take_text<'a>(encoded: &mut &'a [u8]) -> &'a str {
    let all: &'a [u8] = encoded;
    match rmp::decode::read_str_from_slice(all) {
        Ok((text, rest)) => {
            *encoded = rest;
            text
        }
        Err(_) => "",
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: AsRef<str> + Ord, V: AsRef<str>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self::pack(&pairs.into_iter().collect::<BTreeMap<K, V>>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_stay_sorted_and_unique() {
        let mut tags: Tags = [("role", "web"), ("dc", "east"), ("role", "db")]
            .into_iter()
            .collect();
        assert_eq!(
            tags.iter().collect::<Vec<_>>(),
            [("dc", "east"), ("role", "db")]
        );
        assert!(tags.remove("dc"));
        assert!(!tags.remove("dc"));
        assert_eq!((tags.get("role"), tags.get("dc")), (Some("db"), None));
        assert!(tags.remove("role"));
        assert_eq!(tags, Tags::new());
    }

    #[test]
    fn they_come_after_the_magic_byte() {
        let tags: Tags = [("role", "web")].into_iter().collect();
        let meta = tags.to_meta();
        assert_eq!(*meta, *b"\xff\x81\xa4role\xa3web");
        assert_eq!(Tags::from_meta(&meta).expect("reads"), tags);
        let role: Arc<[u8]> = Arc::from(*b"web");
        assert_eq!(Tags::from_meta(&role).expect("reads"), tags);
        let cut: Arc<[u8]> = Arc::from(*b"\xff\x81\xa4role");
        assert!(Tags::from_meta(&cut).is_err());
        let deep: Arc<[u8]> = [&[MAGIC][..], &[0x91; 60_000]].concat().into();
        assert!(Tags::from_meta(&deep).is_err());
        assert_eq!(*Tags::new().to_meta(), *b"\xff\x80");
    }

    #[test]
    fn what_came_in_order_is_shared_and_what_did_not_is_put_in_order() {
        let sorted: Arc<[u8]> = Arc::from(*b"\xff\x82\xa1a\xa11\xa1b\xa12");
        let tags = Tags::from_meta(&sorted).expect("reads");
        assert!(Arc::ptr_eq(&tags.to_meta(), &sorted));
        let swapped: Arc<[u8]> = Arc::from(*b"\xff\x82\xa1b\xa12\xa1a\xa11");
        assert_eq!(Tags::from_meta(&swapped).expect("reads"), tags);
    }

    proptest! {
        #[test]
        fn all_come_back(pairs in proptest::collection::btree_map(".{0,40}", ".{0,300}", 0..20)) {
            let tags: Tags = pairs.iter().collect();
            prop_assert_eq!(tags.len(), pairs.len());
            let have: Vec<_> = tags.iter().collect();
            let want: Vec<_> = pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
            prop_assert_eq!(have, want);
            prop_assert_eq!(Tags::from_meta(&tags.to_meta()).expect("reads"), tags);
        }

        #[test]
        fn garbage_never_panics(meta in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(tags) = Tags::from_meta(&meta.into()) {
                prop_assert_eq!(tags.iter().count(), tags.len());
            }
        }
    }
}
