//! Fields that several messages have: how they are read and written.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use super::Versions;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::Bytes;

pub(super) fn write_addr(writer: &mut RawWriter<'_>, addr: Option<IpAddr>) {
    match addr {
        Some(IpAddr::V4(addr)) => writer.raw(addr.octets()),
        Some(IpAddr::V6(addr)) => writer.raw(addr.octets()),
        None => writer.nil(),
    };
}

pub(super) fn write_versions(writer: &mut RawWriter<'_>, versions: Option<Versions>) {
    writer.raw("Vsn");
    match versions {
        Some(versions) => writer.raw(versions.to_bytes()),
        None => writer.nil(),
    };
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
    Bytes::deserialize(deserializer).map(|bytes| bytes.0)
}

pub(super) fn versions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Versions>, D::Error> {
    bytes(deserializer).map(Versions::from_bytes)
}

/// Readers of text that name their field in errors.
pub(super) mod text {
    use super::{Deserializer, bytes};
    use serde::de::Error;

    fn read<'de, D: Deserializer<'de>>(field: &str, deserializer: D) -> Result<&'de str, D::Error> {
        std::str::from_utf8(bytes(deserializer)?)
            .map_err(|_| D::Error::custom(format_args!("{field} is not UTF-8")))
    }

    macro_rules! readers {
        ($($reader:ident $field:literal)*) => {$(
            pub(in crate::gossip::message) fn $reader<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
                read($field, deserializer)
            }
        )*};
    }

    readers! { node "Node" from "From" name "Name" source_node "SourceNode" error "Error" }
}

/// Readers of addresses that name their field in errors.
pub(super) mod addr {
    use super::{Deserializer, IpAddr, bytes};
    use serde::de::Error;

    /// An IPv4 address in IPv6 form is taken for IPv4, as Go does.
    fn read<'de, D: Deserializer<'de>>(
        field: &str,
        deserializer: D,
    ) -> Result<Option<IpAddr>, D::Error> {
        let bytes = bytes(deserializer)?;
        if bytes.is_empty() {
            Ok(None)
        } else if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            Ok(Some(IpAddr::from(octets)))
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
            Ok(Some(IpAddr::from(octets).to_canonical()))
        } else {
            let length = bytes.len();
            Err(D::Error::custom(format_args!(
                "{field} has {length} bytes, expected 4 or 16"
            )))
        }
    }

    macro_rules! readers {
        ($($reader:ident $field:literal)*) => {$(
            pub(in crate::gossip::message) fn $reader<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<IpAddr>, D::Error> {
                read($field, deserializer)
            }
        )*};
    }

    readers! { addr "Addr" source_addr "SourceAddr" target "Target" }
}
