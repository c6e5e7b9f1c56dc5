//! Keys, from the bytes that a terminal sends for them.
//!
//! crossterm could read them, but has a wait of its own, in which it spins once the terminal has gone.

/// Longest sequence for a key that is waited for, in bytes; none that is known has as many.
const SEQUENCE_BYTES_MAX: usize = 32;

/// A key that the view knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// Ctrl-C, which the terminal hands on in raw mode.
    Interrupt,
    Enter,
    Escape,
    Backspace,
    Tab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Reads keys from bytes, in any split but one: an escape byte at the end of what was read is the key of that name.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The beginning of a sequence.
    pending: Vec<u8>,
}

impl Keys {
    /// Takes what was read, and gives the keys that it completes. Other keys are left out.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut rest = &self.pending[..];
        let mut keys = Vec::new();
        while let Some((length, key)) = next(rest) {
            keys.extend(key);
            rest = rest.get(length..).unwrap_or_default();
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        keys
    }
}

/// The first key and how many bytes it takes; `None` where more bytes are needed.
fn next(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    match bytes {
        [] => None,
        [0x1b, b'[', rest @ ..] => control_sequence(rest).map(|(length, key)| (2 + length, key)),
        [0x1b, b'O'] => None,
        [0x1b, b'O', last, ..] => Some((3, cursor_key(*last))),
        [0x1b, ..] => Some((1, Some(Key::Escape))),
        [b'\r' | b'\n', ..] => Some((1, Some(Key::Enter))),
        [b'\t', ..] => Some((1, Some(Key::Tab))),
        [0x08 | 0x7f, ..] => Some((1, Some(Key::Backspace))),
        [0x03, ..] => Some((1, Some(Key::Interrupt))),
        [0..0x20, ..] => Some((1, None)),
        _ => character(bytes),
    }
}

/// What follows `ESC [`: parameters, then a byte that ends them (ECMA-48, 5.4).
fn control_sequence(rest: &[u8]) -> Option<(usize, Option<Key>)> {
    let Some(end) = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e)) else {
        return (rest.len() > SEQUENCE_BYTES_MAX).then_some((rest.len(), None));
    };
    let (parameters, last) = (rest.get(..end)?, *rest.get(end)?);
    let key = match (last, parameters) {
        (b'~', [b'1' | b'7', ..]) => Some(Key::Home),
        (b'~', [b'4' | b'8', ..]) => Some(Key::End),
        (b'~', [b'5', ..]) => Some(Key::PageUp),
        (b'~', [b'6', ..]) => Some(Key::PageDown),
        _ => cursor_key(last),
    };
    Some((end + 1, key))
}

const fn cursor_key(last: u8) -> Option<Key> {
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'H' => Key::Home,
        b'F' => Key::End,
        _ => return None,
    })
}

fn character(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let bytes = bytes.get(..4).unwrap_or(bytes);
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?
        }
        // The beginning of a character, or what is none.
        Err(error) => return error.error_len().map(|length| (length, None)),
    };
    let char = valid.chars().next()?;
    Some((char.len_utf8(), Some(Key::Char(char))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [(&[u8], Key); 14] = [
        (b"q", Key::Char('q')),
        ("ß".as_bytes(), Key::Char('ß')),
        ("🦀".as_bytes(), Key::Char('🦀')),
        (b"\x03", Key::Interrupt),
        (b"\r", Key::Enter),
        (b"\x7f", Key::Backspace),
        (b"\t", Key::Tab),
        (b"\x1b[A", Key::Up),
        (b"\x1bOB", Key::Down),
        (b"\x1b[1;5H", Key::Home),
        (b"\x1b[4~", Key::End),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6;2~", Key::PageDown),
        (b"\x1b", Key::Escape),
    ];

    #[test]
    fn keys_are_known_by_what_terminals_send() {
        for (bytes, key) in KEYS {
            assert_eq!(Keys::default().read(bytes), [key], "{bytes:?}");
        }
        assert_eq!(
            Keys::default().read(b"\x1bq"),
            [Key::Escape, Key::Char('q')]
        );
    }

    #[test]
    fn what_is_no_known_key_does_not_hide_the_next() {
        for bytes in [&b"\x1b[200~q"[..], b"\x1b[<0;1;1Mq", b"\x01q", b"\xff\xfeq"] {
            assert_eq!(Keys::default().read(bytes), [Key::Char('q')], "{bytes:?}");
        }
        let mut keys = Keys::default();
        assert_eq!(keys.read(&[&b"\x1b["[..], &[b'1'; 100]].concat()), []);
        assert_eq!(keys.read(b"q"), [Key::Char('q')]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_in_any_split(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let at = at.min(bytes.len());
            // An escape byte at a split is a key of its own.
            prop_assume!(!bytes[..at].ends_with(b"\x1b"));
            let (mut whole, mut split) = (Keys::default(), Keys::default());
            let mut keys = split.read(&bytes[..at]);
            keys.extend(split.read(&bytes[at..]));
            prop_assert_eq!(keys, whole.read(&bytes));
            prop_assert!(whole.pending.len() <= SEQUENCE_BYTES_MAX + 2);
        }
    }
}
