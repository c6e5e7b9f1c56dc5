//! A hub without sockets, its clients and their requests.

use std::sync::Arc;
use std::time::Instant;

use serfling::cluster::{Member, Standalone, StandaloneConfig};
use serfling::log_ring::LogRing;
use serfling::rpc::message::{Bytes, Command, EventRequest, RequestHeader, StreamRequest, Text};
use serfling::rpc::{Config, Hub, Peer, SessionId};

pub(crate) fn hub(members: usize) -> (Hub<Standalone>, Instant) {
    let now = Instant::now();
    let mut cluster = Standalone::new(now, StandaloneConfig::new("n1"));
    for number in 1..members {
        cluster.put_member(
            now,
            Member::alive(format!("node-{number}"), [10, 0, 0, 1].into(), 7946),
        );
    }
    let mut hub = Hub::new(now, Config::default(), cluster, Arc::new(LogRing::new()));
    hub.handle_timeout(now);
    (hub, now)
}

pub(crate) fn request<B: serde::Serialize>(command: Command, body: Option<&B>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = RequestHeader {
        command: Text(command.name()),
        seq: 1000,
    };
    rmp_serde::encode::write_named(&mut bytes, &header).unwrap_or_default();
    if let Some(body) = body {
        rmp_serde::encode::write_named(&mut bytes, body).unwrap_or_default();
    }
    bytes
}

pub(crate) fn client(hub: &mut Hub<Standalone>, now: Instant) -> SessionId {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Handshake {
        version: i32,
    }
    let id = hub
        .accept(now, Peer::Unix(1))
        .unwrap_or_else(|error| unreachable!("{error}"));
    hub.handle_bytes(
        now,
        id,
        &request(Command::Handshake, Some(&Handshake { version: 1 })),
    );
    take(hub, id);
    id
}

/// Takes what waits for a client, as a socket would.
pub(crate) fn take(hub: &mut Hub<Standalone>, id: SessionId) -> usize {
    let count = hub.pending(id).len();
    hub.handle_sent(id, count);
    count
}

/// Subscribes a new client.
pub(crate) fn subscriber(hub: &mut Hub<Standalone>, now: Instant, filter: &str) -> SessionId {
    let id = client(hub, now);
    let body = StreamRequest {
        r#type: Text(filter),
    };
    hub.handle_bytes(now, id, &request(Command::Stream, Some(&body)));
    take(hub, id);
    id
}

/// An event of 64 bytes.
pub(crate) fn event(name: &str) -> Vec<u8> {
    let body = EventRequest {
        coalesce: false,
        name: Text(name),
        payload: Bytes(&[b'x'; 64]),
    };
    request(Command::Event, Some(&body))
}
