use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const RETENTION: Retention = Retention {
    failed: DAY,
    left: DAY,
    leaving: Duration::from_secs(6),
};

fn node(name: &str) -> Member {
    Member::alive(name, IpAddr::V4(Ipv4Addr::LOCALHOST), 7946)
}

/// A membership whose tests read as a conversation.
struct Talk {
    now: Instant,
    members: Membership,
}

impl Talk {
    fn new() -> Self {
        let mut talk = Self {
            now: Instant::now(),
            members: Membership::new(node("me"), RETENTION),
        };
        assert_eq!(talk.heard(), ["join me"]);
        talk
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.members.reap(self.now);
    }

    fn alive(&mut self, name: &str) -> &mut Self {
        self.members.handle_alive(self.now, node(name));
        self
    }

    fn silent(&mut self, name: &str) -> &mut Self {
        self.members.handle_gone(self.now, name, Departure::Silent);
        self
    }

    fn join(&mut self, name: &str, ltime: u64) -> IntentReaction {
        self.members.handle_join_intent(self.now, name, ltime)
    }

    fn leave(&mut self, name: &str, ltime: u64) -> IntentReaction {
        let stay = LocalIntention::Stay;
        self.members
            .handle_leave_intent(self.now, name, ltime, false, stay)
    }

    fn prune(&mut self, name: &str, ltime: u64) -> IntentReaction {
        let stay = LocalIntention::Stay;
        self.members
            .handle_leave_intent(self.now, name, ltime, true, stay)
    }

    fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.members.poll_event())
            .map(|event| {
                let kind = event.kind.as_str().trim_start_matches("member-").to_owned();
                format!("{kind} {}", event.members[0].name)
            })
            .collect()
    }

    fn status(&self, name: &str) -> Option<MemberStatus> {
        self.members.get(name).map(|member| member.status)
    }
}

use IntentReaction::{Ignore, PassOn, Refute};
use MemberStatus::{Alive, Failed, Leaving, Left};

#[test]
fn a_node_that_says_so_leaves_and_one_that_does_not_fails() {
    let mut talk = Talk::new();
    talk.alive("a").alive("b");
    assert_eq!(talk.leave("a", 5), PassOn);
    assert_eq!(talk.status("a"), Some(Leaving));
    talk.silent("a").silent("b");
    assert_eq!(talk.heard(), ["join a", "join b", "leave a", "failed b"]);
    assert_eq!(
        (talk.status("a"), talk.status("b")),
        (Some(Left), Some(Failed))
    );
    assert_eq!((talk.members.left(), talk.members.failed()), (1, 1));
    assert_eq!(talk.members.present(), 1);
    assert_eq!(talk.members.clock().time(), 6);
}

#[test]
fn a_node_that_told_gossip_leaves_without_an_intent() {
    let mut talk = Talk::new();
    talk.alive("a");
    talk.members.handle_gone(talk.now, "a", Departure::Said);
    assert_eq!(talk.heard(), ["join a", "leave a"]);
}

#[test]
fn intents_are_passed_on_once() {
    let mut talk = Talk::new();
    talk.alive("a");
    assert_eq!((talk.join("a", 3), talk.join("a", 3)), (PassOn, Ignore));
    assert_eq!((talk.leave("a", 3), talk.leave("a", 4)), (Ignore, PassOn));
    assert_eq!((talk.leave("a", 4), talk.leave("a", 5)), (Ignore, PassOn));
    assert_eq!((talk.join("x", 1), talk.join("x", 1)), (PassOn, Ignore));
    assert_eq!(talk.join("a", u64::MAX), Ignore);
    assert_eq!(talk.members.clock().time(), 6);
}

#[test]
fn a_newer_join_takes_a_leave_back() {
    let mut talk = Talk::new();
    talk.alive("a");
    talk.leave("a", 5);
    assert_eq!(talk.join("a", 6), PassOn);
    assert_eq!(talk.status("a"), Some(Alive));
}

#[test]
fn intents_may_come_before_the_member() {
    let mut talk = Talk::new();
    talk.leave("gone", 5);
    talk.join("back", 5);
    talk.alive("gone").alive("back");
    assert_eq!(talk.status("gone"), Some(Leaving));
    assert_eq!(talk.status("back"), Some(Alive));
    assert_eq!(talk.leave("back", 5), Ignore);
}

#[test]
fn an_old_leave_of_this_node_is_refuted() {
    let mut talk = Talk::new();
    assert_eq!(talk.leave("me", 5), Refute);
    assert_eq!(talk.status("me"), Some(Alive));
    assert_eq!(talk.join("me", 6), PassOn);
    assert_eq!(talk.leave("me", 6), Ignore);
    let leave = LocalIntention::Leave;
    let reaction = talk
        .members
        .handle_leave_intent(talk.now, "me", 7, false, leave);
    assert_eq!((reaction, talk.status("me")), (PassOn, Some(Leaving)));
}

#[test]
fn a_failed_node_can_be_forced_to_leave() {
    let mut talk = Talk::new();
    talk.alive("a").silent("a");
    assert_eq!(talk.leave("a", 5), PassOn);
    assert_eq!(talk.heard(), ["join a", "failed a", "leave a"]);
    assert_eq!((talk.members.left(), talk.members.failed()), (1, 0));
    talk.alive("a");
    assert_eq!((talk.members.left(), talk.status("a")), (0, Some(Alive)));
}

#[test]
fn gone_members_are_reaped_after_a_day() {
    let mut talk = Talk::new();
    talk.alive("a").alive("b").silent("a");
    talk.leave("b", 5);
    talk.silent("b");
    talk.heard();
    talk.pass(DAY);
    assert_eq!(talk.heard(), Vec::<String>::new());
    talk.pass(Duration::from_secs(1));
    assert_eq!(talk.heard(), ["reap a", "reap b"]);
    assert_eq!(talk.members.count(), 1);
}

#[test]
fn a_pruned_node_is_reaped_at_once() {
    let mut talk = Talk::new();
    talk.alive("a").silent("a");
    talk.heard();
    assert_eq!(talk.prune("a", 5), PassOn);
    assert_eq!(talk.heard(), ["leave a", "reap a"]);
    assert_eq!((talk.prune("a", 5), talk.leave("a", 6)), (Ignore, PassOn));
    assert_eq!(talk.status("a"), None);
}

#[test]
fn a_leaving_node_is_pruned_once_it_had_time_to_go() {
    let mut talk = Talk::new();
    talk.alive("a").alive("b");
    talk.prune("a", 5);
    talk.prune("b", 6);
    talk.heard();
    talk.pass(Duration::from_secs(5));
    assert_eq!(talk.join("b", 7), PassOn);
    talk.silent("a");
    talk.pass(Duration::from_secs(1));
    assert_eq!(talk.heard(), ["leave a", "reap a"]);
    talk.pass(DAY);
    assert_eq!(talk.status("b"), Some(Alive));
}

/// It did not hear of it, as it came back meanwhile, or was cut off.
#[test]
fn a_leaving_node_that_is_pruned_and_lives_on_is_believed() {
    let mut talk = Talk::new();
    talk.alive("a").alive("b").alive("c");
    for name in ["a", "b", "c"] {
        talk.prune(name, 5);
    }
    talk.heard();
    talk.pass(Duration::from_secs(6));
    assert_eq!(talk.heard(), ["reap a", "reap b", "reap c"]);
    // One says that it lives, one goes after all.
    assert_eq!(talk.join("b", 6), PassOn);
    assert_eq!(talk.heard(), ["join b"]);
    talk.silent("c");
    talk.pass(PROBATION);
    assert_eq!(talk.heard(), ["join a"]);
    assert_eq!(talk.status("a"), Some(Alive));
    talk.pass(PROBATION);
    assert_eq!(talk.status("c"), None);
}

#[test]
fn a_pruned_node_does_not_come_back_on_hearsay() {
    let mut talk = Talk::new();
    talk.alive("a").silent("a");
    talk.prune("a", 5);
    talk.heard();
    // A node that missed it says in a push/pull that it joined at 3 and is alive, until it finds out.
    assert_eq!(talk.join("a", 3), Ignore);
    talk.alive("a");
    talk.pass(PROBATION - Duration::from_secs(1));
    talk.silent("a");
    talk.pass(PROBATION);
    assert_eq!((talk.heard(), talk.status("a")), (Vec::new(), None));
}

#[test]
fn a_pruned_node_that_joins_again_is_welcome() {
    let mut talk = Talk::new();
    for name in ["a", "b"] {
        talk.alive(name).silent(name);
        talk.prune(name, 5);
    }
    talk.heard();
    // In either order.
    talk.alive("a");
    assert_eq!(talk.join("a", 6), PassOn);
    assert_eq!(talk.join("b", 6), PassOn);
    talk.alive("b");
    assert_eq!(talk.heard(), ["join a", "join b"]);
    assert_eq!(talk.leave("a", 6), Ignore);
}

#[test]
fn a_pruned_node_that_lives_on_is_believed() {
    let mut talk = Talk::new();
    talk.alive("a").silent("a");
    talk.prune("a", 5);
    talk.heard();
    talk.alive("a");
    talk.pass(PROBATION);
    assert_eq!(talk.heard(), ["join a"]);
}

#[test]
fn tombstones_go_after_a_day() {
    let mut talk = Talk::new();
    talk.alive("a").silent("a");
    talk.prune("a", 5);
    talk.heard();
    talk.pass(DAY + Duration::from_secs(1));
    talk.alive("a");
    assert_eq!(talk.heard(), ["join a"]);
}

#[test]
fn updates_keep_the_status() {
    let mut talk = Talk::new();
    talk.alive("a");
    talk.leave("a", 5);
    let version = talk.members.version();
    let tagged = node("a").with_tags([("role", "web")].into_iter().collect());
    talk.members.handle_update(tagged.clone());
    assert_eq!(talk.heard(), ["join a", "update a"]);
    let member = talk.members.get("a").expect("a member");
    assert_eq!((member.status, &member.tags), (Leaving, &tagged.tags));
    assert!(talk.members.version() > version);
    talk.members.handle_update(node("unknown"));
    assert_eq!(talk.heard(), Vec::<String>::new());
}

#[test]
fn company_is_somebody_else_who_is_alive() {
    let mut talk = Talk::new();
    assert!(!talk.members.has_company());
    talk.alive("a");
    assert!(talk.members.has_company());
    talk.silent("a");
    assert!(!talk.members.has_company());
}

proptest! {
    /// Whatever gossip and others say, the counts fit the members, this node is one of them, and whoever only listens
    /// to the events knows who is in the cluster.
    #[test]
    fn counts_and_events_fit_the_members(
        steps in proptest::collection::vec((0u8..8, 0usize..4, 0u64..12), 0..80)
    ) {
        let mut talk = Talk::new();
        let names = ["me", "a", "b", "c"];
        let mut listener = std::collections::BTreeSet::from(["me".to_owned()]);
        for (step, name, ltime) in steps {
            let name = names[name];
            let version = talk.members.version();
            match step {
                0 | 1 if name != "me" => { talk.alive(name); }
                2 if name != "me" => { talk.silent(name); }
                3 => { talk.join(name, ltime); }
                4 => { talk.leave(name, ltime); }
                5 => { talk.prune(name, ltime); }
                6 if name != "me" => talk.members.handle_gone(talk.now, name, Departure::Said),
                _ => talk.pass(Duration::from_secs(ltime * 3600)),
            }
            while let Some(event) = talk.members.poll_event() {
                prop_assert!(talk.members.version() > version);
                for member in event.members {
                    if event.kind == MemberEventKind::Reap {
                        listener.remove(&*member.name);
                    } else {
                        listener.insert(member.name.to_string());
                    }
                }
            }
            let known: std::collections::BTreeSet<String> =
                talk.members.iter().map(|member| member.name.to_string()).collect();
            prop_assert_eq!(&known, &listener);
            prop_assert_eq!(talk.members.with_status(Failed).count(), talk.members.failed());
            prop_assert_eq!(talk.members.with_status(Left).count(), talk.members.left());
            prop_assert!(talk.members.local().is_some());
            prop_assert!(talk.members.tombstones.keys().all(|name| !known.contains(&**name)));
        }
    }
}

#[test]
fn a_node_that_lives_on_is_not_leaving_for_ever() {
    let mut talk = Talk::new();
    talk.alive("a").alive("b");
    assert_eq!(talk.leave("a", 5), PassOn);
    talk.pass(PROBATION / 2);
    assert_eq!(talk.status("a"), Some(Leaving));
    talk.pass(PROBATION / 2);
    assert_eq!(talk.status("a"), Some(Alive));
    // One that goes in time has left.
    assert_eq!(talk.leave("b", 6), PassOn);
    talk.pass(PROBATION / 2);
    talk.silent("b").pass(PROBATION);
    assert_eq!(talk.status("b"), Some(Left));
}
