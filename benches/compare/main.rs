//! Our agent against the reference and against a bare mio server that sends as many bytes, with bounds.
//!
//! `cargo bench --bench compare` prints tables in Markdown, with machine, versions and date, and says of each bound
//! whether it holds. `cargo bench --bench compare -- PART…` measures parts of it: `requests`, `fan-out`, `large`, `growth`,
//! `memory`. Each server is kept to the first processor and the load, [`serfling::bench`] in this program, to the second.
//! What is compared takes turns, [`ROUNDS`] times, and the median counts: so what else the machine does meets all alike.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

mod bare;
#[allow(dead_code, reason = "other benches use the rest")]
#[path = "../common/gossip.rs"]
mod gossip;
mod machine;
mod parts;
mod server;
mod table;

use std::ops::ControlFlow;
use std::time::Duration;

use serfling::bench::{Plan, Report, Workload};

use server::Server;

/// How often each load is put on each server.
const ROUNDS: usize = 5;
/// How long each time.
const DURATION: Duration = Duration::from_millis(1500);
const CLIENTS: usize = 16;
const IN_FLIGHT: usize = 16;

fn main() {
    // `cargo bench` passes a flag of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let Some((role, arguments)) = arguments.split_first() {
        match role.as_str() {
            "--serve-bare" => return bare::serve(arguments),
            "--serve-members" => return server::serve_members(arguments),
            _ => {}
        }
    }
    machine::describe();
    machine::keep_to_second_processor();
    println!(
        "{CLIENTS} clients with {IN_FLIGHT} requests in flight each, unless it says otherwise; median of {ROUNDS} rounds of {DURATION:?}."
    );
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|wanted| wanted == part);
    let parts: [(&str, fn()); 5] = [
        ("requests", parts::requests),
        ("fan-out", parts::fan_out),
        ("large", parts::large),
        ("growth", parts::growth),
        ("memory", parts::memory),
    ];
    for (name, measure) in parts {
        if wanted(name) {
            println!();
            measure();
        }
    }
}

/// A load on a server, as all of them begin.
fn plan(server: &Server, workload: Workload) -> Plan {
    Plan {
        clients: CLIENTS,
        depth: IN_FLIGHT,
        duration: DURATION,
        node: "n1".to_owned(),
        ..Plan::new(server.address(), workload)
    }
}

/// Puts a load on a server.
fn run(plan: &Plan) -> Report {
    serfling::bench::run(plan, &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{}: {error}", plan.workload.name()))
}

/// Measures several things in turn, over and over; the median of each.
fn in_turn<const N: usize>(mut measure: [Box<dyn FnMut() -> f64 + '_>; N]) -> [f64; N] {
    let mut all: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (measure, figures) in measure.iter_mut().zip(&mut all) {
            figures.push(measure());
        }
    }
    all.map(median)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
