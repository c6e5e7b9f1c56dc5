//! How many instructions fixed pieces of work take, held against a baseline: times are noisy, these are not.
//!
//! `cargo bench --profile instructions --bench instructions` runs each piece under valgrind's callgrind, which counts what
//! happens within [`measured`], and fails when one takes over [`TOLERANCE`] more or less than `benches/instructions.txt`
//! says. After a change that is meant, `-- --update` writes that file anew; the change of it belongs to the commit.
//!
//! The counts are those of x86-64 with the compiler that CI has. Allocation and copying count too, as they are the C
//! library's on that machine, which is why there is a tolerance.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

#[allow(dead_code, reason = "other benches use the rest")]
#[path = "common/gossip.rs"]
mod gossip;
#[path = "common/hub.rs"]
mod hub;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serfling::gossip::envelope::EnvelopeConfig;
use serfling::msgpack::frame::{Limits, Scanner};
use serfling::rpc::message::{self, CoordinateRequest, MembersFilteredRequest, Text};
use serfling::timer_wheel::TimerWheel;

/// How much more or fewer instructions are no finding, as a share.
const TOLERANCE: f64 = 0.05;
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// Requests handed over at once.
const PIPELINED: usize = 16;
const ROUNDS: usize = 64;

/// Every piece of work: how it is set up, and what is counted.
const WORK: [(&str, fn()); 11] = [
    ("frame-scanner", frame_scanner),
    ("session-members", || requests(1, message::Command::Members)),
    ("session-members-of-1000", || {
        requests(1000, message::Command::Members)
    }),
    ("session-stats", || requests(1, message::Command::Stats)),
    ("session-get-coordinate", coordinate),
    ("session-members-filtered", members_filtered),
    ("session-event", || events(0)),
    ("fan-out-100", || events(100)),
    ("timer-wheel", timer_wheel),
    ("packets", packets),
    ("push-pull-merge", push_pull),
];

fn main() -> ExitCode {
    // `cargo bench` passes a flag of its own.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let argument = arguments.next();
    if let Some((_, work)) = WORK
        .iter()
        .find(|(name, _)| argument.as_deref() == Some(*name))
    {
        work();
        return ExitCode::SUCCESS;
    }
    if !cfg!(target_arch = "x86_64") {
        println!("the baseline is of x86-64: nothing is compared here");
        return ExitCode::SUCCESS;
    }
    let counts: BTreeMap<&str, u64> = WORK.iter().map(|(name, _)| (*name, count(name))).collect();
    if argument.as_deref() == Some("--update") {
        let lines = counts
            .iter()
            .map(|(name, count)| format!("{name} {count}\n"));
        std::fs::write(BASELINE, lines.collect::<String>()).expect("the baseline is written");
        return ExitCode::SUCCESS;
    }
    compare(&counts)
}

fn compare(counts: &BTreeMap<&str, u64>) -> ExitCode {
    let baseline = std::fs::read_to_string(BASELINE).unwrap_or_default();
    let baseline: BTreeMap<&str, u64> = baseline
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    let mut all_hold = true;
    for (name, count) in counts {
        let change = match baseline.get(name) {
            Some(before) => *count as f64 / *before as f64 - 1.0,
            None => f64::INFINITY,
        };
        let holds = change.abs() <= TOLERANCE;
        all_hold &= holds;
        let verdict = if holds { "" } else { "  out of bounds" };
        println!("{name:<26} {count:>12} {:>+7.1} %{verdict}", change * 100.0);
    }
    if all_hold {
        return ExitCode::SUCCESS;
    }
    println!(
        "if this is meant: cargo bench --profile instructions --bench instructions -- --update"
    );
    ExitCode::FAILURE
}

/// Has callgrind count one piece of work.
fn count(name: &str) -> u64 {
    let out =
        std::env::temp_dir().join(format!("serfling-{}-{name}.callgrind", std::process::id()));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=instructions::measured*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .arg(name)
        .output()
        .expect("valgrind can't be run: tests/run installs it");
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&out).expect("callgrind's file");
    std::fs::remove_file(&out).expect("the file is removed");
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .expect("a total");
    let total = total.trim().parse().expect("a number");
    assert!(
        total > 0,
        "{name}: callgrind does not find the function that is measured"
    );
    total
}

/// What happens in here is counted.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

fn frame_scanner() {
    let limits = Limits {
        bytes_max: 1 << 20,
        depth_max: 32,
    };
    let header = b"\x82\xa7Command\xa7members\xa3Seq\xcd\x12\x34";
    let mut list = b"\xdc\x27\x10".to_vec();
    for _ in 0..10_000 {
        list.extend(b"\x82\xa1a\x01\xa1b\x02");
    }
    measured(&mut || {
        for _ in 0..1000 {
            black_box(Scanner::new(limits).scan(black_box(header))).expect("it is whole");
        }
        black_box(Scanner::new(limits).scan(black_box(&list))).expect("it is whole");
    });
}

fn ask(members: usize, request: &[u8]) {
    let (mut hub, now) = hub::hub(members);
    let id = hub::client(&mut hub, now);
    let requests = request.repeat(PIPELINED);
    let mut taken = 0;
    measured(&mut || {
        for _ in 0..ROUNDS {
            hub.handle_bytes(now, id, &requests);
            taken += hub::take(&mut hub, id);
            while hub.handle_ready(now) {
                taken += hub::take(&mut hub, id);
            }
        }
    });
    assert!(taken > ROUNDS * PIPELINED, "every request is answered");
}

fn requests(members: usize, command: message::Command) {
    ask(members, &hub::request::<()>(command, None));
}

fn coordinate() {
    let body = CoordinateRequest { node: Text("n1") };
    ask(
        1,
        &hub::request(message::Command::GetCoordinate, Some(&body)),
    );
}

fn members_filtered() {
    let body = MembersFilteredRequest {
        status: Text("alive"),
        ..MembersFilteredRequest::default()
    };
    ask(
        100,
        &hub::request(message::Command::MembersFiltered, Some(&body)),
    );
}

fn events(subscribers: usize) {
    let (mut hub, now) = hub::hub(1);
    let publisher = hub::client(&mut hub, now);
    let subscribers: Vec<_> = (0..subscribers)
        .map(|_| hub::subscriber(&mut hub, now, "user:deploy"))
        .collect();
    let events = hub::event("deploy").repeat(PIPELINED);
    let mut taken = 0;
    measured(&mut || {
        for _ in 0..ROUNDS {
            hub.handle_bytes(now, publisher, &events);
            hub.handle_ready(now);
            taken += hub::take(&mut hub, publisher);
            for id in &subscribers {
                taken += hub::take(&mut hub, *id);
            }
        }
    });
    assert!(
        taken > ROUNDS * PIPELINED * (1 + subscribers.len()),
        "everybody hears of it"
    );
}

fn timer_wheel() {
    let start = Instant::now();
    let mut wheel = TimerWheel::new(start);
    let time = |number: u64| start + Duration::from_millis(number * 37 % 60_000);
    for number in 0..10_000 {
        wheel.insert(time(number), number);
    }
    measured(&mut || {
        for number in 0..10_000 {
            let key = wheel.insert(time(number + 7), number);
            wheel.cancel(key);
        }
        let end = start + Duration::from_secs(60);
        let fired = std::iter::from_fn(|| wheel.pop_expired(end)).count();
        assert_eq!(fired, 10_000);
    });
}

fn packets() {
    let packets = gossip::packets(gossip::Wrapping::Compressed, 200);
    let mut serf = gossip::serf(gossip::Wrapping::Compressed.envelope());
    measured(&mut || gossip::take_packets(&mut serf, &packets));
}

/// A state of nodes that are new, then the same once more.
fn push_pull() {
    let plain = EnvelopeConfig {
        compress: false,
        ..EnvelopeConfig::default()
    };
    let bytes = gossip::sealed(plain, 2000);
    let mut serf = gossip::serf(EnvelopeConfig::default());
    measured(&mut || {
        gossip::merge(&mut serf, 0, &bytes);
        gossip::merge(&mut serf, 1, &bytes);
    });
}
