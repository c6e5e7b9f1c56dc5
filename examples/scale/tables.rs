//! The tables of `docs/scale.md`, from what was measured.

use crate::data::{self, Failures, Load, Times};
use crate::plots::failures::{rate, treatment};
use crate::statistics::{median, worst};
use crate::theory;

pub(crate) fn print() {
    times();
    load();
    starts();
    failures();
}

/// Median and worst of what was measured.
fn spread(rows: &[Times], of: fn(&Times) -> f64, digits: usize) -> String {
    let figures: Vec<f64> = rows.iter().map(of).collect();
    let (median, worst) = (median(&figures), worst(&figures));
    format!("{median:.digits$} / {worst:.digits$}")
}

fn times_row(name: &str, rows: &[Times]) {
    println!(
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
        rows.len(),
        spread(rows, |times| times.join, 2),
        spread(rows, |times| times.event_half, 3),
        spread(rows, |times| times.event_most, 2),
        spread(rows, |times| times.event_all, 2),
        spread(rows, |times| times.suspected, 1),
        spread(rows, |times| times.failed_first, 1),
        spread(rows, |times| times.failed_all, 1),
    );
}

const TIMES_HEAD: &str = " | repetitions | join, all | event, 50 % | event, 99 % | event, all | failure suspected | failed, first | failed, all |\n|---|---|---|---|---|---|---|---|---|";

/// How long news take.
fn times() {
    println!("Seconds, median / worst:\n");
    println!("| nodes{TIMES_HEAD}");
    for size in data::sizes("times") {
        times_row(&size.to_string(), &data::read(&format!("times-{size}")));
    }
    println!("\nTheory, seconds:\n");
    println!(
        "| nodes | event, all: at once / on ticks | suspected | failed, first | if nobody confirms | sent by each node, times |"
    );
    println!("|---|---|---|---|---|---|");
    for size in data::sizes("times") {
        let nodes = size as f64;
        println!(
            "| {size} | {:.2} / {:.2} | {:.1} | {:.1} | {:.0} | {:.0} |",
            theory::forwarding_all(nodes),
            theory::epidemic_all(nodes),
            theory::detection(),
            theory::detection() + theory::suspicion_min(nodes),
            theory::detection() + theory::suspicion_max(nodes),
            theory::retransmits(nodes),
        );
    }
}

/// What a node sends at rest.
fn load() {
    println!("\nPer node and second:\n");
    println!(
        "| nodes | packets, theory | packets | bytes, theory | bytes of packets | bytes of streams, theory | bytes of streams |"
    );
    println!("|---|---|---|---|---|---|---|");
    for size in data::sizes("load") {
        for load in data::read::<Load>(&format!("load-{size}")) {
            println!(
                "| {size} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |",
                theory::packets(),
                load.packets,
                theory::packet_bytes(),
                load.packet_bytes,
                theory::stream_bytes(size),
                load.stream_bytes,
            );
        }
    }
}

/// The two ways to start a cluster, side by side.
fn starts() {
    println!("\nSeconds, median / worst:\n");
    println!("| nodes, start{TIMES_HEAD}");
    for size in data::sizes("joins-times") {
        for (start, kind) in [("prepared", ""), ("joins", "joins-")] {
            let rows = data::read(&format!("{kind}times-{size}"));
            times_row(&format!("{size}, {start}"), &rows);
        }
    }
}

/// False failures.
fn failures() {
    println!("\nIn five minutes, with Lifeguard / without:\n");
    println!(
        "| nodes | treatment | probes that failed | theory | suspicions refuted | healthy nodes taken for failed | how often, together | how often the refutation is missed, theory | per node and hour | slow nodes taken for failed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for size in data::sizes("failures") {
        let rows = data::read::<Failures>(&format!("failures-{size}"));
        let (with, without) = rows.split_at(rows.len() / 2);
        for (with, without) in with.iter().zip(without) {
            failures_row(size, with, without);
        }
    }
}

fn failures_row(size: usize, with: &Failures, without: &Failures) {
    let both = |of: fn(&Failures) -> f64| format!("{} / {}", of(with), of(without));
    let share = |row: &Failures| row.probes_failed / row.probes * 100.0;
    let theory = theory::failed_probes(with.loss) * 100.0;
    let nodes = size as f64;
    let missed = |row: &Failures| row.refuted * nodes * theory::missed(nodes, row.loss);
    println!(
        "| {size} | {} | {:.3} / {:.3} % | {theory:.3} % | {} | {} | {} | {:.1} / {:.1} | {:.1} / {:.1} | {} |",
        treatment(with),
        share(with),
        share(without),
        both(|row| row.refuted),
        both(|row| row.victims),
        both(|row| row.told),
        missed(with),
        missed(without),
        rate(with, size),
        rate(without, size),
        both(|row| row.slow_victims),
    );
}
