//! Finds where a MsgPack object ends, without decoding it.
//!
//! The protocols put objects one after the other with nothing around them, so before one can be decoded its end must be
//! known. [`Scanner`] finds it in bytes that come in any split: it looks at each head byte once, skips what strings
//! and byte strings hold, and remembers how far it got. It owns no heap memory, and never trusts a declared length
//! further than to refuse it.
//!
//! Source: the MsgPack specification; "raw" of old encoders is the str family.

/// Nesting a scanner can follow at the most.
pub const DEPTH_MAX: usize = 32;

/// What an object may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of the whole object, in bytes. At most `u32::MAX / 2` counts.
    pub bytes_max: usize,
    /// Containers within one another; at most [`DEPTH_MAX`] counts.
    pub depth_max: usize,
}

/// How far a scan got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The object is whole, and so many bytes long.
    Complete(usize),
    /// More bytes must come.
    Incomplete,
}

/// Why bytes are no object that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The object is longer than the limit, or says that it will be.
    #[error("a MsgPack object of more than {0} bytes")]
    TooLarge(usize),
    /// Containers are nested deeper than the limit.
    #[error("a MsgPack object nested more than {0} deep")]
    TooDeep(usize),
    /// The byte 0xc1, which is never used.
    #[error("the byte 0xc1, which no MsgPack object has")]
    Reserved,
}

/// Finds the end of one object.
#[derive(Debug, Clone)]
pub struct Scanner {
    limits: Limits,
    /// Where the next item's first byte is, from the start of the object.
    at: usize,
    depth: usize,
    /// Items that are still to come, by depth.
    missing: [u32; DEPTH_MAX],
    started: bool,
}

/// What an item's head says.
struct Head {
    /// The head itself and what belongs to it but is no item, in bytes.
    skip: usize,
    /// Items within.
    items: usize,
}

impl Head {
    const fn leaf(skip: usize) -> Self {
        Self { skip, items: 0 }
    }

    const fn container(skip: usize, items: usize) -> Self {
        Self { skip, items }
    }
}

impl Scanner {
    /// A scanner at the start of an object.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            bytes_max: limits.bytes_max.min((u32::MAX / 2) as usize),
            depth_max: limits.depth_max.min(DEPTH_MAX),
        };
        Self {
            limits,
            at: 0,
            depth: 0,
            missing: [0; DEPTH_MAX],
            started: false,
        }
    }

    /// Looks at what is new in `bytes`, which holds the object from its first byte on, at every call.
    ///
    /// # Errors
    /// [`FrameError`] as soon as it is sure; the bytes are of no use then.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Progress, FrameError> {
        while !self.started || self.depth > 0 {
            let Some(rest) = bytes.get(self.at..) else {
                return Ok(Progress::Incomplete);
            };
            let Some(head) = read_head(rest)? else {
                return Ok(Progress::Incomplete);
            };
            self.started = true;
            // Each item to come is a byte at least.
            let end = self.at.saturating_add(head.skip);
            if end.saturating_add(head.items) > self.limits.bytes_max {
                return Err(FrameError::TooLarge(self.limits.bytes_max));
            }
            self.at = end;
            if head.items > 0 {
                self.enter(head.items)?;
            } else {
                self.leave_finished();
            }
        }
        Ok(if self.at <= bytes.len() {
            Progress::Complete(self.at)
        } else {
            Progress::Incomplete
        })
    }

    fn enter(&mut self, items: usize) -> Result<(), FrameError> {
        if self.depth >= self.limits.depth_max {
            return Err(FrameError::TooDeep(self.limits.depth_max));
        }
        if let Some(missing) = self.missing.get_mut(self.depth) {
            // Fits: it was compared with `bytes_max`.
            *missing = items as u32;
        }
        self.depth += 1;
        Ok(())
    }

    /// One item is done, and with it every container of which it was the last.
    fn leave_finished(&mut self) {
        while self.depth > 0 {
            let Some(missing) = self.missing.get_mut(self.depth - 1) else {
                return;
            };
            *missing = missing.saturating_sub(1);
            if *missing > 0 {
                return;
            }
            self.depth -= 1;
        }
    }
}

/// Reads the head of the item that `bytes` begins with, if it is all there.
fn read_head(bytes: &[u8]) -> Result<Option<Head>, FrameError> {
    let Some(&marker) = bytes.first() else {
        return Ok(None);
    };
    // Length fields are big-endian, right behind the marker.
    let sized = |width: usize, head: fn(usize, usize) -> Head| {
        let field = bytes.get(1..=width)?;
        let length = field
            .iter()
            .fold(0usize, |length, &byte| length << 8 | usize::from(byte));
        Some(head(1 + width, length))
    };
    let text = |skip: usize, length: usize| Head::leaf(skip.saturating_add(length));
    let ext = |skip: usize, length: usize| Head::leaf((skip + 1).saturating_add(length));
    let array = Head::container;
    let map = |skip: usize, length: usize| Head::container(skip, length.saturating_mul(2));
    Ok(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Some(Head::leaf(1)),
        0x80..=0x8f => Some(map(1, usize::from(marker & 0x0f))),
        0x90..=0x9f => Some(array(1, usize::from(marker & 0x0f))),
        0xa0..=0xbf => Some(text(1, usize::from(marker & 0x1f))),
        0xc1 => return Err(FrameError::Reserved),
        0xc4 | 0xd9 => sized(1, text),
        0xc5 | 0xda => sized(2, text),
        0xc6 | 0xdb => sized(4, text),
        0xc7 => sized(1, ext),
        0xc8 => sized(2, ext),
        0xc9 => sized(4, ext),
        0xcc | 0xd0 => Some(Head::leaf(2)),
        0xcd | 0xd1 => Some(Head::leaf(3)),
        0xca | 0xce | 0xd2 => Some(Head::leaf(5)),
        0xcb | 0xcf | 0xd3 => Some(Head::leaf(9)),
        // Fixed extensions: marker, type, then 1, 2, 4, 8 or 16 bytes.
        0xd4..=0xd8 => Some(Head::leaf(2 + (1 << (marker - 0xd4)))),
        0xdc => sized(2, array),
        0xdd => sized(4, array),
        0xde => sized(2, map),
        0xdf => sized(4, map),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes_max: 4096,
        depth_max: 8,
    };

    fn scan(bytes: &[u8]) -> Result<Progress, FrameError> {
        Scanner::new(LIMITS).scan(bytes)
    }

    #[test]
    fn the_end_of_simple_objects() {
        for (bytes, length) in [
            (&b"\x05"[..], 1),
            (b"\xc0", 1),
            (b"\xa3abc\xff", 4),
            (b"\x80", 1),
            (b"\x82\xa5Error\xa0\xa3Seq\x00\x01", 13),
            (b"\x93\x01\x90\x81\xc0\xc3", 6),
            (b"\xd8\x05................", 18),
            (b"\xc7\x02\x05..!", 5),
            (b"\xdc\x00\x02\x01\x02", 5),
        ] {
            assert_eq!(scan(bytes), Ok(Progress::Complete(length)), "{bytes:x?}");
        }
    }

    #[test]
    fn declared_lengths_are_refused_before_the_bytes_come() {
        let large = Err(FrameError::TooLarge(4096));
        assert_eq!(scan(b"\xc6\xff\xff\xff\xff"), large);
        assert_eq!(scan(b"\xdd\xff\xff\xff\xff"), large);
        assert_eq!(scan(b"\xdf\xff\xff\xff\xff"), large);
        assert_eq!(scan(b"\xc9\xff\xff\xff\xff"), large);
        assert_eq!(scan(b"\xda\x0f\xfd"), Ok(Progress::Incomplete));
        assert_eq!(scan(b"\xda\x0f\xfe"), large);
    }

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(scan(&[0x91; 8]), Ok(Progress::Incomplete));
        assert_eq!(scan(&[0x91; 9]), Err(FrameError::TooDeep(8)));
        assert_eq!(scan(&[0x91; 100_000]), Err(FrameError::TooDeep(8)));
        assert_eq!(scan(b"\x91\xc1"), Err(FrameError::Reserved));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
            (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, data)| Value::Ext(kind, data)),
        ];
        leaf.prop_recursive(4, 40, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_end(value in value(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6)) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            let length = bytes.len();
            bytes.extend_from_slice(b"\xc0\x01next");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length)).collect();
            cuts.sort_unstable();
            let mut scanner = Scanner::new(Limits { bytes_max: 1 << 20, depth_max: 16 });
            for cut in cuts {
                prop_assert_eq!(scanner.scan(&bytes[..cut]), Ok(Progress::Incomplete));
            }
            prop_assert_eq!(scanner.scan(&bytes), Ok(Progress::Complete(length)));
        }

        #[test]
        fn any_bytes_end_where_a_decoder_says(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            let decoded = rmpv::decode::read_value_ref(&mut rest).is_ok();
            match Scanner::new(Limits { bytes_max: 1 << 20, depth_max: 32 }).scan(&bytes) {
                Ok(Progress::Complete(length)) => prop_assert!(decoded && length == bytes.len() - rest.len()),
                // The decoder takes the reserved byte for nil.
                Err(FrameError::Reserved) => {}
                Ok(Progress::Incomplete) | Err(_) => prop_assert!(!decoded),
            }
        }
    }
}
