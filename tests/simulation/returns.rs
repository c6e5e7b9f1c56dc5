//! Nodes come back: by their snapshot alone, at another address, many at once; and tell nothing twice.

use std::time::Duration;

use serfling::cluster::{Cluster, MemberStatus, Operation};
use serfling::rpc::HubEvent;

use super::world::World;
use super::{SECOND, heard};

const COUNT: usize = 12;

/// A cluster that keeps snapshots, at rest.
fn cluster(seed: u64) -> World {
    let mut world = World::new(seed);
    world.start_from_disks(COUNT);
    world
}

fn kill_and_wait(world: &mut World, node: usize) {
    world.kill(node);
    world.run_until(60 * SECOND, |world| {
        world.all_believe(node, MemberStatus::Failed)
    });
}

#[test]
fn the_snapshot_alone_brings_many_back_that_restart_at_once() {
    let mut world = cluster(1);
    for victims in [vec![3], (0..6).collect::<Vec<_>>(), (0..COUNT).collect()] {
        victims.iter().for_each(|node| world.kill(*node));
        world.run(5 * SECOND);
        victims.iter().for_each(|node| world.spawn_from_disk(*node));
        world.run_until(120 * SECOND, World::converged);
    }
}

/// Each half joins itself first, by its snapshot, and is not content with that.
#[test]
fn halves_that_took_each_other_for_failed_find_each_other_after_an_outage_of_all() {
    let mut world = cluster(8);
    let half = COUNT / 2;
    (0..half).for_each(|node| world.network.put(node, 2));
    world.run_until(90 * SECOND, |world| {
        let failed = |one, other| world.status(one, other) == Some(MemberStatus::Failed);
        (0..half).all(|one| (half..COUNT).all(|other| failed(one, other) && failed(other, one)))
    });
    world.run(SECOND);
    (0..COUNT).for_each(|node| world.kill(node));
    world.network.heal();
    (0..COUNT).for_each(|node| world.spawn_from_disk(node));
    world.run_until(180 * SECOND, World::converged);
}

#[test]
fn all_come_back_by_their_snapshots_long_after_they_took_each_other_for_failed() {
    let mut world = cluster(2);
    // One after the other, so that the last knows all the others as failed.
    for node in 0..COUNT {
        world.kill(node);
        world.run(40 * SECOND);
    }
    (0..COUNT).for_each(|node| world.spawn_from_disk(node));
    world.run_until(180 * SECOND, World::converged);
}

#[test]
fn a_failed_node_comes_back_at_another_address() {
    let mut world = cluster(3);
    kill_and_wait(&mut world, 4);
    world.readdress(4);
    // By its snapshot, without a join.
    world.spawn_from_disk(4);
    world.run_until(60 * SECOND, World::converged);
    // With nothing but its name, it has to be told whom to join.
    kill_and_wait(&mut world, 4);
    world.readdress(4);
    world.disks.remove(&4);
    world.spawn_from_disk(4);
    world.join(4, 7);
    world.run_until(60 * SECOND, World::converged);
}

#[test]
fn a_left_node_comes_back_at_another_address() {
    let mut world = cluster(4);
    for with_snapshot in [true, false] {
        world.with(4, |serf, now| serf.start(now, Operation::Leave));
        world.run_until(90 * SECOND, |world| {
            world.all_believe(4, MemberStatus::Left)
        });
        world.run(10 * SECOND);
        world.kill(4);
        world.readdress(4);
        if !with_snapshot {
            world.disks.remove(&4);
        }
        world.spawn_from_disk(4);
        // It left, so it stays away until it is told to join.
        world.run(30 * SECOND);
        assert_eq!(world.status(0, 4), Some(MemberStatus::Left));
        world.join(4, 2);
        world.run_until(60 * SECOND, World::converged);
    }
}

/// While others believe that it lives where it was, a node of its name is taken for another, and has to go. Once they
/// have noticed, it may come.
#[test]
fn a_node_that_moves_too_fast_is_told_to_go_and_can_come_later() {
    let mut world = cluster(5);
    world.kill(4);
    world.readdress(4);
    world.spawn_from_disk(4);
    let evicted = |world: &World| {
        let told = &world.get(4).unwrap().told;
        told.iter()
            .any(|told| matches!(told, HubEvent::Evicted { .. }))
    };
    world.run_until(30 * SECOND, evicted);
    kill_and_wait(&mut world, 4);
    world.spawn_from_disk(4);
    world.run_until(60 * SECOND, World::converged);
}

#[test]
fn an_event_is_not_told_twice_though_its_node_restarts() {
    let mut world = cluster(6);
    let tell = |world: &mut World, node, name| {
        world.with(node, |serf, now| {
            serf.user_event(now, name, b"", false).unwrap()
        });
    };
    tell(&mut world, 2, "early");
    world.run(3 * SECOND);
    assert_eq!(heard(&mut world, "early"), vec![1; COUNT]);
    // Others push it to those that come back; the one that sent it is among them.
    for node in [2, 5, 8] {
        world.kill(node);
        world.run(SECOND);
        world.spawn_from_disk(node);
    }
    world.run_until(60 * SECOND, World::converged);
    world.run(60 * SECOND);
    let mut expected = vec![1; COUNT];
    [2, 5, 8].into_iter().for_each(|node| expected[node] = 0);
    assert_eq!(heard(&mut world, "early"), expected);
    // What comes after the restart is told.
    tell(&mut world, 5, "late");
    world.run(3 * SECOND);
    assert_eq!(heard(&mut world, "late"), vec![1; COUNT]);
}

/// What a crash took from the snapshot may be told again, and nothing else: half a second of it.
#[test]
fn an_event_that_the_snapshot_missed_is_told_again() {
    let mut world = cluster(7);
    world.with(2, |serf, now| {
        serf.user_event(now, "news", b"", false).unwrap()
    });
    world.run_until(3 * SECOND, |world| {
        let told = &world.get(5).unwrap().told;
        told.iter().any(|told| format!("{told:?}").contains("news"))
    });
    world.run(Duration::from_millis(100));
    world.kill(5);
    world.run(SECOND);
    world.spawn_from_disk(5);
    world.run_until(60 * SECOND, |world| {
        let told = &world.get(5).unwrap().told;
        told.iter().any(|told| format!("{told:?}").contains("news"))
    });
}
