//! Who is in the cluster: what gossip finds out, combined with what members say of their intentions.
//!
//! Gossip knows whether a node answers; intents to join and to leave, ordered by the members' Lamport clock, tell a
//! node that leaves from one that fails (`handleNode…` in `serf/serf.go`). Members that are gone are kept for a day, so
//! that failed ones are tried again and so that other nodes learn of the left ones; then they are reaped.
//!
//! Three things differ from the reference. A member that is said to leave and lives on is not taken for leaving for ever,
//! though it has missed what was said of it and did not refute it. A member that is pruned while it is leaving goes after a delay without holding
//! anything up, and stays if it says meanwhile that it lives. And what was pruned does not come back on the word of
//! nodes that missed it: a tombstone stays, and a node that gossip calls alive again is only believed when it has
//! joined since, or has lived for [`PROBATION`].
//!
//! Invariants: the local node is always a member; a node is a member or has a tombstone, never both; each change that
//! clients can see raises the version.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backlog;
use crate::cluster::{Member, MemberEvent, MemberEventKind, MemberStatus};

use super::clock::LamportClock;
use super::intent::{IntentKind, Intents};

/// How long a pruned node, or one that others forced to leave, has to live on before it is believed without a word of its
/// own. Longer than it takes to find out that a node is dead.
pub const PROBATION: Duration = Duration::from_secs(60);
/// How many pruned nodes are remembered.
const TOMBSTONES_MAX: usize = 16 * 1024;
/// Intents about this many unknown nodes are kept in any cluster, and about twice the members in a larger one.
const INTENTS_MIN: usize = 4096;

/// How long members that are gone are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Failed members are tried again this long.
    pub failed: Duration,
    /// Others hear of left members this long.
    pub left: Duration,
    /// A leaving member that is to be pruned has this long to go.
    pub leaving: Duration,
}

/// How a node went, in the eyes of gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It said so.
    Said,
    /// It stopped answering.
    Silent,
}

/// What to do about an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentReaction {
    /// Nothing: it is not news.
    Ignore,
    /// Pass it on.
    PassOn,
    /// Say that this node lives: somebody takes it for leaving.
    Refute,
}

/// Whether this node means to be in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalIntention {
    /// It refutes whoever says that it leaves.
    Stay,
    /// It leaves.
    Leave,
}

#[derive(Debug)]
struct MemberState {
    member: Member,
    /// Lamport time of the last word on its status.
    status_ltime: u64,
    /// While it is not simply alive. Few are, so it takes no room in the others.
    absence: Option<Box<Absence>>,
}

#[derive(Debug)]
struct Absence {
    /// Since when it is leaving, and then since when it is gone.
    since: Instant,
    /// When to forget it although it is only leaving.
    prune_at: Option<Instant>,
}

impl MemberState {
    fn prune_at(&self) -> Option<Instant> {
        self.absence.as_ref()?.prune_at
    }

    /// How long it has been leaving, or gone.
    fn absent_for(&self, now: Instant) -> Duration {
        let absence = self.absence.as_ref();
        absence.map_or(Duration::ZERO, |absence| {
            now.saturating_duration_since(absence.since)
        })
    }

    /// It is leaving, or gone, from now on.
    fn set_absent(&mut self, now: Instant) {
        let prune_at = self.prune_at();
        self.absence = Some(Box::new(Absence {
            since: now,
            prune_at,
        }));
    }
}

/// Stands for a pruned member.
#[derive(Debug)]
struct Tombstone {
    ltime: u64,
    since: Instant,
    /// The node as gossip brought it back, and when.
    returned: Option<(Member, Instant)>,
}

/// Who is in the cluster.
#[derive(Debug)]
pub struct Membership {
    local: Arc<str>,
    members: BTreeMap<Arc<str>, MemberState>,
    tombstones: HashMap<Arc<str>, Tombstone>,
    clock: LamportClock,
    intents: Intents,
    retention: Retention,
    failed: usize,
    left: usize,
    version: u64,
    events: VecDeque<MemberEvent>,
}

impl Membership {
    /// A cluster of the local node alone.
    pub fn new(local: Member, retention: Retention) -> Self {
        let mut membership = Self {
            local: local.name.clone(),
            members: BTreeMap::new(),
            tombstones: HashMap::new(),
            clock: LamportClock::default(),
            intents: Intents::default(),
            retention,
            failed: 0,
            left: 0,
            version: 0,
            events: VecDeque::new(),
        };
        membership.add(local, 0, None);
        membership
    }

    /// The local node.
    pub fn local(&self) -> Option<&Member> {
        self.get(&self.local)
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&Member> {
        self.members.get(name).map(|state| &state.member)
    }

    /// How many pruned members are remembered.
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// Of how many nodes that are no members it is noted what they mean to do.
    pub fn intents(&self) -> usize {
        self.intents.count()
    }

    /// All members in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values().map(|state| &state.member)
    }

    /// All members of a status.
    pub fn with_status(&self, status: MemberStatus) -> impl Iterator<Item = &Member> {
        self.iter().filter(move |member| member.status == status)
    }

    /// All members with the Lamport times of their statuses.
    pub fn status_ltimes(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        let states = self.members.iter();
        states.map(|(name, state)| (&**name, state.status_ltime))
    }

    /// How many members there are, of any status.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// How many members failed.
    pub const fn failed(&self) -> usize {
        self.failed
    }

    /// How many members left.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// How many members are neither failed nor left.
    pub fn present(&self) -> usize {
        self.count() - self.failed - self.left
    }

    /// Whether anybody else would hear a broadcast.
    pub fn has_company(&self) -> bool {
        let mut alive = self.with_status(MemberStatus::Alive);
        alive.any(|member| member.name != self.local)
    }

    /// Grows with each change of anything that clients see.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The members' Lamport clock.
    pub const fn clock(&self) -> &LamportClock {
        &self.clock
    }

    /// The members' Lamport clock, to be ticked or to witness what others say of theirs.
    pub const fn clock_mut(&mut self) -> &mut LamportClock {
        &mut self.clock
    }

    /// What happened to members, in order.
    pub fn poll_event(&mut self) -> Option<MemberEvent> {
        backlog::pop(&mut self.events)
    }

    /// Gossip says that a node lives.
    pub fn handle_alive(&mut self, now: Instant, node: Member) {
        if let Some(tombstone) = self.tombstones.get_mut(&node.name) {
            tombstone.returned = Some((node, now));
            return;
        }
        let Some(state) = self.members.get_mut(&node.name) else {
            self.add_with_intent(now, node);
            return;
        };
        let before = state.member.status;
        state.member = node.with_status(MemberStatus::Alive);
        state.absence = None;
        let member = state.member.clone();
        self.recount(Some(before), Some(MemberStatus::Alive));
        self.tell(MemberEventKind::Join, member);
    }

    /// Gossip says that a node changed its tags or its address.
    pub fn handle_update(&mut self, node: Member) {
        if let Some(tombstone) = self.tombstones.get_mut(&node.name) {
            if let Some((returned, _)) = &mut tombstone.returned {
                *returned = node;
            }
            return;
        }
        let Some(state) = self.members.get_mut(&node.name) else {
            return;
        };
        let status = state.member.status;
        state.member = node.with_status(status);
        let member = state.member.clone();
        self.tell(MemberEventKind::Update, member);
    }

    /// Gossip says that a node is gone.
    pub fn handle_gone(&mut self, now: Instant, name: &str, departure: Departure) {
        if let Some(tombstone) = self.tombstones.get_mut(name) {
            tombstone.returned = None;
            return;
        }
        let Some(state) = self.members.get_mut(name) else {
            return;
        };
        let before = state.member.status;
        let (status, kind) = match (before, departure) {
            (MemberStatus::Leaving, _) | (MemberStatus::Alive, Departure::Said) => {
                (MemberStatus::Left, MemberEventKind::Leave)
            }
            (MemberStatus::Alive, Departure::Silent) => {
                (MemberStatus::Failed, MemberEventKind::Failed)
            }
            (MemberStatus::None | MemberStatus::Left | MemberStatus::Failed, _) => return,
        };
        state.member.status = status;
        state.set_absent(now);
        let member = state.member.clone();
        self.recount(Some(before), Some(status));
        self.tell(kind, member);
    }

    /// A node says that it joined, or that it lives.
    pub fn handle_join_intent(&mut self, now: Instant, name: &str, ltime: u64) -> IntentReaction {
        if !self.clock.believes(ltime) {
            return IntentReaction::Ignore;
        }
        self.clock.witness(ltime);
        if let Some(state) = self.members.get_mut(name) {
            if ltime <= state.status_ltime {
                return IntentReaction::Ignore;
            }
            state.status_ltime = ltime;
            if state.member.status == MemberStatus::Leaving {
                state.member.status = MemberStatus::Alive;
                state.absence = None;
                self.version += 1;
            }
            return IntentReaction::PassOn;
        }
        if let Some(tombstone) = self.tombstones.get(name)
            && ltime <= tombstone.ltime
        {
            return IntentReaction::Ignore;
        }
        let reaction = self.note_intent(now, name, IntentKind::Join, ltime);
        if let Some((node, _)) = self.tombstones.remove(name).and_then(|t| t.returned) {
            self.add_with_intent(now, node);
        }
        reaction
    }

    /// Somebody says that a node leaves, or is to be taken for one that left.
    pub fn handle_leave_intent(
        &mut self,
        now: Instant,
        name: &str,
        ltime: u64,
        prune: bool,
        intention: LocalIntention,
    ) -> IntentReaction {
        if !self.clock.believes(ltime) {
            return IntentReaction::Ignore;
        }
        self.clock.witness(ltime);
        if let Some(tombstone) = self.tombstones.get_mut(name) {
            if ltime <= tombstone.ltime {
                return IntentReaction::Ignore;
            }
            tombstone.ltime = ltime;
            return IntentReaction::PassOn;
        }
        let local = *name == *self.local;
        let Some(state) = self.members.get_mut(name) else {
            return self.note_intent(now, name, IntentKind::Leave, ltime);
        };
        if ltime <= state.status_ltime {
            return IntentReaction::Ignore;
        }
        if local && intention == LocalIntention::Stay {
            return IntentReaction::Refute;
        }
        // Noted even when the status stays: two leaves of different times would else echo between nodes for ever.
        state.status_ltime = ltime;
        match state.member.status {
            MemberStatus::Alive => {
                state.member.status = MemberStatus::Leaving;
                state.set_absent(now);
                self.version += 1;
            }
            MemberStatus::Failed => {
                state.member.status = MemberStatus::Left;
                let member = state.member.clone();
                self.recount(Some(MemberStatus::Failed), Some(MemberStatus::Left));
                self.tell(MemberEventKind::Leave, member);
            }
            MemberStatus::Leaving | MemberStatus::Left => {}
            MemberStatus::None => return IntentReaction::Ignore,
        }
        if prune && !local {
            self.prune(now, name);
        }
        IntentReaction::PassOn
    }

    /// Forgets members that are gone for long, and believes pruned ones that live on. Call it every now and then.
    pub fn reap(&mut self, now: Instant) {
        let Retention { failed, left, .. } = self.retention;
        let due = |state: &MemberState| {
            let pruned = state.prune_at().is_some_and(|at| at <= now);
            match state.member.status {
                MemberStatus::Failed => state.absent_for(now) > failed,
                MemberStatus::Left => pruned || state.absent_for(now) > left,
                MemberStatus::Leaving => pruned,
                MemberStatus::Alive | MemberStatus::None => false,
            }
        };
        let names: Vec<(Arc<str>, bool)> = self
            .members
            .iter()
            .filter(|(name, state)| **name != self.local && due(state))
            .map(|(name, state)| (name.clone(), state.prune_at().is_some()))
            .collect();
        for (name, pruned) in names {
            if pruned {
                self.bury(now, &name);
            } else {
                self.erase(&name);
            }
        }
        self.take_leaves_back(now);
        self.intents.expire(now);
        self.reap_tombstones(now);
    }

    /// Believes that members stay which live on for long after their leave was heard of.
    fn take_leaves_back(&mut self, now: Instant) {
        for (name, state) in &mut self.members {
            if state.member.status == MemberStatus::Leaving
                && state.prune_at().is_none()
                && *name != self.local
                && state.absent_for(now) >= PROBATION
            {
                state.member.status = MemberStatus::Alive;
                state.absence = None;
                self.version += 1;
            }
        }
    }

    fn reap_tombstones(&mut self, now: Instant) {
        let lived: Vec<Arc<str>> = self
            .tombstones
            .iter()
            .filter(|(_, tombstone)| {
                let returned = tombstone.returned.as_ref();
                returned
                    .is_some_and(|(_, since)| now.saturating_duration_since(*since) >= PROBATION)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in lived {
            if let Some((node, _)) = self.tombstones.remove(&name).and_then(|t| t.returned) {
                self.add_with_intent(now, node);
            }
        }
        let limit = self.retention.left;
        self.tombstones
            .retain(|_, tombstone| now.saturating_duration_since(tombstone.since) <= limit);
    }

    /// Forgets a member now if it is gone, and once it had time to go if it is leaving.
    fn prune(&mut self, now: Instant, name: &str) {
        let Some(state) = self.members.get_mut(name) else {
            return;
        };
        if state.member.status == MemberStatus::Leaving {
            if let Some(absence) = &mut state.absence {
                absence.prune_at = Some(now + self.retention.leaving);
            }
        } else {
            self.bury(now, name);
        }
    }

    fn bury(&mut self, now: Instant, name: &str) {
        let Some(state) = self.erase(name) else {
            return;
        };
        if self.tombstones.len() < TOMBSTONES_MAX {
            // Gossip has not said that one is gone which only leaves, and would not say again that it lives.
            let lives = state.member.status == MemberStatus::Leaving;
            let tombstone = Tombstone {
                ltime: state.status_ltime,
                since: now,
                returned: lives.then_some((state.member, now)),
            };
            self.tombstones.insert(name.into(), tombstone);
        }
    }

    fn erase(&mut self, name: &str) -> Option<MemberState> {
        let state = self.members.remove(name)?;
        self.recount(Some(state.member.status), None);
        self.tell(MemberEventKind::Reap, state.member.clone());
        Some(state)
    }

    fn note_intent(
        &mut self,
        now: Instant,
        name: &str,
        kind: IntentKind,
        ltime: u64,
    ) -> IntentReaction {
        let count_max = INTENTS_MIN.max(2 * self.members.len());
        if self.intents.note(now, name, kind, ltime, count_max) {
            IntentReaction::PassOn
        } else {
            IntentReaction::Ignore
        }
    }

    fn add_with_intent(&mut self, now: Instant, node: Member) {
        let (status, ltime) = match self.intents.get(&node.name) {
            Some(intent) if intent.kind == IntentKind::Leave => {
                (MemberStatus::Leaving, intent.ltime)
            }
            Some(intent) => (MemberStatus::Alive, intent.ltime),
            None => (MemberStatus::Alive, 0),
        };
        let leaving_since = (status == MemberStatus::Leaving).then_some(now);
        self.add(node.with_status(status), ltime, leaving_since);
    }

    fn add(&mut self, member: Member, status_ltime: u64, leaving_since: Option<Instant>) {
        let mut state = MemberState {
            member: member.clone(),
            status_ltime,
            absence: None,
        };
        if let Some(since) = leaving_since {
            state.set_absent(since);
        }
        self.members.insert(member.name.clone(), state);
        self.tell(MemberEventKind::Join, member);
    }

    fn recount(&mut self, before: Option<MemberStatus>, after: Option<MemberStatus>) {
        let count = |status, which| usize::from(status == Some(which));
        let (failed, left) = (MemberStatus::Failed, MemberStatus::Left);
        self.failed = self.failed + count(after, failed) - count(before, failed);
        self.left = self.left + count(after, left) - count(before, left);
    }

    fn tell(&mut self, kind: MemberEventKind, member: Member) {
        self.version += 1;
        let members = vec![member];
        self.events.push_back(MemberEvent { kind, members });
    }
}

#[cfg(test)]
mod tests;
