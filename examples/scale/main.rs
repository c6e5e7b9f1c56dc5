//! Measures clusters of many nodes in one process, on the simulation's network and clock, and compares them with theory.
//!
//! `cargo run --profile simulation --example scale -- COMMAND`, where the command is
//! - `run SIZE…`: measures times and load of clusters of these sizes,
//! - `joins SIZE…`: the same, for clusters whose nodes join one after the other instead of starting with a prepared state,
//! - `failures SIZE…`: counts false failures under loss and with slow nodes, with and without Lifeguard,
//! - `plot`: draws `docs/*.svg` from what was measured,
//! - `table`: writes the tables in `docs/scale.md` from what was measured.
//!
//! What is measured goes to `docs/data`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it measures on a network that it makes up"
)]

#[path = "../../tests/simulation/agenda.rs"]
mod agenda;
mod cluster;
mod data;
#[path = "../../tests/simulation/disk.rs"]
mod disk;
mod failures;
mod measure;
#[path = "../../tests/simulation/network.rs"]
mod network;
mod plots;
mod resources;
mod statistics;
mod tables;
mod theory;
mod wire;
#[path = "../../tests/simulation/world.rs"]
mod world;

use std::time::Instant;

use self::cluster::Start;
use self::data::{Point, write};

const USAGE: &str = "scale run|joins|failures SIZE…, scale plot, scale table";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, sizes)) = words.split_first() else {
        panic!("{USAGE}");
    };
    let sizes: Vec<usize> = sizes
        .iter()
        .map(|word| word.parse().expect(USAGE))
        .collect();
    match &**command {
        "plot" => plots::draw().expect("it can be drawn"),
        "table" => tables::write(),
        _ => sizes.into_iter().for_each(|size| measure(command, size)),
    }
}

fn measure(command: &str, size: usize) {
    let begin = Instant::now();
    match command {
        "run" => run("", size, Start::Prepared),
        "joins" => run("joins-", size, Start::Joins),
        "failures" => write(&format!("failures-{size}"), &failures::measure(size)),
        _ => panic!("{USAGE}"),
    }
    let took = begin.elapsed().as_secs_f64();
    let (processor, memory) = (resources::processor_seconds(), resources::peak_mib());
    eprintln!(
        "{command} {size} took {took:.0} s; this process used the processor for {processor:.0} s and had up to {memory:.0} MiB"
    );
}

fn run(prefix: &str, size: usize, start: Start) {
    let measured = measure::measure(size, start);
    write(&format!("{prefix}load-{size}"), &[measured.load]);
    write(&format!("{prefix}times-{size}"), &measured.times);
    write(&format!("{prefix}event-{size}"), &curve(&measured.heard));
}

/// What share had heard when: in steps of a millisecond as long as most hear, then of ten.
fn curve(heard: &[f64]) -> Vec<Point> {
    let last = heard.last().copied().unwrap_or_default();
    let fine = (0..30).map(|millis| f64::from(millis) / 1e3);
    let coarse = (3..).map(|step| f64::from(step) / 1e2);
    let mut points: Vec<Point> = Vec::new();
    for seconds in fine.chain(coarse) {
        let share = heard.partition_point(|at| *at <= seconds) as f64 / heard.len() as f64;
        points.push(Point { seconds, share });
        if seconds >= last {
            break;
        }
    }
    points
}
