//! Measures clusters of many nodes in one process, on the simulation's network and clock, and prints `docs/scale.md`'s
//! tables: `cargo run --profile simulation --example scale -- 100 300 1000`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it measures on a network that it makes up"
)]

#[path = "../tests/simulation/agenda.rs"]
mod agenda;
#[path = "../tests/simulation/disk.rs"]
mod disk;
#[path = "../tests/simulation/network.rs"]
mod network;
#[path = "../tests/simulation/world.rs"]
mod world;

use std::time::{Duration, Instant};

use serfling::cluster::{Cluster, Event, MemberEventKind, MemberStatus};
use serfling::gossip::timing::Timing;
use serfling::rpc::HubEvent;

use self::world::World;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);
/// Between the starts of nodes.
const STAGGER: Duration = Duration::from_millis(20);
/// How long false failures are counted.
const WATCHED: Duration = Duration::from_secs(120);

fn main() {
    let sizes = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let sizes: Vec<usize> = sizes.collect();
    println!(
        "| nodes | join known by all | event at 50 % / 99 % / all | failure known first / by all | suspicion, theory | packets / node / s | bytes / node / s |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut worlds: Vec<(usize, World)> = Vec::new();
    for count in sizes {
        let begin = Instant::now();
        let mut world = start(count);
        measure(&mut world, count);
        eprintln!("{count} nodes took {:.0} s", begin.elapsed().as_secs_f64());
        worlds.push((count, world));
    }
    println!(
        "\n| nodes | loss | slow nodes | healthy nodes taken for failed, in 120 s | probes that failed |"
    );
    println!("|---|---|---|---|---|");
    for (count, world) in &mut worlds {
        for (loss, slow) in [(0.01, 0), (0.05, 0), (0.2, 0), (0.0, *count / 20)] {
            watch(world, *count, loss, slow);
        }
    }
}

/// A cluster at rest.
fn start(count: usize) -> World {
    let mut world = World::new(1);
    for node in 0..count {
        world.spawn(node);
        if node > 0 {
            world.join(node, node / 2);
        }
        world.run(STAGGER);
        forget(&mut world, count);
    }
    world.run_until(600 * SECOND, World::converged);
    world.run(30 * SECOND);
    forget(&mut world, count);
    world
}

/// What nodes have told so far is of no interest.
fn forget(world: &mut World, count: usize) {
    for node in 0..count {
        if let Some(process) = world.get_mut(node) {
            process.told = Vec::new();
        }
    }
}

/// How many nodes have told of something since they were made to forget.
fn told(world: &World, is_it: impl Fn(&Event) -> bool) -> usize {
    let tells = |node: &usize| {
        let told = world.get(*node).map(|process| &process.told);
        told.into_iter()
            .flatten()
            .any(|event| matches!(event, HubEvent::Event(event) if is_it(event)))
    };
    world.running().filter(tells).count()
}

/// Lets time pass until so many nodes have told of something; from `begin` on.
fn until(world: &mut World, begin: Instant, count: usize, is_it: impl Fn(&Event) -> bool) -> f64 {
    while told(world, &is_it) < count {
        assert!(world.now - begin < 300 * SECOND, "not all hear of it");
        world.run(STEP);
    }
    (world.now - begin).as_secs_f64()
}

fn measure(world: &mut World, count: usize) {
    let (packets, bytes) = (world.packets, world.bytes);
    world.run(60 * SECOND);
    let rate = |now: u64, before: u64| (now - before) as f64 / 60.0 / count as f64;
    let (packets, bytes) = (rate(world.packets, packets), rate(world.bytes, bytes));

    forget(world, count);
    let begin = world.now;
    world.with(count / 3, |serf, now| {
        serf.user_event(now, "deploy", b"1.2.3", false).unwrap();
    });
    let event = |event: &Event| matches!(event, Event::User(_));
    let half = until(world, begin, count / 2, event);
    let most = until(world, begin, count * 99 / 100, event);
    let all = until(world, begin, count, event);

    forget(world, count);
    let begin = world.now;
    world.kill(count / 2);
    let failure = |event: &Event| matches!(event, Event::Member(event) if event.kind == MemberEventKind::Failed);
    let first = until(world, begin, 1, failure);
    let last = until(world, begin, count - 1, failure);

    forget(world, count);
    let begin = world.now;
    world.spawn(count / 2);
    world.join(count / 2, 0);
    let name = format!("n{}", count / 2);
    let join = |event: &Event| {
        matches!(event, Event::Member(event)
        if event.kind == MemberEventKind::Join && event.members.iter().any(|member| *member.name == *name))
    };
    let joined = until(world, begin, count, join);
    let theory = Timing::LAN.suspicion_min(count).as_secs_f64();
    println!(
        "| {count} | {joined:.1} s | {half:.2} / {most:.2} / {all:.2} s | {first:.1} / {last:.1} s | {theory:.1} to {:.0} s | {packets:.1} | {bytes:.0} |",
        Timing::LAN.suspicion_max(count).as_secs_f64()
    );
}

/// Counts who is taken for failed though it runs.
fn watch(world: &mut World, count: usize, loss: f64, slow: usize) {
    world.run_until(600 * SECOND, |world| {
        world
            .running()
            .all(|node| world.serf(node).member_count() == count)
    });
    forget(world, count);
    let probes = |world: &World| -> u64 {
        let failed = |node| world.serf(node).gossip().counters().probes_failed;
        world.running().map(failed).sum()
    };
    let before = probes(world);
    world.network.loss = loss;
    let begin = world.now;
    while world.now - begin < WATCHED {
        // Slow ones stand still for a second in every three.
        (0..slow).for_each(|node| world.pause(node));
        world.run(SECOND);
        (0..slow).for_each(|node| world.resume(node));
        world.run(2 * SECOND);
    }
    world.network.loss = 0.0;
    let mut victims: Vec<String> = Vec::new();
    for node in 0..count {
        let told = world.get(node).map(|process| &process.told);
        for event in told.into_iter().flatten() {
            if let HubEvent::Event(Event::Member(event)) = event
                && event.kind == MemberEventKind::Failed
            {
                let names = event.members.iter().map(|member| member.name.to_string());
                victims.extend(names);
            }
        }
    }
    victims.sort();
    victims.dedup();
    let healthy = |name: &&String| name[1..].parse::<usize>().is_ok_and(|node| node >= slow);
    let failed = probes(world) - before;
    println!(
        "| {count} | {:.0} % | {slow} | {} (and {} slow ones) | {failed} |",
        loss * 100.0,
        victims.iter().filter(healthy).count(),
        victims.iter().filter(|name| !healthy(name)).count(),
    );
    world.run(60 * SECOND);
    assert!(world.all_believe(0, MemberStatus::Alive));
}
