//! Sessions without sockets: requests in, answers out, and events to many streams.

#[path = "common/hub.rs"]
mod hub_fixture;

use divan::Bencher;
use divan::counter::ItemsCount;
use serfling::rpc::message::Command;

use hub_fixture::{client, event, hub, request, subscriber, take};

fn main() {
    divan::main();
}

/// Requests handed over at once.
const PIPELINED: usize = 16;

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
    let subscribers: Vec<_> = (0..wanting)
        .map(|_| subscriber(&mut hub, now, "user:deploy"))
        .collect();
    for _ in 0..others {
        subscriber(&mut hub, now, "user:other");
    }
    let event = event("deploy");
    bencher
        .counter(ItemsCount::new(wanting.max(1)))
        .bench_local(|| {
            hub.handle_bytes(now, publisher, &event);
            hub.handle_ready(now);
            take(&mut hub, publisher);
            subscribers
                .iter()
                .map(|id| take(&mut hub, *id))
                .sum::<usize>()
        });
}
