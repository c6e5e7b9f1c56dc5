//! Measures clusters of real agents on this machine, and prints `docs/real-cluster.md`'s table:
//! `cargo build --release && cargo run --release --example real_cluster -- serfling serf mixed 20`.
//!
//! Each cluster runs alone in a network namespace of its own, with the settings that agents have by default (LAN profile, no
//! encryption), so that the system's counters of packets and bytes are the cluster's. It needs util-linux and iproute2, and
//! either root or user namespaces for everybody.

mod agent;
mod cluster;
mod figures;
mod measure;
mod report;
#[path = "../scale/statistics.rs"]
mod statistics;

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use self::cluster::{Cluster, Mixture};
use self::figures::Figures;

/// Begins the command line of the process that is in the namespace.
const INSIDE: &str = "--inside";
const USAGE: &str = "real_cluster [serfling|serf|mixed]… [COUNT] [--events N] [--kills N] [--windows N] [--csv FILE] [--curves FOLDER]

  COUNT            nodes of each cluster; 20 by default
  --events N       user events to follow; 20 by default
  --kills N        nodes that join and are killed; 5 by default
  --windows N      minutes at rest to count packets and processor time in; 3 by default
  --csv FILE       writes all delivery times: cluster, event, seconds since it was sent, nodes that have it by then
  --curves FOLDER  writes real-cluster-CLUSTER.csv: seconds (median of all events), share of the nodes that have it by then";

/// What to measure, and how often.
#[derive(Debug)]
struct Plan {
    mixtures: Vec<Mixture>,
    count: usize,
    events: usize,
    kills: usize,
    windows: usize,
    csv: Option<PathBuf>,
    curves: Option<PathBuf>,
}

impl Plan {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut plan = Self {
            mixtures: Vec::new(),
            count: 20,
            events: 20,
            kills: 5,
            windows: 3,
            csv: None,
            curves: None,
        };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"))
            };
            match &*word {
                "--events" => plan.events = value()?.parse()?,
                "--kills" => plan.kills = value()?.parse()?,
                "--windows" => plan.windows = value()?.parse()?,
                "--csv" => plan.csv = Some(value()?.into()),
                "--curves" => plan.curves = Some(value()?.into()),
                _ => match (Mixture::named(&word), word.parse()) {
                    (Some(mixture), _) => plan.mixtures.push(mixture),
                    (None, Ok(count @ 2..=200)) => plan.count = count,
                    (None, _) => return Err(USAGE.into()),
                },
            }
        }
        if plan.mixtures.is_empty() {
            plan.mixtures.push(Mixture::Serfling);
        }
        Ok(plan)
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let inside = words.next_if(|word| word == INSIDE).is_some();
    let result = Plan::parse(words).and_then(|plan| {
        if inside {
            run(&plan)
        } else {
            Err(enter_namespace().into())
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Goes on in a network namespace of its own, where only the loopback interface is; returns only when that fails.
fn enter_namespace() -> std::io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--net", "sh", "-c"])
        .arg("ip link set lo up && exec \"$@\"")
        .arg("sh")
        .arg(program)
        .arg(INSIDE)
        .args(std::env::args_os().skip(1));
    command.exec()
}

fn run(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let mut all: Vec<Figures> = Vec::new();
    for mixture in &plan.mixtures {
        eprintln!("{} nodes, {mixture}: starting", plan.count);
        let mut cluster = Cluster::start(*mixture, plan.count)?;
        let mut figures = Figures::new(*mixture, plan.count);
        measure::rest(&mut cluster, &mut figures, plan.windows)?;
        cluster.listen()?;
        measure::events(&mut cluster, &mut figures, plan.events)?;
        measure::joins_and_kills(&mut cluster, &mut figures, plan.kills)?;
        if let Some(folder) = &plan.curves {
            report::write_curve(folder, &figures)?;
        }
        all.push(figures);
        if let Some(path) = &plan.csv {
            report::write_deliveries(path, &all)?;
        }
    }
    report::print_table(&all);
    Ok(())
}
