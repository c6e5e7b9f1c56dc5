//! MsgPack as Serf's protocols use it, over what the `rmp` crates offer.
//!
//! [`frame`] finds where an object ends without decoding it; [`value`] holds text, bytes, lists and maps that read
//! liberally and write in the RPC protocol's form.

pub mod frame;
pub mod raw;
pub mod value;
