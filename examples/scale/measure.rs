//! What is measured of a healthy cluster: its load at rest, and how long news take.

use std::time::{Duration, Instant};

use serfling::cluster::{Cluster as _, Event, MemberEventKind};
use serfling::gossip::timing::Timing;

use crate::cluster::{Cluster, SECOND, Start, says};
use crate::data::{Load, Times};
use crate::resources::resident_mib;

/// Between repetitions. As long as dead nodes are gossiped to.
const PAUSE: Duration = Duration::from_secs(30);
/// How long load is measured at least.
const LOAD_WATCHED: Duration = Duration::from_secs(300);
/// How exactly it is told when a failure is first suspected.
const FINE: Duration = Duration::from_millis(10);

/// What was measured.
pub(crate) struct Measured {
    pub(crate) load: Load,
    pub(crate) times: Vec<Times>,
    /// After how many seconds nodes heard of an event, of all repetitions, the first first.
    pub(crate) heard: Vec<f64>,
}

/// How often each thing is repeated.
const fn repetitions(count: usize) -> usize {
    match count {
        0..=300 => 20,
        301..=3000 => 10,
        _ => 5,
    }
}

pub(crate) fn measure(count: usize, start: Start) -> Measured {
    let begin = Instant::now();
    let mut cluster = Cluster::start(count, start, Timing::LAN);
    eprintln!(
        "{count} nodes are at rest after {:.0} s, with {:.0} MiB",
        begin.elapsed().as_secs_f64(),
        resident_mib()
    );
    let begin = Instant::now();
    let load = load(&mut cluster);
    eprintln!(
        "{:.0} s of rest took {:.1} s",
        load.seconds,
        begin.elapsed().as_secs_f64()
    );
    let (mut times, mut heard) = (Vec::new(), Vec::new());
    for repetition in 0..repetitions(count) {
        let joined = join(&mut cluster);
        cluster.idle(PAUSE);
        let event = event(&mut cluster, repetition);
        cluster.idle(PAUSE);
        let (suspected, failed) = failure(&mut cluster);
        cluster.idle(PAUSE);
        times.push(Times {
            join: last(&joined),
            event_half: reached(&event, 0.5),
            event_most: reached(&event, 0.99),
            event_all: last(&event),
            suspected,
            failed_first: failed.first().copied().unwrap_or_default(),
            failed_all: last(&failed),
        });
        heard.extend(event);
    }
    heard.sort_by(f64::total_cmp);
    Measured { load, times, heard }
}

fn last(times: &[f64]) -> f64 {
    times.last().copied().unwrap_or_default()
}

/// When a share of all had heard.
fn reached(times: &[f64], share: f64) -> f64 {
    let nodes = (times.len() as f64 * share).ceil() as usize;
    last(&times[..nodes])
}

/// What a node sends while nothing happens, over whole push/pull intervals: nodes that start together compare their
/// states in the same half minute, one interval after that of their start.
fn load(cluster: &mut Cluster) -> Load {
    cluster.idle(Timing::LAN.push_pull_interval);
    let interval = Timing::LAN.push_pull_interval(cluster.count());
    let intervals = LOAD_WATCHED.as_secs().div_ceil(interval.as_secs());
    let time = interval * u32::try_from(intervals).expect("they are few");
    let figures = |cluster: &Cluster| {
        [
            cluster.sum(|counters| counters.packets_out),
            cluster.sum(|counters| counters.bytes_out),
            cluster.sum(|counters| counters.streams_opened),
            cluster.sum(|counters| counters.stream_bytes_out),
        ]
    };
    let before = figures(cluster);
    cluster.idle(time);
    let after = figures(cluster);
    let rate =
        |at: usize| (after[at] - before[at]) as f64 / time.as_secs_f64() / cluster.count() as f64;
    Load {
        seconds: time.as_secs_f64(),
        packets: rate(0),
        packet_bytes: rate(1),
        streams: rate(2),
        stream_bytes: rate(3),
    }
}

/// One more node joins; when the others knew it.
fn join(cluster: &mut Cluster) -> Vec<f64> {
    let (begin, others) = (cluster.world.now, cluster.count());
    let name = format!("n{}", cluster.add());
    cluster.watch(begin, others, |event| {
        says(event, MemberEventKind::Join, &name)
    })
}

/// A user event; when each node, its sender included, heard of it.
fn event(cluster: &mut Cluster, number: usize) -> Vec<f64> {
    let (begin, all) = (cluster.world.now, cluster.count());
    let name = format!("deploy-{number}");
    let node = cluster.any();
    cluster.world.with(node, |serf, now| {
        serf.user_event(now, &name, b"1.2.3", false)
            .expect("it is small");
    });
    cluster.watch(
        begin,
        all,
        |event| matches!(event, Event::User(event) if event.name == name),
    )
}

/// A node fails: when somebody suspected it, and when the others took it for failed.
fn failure(cluster: &mut Cluster) -> (f64, Vec<f64>) {
    let begin = cluster.world.now;
    let name = format!("n{}", cluster.kill());
    let suspicions = |cluster: &Cluster| cluster.sum(|counters| counters.suspect);
    let before = suspicions(cluster);
    while suspicions(cluster) == before {
        assert!(cluster.world.now - begin < 120 * SECOND, "nobody notices");
        cluster.world.run(FINE);
    }
    let suspected = (cluster.world.now - begin).as_secs_f64();
    let failed = cluster.watch(begin, cluster.count(), |event| {
        says(event, MemberEventKind::Failed, &name)
    });
    (suspected, failed)
}
