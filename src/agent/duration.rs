//! Durations as Go writes them: `1h30m`, `500ms`, `1.5s`.

use std::time::Duration;

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: expected a number with a unit, as 500ms, 1.5s, 10m or 1h30m")]
pub struct InvalidDuration(String);

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration as Go's `time.ParseDuration` does. Negative ones are refused.
///
/// # Errors
/// [`InvalidDuration`].
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() || total == 0 && text.is_empty() {
        let number = rest
            .find(|char: char| !char.is_ascii_digit() && char != '.')
            .ok_or_else(invalid)?;
        let (digits, after) = rest.split_at(number);
        let end = after
            .find(|char: char| char.is_ascii_digit() || char == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, nanos) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(invalid)?;
        total = amount(digits, *nanos)
            .and_then(|amount| total.checked_add(amount))
            .ok_or_else(invalid)?;
        rest = next;
    }
    // Go counts nanoseconds in 63 bits.
    i64::try_from(total)
        .map(|_| Duration::from_nanos(total))
        .map_err(|_| invalid())
}

/// `digits` of a unit, in nanoseconds; what is less than one is cut off.
fn amount(digits: &str, nanos: u64) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut sum = whole.checked_mul(nanos)?;
    let mut scale = u128::from(nanos);
    let mut part: u128 = 0;
    let mut divisor: u128 = 1;
    for digit in fraction.chars().take(18) {
        part = part * 10 + u128::from(digit.to_digit(10)?);
        divisor *= 10;
    }
    scale = scale * part / divisor;
    sum = sum.checked_add(u64::try_from(scale).ok()?)?;
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("+2us", 2_000),
            ("2µs", 2_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
        for text in [
            "", "3", "s", "-1s", ".s", "1x", "1s2", "1..5s", "9999999h", "bad",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.hmsnuµ+ -]{0,20}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn parts_add_up(h in 0u64..1000, m in 0u64..1000, ms in 0u64..1_000_000) {
            let want = Duration::from_millis(h * 3_600_000 + m * 60_000 + ms);
            prop_assert_eq!(parse_duration(&format!("{h}h{m}m{ms}ms")), Ok(want));
        }
    }
}
