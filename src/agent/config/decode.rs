//! Decoding of settings from JSON, with errors that name the key.
//!
//! As the reference has it (mapstructure's rules): keys match in any case, unknown ones are an error, null means not
//! set, and nothing is converted between texts, numbers and booleans.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::duration;

/// The type of a setting.
pub(super) trait Setting: Default {
    /// Reads the setting that is called `key`.
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        warnings: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error>;

    /// Takes over what `later` sets.
    fn merge(&mut self, later: Self);
}

/// What is odd in a file, but no error.
#[derive(Default)]
pub(super) struct Warnings(RefCell<Vec<String>>);

impl Warnings {
    pub(super) fn push(&self, text: String) {
        self.0.borrow_mut().push(text);
    }

    pub(super) fn into_inner(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// Reads one setting, as a seed.
pub(super) struct Seed<'a, T> {
    key: &'a str,
    warnings: &'a Warnings,
    setting: PhantomData<T>,
}

impl<'a, T> Seed<'a, T> {
    pub(super) const fn new(key: &'a str, warnings: &'a Warnings) -> Self {
        Self {
            key,
            warnings,
            setting: PhantomData,
        }
    }
}

impl<'de, T: Setting> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::decode(self.key, self.warnings, deserializer)
    }
}

impl Setting for String {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        _: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor {
            key,
            what: "a string",
            parse: |text: &str| Ok::<_, &str>(text.to_owned()),
        })
    }

    fn merge(&mut self, later: Self) {
        if !later.is_empty() {
            *self = later;
        }
    }
}

impl Setting for Duration {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        _: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor {
            key,
            what: "a duration as a string, such as \"30s\",",
            parse: |text: &str| match text {
                "" => Ok(Self::ZERO),
                _ => duration::parse(text),
            },
        })
    }

    fn merge(&mut self, later: Self) {
        if !later.is_zero() {
            *self = later;
        }
    }
}

struct TextVisitor<'a, F> {
    key: &'a str,
    what: &'static str,
    parse: F,
}

impl<T, E, F> Visitor<'_> for TextVisitor<'_, F>
where
    T: Default,
    E: fmt::Display,
    F: FnOnce(&str) -> Result<T, E>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.what, self.key)
    }

    fn visit_str<DE: Error>(self, text: &str) -> Result<T, DE> {
        (self.parse)(text).map_err(|error| DE::custom(format_args!("{:?}: {error}", self.key)))
    }

    fn visit_unit<DE: Error>(self) -> Result<T, DE> {
        Ok(T::default())
    }
}

impl Setting for bool {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        _: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(BoolVisitor { key })?;
        Ok(value.unwrap_or_default())
    }

    fn merge(&mut self, later: Self) {
        *self |= later;
    }
}

/// A boolean whose default is true, so that false is worth saying.
impl Setting for Option<bool> {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        _: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoolVisitor { key })
    }

    fn merge(&mut self, later: Self) {
        *self = later.or(*self);
    }
}

struct BoolVisitor<'a> {
    key: &'a str,
}

impl Visitor<'_> for BoolVisitor<'_> {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "true or false for {:?}", self.key)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Option<bool>, E> {
        Ok(Some(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Option<bool>, E> {
        Ok(None)
    }
}

impl Setting for u64 {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        _: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor { key })
    }

    fn merge(&mut self, later: Self) {
        if later != 0 {
            *self = later;
        }
    }
}

struct NumberVisitor<'a> {
    key: &'a str,
}

impl Visitor<'_> for NumberVisitor<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number for {:?}", self.key)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    /// The reference takes a negative number for "no limit" or "not set", which 0 means as well.
    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        Ok(u64::try_from(value).unwrap_or(0))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
        /// Up to here a float holds every whole number.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
            #[expect(clippy::cast_possible_truncation, reason = "just checked")]
            return self.visit_i64(value as i64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        Ok(0)
    }
}

impl Setting for Vec<String> {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        warnings: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor { key, warnings })
    }

    fn merge(&mut self, later: Self) {
        self.extend(later);
    }
}

struct ListVisitor<'a> {
    key: &'a str,
    warnings: &'a Warnings,
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of strings for {:?}", self.key)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let mut list = Vec::new();
        let key = format!("{}[]", self.key);
        while let Some(text) = seq.next_element_seed(Seed::new(&key, self.warnings))? {
            list.push(text);
        }
        Ok(list)
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }
}

impl Setting for BTreeMap<String, String> {
    fn decode<'de, D: Deserializer<'de>>(
        key: &str,
        warnings: &Warnings,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MapVisitor { key, warnings })
    }

    fn merge(&mut self, later: Self) {
        self.extend(later);
    }
}

struct MapVisitor<'a> {
    key: &'a str,
    warnings: &'a Warnings,
}

impl<'de> Visitor<'de> for MapVisitor<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of strings for {:?}", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let key = format!("{}.{name}", self.key);
            let value = map.next_value_seed(Seed::new(&key, self.warnings))?;
            if pairs.insert(name, value).is_some() {
                self.warnings
                    .push(format!("{key:?} is set twice; the last one counts"));
            }
        }
        Ok(pairs)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }
}

/// A key of a configuration file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Its name in a file.
    pub(super) name: &'static str,
    /// The command-line flag that sets the same, or nothing.
    pub(super) flag: &'static str,
}

/// An object with settings of its own.
pub(super) trait Settings: Default {
    /// The keys that it may have.
    const KEYS: &'static [Key];

    /// Reads the value of the key into its field; says whether there is such a key.
    fn set<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        warnings: &Warnings,
    ) -> Result<bool, A::Error>;
}

pub(super) struct SettingsVisitor<'a, T> {
    pub(super) key: &'a str,
    pub(super) warnings: &'a Warnings,
    pub(super) settings: T,
}

impl<'de, T: Settings> Visitor<'de> for SettingsVisitor<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            "" => f.write_str("an object of settings"),
            key => write!(f, "an object of settings for {key:?}"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(before) = seen.iter().find(|seen| seen.eq_ignore_ascii_case(&key)) {
                if *before != key {
                    return Err(A::Error::custom(format_args!(
                        "{key:?} is set already, as {before:?}"
                    )));
                }
                self.warnings
                    .push(format!("{key:?} is set twice; the last one counts"));
            }
            if !self.settings.set(&key, &mut map, self.warnings)? {
                return Err(A::Error::custom(unknown_key(self.key, &key, T::KEYS)));
            }
            seen.push(key);
        }
        Ok(self.settings)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(self.settings)
    }
}

fn unknown_key(parent: &str, key: &str, known: &[Key]) -> String {
    let dot = if parent.is_empty() { "" } else { "." };
    let mut text = format!("unknown key \"{parent}{dot}{}\"", key.escape_debug());
    if let Some(name) = nearest(key, known) {
        text.push_str(&format!("; did you mean \"{parent}{dot}{name}\"?"));
    }
    text
}

/// The key somebody meant who wrote `unknown`: the one whose flag it is, or the most similar one.
fn nearest(unknown: &str, known: &[Key]) -> Option<&'static str> {
    /// Longer keys are not worth comparing.
    const KEY_CHARS_MAX: usize = 64;
    if unknown.len() > KEY_CHARS_MAX {
        return None;
    }
    let unknown = unknown
        .trim_start_matches('-')
        .to_ascii_lowercase()
        .replace('-', "_");
    if let Some(key) = known
        .iter()
        .find(|key| !key.flag.is_empty() && key.flag.replace('-', "_") == unknown)
    {
        return Some(key.name);
    }
    let allowed = (unknown.chars().count() / 3).max(1);
    known
        .iter()
        .map(|key| (edit_distance(&unknown, key.name), key.name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, name)| name)
}

/// How many characters to insert, remove or replace to make `b` of `a` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (&b, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *above;
            left = replaced.min(left + 1).min(*above + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("é", "e", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a:?} {b:?}");
        }
    }
}
