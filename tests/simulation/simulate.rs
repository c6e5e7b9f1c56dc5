//! Runs seeds of the simulation: a few among the tests, one or many on demand. `--help` says how.
//!
//! A seed that breaks a promise is printed with the command that does it again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod agenda;
mod chaos;
mod client;
mod disk;
mod ledger;
mod network;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::chaos::{Options, Summary};

const HELP: &str = "\
cargo test --profile simulation --test simulate -- [options]
  --seed N          only this seed
  --seeds A..B      these seeds (default 0..4)
  --nodes N         nodes of the cluster (default 8)
  --minutes N       simulated minutes before everything heals (default 1)
  --churn           hours of nodes that come, go, fail, return and change, instead of weather; the minutes are all
  --first           stop at the first seed that fails
  --trace           print what happens
Of every four seeds one is calm, one lossy, one divided, one stormy.";

struct Arguments {
    seeds: Range<u64>,
    nodes: usize,
    minutes: u64,
    churn: bool,
    first: bool,
    trace: bool,
}

fn number(value: Option<String>) -> u64 {
    let number = value.and_then(|value| value.parse().ok());
    number.unwrap_or_else(|| panic!("a number is expected\n{HELP}"))
}

/// What is asked for, if anything; nothing if it was only how to ask.
fn arguments() -> Option<Option<Arguments>> {
    let mut arguments = USUAL;
    let mut asked = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        asked |= word.starts_with("--");
        match word.as_str() {
            "--seed" => {
                let seed = number(words.next());
                arguments.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let range = words.next().unwrap_or_default();
                let (from, to) = range.split_once("..").unwrap_or_default();
                arguments.seeds = number(Some(from.to_owned()))..number(Some(to.to_owned()));
            }
            "--nodes" => arguments.nodes = number(words.next()) as usize,
            "--minutes" => arguments.minutes = number(words.next()),
            "--churn" => arguments.churn = true,
            "--first" => arguments.first = true,
            "--trace" => arguments.trace = true,
            "--help" => {
                println!("{HELP}");
                return None;
            }
            // What the test runner passes to every test is of no interest.
            _ => {}
        }
    }
    Some(asked.then_some(arguments))
}

/// What is run when nobody says what.
const USUAL: Arguments = Arguments {
    seeds: 0..4,
    nodes: 8,
    minutes: 1,
    churn: false,
    first: false,
    trace: false,
};
const USUAL_CHURN: Arguments = Arguments {
    seeds: 0..1,
    minutes: 20,
    churn: true,
    ..USUAL
};

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        return ExitCode::SUCCESS;
    };
    let well = match arguments {
        Some(arguments) => run(&arguments),
        None => run(&USUAL) & run(&USUAL_CHURN),
    };
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs seeds; says whether all went well.
fn run(arguments: &Arguments) -> bool {
    let begin = Instant::now();
    let Arguments { nodes, minutes, .. } = *arguments;
    let churn = if arguments.churn { " --churn" } else { "" };
    let mut total = Summary::default();
    let (mut count, mut failed) = (0, 0);
    for seed in arguments.seeds.clone() {
        let options = Options {
            seed,
            nodes,
            time: Duration::from_secs(60 * minutes),
            trace: arguments.trace,
        };
        let run_seed = || {
            if arguments.churn {
                chaos::run_churn(options)
            } else {
                chaos::run(options)
            }
        };
        count += 1;
        match catch_unwind(AssertUnwindSafe(run_seed)) {
            Ok(summary) => add(&mut total, summary),
            Err(_) => {
                failed += 1;
                println!(
                    "SEED {seed} FAILED; again: cargo test --profile simulation --test simulate -- \
                     --seed {seed} --nodes {nodes} --minutes {minutes}{churn} --trace"
                );
                if arguments.first {
                    break;
                }
            }
        }
    }
    println!(
        "{count} seeds of {nodes} nodes and {minutes} min{churn} in {:.0} s, {failed} failed: {} packets, {} MiB, {} \
         requests, {} records, {} faults, {} events delivered where they were due ({} not due), {} keys replaced ({} nodes \
         given them), {} moves ({} evictions), {} returns by snapshot alone, at most {} s until all was well",
        begin.elapsed().as_secs_f64(),
        total.packets,
        total.bytes >> 20,
        total.requests,
        total.records,
        total.faults,
        total.deliveries,
        total.excused,
        total.rotations,
        total.repairs,
        total.moves,
        total.evictions,
        total.returns,
        total.rest.as_secs(),
    );
    failed == 0
}

fn add(total: &mut Summary, run: Summary) {
    total.packets += run.packets;
    total.bytes += run.bytes;
    total.requests += run.requests;
    total.records += run.records;
    total.faults += run.faults;
    total.deliveries += run.deliveries;
    total.excused += run.excused;
    total.rotations += run.rotations;
    total.repairs += run.repairs;
    total.moves += run.moves;
    total.evictions += run.evictions;
    total.returns += run.returns;
    total.rest = total.rest.max(run.rest);
}
