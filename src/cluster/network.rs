//! What a cluster asks of the network, and what the network brings.
//!
//! The reactor carries these out over real sockets, a simulator over made-up ones.

use std::net::{IpAddr, SocketAddr};

/// Names a byte stream between this node and another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u64);

impl StreamId {
    const ACCEPTED: u64 = 1 << 63;

    /// The `n`th stream opened by this node; the cluster chooses the number.
    #[must_use]
    pub const fn opened(n: u64) -> Self {
        Self(n & !Self::ACCEPTED)
    }

    /// Whether another node opened the stream.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        self.0 & Self::ACCEPTED != 0
    }

    /// The `n`th stream opened by another node; whoever owns the sockets chooses the number.
    #[must_use]
    pub const fn accepted(n: u64) -> Self {
        Self(n | Self::ACCEPTED)
    }
}

/// What a cluster asks of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkCommand {
    /// Send one datagram from the gossip port.
    SendPacket {
        /// Where to.
        to: SocketAddr,
        /// The whole datagram.
        payload: Vec<u8>,
    },
    /// Look up a host name, afresh; answered by [`NetworkEvent::Resolved`].
    Resolve {
        /// A number of the cluster's choice.
        request: u64,
        /// The name, without port.
        host: String,
    },
    /// Open a byte stream; answered by [`NetworkEvent::Connected`] or [`NetworkEvent::Ended`].
    Connect {
        /// How the cluster will call it.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Send bytes on a stream, after those sent before.
    Write {
        /// Which stream.
        stream: StreamId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// End a stream once everything written has gone out; then comes [`NetworkEvent::Ended`].
    Close {
        /// Which stream.
        stream: StreamId,
    },
    /// End a stream at once; what was written may be lost. No event follows for it.
    Reset {
        /// Which stream.
        stream: StreamId,
    },
}

/// What the network brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent<'a> {
    /// A datagram came to the gossip port.
    Packet {
        /// Where from.
        from: SocketAddr,
        /// The whole datagram.
        payload: &'a [u8],
    },
    /// A datagram could not be sent: the peer cannot be reached.
    PacketFailed {
        /// Where to.
        to: SocketAddr,
        /// Why, for people.
        error: String,
    },
    /// A name was looked up.
    Resolved {
        /// The number given with the request.
        request: u64,
        /// All its addresses, or why there are none.
        result: Result<Vec<IpAddr>, String>,
    },
    /// A stream asked for is open.
    Connected {
        /// Which stream.
        stream: StreamId,
    },
    /// Another node opened a stream to the gossip port.
    Accepted {
        /// How it will be called.
        stream: StreamId,
        /// Where from.
        from: SocketAddr,
    },
    /// Bytes came on a stream.
    Received {
        /// Which stream.
        stream: StreamId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A stream ended: the peer closed it, it broke, or it never opened. Nothing follows for it.
    Ended {
        /// Which stream.
        stream: StreamId,
        /// Why, for people; `None` when the peer closed it.
        error: Option<String>,
    },
}
