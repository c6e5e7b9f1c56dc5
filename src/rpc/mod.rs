//! The RPC protocol: what a client of a Serf agent sees on the RPC port.
//!
//! A request is a MsgPack map (the header) followed, for most commands, by a second one (the body); a response
//! likewise. Nothing has a length in front, so [`crate::msgpack::frame`] finds where an object ends. [`message`] holds
//! the types of both directions, which the server and [`crate::client`] share.
//!
//! Source of the protocol facts: hashicorp/serf, `cmd/serf/command/agent/ipc.go`, and the bytes of a running agent.

pub mod message;
