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
  --first           stop at the first seed that fails
  --trace           print what happens
Of every four seeds one is calm, one lossy, one divided, one stormy.";

struct Arguments {
    seeds: Range<u64>,
    nodes: usize,
    minutes: u64,
    first: bool,
    trace: bool,
}

fn number(value: Option<String>) -> u64 {
    let number = value.and_then(|value| value.parse().ok());
    number.unwrap_or_else(|| panic!("a number is expected\n{HELP}"))
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments {
        seeds: 0..4,
        nodes: 8,
        minutes: 1,
        first: false,
        trace: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
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
    Some(arguments)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        return ExitCode::SUCCESS;
    };
    let begin = Instant::now();
    let (nodes, minutes) = (arguments.nodes, arguments.minutes);
    let mut total = Summary::default();
    let mut failed = 0;
    let count = arguments.seeds.end.saturating_sub(arguments.seeds.start);
    for seed in arguments.seeds {
        let options = Options {
            seed,
            nodes,
            time: Duration::from_secs(60 * minutes),
            trace: arguments.trace,
        };
        match catch_unwind(AssertUnwindSafe(|| chaos::run(options))) {
            Ok(summary) => add(&mut total, summary),
            Err(_) => {
                failed += 1;
                println!(
                    "SEED {seed} FAILED; again: cargo test --profile simulation --test simulate -- \
                     --seed {seed} --nodes {nodes} --minutes {minutes} --trace"
                );
                if arguments.first {
                    break;
                }
            }
        }
    }
    println!(
        "{count} seeds of {nodes} nodes and {minutes} min in {:.0} s, {failed} failed: {} packets, {} MiB, {} requests, \
         {} records, {} faults, {} events delivered where they were due ({} not due), at most {} s until all was well",
        begin.elapsed().as_secs_f64(),
        total.packets,
        total.bytes >> 20,
        total.requests,
        total.records,
        total.faults,
        total.deliveries,
        total.excused,
        total.rest.as_secs(),
    );
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn add(total: &mut Summary, run: Summary) {
    total.packets += run.packets;
    total.bytes += run.bytes;
    total.requests += run.requests;
    total.records += run.records;
    total.faults += run.faults;
    total.deliveries += run.deliveries;
    total.excused += run.excused;
    total.rest = total.rest.max(run.rest);
}
