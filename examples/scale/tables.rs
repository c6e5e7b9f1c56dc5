//! The tables of `docs/scale.md`, from what was measured. Each stands there between two marks, `<!-- name -->` and
//! `<!-- /name -->`.

use std::fmt::Write as _;

use crate::data::{self, Failures, Load, Times};
use crate::plots::failures::treatment;
use crate::statistics::{median, worst};
use crate::theory;

/// A table with its name.
type Table = (&'static str, fn() -> String);

const TABLES: [Table; 5] = [
    ("times", times),
    ("theory", times_in_theory),
    ("load", load),
    ("starts", starts),
    ("failures", failures),
];

/// Puts all tables where they belong.
pub(crate) fn write() {
    let file = data::docs().join("scale.md");
    let mut text = std::fs::read_to_string(&file).expect("docs/scale.md");
    for (name, table) in TABLES {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let from = text.find(&begin).expect("the first mark") + begin.len();
        let to = text.find(&end).expect("the second mark");
        text.replace_range(from..to, &table());
    }
    std::fs::write(&file, text).expect("docs/scale.md can be written");
}

/// A table's first two lines.
fn head(columns: &[&str]) -> String {
    format!(
        "| {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    )
}

/// Adds a line to a table.
macro_rules! line {
    ($table:expr, $($cell:tt)+) => {
        writeln!($table, $($cell)+).expect("it fits in memory")
    };
}

/// Median and worst of what was measured.
fn spread(rows: &[Times], of: fn(&Times) -> f64, digits: usize) -> String {
    let figures: Vec<f64> = rows.iter().map(of).collect();
    let (median, worst) = (median(&figures), worst(&figures));
    format!("{median:.digits$} / {worst:.digits$}")
}

const TIMES: [&str; 9] = [
    "nodes",
    "repetitions",
    "join, all",
    "event, 50 %",
    "event, 99 %",
    "event, all",
    "failure, suspected",
    "failure, first",
    "failure, all",
];

fn times_line(table: &mut String, name: &str, rows: &[Times]) {
    line!(
        table,
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
        rows.len(),
        spread(rows, |times| times.join, 2),
        spread(rows, |times| times.event_half, 3),
        spread(rows, |times| times.event_most, 2),
        spread(rows, |times| times.event_all, 2),
        spread(rows, |times| times.suspected, 1),
        spread(rows, |times| times.failed_first, 1),
        spread(rows, |times| times.failed_all, 1)
    );
}

/// How long news take.
fn times() -> String {
    let mut table = head(&TIMES);
    for size in data::sizes("times") {
        let rows = data::read(&format!("times-{size}"));
        times_line(&mut table, &size.to_string(), &rows);
    }
    table
}

fn times_in_theory() -> String {
    let mut table = head(&[
        "nodes",
        "event, all, forwarded at once",
        "on ticks",
        "failure, suspected",
        "failure, first",
        "if nobody else suspects it",
        "each node sends news, times",
    ]);
    for size in data::sizes("times") {
        let nodes = size as f64;
        line!(
            table,
            "| {size} | {:.2} | {:.2} | {:.1} | {:.1} | {:.0} | {:.0} |",
            theory::forwarding_all(nodes),
            theory::epidemic_all(nodes),
            theory::detection(),
            theory::detection() + theory::suspicion_min(nodes),
            theory::detection() + theory::suspicion_max(nodes),
            theory::retransmits(nodes)
        );
    }
    table
}

/// What a node sends at rest.
fn load() -> String {
    let mut table = head(&[
        "nodes",
        "packets",
        "theory",
        "their bytes",
        "theory",
        "bytes of streams",
        "theory",
    ]);
    for size in data::sizes("load") {
        for load in data::read::<Load>(&format!("load-{size}")) {
            line!(
                table,
                "| {size} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |",
                load.packets,
                theory::packets(),
                load.packet_bytes,
                theory::packet_bytes(),
                load.stream_bytes,
                theory::stream_bytes(size)
            );
        }
    }
    table
}

/// The two ways to start a cluster, side by side.
fn starts() -> String {
    let mut table = head(&TIMES);
    for size in data::sizes("joins-times") {
        for (start, kind) in [("prepared", ""), ("joined", "joins-")] {
            let rows = data::read(&format!("{kind}times-{size}"));
            times_line(&mut table, &format!("{size}, {start}"), &rows);
        }
    }
    table
}

/// False failures.
fn failures() -> String {
    let mut table = head(&[
        "nodes",
        "treatment",
        "failed probes",
        "theory",
        "refuted suspicions",
        "healthy nodes taken for failed",
        "how often in all",
        "refutations missed, theory",
        "slow nodes taken for failed",
    ]);
    for size in data::sizes("failures") {
        let rows = data::read::<Failures>(&format!("failures-{size}"));
        // The same treatments with Lifeguard and without.
        let (with, without) = rows.split_at(rows.len() / 2);
        for (with, without) in with.iter().zip(without) {
            failures_line(&mut table, size, with, without);
        }
    }
    table
}

fn failures_line(table: &mut String, size: usize, with: &Failures, without: &Failures) {
    let both = |of: fn(&Failures) -> f64| format!("{} / {}", of(with), of(without));
    let share = |row: &Failures| row.probes_failed / row.probes * 100.0;
    let is_slow = with.stopped + with.delayed > 0.0;
    let in_theory = |text: String| if is_slow { String::new() } else { text };
    let nodes = size as f64;
    let missed = |row: &Failures| row.refuted * nodes * theory::missed(nodes, row.loss);
    line!(
        table,
        "| {size} | {} | {:.2} / {:.2} % | {} | {} | {} | {} | {} | {} |",
        treatment(with),
        share(with),
        share(without),
        in_theory(format!("{:.2} %", theory::failed_probes(with.loss) * 100.0)),
        both(|row| row.refuted),
        both(|row| row.victims),
        both(|row| row.told),
        in_theory(format!("{:.0} / {:.0}", missed(with), missed(without))),
        both(|row| row.slow_victims)
    );
}
