//! What is measured, and the bounds.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serfling::bench::{Plan, Template, Workload};
use serfling::client::{Client, Options};
use serfling::cluster::QueryRequest;
use serfling::gossip::envelope::{Envelope, EnvelopeConfig};
use serfling::gossip::message::{NodeState, PushNode, Versions};
use serfling::gossip::stream::{StreamEnd, encode_push_pull};
use serfling::serf::message::PushPullMessage;

use crate::server::Server;
use crate::table::{Bound, head, number, row};
use crate::{DURATION, in_turn, plan, run};

/// Header of an answer with a number of five bytes.
const HEADER_BYTES: f64 = 17.0;
const MIB: f64 = 1024.0 * 1024.0;

fn ratio(value: f64, bound: &Bound) -> String {
    format!("{} ({})", number(value), bound.verdict(value))
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
        let rate = |server: &Server| run(&plan(server, workload)).per_second;
        let [ours, reference, bare_rate] = in_turn([
            Box::new(|| rate(&ours)),
            Box::new(|| rate(&reference)),
            Box::new(|| bare.as_ref().map_or(f64::NAN, rate)),
        ]);
        let share = ours / bare_rate;
        row(&[
            format!("`{}`", workload.name()),
            number(ours),
            number(reference),
            bare.as_ref().map_or(String::new(), |_| number(bare_rate)),
            ratio(ours / reference, &Bound::AtLeast(times_reference)),
            match of_bare {
                Some(bound) => ratio(share, &Bound::AtLeast(bound)),
                None if share.is_nan() => String::new(),
                None => number(share),
            },
        ]);
    }
    let bare = bare_as(&ours, Workload::Members);
    let median = |server: &Server| {
        let alone = Plan {
            clients: 1,
            depth: 1,
            ..plan(server, Workload::Members)
        };
        run(&alone).response.unwrap().p50
    };
    let [ours, reference, bare] = in_turn([
        Box::new(|| median(&ours)),
        Box::new(|| median(&reference)),
        Box::new(|| median(&bare)),
    ]);
    row(&[
        "`members`, one at a time, median µs".to_owned(),
        number(ours),
        number(reference),
        number(bare),
        number(ours / reference),
        ratio(ours / bare, &Bound::AtMost(1.05)),
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
    ]);
    let mut rates = Vec::new();
    for subscribers in [100, 1000] {
        let mut lost = [0, 0];
        let [lost_ours, lost_reference] = &mut lost;
        let rate = |server: &Server, lost: &mut u64| {
            let load = Plan {
                subscribers,
                ..plan(server, Workload::FanOut)
            };
            let report = run(&load);
            *lost += report.lost;
            report.delivered_per_second
        };
        let [ours, reference] = in_turn([
            Box::new(|| rate(&ours, lost_ours)),
            Box::new(|| rate(&reference, lost_reference)),
        ]);
        rates.push(ours);
        row(&[
            format!("to {subscribers} streams"),
            number(ours),
            number(reference),
            ratio(ours / reference, &Bound::AtLeast(25.0)),
            format!(
                "{} ({})",
                lost[0],
                Bound::AtMost(0.0).verdict(lost[0] as f64)
            ),
            lost[1].to_string(),
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
    let bytes = push_pull(NODES);
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

/// What a node among so many says when it joins.
fn push_pull(count: u32) -> Vec<u8> {
    let names: Vec<String> = (0..count)
        .map(|number| format!("node-{number:05}"))
        .collect();
    let nodes = names.iter().enumerate().map(|(number, name)| {
        let [_, a, b, c] = (number as u32 + 256).to_be_bytes();
        PushNode {
            name,
            // Loopback addresses: nothing leaves the machine.
            addr: Some([127, a | 1, b, c].into()),
            port: 7946,
            meta: b"\xff\x82\xa2dc\xa4east\xa4role\xa3web",
            incarnation: 1,
            state: NodeState::Alive,
            versions: Some(Versions::CURRENT),
        }
    });
    let user = PushPullMessage {
        ltime: 10,
        status_ltimes: names.iter().map(|name| (&**name, 1)).collect(),
        ..PushPullMessage::default()
    };
    let (mut user_state, mut message) = (Vec::new(), Vec::new());
    user.encode(&mut user_state);
    encode_push_pull(false, nodes, &user_state, &mut message);
    let config = EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    };
    let mut rng = StdRng::seed_from_u64(1);
    Envelope::new(config).seal_stream(StreamEnd::Opener, &message, &mut rng)
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
    let (alone, among) = (Server::ours(), Server::ours());
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
    let minimal = build_minimal();
    head(&["", "serfling", "reference", "bound"]);
    let [ours, reference] = in_turn([
        Box::new(|| fresh(&Server::agent(&minimal))),
        Box::new(|| fresh(&Server::reference())),
    ]);
    let show = |name: &str, ours: f64, reference: f64, bound: Option<Bound>| {
        row(&[
            name.to_owned(),
            number(ours),
            if reference.is_nan() {
                String::new()
            } else {
                number(reference)
            },
            bound.map_or(String::new(), |bound| bound.verdict(ours)),
        ]);
    };
    show(
        "resident at start, MiB",
        ours / MIB,
        reference / MIB,
        Some(Bound::AtMost(3.0)),
    );
    let [ours, reference] = in_turn([
        Box::new(|| per_idle_client(&Server::agent(&minimal))),
        Box::new(|| per_idle_client(&Server::reference())),
    ]);
    show(
        "bytes per idle client",
        ours,
        reference,
        Some(Bound::AtMost(700.0)),
    );
    let (ours, reference) = (Server::agent(&minimal), Server::reference());
    const REST: Duration = Duration::from_secs(10);
    std::thread::sleep(Duration::from_secs(2));
    let before = (ours.sleeps(), reference.sleeps());
    std::thread::sleep(REST);
    let wakeups = |server: &Server, before: f64| (server.sleeps() - before) / REST.as_secs_f64();
    let (ours, reference) = (wakeups(&ours, before.0), wakeups(&reference, before.1));
    show("wake-ups a second, alone and idle", ours, reference, None);
    let size = |path: &str| std::fs::metadata(path).unwrap().len() as f64 / MIB;
    show(
        "program without default features, MB",
        size(&minimal) * MIB / 1e6,
        f64::NAN,
        Some(Bound::AtMost(4.0)),
    );
    show(
        "program, MB",
        size(env!("CARGO_BIN_EXE_serfling")) * MIB / 1e6,
        f64::NAN,
        None,
    );
}

/// Builds the agent without default features, as for release; says where it is.
fn build_minimal() -> String {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/minimal");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--no-default-features",
            "--bin=serfling",
        ])
        .args(["--target-dir", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.unwrap().success(), "the build fails");
    format!("{target}/release/serfling")
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
