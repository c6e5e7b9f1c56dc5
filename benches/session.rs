//! Sessions without sockets: requests in, answers out, and events to many streams.

use std::sync::Arc;
use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use serfling::agent::log::LogRing;
use serfling::cluster::{Member, Standalone, StandaloneConfig};
use serfling::rpc::message::{Command, EventRequest, RequestHeader, StreamRequest, Text};
use serfling::rpc::{Config, Hub, Peer, SessionId};

fn main() {
    divan::main();
}

/// Requests handed over at once.
const PIPELINED: usize = 16;

fn hub(members: usize) -> (Hub<Standalone>, Instant) {
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

fn request<B: serde::Serialize>(command: Command, body: Option<&B>) -> Vec<u8> {
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

fn client(hub: &mut Hub<Standalone>, now: Instant) -> SessionId {
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
fn take(hub: &mut Hub<Standalone>, id: SessionId) -> usize {
    let count = hub.pending(id).len();
    hub.handle_sent(id, count);
    count
}

#[divan::bench(args = [1, 100, 1_000])]
fn members_of(bencher: Bencher<'_, '_>, members: usize) {
    let (mut hub, now) = hub(members);
    let id = client(&mut hub, now);
    let requests = request::<()>(Command::Members, None).repeat(PIPELINED);
    bencher.counter(ItemsCount::new(PIPELINED)).bench_local(|| {
        hub.handle_bytes(now, id, &requests);
        let mut taken = take(&mut hub, id);
        while hub.handle_ready(now) {
            taken += take(&mut hub, id);
        }
        taken
    });
}

#[divan::bench]
fn stats(bencher: Bencher<'_, '_>) {
    let (mut hub, now) = hub(1);
    let id = client(&mut hub, now);
    let requests = request::<()>(Command::Stats, None).repeat(PIPELINED);
    bencher.counter(ItemsCount::new(PIPELINED)).bench_local(|| {
        hub.handle_bytes(now, id, &requests);
        take(&mut hub, id)
    });
}

/// An event for each number of streams, of which none or all want it.
#[divan::bench(args = [(0, 0), (1, 0), (100, 0), (1_000, 0), (0, 1_000)])]
fn event_to(bencher: Bencher<'_, '_>, (wanting, others): (usize, usize)) {
    let (mut hub, now) = hub(1);
    let publisher = client(&mut hub, now);
    let mut subscribe = |filter: &str| {
        let id = client(&mut hub, now);
        hub.handle_bytes(
            now,
            id,
            &request(
                Command::Stream,
                Some(&StreamRequest {
                    r#type: Text(filter),
                }),
            ),
        );
        take(&mut hub, id);
        id
    };
    let subscribers: Vec<_> = (0..wanting).map(|_| subscribe("user:deploy")).collect();
    for _ in 0..others {
        subscribe("user:other");
    }
    let event = EventRequest {
        coalesce: false,
        name: Text("deploy"),
        payload: serfling::rpc::message::Bytes(&[b'x'; 64]),
    };
    let event = request(Command::Event, Some(&event));
    bencher
        .counter(ItemsCount::new(wanting.max(1)))
        .bench_local(|| {
            hub.handle_bytes(now, publisher, &event);
            take(&mut hub, publisher);
            subscribers
                .iter()
                .map(|id| take(&mut hub, *id))
                .sum::<usize>()
        });
}
