//! Nodes of a cluster of five, ours and the reference's, in one run: what one takes up at rest and under events.
//!
//! `cargo bench --bench cluster` prints a table of ratios. Each cluster runs alone, on the loopback address.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::agent::{Agent, Kind, free_port};
use serfling::client::{Client, Options, StreamEvent};

const NODES: usize = 5;
/// How long the cluster is left alone before and while it is measured.
const SETTLE: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_secs(30);
const EVENTS: u32 = 300;

/// What one node took, on average.
#[derive(Debug, Default)]
struct Figures {
    resident_kib: f64,
    private_kib: f64,
    /// Processor time in a second at rest.
    rest_cpu_millis: f64,
    /// Times it was woken in a second at rest.
    wakeups: f64,
    /// Processor time for an event that passes through.
    event_cpu_micros: f64,
    /// From the last event's sending until every node has told of all.
    spread_millis: f64,
    heard: f64,
}

fn main() {
    println!("a cluster of {NODES} nodes at rest for {REST:?}, then {EVENTS} events of 64 bytes\n");
    let [ours, reference] = [Kind::Serfling, Kind::Reference].map(measure);
    println!(
        "{:<42} {:>12} {:>12} {:>8}",
        "each node", "serfling", "reference", "ratio"
    );
    let row = |name: &str, ours: f64, reference: f64| {
        println!(
            "{name:<42} {ours:>12.2} {reference:>12.2} {:>8.3}",
            ours / reference
        );
    };
    row("resident, KiB", ours.resident_kib, reference.resident_kib);
    row(
        "of it anonymous, KiB",
        ours.private_kib,
        reference.private_kib,
    );
    row(
        "processor at rest, ms per s",
        ours.rest_cpu_millis,
        reference.rest_cpu_millis,
    );
    row("wake-ups at rest, per s", ours.wakeups, reference.wakeups);
    row(
        "processor per event, us",
        ours.event_cpu_micros,
        reference.event_cpu_micros,
    );
    row(
        "last event everywhere after, ms",
        ours.spread_millis,
        reference.spread_millis,
    );
    row("events heard of those sent", ours.heard, reference.heard);
}

fn measure(kind: Kind) -> Figures {
    let first = free_port();
    let join = format!("-join=127.0.0.1:{first}");
    let agents: Vec<Agent> = (0..NODES)
        .map(|number| {
            let node = format!("-node=n{number}");
            let mut arguments = vec![&*node, "-log-level=err"];
            let gossip = if number == 0 {
                first
            } else {
                arguments.push(&join);
                free_port()
            };
            Agent::start_at(kind, &arguments, None, None, (free_port(), gossip))
        })
        .collect();
    std::thread::sleep(SETTLE);
    let all =
        |figure: &dyn Fn(&Agent) -> f64| agents.iter().map(figure).sum::<f64>() / NODES as f64;
    let mut figures = Figures {
        resident_kib: all(&|agent| agent.status_kib("VmRSS:") as f64),
        private_kib: all(&|agent| agent.status_kib("RssAnon:") as f64),
        ..Figures::default()
    };
    let cpu = || all(&|agent| cpu_nanos(agent));
    let wakeups = || all(&|agent| switches(agent) as f64);
    let (cpu_before, wakeups_before) = (cpu(), wakeups());
    std::thread::sleep(REST);
    figures.rest_cpu_millis = (cpu() - cpu_before) / 1e6 / REST.as_secs_f64();
    figures.wakeups = (wakeups() - wakeups_before) / REST.as_secs_f64();
    let mut clients: Vec<Client> = agents.iter().map(connect).collect();
    let streams: Vec<_> = clients
        .iter_mut()
        .map(|client| client.stream("user").unwrap())
        .collect();
    let cpu_before = cpu();
    for number in 0..EVENTS {
        let payload = [number as u8; 64];
        let name = format!("e{number}");
        clients[number as usize % NODES]
            .user_event(&name, &payload, false)
            .unwrap();
        // No faster than gossip carries them in one packet a round.
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Instant::now();
    let mut last = sent;
    let mut heard = 0;
    for (client, stream) in clients.iter_mut().zip(&streams) {
        let mut count = 0;
        while count < EVENTS {
            match client.next(stream, Some(Duration::from_secs(5))).unwrap() {
                Some(StreamEvent::User(_)) => count += 1,
                Some(_) => {}
                None => break,
            }
            last = Instant::now();
        }
        heard += count;
    }
    figures.spread_millis = (last - sent).as_secs_f64() * 1e3;
    std::thread::sleep(Duration::from_secs(3));
    figures.event_cpu_micros = (cpu() - cpu_before) / 1e3 / f64::from(EVENTS);
    figures.heard = f64::from(heard) / f64::from(EVENTS) / NODES as f64;
    figures
}

fn connect(agent: &Agent) -> Client {
    let address = format!("127.0.0.1:{}", agent.rpc_port).parse().unwrap();
    Client::connect(&Options::new(address)).unwrap()
}

/// Processor time of all its threads so far.
fn cpu_nanos(agent: &Agent) -> f64 {
    threads(agent, "schedstat")
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How often its threads have gone to sleep so far.
fn switches(agent: &Agent) -> u64 {
    threads(agent, "status")
        .filter_map(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}

/// A file of each of its threads.
fn threads(agent: &Agent, file: &'static str) -> impl Iterator<Item = String> {
    let folder = format!("/proc/{}/task", agent.child.id());
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(move |thread| std::fs::read_to_string(thread.ok()?.path().join(file)).ok())
}
