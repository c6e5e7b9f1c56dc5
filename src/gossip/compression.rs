//! Compression of packets and streams: a message of type "compress" holds another, packed with LZW.
//!
//! The packing is Go's `compress/lzw`, least significant bit first, with eight bits to a literal. What is unpacked is
//! bounded while it is unpacked: a few bytes can stand for a great many.
//!
//! Source: hashicorp/memberlist, `util.go`.

use serde::Deserialize;
use weezl::decode::Decoder;
use weezl::encode::Encoder;
use weezl::{BitOrder, LzwStatus};

use super::message::MessageType;
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Bytes, or_zero};

/// The only algorithm.
const ALGORITHM_LZW: u8 = 0;
const LITERAL_BITS: u8 = 8;
/// Room for what is unpacked grows by this at least, in bytes.
const CHUNK_BYTES: usize = 4096;

/// Why a compressed message could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It does not say what is compressed, or how.
    #[error("malformed compressed message: {0}")]
    Malformed(rmp_serde::decode::Error),
    /// It is packed in a way that is not known.
    #[error("cannot decompress unknown algorithm {0}")]
    Algorithm(u8),
    /// What is packed is damaged, or not all there.
    #[error("the compressed data is damaged")]
    Damaged,
    /// It is larger than the limit, in bytes.
    #[error("decompressed message is larger than limit ({0})")]
    TooLarge(usize),
    /// There is nothing in it.
    #[error("decompressed message is empty")]
    Empty,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Compressed<'a> {
    #[serde(deserialize_with = "or_zero")]
    algo: u8,
    #[serde(borrow)]
    buf: Bytes<'a>,
}

/// A compressed message that holds `message`, or `None` where that would not be smaller.
pub(super) fn compress(message: &[u8]) -> Option<Vec<u8>> {
    let packed = Encoder::new(BitOrder::Lsb, LITERAL_BITS)
        .encode(message)
        .ok()?;
    let mut out = Vec::with_capacity(packed.len() + 16);
    out.push(MessageType::Compress as u8);
    let mut writer = RawWriter(&mut out);
    writer.map(2).raw("Algo").uint(ALGORITHM_LZW.into());
    writer.raw("Buf").raw(packed);
    (out.len() < message.len()).then_some(out)
}

/// Unpacks what follows the type byte of a compressed message into `out`, which is cleared. At most `bytes_max` bytes.
pub(super) fn decompress(
    body: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let compressed: Compressed<'_> = msgpack::decode(body).map_err(DecompressError::Malformed)?;
    if compressed.algo != ALGORITHM_LZW {
        return Err(DecompressError::Algorithm(compressed.algo));
    }
    out.clear();
    let mut decoder = Decoder::new(BitOrder::Lsb, LITERAL_BITS);
    let mut packed = compressed.buf.0;
    loop {
        let filled = out.len();
        // One byte past the limit tells what is too large from what just fits.
        let room = filled.max(CHUNK_BYTES).min(bytes_max + 1 - filled);
        out.resize(filled + room, 0);
        let free = out.get_mut(filled..).unwrap_or_default();
        let step = decoder.decode_bytes(packed, free);
        out.truncate(filled + step.consumed_out);
        packed = packed.get(step.consumed_in..).unwrap_or_default();
        if out.len() > bytes_max {
            return Err(DecompressError::TooLarge(bytes_max));
        }
        match step.status {
            Ok(LzwStatus::Done) if out.is_empty() => return Err(DecompressError::Empty),
            Ok(LzwStatus::Done) => return Ok(()),
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(LzwStatus::Ok | LzwStatus::NoProgress) | Err(_) => {
                return Err(DecompressError::Damaged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(message: &[u8]) -> Vec<u8> {
        let packed = Encoder::new(BitOrder::Lsb, LITERAL_BITS)
            .encode(message)
            .unwrap();
        let mut body = b"\x82\xa4Algo\x00\xa3Buf".to_vec();
        RawWriter(&mut body).raw(packed);
        body
    }

    fn unpack(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
        let mut out = b"left over".to_vec();
        decompress(body, bytes_max, &mut out).map(|()| out)
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = pack(&vec![0; 1 << 24]);
        assert!(bomb.len() < 1 << 15);
        let mut out = Vec::new();
        let result = decompress(&bomb, 1 << 16, &mut out);
        assert!(matches!(result, Err(DecompressError::TooLarge(65_536))));
        assert!(out.capacity() <= 1 << 18);
    }

    #[test]
    fn the_limit_is_exact() {
        let body = pack(&[7; 10_000]);
        assert_eq!(unpack(&body, 10_000).unwrap(), [7; 10_000]);
        assert!(matches!(
            unpack(&body, 9_999),
            Err(DecompressError::TooLarge(9_999))
        ));
    }

    #[test]
    fn what_cannot_be_unpacked_is_told_apart() {
        assert!(matches!(
            unpack(&pack(b""), 100),
            Err(DecompressError::Empty)
        ));
        assert!(matches!(
            unpack(b"\x82\xa4Algo\x01\xa3Buf\xa0", 100),
            Err(DecompressError::Algorithm(1))
        ));
        assert!(matches!(
            unpack(b"\x82\xa4Algo\x00\xa3Buf\xa0", 100),
            Err(DecompressError::Damaged)
        ));
        assert!(matches!(
            unpack(b"\xc1", 100),
            Err(DecompressError::Malformed(_))
        ));
        let mut torn = pack(b"torn in the middle");
        let length = torn.len();
        torn[length - 1] = 0;
        torn[length - 2] = 0;
        assert!(matches!(unpack(&torn, 100), Err(DecompressError::Damaged)));
    }

    #[test]
    fn only_what_gets_smaller_is_compressed() {
        assert_eq!(compress(b"short"), None);
        let message = b"again and ".repeat(50);
        let compressed = compress(&message).unwrap();
        assert_eq!(compressed[0], MessageType::Compress as u8);
        assert_eq!(unpack(&compressed[1..], 1000).unwrap(), message);
    }

    proptest! {
        #[test]
        fn anything_comes_back(message in proptest::collection::vec(0u8..8, 1..20_000)) {
            prop_assert_eq!(unpack(&pack(&message), 20_000).unwrap(), message);
        }

        #[test]
        fn no_bytes_break_it(packed in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut body = b"\x82\xa4Algo\x00\xa3Buf".to_vec();
            RawWriter(&mut body).raw(&packed);
            if let Ok(out) = unpack(&body, 10_000) {
                prop_assert!(!out.is_empty() && out.len() <= 10_000);
            }
        }
    }
}
