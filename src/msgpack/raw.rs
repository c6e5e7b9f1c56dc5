//! Writes MsgPack in the old form that gossip speaks: text and bytes alike are "raw", without bin and str 8.
//!
//! Source: go-msgpack's default handle, as memberlist and Serf use it. Its structs are maps with sorted keys.

/// Appends MsgPack in the old form.
#[derive(Debug)]
pub struct RawWriter<'a>(pub &'a mut Vec<u8>);

impl RawWriter<'_> {
    /// A map of `entries` pairs, which follow.
    pub fn map(&mut self, entries: usize) -> &mut Self {
        // Writing to a vector cannot fail, here and below.
        let _ = rmp::encode::write_map_len(self.0, length(entries));
        self
    }

    /// An array of `items`, which follow.
    pub fn array(&mut self, items: usize) -> &mut Self {
        let _ = rmp::encode::write_array_len(self.0, length(items));
        self
    }

    /// Text or bytes.
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        match u16::try_from(bytes.len()) {
            Ok(length @ 0..=31) => self.0.push(0xa0 | length as u8),
            Ok(length) => {
                self.0.push(0xda);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                self.0.push(0xdb);
                self.0.extend_from_slice(&length(bytes.len()).to_be_bytes());
            }
        }
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes, or nil when there are none, as Go writes a nil slice.
    pub fn raw_or_nil(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.is_empty() {
            self.nil()
        } else {
            self.raw(bytes)
        }
    }

    /// An unsigned number in its shortest form.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        let _ = rmp::encode::write_uint(self.0, value);
        self
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(if value { 0xc3 } else { 0xc2 });
        self
    }

    /// Nothing.
    pub fn nil(&mut self) -> &mut Self {
        self.0.push(0xc0);
        self
    }

    /// A 64-bit floating point number.
    pub fn float(&mut self, value: f64) -> &mut Self {
        let _ = rmp::encode::write_f64(self.0, value);
        self
    }
}

/// Messages are bounded far below what doesn't fit.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_has_three_sizes() {
        let head = |length: usize| {
            let mut out = Vec::new();
            RawWriter(&mut out).raw(vec![0; length]);
            out.truncate(out.len() - length);
            out
        };
        assert_eq!(head(0), [0xa0]);
        assert_eq!(head(31), [0xbf]);
        assert_eq!(head(32), [0xda, 0, 32]);
        assert_eq!(head(65_535), [0xda, 0xff, 0xff]);
        assert_eq!(head(65_536), [0xdb, 0, 1, 0, 0]);
    }
}
