//! A coordinate on the wire, in the payload of a ping's ack: a version byte and a MsgPack map
//! (`serf/ping_delegate.go`). Keys are written in alphabetical order and read in any.

use serde::Deserialize;

use crate::cluster::Coordinate;
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::or_zero;

/// The only version there is.
const VERSION: u8 = 1;

/// Why a payload is no coordinate.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It was written by something newer, or is something else.
    #[error("unsupported ping version {0}, expected {VERSION}")]
    Version(u8),
    /// It does not decode.
    #[error("no coordinate in the ping's answer: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Payload {
    #[serde(deserialize_with = "or_zero")]
    adjustment: f64,
    #[serde(deserialize_with = "or_zero")]
    error: f64,
    #[serde(deserialize_with = "or_zero")]
    height: f64,
    #[serde(deserialize_with = "or_zero")]
    vec: Vec<f64>,
}

/// The payload that tells `coordinate`.
pub fn encode_payload(coordinate: &Coordinate) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 9 * coordinate.vec.len());
    bytes.push(VERSION);
    let mut writer = RawWriter(&mut bytes);
    writer.map(4).raw("Adjustment").float(coordinate.adjustment);
    writer.raw("Error").float(coordinate.error);
    writer.raw("Height").float(coordinate.height);
    writer.raw("Vec").array(coordinate.vec.len());
    for place in &coordinate.vec {
        writer.float(*place);
    }
    bytes
}

/// The coordinate that a payload tells; `None` when the peer keeps none.
pub fn decode_payload(bytes: &[u8]) -> Result<Option<Coordinate>, PayloadError> {
    let Some((&version, map)) = bytes.split_first() else {
        return Ok(None);
    };
    if version != VERSION {
        return Err(PayloadError::Version(version));
    }
    let payload: Payload = msgpack::decode(map)?;
    Ok(Some(Coordinate {
        vec: payload.vec,
        error: payload.error,
        adjustment: payload.adjustment,
        height: payload.height,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_coordinate_survives_the_wire() {
        let mut coordinate = Coordinate::default();
        coordinate.vec[3] = -0.25;
        coordinate.adjustment = 0.001;
        let decoded = decode_payload(&encode_payload(&coordinate));
        assert_eq!(decoded.expect("decodes"), Some(coordinate));
    }

    #[test]
    fn it_is_written_as_the_reference_writes_it() {
        let bytes = encode_payload(&Coordinate::default());
        assert_eq!(bytes[..2], [1, 0x84]);
        assert_eq!(bytes[2..14], *b"\xaaAdjustment\xcb");
        assert_eq!(bytes[bytes.len() - 9 * 8 - 1 - 4..][..4], *b"\xa3Vec");
        assert_eq!(bytes.len(), 130);
    }

    #[test]
    fn absent_and_nil_fields_are_zero() {
        let decoded = decode_payload(b"\x01\x81\xa3Vec\xc0").expect("decodes");
        let zero = Coordinate {
            vec: Vec::new(),
            error: 0.0,
            adjustment: 0.0,
            height: 0.0,
        };
        assert_eq!(decoded, Some(zero));
    }

    #[test]
    fn no_payload_is_no_coordinate() {
        assert_eq!(decode_payload(b"").expect("nothing to decode"), None);
    }

    #[test]
    fn other_versions_are_refused() {
        let refused = decode_payload(b"\x02\x80");
        assert!(matches!(refused, Err(PayloadError::Version(2))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut payload = vec![VERSION];
            payload.extend(bytes);
            let _ = decode_payload(&payload);
        }
    }
}
