//! Durations as Go writes them, which is how configuration files and flags do: `1h30m`, `1.5s`, `500ms`, `10µs`.
//!
//! Source of the facts: Go's documentation of `time.ParseDuration` and `Duration.String`. Negative ones are refused:
//! no setting has a use for them.

use std::time::Duration;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The longest duration in Go, 292 years.
const NANOS_MAX: u64 = i64::MAX as u64;

/// What is wrong with a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is no sequence of numbers with units.
    #[error("invalid duration {0:?}; write it as 500ms, 30s or 1h30m")]
    Invalid(String),
    /// A number has no unit after it.
    #[error("missing unit in duration {0:?}; there are ns, us, ms, s, m and h")]
    MissingUnit(String),
    /// The text after a number is no unit.
    #[error("unknown unit {unit:?} in duration {text:?}; there are ns, us, ms, s, m and h")]
    UnknownUnit {
        /// What stands where a unit should.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// It is less than nothing.
    #[error("duration {0:?} is negative")]
    Negative(String),
    /// It is longer than 292 years.
    #[error("duration {0:?} is too long; the longest is 2562047h")]
    TooLong(String),
}

/// Reads a duration as Go writes it.
///
/// # Errors
/// The text is no duration, or one that is negative or too long.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(DurationError::Invalid(text.to_owned()));
    }
    let mut nanos: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let term;
        (term, rest) = parse_term(rest, text)?;
        nanos = nanos
            .checked_add(term)
            .filter(|&nanos| nanos <= NANOS_MAX)
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
    }
    if negative && nanos > 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    Ok(Duration::from_nanos(nanos))
}

/// Reads one number with its unit; returns nanoseconds and what follows.
fn parse_term<'a>(term: &'a str, text: &str) -> Result<(u64, &'a str), DurationError> {
    let (whole, rest) = split_digits(term);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Invalid(text.to_owned()));
    }
    let unit_len = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let nanos_per_unit = match unit {
        "ns" => 1,
        // The micro sign and the Greek letter look the same, and keyboards differ.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        "" => return Err(DurationError::MissingUnit(text.to_owned())),
        _ => {
            return Err(DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            });
        }
    };
    let whole = digits_value(whole)
        .and_then(|whole| whole.checked_mul(nanos_per_unit))
        .and_then(|whole| whole.checked_add(fraction_value(fraction, nanos_per_unit)))
        .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
    Ok((whole, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let len = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(len)
}

/// The value of a sequence of digits, 0 for none, unless it is too large.
fn digits_value(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// The value of the digits after the point, rounded down. Digits too fine to matter are ignored.
fn fraction_value(digits: &str, nanos_per_unit: u64) -> u64 {
    // 18 digits of an hour are far below a nanosecond, and fit in u64.
    let digits = &digits[..digits.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(0));
    let value = u128::from(digits_value(digits).unwrap_or(0)) * u128::from(nanos_per_unit);
    u64::try_from(value / scale).unwrap_or(0)
}

/// Writes a duration as Go does: `1h30m0s`, `1.5s`, `500ms`, `10µs`, `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    let seconds = duration.as_secs();
    if seconds == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => with_fraction(nanos / 1_000, nanos % 1_000, 3, "µs"),
            _ => with_fraction(nanos / 1_000_000, nanos % 1_000_000, 6, "ms"),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let seconds = with_fraction(seconds % 60, nanos, 9, "s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

fn with_fraction(
    whole: impl std::fmt::Display,
    fraction: u32,
    digits: usize,
    unit: &str,
) -> String {
    if fraction == 0 {
        return format!("{whole}{unit}");
    }
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}{unit}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_what_go_parses() {
        let cases = [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("12us", 12_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("7ns", 7),
            ("0.9ns", 0),
            ("1m0.5s3ms", 60_503_000_000),
            ("1s1h", 3_601_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("0.100000000000000000000h", 360_000_000_000),
            ("9223372036854775807ns", NANOS_MAX),
            ("2562047h47m16.854775807s", NANOS_MAX),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration_and_says_why() {
        let invalid = [
            "", "+", "-", ".", "s", ".s", "+.s", "h1", "- 5s", "--5s", "é",
        ];
        for text in invalid {
            assert_eq!(parse(text), Err(DurationError::Invalid(text.to_owned())));
        }
        for text in ["5", "1h30", "1.5", "00", "-.5.s"] {
            assert_eq!(
                parse(text),
                Err(DurationError::MissingUnit(text.to_owned()))
            );
        }
        for (text, unit) in [
            ("5d", "d"),
            ("5 s", " s"),
            ("1hm", "hm"),
            ("5S", "S"),
            ("1sé", "sé"),
        ] {
            let (unit, text) = (unit.to_owned(), text.to_owned());
            assert_eq!(
                parse(&text.clone()),
                Err(DurationError::UnknownUnit { unit, text })
            );
        }
        for text in ["-5s", "-1ns"] {
            assert_eq!(parse(text), Err(DurationError::Negative(text.to_owned())));
        }
        for text in [
            "9223372036854775808ns",
            "18446744073709551616ns",
            "2562048h",
            "2562047h2562047h",
            "99999999999999999999999999s",
        ] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())));
        }
    }

    #[test]
    fn formats_as_go_does() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (5_400_000_000_000, "1h30m0s"),
            (480_000_000_001, "8m0.000000001s"),
            (NANOS_MAX, "2562047h47m16.854775807s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_formatted_parses_back(nanos in prop_oneof![
            0..=NANOS_MAX,
            0..10_000_000_000_u64,
            (0..1_000_000_u64).prop_map(|ms| ms * 1_000_000),
        ]) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+]?([0-9.]{0,22}[nuµmsh é]{0,3}){0,4}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration <= Duration::from_nanos(NANOS_MAX));
            }
        }
    }
}
