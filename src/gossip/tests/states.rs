//! What becomes of nodes.

use proptest::prelude::*;

use super::*;
use crate::gossip::message::{Dead, NodeState, Suspect};

fn suspect(node: &str, incarnation: u32) -> Message<'_> {
    Message::Suspect(Suspect {
        incarnation,
        node,
        from: "somebody",
    })
}

fn dead<'a>(node: &'a str, from: &'a str, incarnation: u32) -> Message<'a> {
    Message::Dead(Dead {
        incarnation,
        node,
        from,
    })
}

fn state(scene: &Scene, name: &str) -> Option<(NodeState, u32, SocketAddr)> {
    let node = scene.gossip.nodes.get(scene.gossip.nodes.find(name)?)?;
    Some((node.state, node.incarnation, node.info.socket_addr()))
}

/// The incarnation with which the node says that it lives, if it says so now.
fn refutation(scene: &mut Scene) -> Option<u32> {
    scene.wait(Duration::from_millis(200));
    scene
        .packets()
        .iter()
        .find_map(|(_, message)| match Message::decode(message) {
            Ok(Message::Alive(alive)) if alive.node == "me" => Some(alive.incarnation),
            _ => None,
        })
}

#[test]
fn a_higher_incarnation_beats_a_lower_one() {
    let mut scene = Scene::among(1);
    scene.hear(&dead("n2", "x", 0));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 1, addr(2))));
    scene.hear(&suspect("n2", 1));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Suspect, 1, addr(2))));
    scene.hear(&Message::Alive(alive("n2", 2, 1)));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Suspect, 1, addr(2))));
    scene.hear(&Message::Alive(alive("n2", 2, 2)));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 2, addr(2))));
    assert_eq!(scene.events(), []);
    scene.hear(&dead("n2", "x", 2));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Dead, 2, addr(2))));
    scene.hear(&dead("n2", "n2", 2));
    let left = false;
    assert_eq!(
        scene.events(),
        [GossipEvent::Gone {
            name: "n2".into(),
            left
        }]
    );
    scene.hear(&Message::Alive(alive("n2", 2, 3)));
    assert!(matches!(&scene.events()[..], [GossipEvent::Alive(_)]));
    scene.hear(&dead("n2", "n2", 3));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Left, 3, addr(2))));
}

#[test]
fn a_suspicion_ends_in_death_and_sooner_when_confirmed() {
    for (confirmed, seconds) in [(false, 24), (true, 4)] {
        let mut scene = Scene::quietly_among(5);
        scene.hear(&suspect("n2", 1));
        if confirmed {
            for from in ["a", "b", "b", "c"] {
                scene.hear(&Message::Suspect(Suspect {
                    incarnation: 1,
                    node: "n2",
                    from,
                }));
            }
        }
        scene.wait(Duration::from_millis(seconds * 1000 - 100));
        assert_eq!(state(&scene, "n2").unwrap().0, NodeState::Suspect);
        scene.wait(Duration::from_millis(200));
        assert_eq!(state(&scene, "n2").unwrap().0, NodeState::Dead);
    }
}

#[test]
fn accusations_against_oneself_are_refuted() {
    let mut scene = Scene::among(2);
    scene.hear(&suspect("me", 5));
    assert_eq!(refutation(&mut scene), Some(6));
    scene.hear(&dead("me", "x", 6));
    assert_eq!(refutation(&mut scene), Some(7));
    scene.hear(&dead("me", "x", 3));
    assert_eq!(scene.gossip.counters().refuted, 2);
    assert_eq!(scene.gossip.health_score(), 2);
    // Somebody remembers what this node said in an earlier life.
    scene.hear(&Message::Alive(alive("me", 1, 40)));
    assert_eq!(refutation(&mut scene), Some(41));
    assert_eq!(state(&scene, "me"), Some((NodeState::Alive, 41, addr(1))));
}

#[test]
fn the_last_incarnation_is_nobody_s() {
    let mut scene = Scene::among(1);
    for message in [
        suspect("me", u32::MAX),
        dead("me", "x", u32::MAX),
        dead("n2", "x", u32::MAX),
        Message::Alive(alive("n2", 2, u32::MAX)),
        Message::Alive(alive("n3", 3, u32::MAX)),
    ] {
        scene.hear(&message);
    }
    assert_eq!(state(&scene, "me"), Some((NodeState::Alive, 1, addr(1))));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 1, addr(2))));
    assert_eq!(state(&scene, "n3"), None);
    // One before, it can still be refuted.
    scene.hear(&suspect("me", u32::MAX - 1));
    assert_eq!(refutation(&mut scene), Some(u32::MAX));
}

#[test]
fn who_leaves_refutes_nothing() {
    let mut scene = Scene::among(2);
    scene.gossip.leave(scene.now, broadcast::BroadcastToken(3));
    scene.hear(&suspect("me", 1));
    scene.hear(&Message::Alive(alive("me", 1, 9)));
    assert_eq!(refutation(&mut scene), None);
    assert_eq!(state(&scene, "me").unwrap().0, NodeState::Left);
    scene.wait(Duration::from_secs(3));
    let done = GossipEvent::BroadcastDone(broadcast::BroadcastToken(3));
    assert!(scene.events().contains(&done));
}

#[test]
fn a_name_moves_only_when_its_node_is_gone() {
    let mut scene = Scene::among(1);
    scene.hear(&Message::Alive(alive("n2", 77, 9)));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 1, addr(2))));
    let conflict = GossipEvent::Conflict {
        name: "n2".into(),
        existing: addr(2),
        other: addr(77),
    };
    assert_eq!(scene.events(), [conflict]);
    scene.hear(&dead("n2", "x", 1));
    scene.events();
    // Old news of another address are no move.
    scene.hear(&Message::Alive(alive("n2", 78, 1)));
    assert!(matches!(
        &scene.events()[..],
        [GossipEvent::Conflict { .. }]
    ));
    scene.hear(&Message::Alive(alive("n2", 77, 2)));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 2, addr(77))));
    scene.hear(&dead("n2", "n2", 2));
    scene.events();
    // Who left may come back anywhere.
    scene.hear(&Message::Alive(alive("n2", 2, 1)));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 1, addr(2))));
}

#[test]
fn what_can_t_be_is_not_believed() {
    let mut scene = Scene::new();
    let long = vec![0; 513];
    let wrong = |versions| Alive {
        versions: Some(versions),
        ..alive("n2", 2, 1)
    };
    let mut none = Versions::CURRENT;
    none.protocol.min = 0;
    let mut reversed = Versions::CURRENT;
    reversed.protocol.min = 6;
    for alive in [
        Alive {
            addr: None,
            ..alive("n2", 2, 1)
        },
        Alive {
            meta: &long,
            ..alive("n2", 2, 1)
        },
        alive("", 2, 1),
        wrong(none),
        wrong(reversed),
    ] {
        scene.hear(&Message::Alive(alive));
    }
    assert_eq!(
        (scene.events(), scene.gossip.counters().malformed),
        (vec![], 5)
    );
    // No port means the one that all use; no versions mean none known.
    let (port, versions) = (0, None);
    scene.hear(&Message::Alive(Alive {
        port,
        versions,
        ..alive("n2", 2, 1)
    }));
    assert_eq!(state(&scene, "n2"), Some((NodeState::Alive, 1, addr(2))));
}

#[test]
fn new_meta_data_are_told_everywhere_and_news_only_once() {
    let mut scene = Scene::among(2);
    let token = broadcast::BroadcastToken(1);
    scene.gossip.set_meta(scene.now, b"other", token);
    assert!(
        matches!(&scene.events()[..], [GossipEvent::Updated(node)] if *node.meta() == *b"other")
    );
    assert_eq!(refutation(&mut scene), Some(2));
    scene.wait(Duration::from_secs(2));
    assert!(scene.events().contains(&GossipEvent::BroadcastDone(token)));
    // The same again is told, but nothing has changed.
    scene.gossip.set_meta(scene.now, b"other", token);
    assert_eq!(scene.events(), []);
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Alive(u32),
    Suspect(u32),
    Dead(u32),
}

fn say(scene: &mut Scene, word: Word) {
    match word {
        Word::Alive(incarnation) => scene.hear(&Message::Alive(alive("n2", 2, incarnation))),
        Word::Suspect(incarnation) => scene.hear(&suspect("n2", incarnation)),
        Word::Dead(incarnation) => scene.hear(&dead("n2", "x", incarnation)),
    }
}

fn word(suspects: bool) -> impl Strategy<Value = Word> {
    let incarnation = 1..6u32;
    if suspects {
        prop_oneof![
            incarnation.clone().prop_map(Word::Alive),
            incarnation.clone().prop_map(Word::Suspect),
            incarnation.prop_map(Word::Dead),
        ]
        .boxed()
    } else {
        prop_oneof![
            incarnation.clone().prop_map(Word::Alive),
            incarnation.prop_map(Word::Dead),
        ]
        .boxed()
    }
}

proptest! {
    #[test]
    fn a_word_said_twice_is_a_word_said_once(words in proptest::collection::vec(word(true), 1..20)) {
        let (mut once, mut twice) = (Scene::among(3), Scene::among(3));
        for word in words {
            say(&mut once, word);
            say(&mut twice, word);
            say(&mut twice, word);
            prop_assert_eq!(state(&once, "n2"), state(&twice, "n2"));
            prop_assert_eq!(once.events(), twice.events());
            prop_assert_eq!(once.gossip.present(), twice.gossip.present());
        }
    }

    /// Not so with suspicion: a dead node is not suspected, whatever the incarnation.
    #[test]
    fn the_order_of_life_and_death_does_not_matter(
        words in proptest::collection::vec(word(false), 1..20).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        use rand::seq::SliceRandom;
        let (mut one, mut other) = (Scene::among(3), Scene::among(3));
        let mut shuffled = words.clone();
        shuffled.shuffle(&mut StdRng::seed_from_u64(seed));
        for (a, b) in words.into_iter().zip(shuffled) {
            say(&mut one, a);
            say(&mut other, b);
        }
        prop_assert_eq!(state(&one, "n2"), state(&other, "n2"));
        prop_assert_eq!(one.gossip.present(), other.gossip.present());
    }
}

#[test]
fn new_meta_does_not_bring_back_who_left() {
    let mut scene = Scene::among(2);
    let [leave, meta] = [1, 2].map(broadcast::BroadcastToken);
    scene.gossip.leave(scene.now, leave);
    let news = scene.gossip.queued_news();
    scene.gossip.set_meta(scene.now, b"other", meta);
    let events: Vec<_> = std::iter::from_fn(|| scene.gossip.poll_event()).collect();
    assert!(events.contains(&GossipEvent::BroadcastDone(meta)));
    assert!(!events.contains(&GossipEvent::BroadcastDone(leave)));
    assert_eq!(scene.gossip.queued_news(), news);
    assert_eq!(scene.gossip.incarnation, 1);
}
