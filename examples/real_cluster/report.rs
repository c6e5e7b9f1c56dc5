//! Tables and files of what was measured.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::cluster::{Mixture, PATIENCE};
use super::figures::{Costs, Figures, Series};

/// A row of the table. The series of a figure: one, or one for each kind of node that is there.
struct Row {
    name: &'static str,
    digits: usize,
    get: fn(&Figures) -> Vec<&Series>,
}

const fn row(name: &'static str, digits: usize, get: fn(&Figures) -> Vec<&Series>) -> Row {
    Row { name, digits, get }
}

/// Rows that are not about events.
const ROWS: [Row; 11] = [
    row("a join is known by all, s", 2, |f| vec![&f.join.known_all]),
    row("… told to all streams, s", 2, |f| vec![&f.join.told_all]),
    row("a killed node is failed for the first, s", 2, |f| {
        vec![&f.failure.known_first]
    }),
    row("… for all, s", 2, |f| vec![&f.failure.known_all]),
    row("… told to the first stream, s", 2, |f| {
        vec![&f.failure.told_first]
    }),
    row("… told to all streams, s", 2, |f| {
        vec![&f.failure.told_all]
    }),
    row("packets to each node at rest, per s", 2, |f| {
        vec![&f.packets]
    }),
    row("bytes to each node at rest, per s", 0, |f| vec![&f.bytes]),
    row("processor time of each at rest, s per minute", 4, |f| {
        costs(f, |c| &c.processor)
    }),
    row("resident memory of each, MiB", 1, |f| {
        costs(f, |c| &c.resident)
    }),
    row("of it anonymous, MiB", 1, |f| costs(f, |c| &c.anonymous)),
];

fn costs(figures: &Figures, get: fn(&Costs) -> &Series) -> Vec<&Series> {
    figures.costs.values().map(get).collect()
}

/// Prints a Markdown table: a column for each cluster, and how ours compares with the reference's if both are there.
pub(crate) fn print_table(all: &[Figures]) {
    let mut head = "| median (worst) |".to_owned();
    for figures in all {
        let _ = write!(head, " {} nodes, {} |", figures.count, figures.mixture);
    }
    if pair(all).is_some() {
        head.push_str(" serfling : reference |");
    }
    println!("{head}\n|{}", "---|".repeat(head.matches('|').count() - 1));
    let count = all.first().map_or(0, |figures| figures.count);
    for (name, nodes) in [
        ("an event is at half of the nodes, s", count / 2),
        ("… at 99 %, rounded down, s", count * 99 / 100),
        ("… at all, s", count),
    ] {
        let series: Vec<Series> = all.iter().map(|figures| figures.event(nodes)).collect();
        let columns: Vec<Vec<&Series>> = series.iter().map(|series| vec![series]).collect();
        print_row(name, 3, &columns, all);
    }
    for row in ROWS {
        let columns: Vec<Vec<&Series>> = all.iter().map(row.get).collect();
        print_row(row.name, row.digits, &columns, all);
    }
}

/// The places of the clusters that are of one kind each.
fn pair(all: &[Figures]) -> Option<(usize, usize)> {
    let place = |mixture| all.iter().position(|figures| figures.mixture == mixture);
    place(Mixture::Serfling).zip(place(Mixture::Reference))
}

fn print_row(name: &str, digits: usize, columns: &[Vec<&Series>], all: &[Figures]) {
    let mut line = format!("| {name} |");
    for column in columns {
        let cell = |series: &&Series| {
            let (median, worst) = (series.median(), series.worst());
            format!("{} ({})", number(median, digits), number(worst, digits))
        };
        let cells: Vec<String> = column.iter().map(cell).collect();
        let _ = write!(line, " {} |", cells.join(" / "));
    }
    if let Some((ours, reference)) = pair(all) {
        let median = |place: usize| {
            columns
                .get(place)
                .and_then(|column| column.first())
                .map(|series| series.median())
        };
        match median(ours).zip(median(reference)) {
            Some((ours, reference)) => {
                let _ = write!(line, " {:.2} |", ours / reference);
            }
            None => line.push_str(" |"),
        }
    }
    println!("{line}");
}

fn number(value: f64, digits: usize) -> String {
    if value.is_nan() {
        "not measured".to_owned()
    } else if value.is_infinite() {
        format!("more than {}", PATIENCE.as_secs())
    } else {
        format!("{value:.digits$}")
    }
}

/// Writes every time at which one more node had an event.
pub(crate) fn write_deliveries(path: &Path, all: &[Figures]) -> io::Result<()> {
    let mut text = "cluster,event,seconds,nodes\n".to_owned();
    for figures in all {
        for (event, times) in figures.events.iter().enumerate() {
            for (before, seconds) in times
                .iter()
                .enumerate()
                .filter(|(_, time)| time.is_finite())
            {
                let _ = writeln!(
                    text,
                    "{},{event},{seconds:.6},{}",
                    figures.mixture,
                    before + 1
                );
            }
        }
    }
    std::fs::write(path, text)
}

/// Writes the curve of the median event: when which share of the nodes had it.
pub(crate) fn write_curve(folder: &Path, figures: &Figures) -> io::Result<()> {
    let mut text = "seconds,share\n".to_owned();
    for nodes in 1..=figures.count {
        let seconds = figures.event(nodes).median();
        let share = nodes as f64 / figures.count as f64;
        let _ = writeln!(text, "{seconds:.6},{share:.4}");
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(
        folder.join(format!("real-cluster-{}.csv", figures.mixture)),
        text,
    )
}
