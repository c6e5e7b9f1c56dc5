//! Keys are replaced while nodes are there, away, or on their way back.

use serfling::cluster::{
    Cluster, ClusterError, KeyOperation, KeyReport, MemberStatus, Operation, Outcome,
};
use serfling::gossip::keyring::{Key, Keyring};
use serfling::rpc::HubEvent;

use super::world::World;
use super::{SECOND, blamed};

const COUNT: usize = 8;

fn key(number: u8) -> Key {
    Key::new(&[number; 32]).unwrap()
}

fn ring(keys: &[u8]) -> Keyring {
    let mut ring = Keyring::new(key(keys[0]));
    keys[1..]
        .iter()
        .for_each(|number| ring.install(key(*number)));
    ring
}

/// Puts a keyring file where a node finds it.
fn give(world: &mut World, node: usize, keys: &[u8]) {
    world.disks.entry(node).or_default().keyring = Some(ring(keys).to_json());
}

/// A cluster that uses the first key, at rest.
fn cluster(seed: u64) -> World {
    let mut world = World::new(seed);
    world.network.encrypted = true;
    (0..COUNT).for_each(|node| give(&mut world, node, &[1]));
    world.start_from_disks(COUNT);
    world
}

/// Has a node work on all keyrings, and waits for what comes of it.
fn work(
    world: &mut World,
    node: usize,
    operation: KeyOperation,
) -> (KeyReport, Option<ClusterError>) {
    let ticket = world.with(node, |serf, now| serf.start(now, Operation::Key(operation)));
    let done = |told: &HubEvent| match told {
        HubEvent::Completed {
            ticket: done,
            outcome: Outcome::Keys { report, error },
        } if *done == ticket => Some((report.clone(), error.clone())),
        _ => None,
    };
    world.run_until(60 * SECOND, |world| {
        let told = &world.get(node).unwrap().told;
        told.iter().any(|told| done(told).is_some())
    });
    world.node(node).told.iter().find_map(done).unwrap()
}

fn install(number: u8) -> KeyOperation {
    KeyOperation::Install(key(number).to_base64())
}

fn make_primary(number: u8) -> KeyOperation {
    KeyOperation::Use(key(number).to_base64())
}

fn remove(number: u8) -> KeyOperation {
    KeyOperation::Remove(key(number).to_base64())
}

/// All of so many nodes do it. It is asked for until they have: in a cluster of this size the gossip of a query misses
/// somebody once in a while.
fn work_well(world: &mut World, node: usize, operation: &KeyOperation, count: usize) {
    let count = count as u64;
    for _ in 0..5 {
        let (report, error) = work(world, node, operation.clone());
        assert_eq!((report.nodes, report.errors), (count, 0));
        if report.responses == count {
            assert_eq!(error, None);
            return;
        }
    }
    panic!("it is never done");
}

fn nobody_was_blamed(world: &mut World) {
    for node in 0..COUNT {
        assert!(!blamed(world, node, 0), "n{node}");
    }
}

fn all_have(world: &World, keys: &[u8]) {
    for node in 0..COUNT {
        assert_eq!(
            world.serf(node).gossip().keyring(),
            Some(&ring(keys)),
            "n{node}"
        );
        assert_eq!(
            world.disks[&node].keyring,
            Some(ring(keys).to_json()),
            "n{node}"
        );
    }
}

#[test]
fn a_key_is_replaced_and_nobody_fails() {
    let mut world = cluster(1);
    work_well(&mut world, 0, &install(2), COUNT);
    all_have(&world, &[1, 2]);
    work_well(&mut world, 1, &make_primary(2), COUNT);
    all_have(&world, &[2, 1]);
    // The primary key stays, and nobody says otherwise.
    let (report, error) = work(&mut world, 2, remove(2));
    assert_eq!(report.errors, report.responses);
    assert!(error.is_some());
    work_well(&mut world, 3, &remove(1), COUNT);
    all_have(&world, &[2]);
    world.run(60 * SECOND);
    assert!(world.converged());
    nobody_was_blamed(&mut world);
}

#[test]
fn restarts_between_the_steps_do_no_harm() {
    let mut world = cluster(2);
    for (victim, operation) in [(5, install(2)), (6, make_primary(2)), (7, remove(1))] {
        work_well(&mut world, 0, &operation, COUNT);
        world.kill(victim);
        world.spawn_from_disk(victim);
        // It finds the others by its snapshot.
        world.run_until(60 * SECOND, World::converged);
    }
    all_have(&world, &[2]);
}

#[test]
fn who_missed_a_key_is_left_behind_and_is_alone_until_it_is_given_the_key() {
    let mut world = cluster(3);
    world.kill(4);
    world.run_until(60 * SECOND, |world| {
        world.all_believe(4, MemberStatus::Failed)
    });
    work_well(&mut world, 0, &install(2), COUNT - 1);
    // Nobody passes it on any more.
    world.run(10 * SECOND);
    world.spawn_from_disk(4);
    world.run_until(60 * SECOND, World::converged);
    // The one that was away refuses, if it hears of this at all, and with the next packets it is left behind.
    for operation in [make_primary(2), remove(1)] {
        loop {
            let (report, error) = work(&mut world, 0, operation.clone());
            assert!(report.messages.iter().all(|(from, _)| from == "n4"));
            assert!(error.is_some() || report.nodes < COUNT as u64);
            if report.responses - report.errors == COUNT as u64 - 1 {
                break;
            }
        }
    }
    stays_alone(&mut world, 4);
    world.kill(4);
    give(&mut world, 4, &[2]);
    world.spawn_from_disk(4);
    world.run_until(60 * SECOND, World::converged);
}

/// A node whose keys open nothing takes all for failed, and they it. It goes on trying, in vain, and does no harm.
fn stays_alone(world: &mut World, outcast: usize) {
    let others: Vec<_> = (0..COUNT).filter(|node| *node != outcast).collect();
    world.run_until(120 * SECOND, |world| {
        others.iter().all(|other| {
            world.status(*other, outcast) == Some(MemberStatus::Failed)
                && world.status(outcast, *other) == Some(MemberStatus::Failed)
        })
    });
    world.run(120 * SECOND);
    for one in &others {
        assert_eq!(world.status(*one, outcast), Some(MemberStatus::Failed));
        for other in &others {
            assert_eq!(world.status(*one, *other), Some(MemberStatus::Alive));
        }
    }
}

#[test]
fn who_is_cut_off_while_a_key_is_replaced_stays_out_until_it_is_given_the_key() {
    let mut world = cluster(4);
    world.network.put(6, 2);
    world.run_until(60 * SECOND, |world| {
        world.status(0, 6) == Some(MemberStatus::Failed)
    });
    world.run(10 * SECOND);
    for operation in [install(2), make_primary(2), remove(1)] {
        work_well(&mut world, 0, &operation, COUNT - 1);
    }
    world.network.heal();
    stays_alone(&mut world, 6);
    // What it sends meanwhile changes nothing: a user event of its own reaches nobody.
    world.with(6, |serf, now| {
        serf.user_event(now, "secret", b"", false).unwrap()
    });
    world.run(30 * SECOND);
    let heard = super::heard(&mut world, "secret");
    assert_eq!(heard.iter().sum::<usize>(), 1, "{heard:?}");
    world.kill(6);
    give(&mut world, 6, &[2]);
    world.spawn_from_disk(6);
    world.run_until(60 * SECOND, World::converged);
    all_have(&world, &[2]);
}
