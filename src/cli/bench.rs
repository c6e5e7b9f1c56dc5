//! `bench`: puts a load on an agent and shows how it took it.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::Ordering;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use super::flags::{flag, repeated, text, texts};
use super::monitor::watch_interrupt;
use super::output::{Format, columns, print, to_json};
use super::rpc::{failed, format_flag, options, parse_tags, with_rpc_flags};
use crate::agent::config::duration;
use crate::bench::{self, BenchError, Plan, Progress, Report, Times, Workload};
use crate::client::{Client, Options};

const WORKLOADS: &str = "\
Workloads:
  members           list the members (the default)
  members-filtered  list the members that match -name, -status and -tag
  stats             ask for counters
  get-coordinate    ask for the coordinate of -node
  event             send user events
  query             ask queries, which one more connection answers
  fan-out           send user events to -subscribers
  connect           connect, shake hands, go
  idle              stay connected

Events and queries reach the whole cluster; their name is serfling-bench.";

pub(super) fn command() -> Command {
    let command = Command::new("bench")
        .about("Puts a load on a Serf agent and measures how it takes it")
        .after_help(WORKLOADS)
        .arg(flag("clients", "n", "Connections that ask or publish (16)"))
        .arg(flag("depth", "n", "Requests that each of them has in flight (1)"))
        .arg(flag("duration", "duration", "How long requests are sent, as 10s (10s)"))
        .arg(flag("requests", "n", "How many requests are sent at the most"))
        .arg(flag(
            "rate",
            "n",
            "Requests a second, of all clients; response times count from when each was due. As many as go by default",
        ))
        .arg(flag("payload", "bytes", "Payload of events, queries and answers (64)"))
        .arg(flag("subscribers", "n", "Connections with a stream, of fan-out (100)"))
        .arg(flag("idle", "n", "Connections that do nothing besides (0)"))
        .arg(flag("idle-streams", "n", "How many of those have a stream that nothing matches (0)"))
        .arg(flag("node", "name", "Whose coordinate to ask for; the agent's own by default"))
        .arg(flag("name", "regexp", "Filter of members-filtered"))
        .arg(flag("status", "regexp", "Filter of members-filtered (alive)"))
        .arg(repeated("tag", "key=regexp", "Filter of members-filtered; may be given several times"))
        .arg(flag("format", "text|json", "Form of the output"))
        .arg(Arg::new("workload").num_args(0..=1).value_name("workload"));
    with_rpc_flags(command)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let format = Format::parse(format_flag(matches))?;
    let plan = plan(matches)?;
    let interrupted = watch_interrupt()?;
    let shown = Shown::new();
    let report = bench::run(&plan, &mut |progress| {
        shown.show(&plan, progress);
        if interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    shown.wipe();
    let report = report.map_err(|error| match error {
        BenchError::Plan(text) => CliError::Usage(text),
        error => CliError::Failed(format!("Error: {error}")),
    })?;
    print(&match format {
        Format::Json => to_json(&report)?,
        Format::Text => describe(&report),
    });
    Ok(ExitCode::SUCCESS)
}

fn plan(matches: &ArgMatches) -> Result<Plan, CliError> {
    let workload = text(matches, "workload").unwrap_or("members");
    let workload = Workload::from_name(workload)
        .ok_or_else(|| CliError::Usage(format!("unknown workload {workload:?}")))?;
    let agent = options(matches)?;
    let mut plan = Plan::new(agent.address.clone(), workload);
    set(matches, "clients", &mut plan.clients)?;
    set(matches, "depth", &mut plan.depth)?;
    set(matches, "payload", &mut plan.payload_bytes)?;
    set(matches, "idle", &mut plan.idle)?;
    set(matches, "idle-streams", &mut plan.idle_streams)?;
    if workload == Workload::FanOut {
        set(matches, "subscribers", &mut plan.subscribers)?;
    }
    plan.requests = number(matches, "requests")?;
    plan.rate = number(matches, "rate")?;
    if let Some(given) = text(matches, "duration") {
        plan.duration = duration::parse(given).map_err(|error| {
            CliError::Usage(format!("invalid value for flag -duration: {error}"))
        })?;
    }
    plan.filter_name = text(matches, "name").unwrap_or_default().to_owned();
    if let Some(status) = matches.get_one::<String>("status") {
        plan.filter_status.clone_from(status);
    }
    plan.filter_tags = parse_tags(&texts(matches, "tag"))?
        .into_iter()
        .map(|(tag, regex)| (tag.to_owned(), regex.to_owned()))
        .collect();
    plan.node = match text(matches, "node") {
        Some(node) => node.to_owned(),
        None if workload == Workload::GetCoordinate => own_name(&agent)?,
        None => String::new(),
    };
    plan.auth_key = agent.auth_key;
    Ok(plan)
}

/// The agent's own name.
fn own_name(agent: &Options) -> Result<String, CliError> {
    let mut client = Client::connect(agent).map_err(failed("Error connecting to Serf agent"))?;
    let stats = client.stats().map_err(failed("Error asking the agent"))?;
    let name = stats.get("agent").and_then(|agent| agent.get("name"));
    name.cloned().ok_or_else(|| {
        CliError::Failed("Error: the agent does not say its name: use -node".to_owned())
    })
}

fn number<T: FromStr>(matches: &ArgMatches, name: &str) -> Result<Option<T>, CliError> {
    let Some(given) = text(matches, name) else {
        return Ok(None);
    };
    given.parse().map(Some).map_err(|_| {
        CliError::Usage(format!(
            "invalid value {given:?} for flag -{name}: expected a number"
        ))
    })
}

fn set(matches: &ArgMatches, name: &str, value: &mut usize) -> Result<(), CliError> {
    if let Some(given) = number(matches, name)? {
        *value = given;
    }
    Ok(())
}

/// A line on a terminal's standard error that says how far the run is.
struct Shown {
    terminal: bool,
}

impl Shown {
    fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&self, plan: &Plan, progress: Progress) {
        if !self.terminal {
            return;
        }
        let Progress {
            ready,
            connections,
            elapsed,
            answered,
            delivered,
            median,
        } = progress;
        let line = if elapsed.is_zero() {
            format!("{ready} of {connections} connections")
        } else {
            let count = if plan.workload == Workload::FanOut {
                delivered
            } else {
                answered
            };
            let rate = count as f64 / elapsed.as_secs_f64();
            format!(
                "{elapsed:.1?} of {:?}: {count}, {rate:.0}/s, median {median:.1?}",
                plan.duration
            )
        };
        // Nobody is harmed if it can't be shown.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }

    fn wipe(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The report in words.
fn describe(report: &Report) -> String {
    let mut rows = vec![
        row("workload", report.workload),
        row("agent", &report.address),
    ];
    let mut add = |key: &str, value: String| rows.push(row(key, &value));
    add(
        "clients",
        format!("{} with {} in flight", report.clients, report.depth),
    );
    if report.subscribers > 0 {
        add("subscribers", report.subscribers.to_string());
    }
    if report.idle > 0 {
        add(
            "idle",
            format!("{}, {} with a stream", report.idle, report.idle_streams),
        );
    }
    if let Some(rate) = report.rate {
        add("rate wanted", format!("{rate}/s"));
    }
    add("connected in", format!("{:.3} s", report.setup_seconds));
    add("measured for", format!("{:.3} s", report.seconds));
    if report.workload != Workload::Idle.name() {
        add("sent", report.sent.to_string());
        add(
            "answered",
            format!("{}, {:.0}/s", report.answered, report.per_second),
        );
    }
    if report.workload == Workload::FanOut.name() {
        add(
            "delivered",
            format!("{}, {:.0}/s", report.delivered, report.delivered_per_second),
        );
        add("disordered", report.disordered.to_string());
    }
    add("lost", report.lost.to_string());
    let mebibytes = report.received_bytes as f64 / f64::from(1 << 20);
    add("received", format!("{mebibytes:.1} MiB"));
    let mut text = columns(&rows);
    if let Some(times) = report.response {
        text.push_str(&format!(
            "\n\n{}",
            columns(&times_table(times, report.service))
        ));
    }
    text
}

fn row(key: &str, value: &str) -> Vec<String> {
    vec![key.to_owned(), value.to_owned()]
}

fn times_table(response: Times, service: Option<Times>) -> Vec<Vec<String>> {
    let figures = |times: Times| {
        [
            times.mean,
            times.min,
            times.p50,
            times.p90,
            times.p99,
            times.p99_9,
            times.p99_99,
            times.max,
        ]
    };
    let names = ["mean", "min", "50%", "90%", "99%", "99.9%", "99.99%", "max"];
    let service = service.map(figures);
    let mut rows = vec![row("microseconds", "from when due")];
    if let (Some(head), Some(_)) = (rows.first_mut(), service) {
        head.push("from when sent".to_owned());
    }
    for (at, (name, value)) in names.into_iter().zip(figures(response)).enumerate() {
        let sent = service.as_ref().and_then(|figures| figures.get(at));
        let cells = std::iter::once(value).chain(sent.copied());
        rows.push(
            std::iter::once(name.to_owned())
                .chain(cells.map(|value| format!("{value:.1}")))
                .collect(),
        );
    }
    rows
}
