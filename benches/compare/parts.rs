//! What is measured, and the bounds.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serfling::bench::{Plan, Template, Workload};
use serfling::client::{Client, Options};
use serfling::cluster::QueryRequest;
use serfling::gossip::envelope::EnvelopeConfig;

use crate::gossip::sealed;
use crate::server::Server;
use crate::table::{Bound, head, number, row};
use crate::{DURATION, in_turn, median, plan, run};

/// Header of an answer with a number of five bytes.
const HEADER_BYTES: f64 = 17.0;
const MIB: f64 = 1024.0 * 1024.0;
/// How long wake-ups are counted.
const REST: Duration = Duration::from_secs(10);

fn ratio(value: f64, bound: &Bound) -> String {
    format!("{} ({})", number(value), bound.verdict(value))
}

/// Puts a load on a server over and over: what came of it each second, and the processor time it took the server.
struct Measured<'a> {
    server: &'a Server,
    plan: Plan,
    cpu_nanos: Vec<f64>,
    lost: u64,
}

impl<'a> Measured<'a> {
    fn new(server: &'a Server, plan: Plan) -> Self {
        Self {
            server,
            plan,
            cpu_nanos: Vec::new(),
            lost: 0,
        }
    }

    /// Requests or, to subscribers, deliveries a second.
    fn rate(&mut self) -> f64 {
        let before = self.server.cpu_nanos();
        let report = run(&self.plan);
        let (count, rate) = if self.plan.workload == Workload::FanOut {
            (report.delivered, report.delivered_per_second)
        } else {
            (report.answered, report.per_second)
        };
        self.cpu_nanos
            .push((self.server.cpu_nanos() - before) / count as f64);
        self.lost += report.lost;
        rate
    }

    /// Processor time for each, in nanoseconds.
    fn cpu(self) -> f64 {
        median(self.cpu_nanos)
    }
}

/// A bare server that answers a load with as many bytes as `server` does.
fn bare_as(server: &Server, workload: Workload) -> Server {
    let once = Plan {
        clients: 1,
        depth: 1,
        requests: Some(10),
        ..plan(server, workload)
    };
    let report = run(&once);
    let body = report.received_bytes as f64 / report.answered as f64 - HEADER_BYTES;
    Server::bare(&Template::of(&once).unwrap(), body as usize)
}

/// Requests and answers.
pub(crate) fn requests() {
    let (ours, reference) = (Server::ours(), Server::reference());
    head(&[
        "requests/s",
        "serfling",
        "reference",
        "bare mio",
        "serfling / reference",
        "serfling / bare",
        "processor time each, ns",
        "of the reference, ns",
    ]);
    for (workload, times_reference, of_bare) in [
        (Workload::Members, 15.0, Some(0.6)),
        (Workload::MembersFiltered, 10.0, None),
        (Workload::Stats, 12.0, None),
        (Workload::GetCoordinate, 12.0, None),
        (Workload::Event, 12.0, None),
    ] {
        // Answers to events have no body, and a bare server would have to know that.
        let bare = (workload != Workload::Event).then(|| bare_as(&ours, workload));
        let mut load = Measured::new(&ours, plan(&ours, workload));
        let mut load_reference = Measured::new(&reference, plan(&reference, workload));
        let [rate, reference_rate, bare_rate] = in_turn([
            Box::new(|| load.rate()),
            Box::new(|| load_reference.rate()),
            Box::new(|| {
                bare.as_ref()
                    .map_or(f64::NAN, |bare| run(&plan(bare, workload)).per_second)
            }),
        ]);
        let share = rate / bare_rate;
        row(&[
            format!("`{}`", workload.name()),
            number(rate),
            number(reference_rate),
            bare.as_ref().map_or(String::new(), |_| number(bare_rate)),
            ratio(rate / reference_rate, &Bound::AtLeast(times_reference)),
            match of_bare {
                Some(bound) => ratio(share, &Bound::AtLeast(bound)),
                None if share.is_nan() => String::new(),
                None => number(share),
            },
            number(load.cpu()),
            number(load_reference.cpu()),
        ]);
    }
    let bare = bare_as(&ours, Workload::Members);
    let middle = |server: &Server| {
        let alone = Plan {
            clients: 1,
            depth: 1,
            ..plan(server, Workload::Members)
        };
        run(&alone).response.unwrap().p50
    };
    let [ours, reference, bare] = in_turn([
        Box::new(|| middle(&ours)),
        Box::new(|| middle(&reference)),
        Box::new(|| middle(&bare)),
    ]);
    row(&[
        "`members`, one at a time, median µs".to_owned(),
        number(ours),
        number(reference),
        number(bare),
        number(ours / reference),
        ratio(ours / bare, &Bound::AtMost(1.05)),
        String::new(),
        String::new(),
    ]);
}

/// Events to subscribers.
pub(crate) fn fan_out() {
    let (ours, reference) = (Server::ours(), Server::reference());
    head(&[
        "deliveries/s",
        "serfling",
        "reference",
        "serfling / reference",
        "lost",
        "lost by the reference",
        "processor time each, ns",
        "of the reference, ns",
    ]);
    let mut rates = Vec::new();
    for subscribers in [100, 1000] {
        let load = |server| Plan {
            subscribers,
            ..plan(server, Workload::FanOut)
        };
        let mut load_ours = Measured::new(&ours, load(&ours));
        let mut load_reference = Measured::new(&reference, load(&reference));
        let [rate, reference_rate] = in_turn([
            Box::new(|| load_ours.rate()),
            Box::new(|| load_reference.rate()),
        ]);
        rates.push(rate);
        let lost = load_ours.lost;
        row(&[
            format!("to {subscribers} streams"),
            number(rate),
            number(reference_rate),
            ratio(rate / reference_rate, &Bound::AtLeast(25.0)),
            format!("{lost} ({})", Bound::AtMost(0.0).verdict(lost as f64)),
            load_reference.lost.to_string(),
            number(load_ours.cpu()),
            number(load_reference.cpu()),
        ]);
    }
    println!(
        "\nTo 1,000 streams at {} of the rate to 100.",
        ratio(rates[1] / rates[0], &Bound::AtLeast(0.8))
    );
}

/// Many members.
pub(crate) fn large() {
    let server = Server::of_members(1000);
    let bare = bare_as(&server, Workload::Members);
    let load = |server: &Server| Plan {
        depth: 1,
        ..plan(server, Workload::Members)
    };
    let [ours, copied] = in_turn([
        Box::new(|| run(&load(&server)).per_second),
        Box::new(|| run(&load(&bare)).per_second),
    ]);
    head(&["", "serfling", "bare mio", "serfling / bare"]);
    row(&[
        "`members` of 1,000, requests/s, one in flight".to_owned(),
        number(ours),
        number(copied),
        ratio(ours / copied, &Bound::AtLeast(0.8)),
    ]);
    merging();
}

/// Requests while whole states of 10,000 nodes are merged.
fn merging() {
    const NODES: u32 = 10_000;
    let server = Server::ours();
    let flat_out = run(&plan(&server, Workload::GetCoordinate)).per_second;
    let half = Plan {
        rate: Some((flat_out / 2.0) as u64),
        duration: 4 * DURATION,
        ..plan(&server, Workload::GetCoordinate)
    };
    let undisturbed = run(&half).response.unwrap();
    let plain = EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    };
    let bytes = sealed(plain, NODES);
    let gossip = SocketAddr::from(([127, 0, 0, 1], server.gossip_port));
    let pushes = std::thread::spawn(move || {
        for _ in 0..3 {
            std::thread::sleep(DURATION);
            let mut stream = TcpStream::connect(gossip).unwrap();
            stream.write_all(&bytes).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let merging = run(&half).response.unwrap();
    pushes.join().unwrap();
    let mut client = Client::connect(&Options::new(server.address())).unwrap();
    assert_eq!(client.members().unwrap().len(), NODES as usize + 1);
    println!(
        "\n`get-coordinate` at {} requests/s, half of what goes, while three states of {NODES} nodes are merged in {:?}: \
         median {} µs, 99.9 % within {} µs (<= 1,000: {}), all within {} µs. Without: {}, {}, {}.",
        number(flat_out / 2.0),
        4 * DURATION,
        number(merging.p50),
        number(merging.p99_9),
        if merging.p99_9 <= 1000.0 {
            "met"
        } else {
            "**missed**"
        },
        number(merging.max),
        number(undisturbed.p50),
        number(undisturbed.p99_9),
        number(undisturbed.max),
    );
}

/// What a request costs among many others that have nothing to do with it.
pub(crate) fn growth() {
    head(&["requests/s", "alone", "among", "among / alone"]);
    let compare = |name: &str, workload: Workload, idle: usize, idle_streams: usize| {
        let server = Server::ours();
        let rate = |idle: usize, idle_streams: usize| {
            let load = Plan {
                idle,
                idle_streams,
                ..plan(&server, workload)
            };
            run(&load).per_second
        };
        let [alone, among] = in_turn([
            Box::new(|| rate(0, 0)),
            Box::new(|| rate(idle, idle_streams)),
        ]);
        show_growth(name, alone, among);
    };
    compare("`members`, 1,000 idle clients", Workload::Members, 1000, 0);
    compare(
        "`members`, 10,000 idle clients",
        Workload::Members,
        10_000,
        0,
    );
    compare(
        "`event`, 1,000 streams that do not match",
        Workload::Event,
        1000,
        1000,
    );
    // An agent takes no more than 16,384 at once; the RPC server by itself takes any number.
    let (alone, among) = (Server::of_members(1), Server::of_members(1));
    let mut client = Client::connect(&Options::new(among.address())).unwrap();
    client.stream("query").unwrap();
    let mut asker = Client::connect(&Options::new(among.address())).unwrap();
    for _ in 0..100_000 {
        let query = QueryRequest {
            name: "pending".to_owned(),
            payload: None,
            filter_nodes: Vec::new(),
            filter_tags: Vec::new(),
            request_ack: false,
            relay_factor: 0,
            timeout: Some(Duration::from_secs(600)),
        };
        asker.query(&query).unwrap();
    }
    let pending = &client_stats(&among)["pending_queries"];
    assert_eq!(pending, "100000");
    let rate = |server: &Server| run(&plan(server, Workload::GetCoordinate)).per_second;
    let [alone, among] = in_turn([Box::new(|| rate(&alone)), Box::new(|| rate(&among))]);
    show_growth("`get-coordinate`, 100,000 pending queries", alone, among);
}

fn show_growth(name: &str, alone: f64, among: f64) {
    row(&[
        name.to_owned(),
        number(alone),
        number(among),
        ratio(among / alone, &Bound::AtLeast(0.9)),
    ]);
}

fn client_stats(server: &Server) -> std::collections::BTreeMap<String, String> {
    let mut client = Client::connect(&Options::new(server.address())).unwrap();
    client.stats().unwrap().remove("rpc").unwrap()
}

/// Memory, wake-ups, size.
pub(crate) fn memory() {
    let (minimal, how) = build_minimal();
    println!("Here serfling is built without default features, {how}.\n");
    head(&["", "serfling", "reference", "bound"]);
    let [ours, reference, full] = in_turn([
        Box::new(|| fresh(&Server::agent(&minimal))),
        Box::new(|| fresh(&Server::reference())),
        Box::new(|| fresh(&Server::ours())),
    ]);
    let show = |name: &str, ours: f64, reference: Option<f64>, bound: Option<Bound>| {
        row(&[
            name.to_owned(),
            number(ours),
            reference.map_or(String::new(), number),
            bound.map_or(String::new(), |bound| bound.verdict(ours)),
        ]);
    };
    let (start, reference_start) = (ours / MIB, Some(reference / MIB));
    let name = "resident at start, MiB";
    show(name, start, reference_start, Some(Bound::AtMost(3.0)));
    let name = "the same of the program with everything, for this host, MiB";
    show(name, full / MIB, None, None);
    let [ours, reference] = in_turn([
        Box::new(|| per_idle_client(&Server::agent(&minimal))),
        Box::new(|| per_idle_client(&Server::reference())),
    ]);
    let bound = Some(Bound::AtMost(700.0));
    show("bytes per idle client", ours, Some(reference), bound);
    let (ours, reference) = (Server::agent(&minimal), Server::reference());
    std::thread::sleep(Duration::from_secs(2));
    let before = (ours.sleeps(), reference.sleeps());
    std::thread::sleep(REST);
    let wakeups = |server: &Server, before: f64| (server.sleeps() - before) / REST.as_secs_f64();
    let (ours, reference) = (wakeups(&ours, before.0), wakeups(&reference, before.1));
    let name = "wake-ups a second, alone and idle";
    show(name, ours, Some(reference), None);
    let megabytes = |path: &str| std::fs::metadata(path).unwrap().len() as f64 / 1e6;
    let bound = Some(Bound::AtMost(4.0));
    show("size of the program, MB", megabytes(&minimal), None, bound);
}

/// Builds the agent for small machines; says where it is, and how it was built: with musl where its target is installed,
/// so that nothing of a C library is resident but what is used.
fn build_minimal() -> (String, &'static str) {
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/minimal");
    let build = |target: &[&str]| {
        Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--no-default-features"])
            .args(["--bin=serfling", "--target-dir", folder])
            .args(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap()
            .success()
    };
    if build(&["--target", &musl]) {
        let program = format!("{folder}/{musl}/release/serfling");
        return (program, "linked with musl");
    }
    assert!(build(&[]), "the build fails");
    (format!("{folder}/release/serfling"), "for this host")
}

/// What a server holds once it has started.
fn fresh(server: &Server) -> f64 {
    std::thread::sleep(Duration::from_secs(1));
    server.resident_bytes()
}

fn per_idle_client(server: &Server) -> f64 {
    const CLIENTS: usize = 1000;
    let before = fresh(server);
    let load = Plan {
        clients: CLIENTS,
        duration: Duration::from_secs(2),
        ..plan(server, Workload::Idle)
    };
    let mut highest = before;
    let report = serfling::bench::run(&load, &mut |_| {
        highest = highest.max(server.resident_bytes());
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(report.unwrap().lost, 0);
    (highest - before) / CLIENTS as f64
}
