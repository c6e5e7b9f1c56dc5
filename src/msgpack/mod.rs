//! MsgPack as Serf's protocols use it, over what the `rmp` crates offer.
//!
//! [`frame`] finds where an object ends without decoding it; [`value`] holds text, bytes, lists and maps that read
//! liberally and write in the RPC protocol's form.

pub mod frame;
pub mod raw;
pub mod value;

use serde::Deserialize;

/// Containers within one another that [`decode`] follows; no protocol here has more than half of them.
const DEPTH_MAX: usize = 16;

/// Decodes the object that `bytes` begin with; what follows it is not looked at.
///
/// For everything that comes from outside: unlike the library's own function it does not follow nesting until the
/// stack is gone.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut deserializer)
}
