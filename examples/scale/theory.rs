//! What theory says of the times, the load and the failures that are measured.
//!
//! Sources: A. Das, I. Gupta, A. Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
//! Protocol" (DSN 2002): detection in section 3.1, dissemination in section 4.1; A. Demers et al., "Epidemic Algorithms
//! for Replicated Database Maintenance" (PODC 1987); A. Dadgar, J. Phillips, J. Currey, "Lifeguard: Local Health
//! Awareness for More Accurate Failure Detection" (arXiv:1707.00788): suspicion; Serf's convergence simulator, on its
//! web site; and memberlist's defaults for a local network.

use std::collections::VecDeque;
use std::f64::consts::E;

use crate::data::Point;
use crate::wire;

/// To how many nodes a round of gossip goes.
const FAN_OUT: f64 = 3.0;
/// Between rounds of gossip, in seconds.
const GOSSIP_INTERVAL: f64 = 0.2;
/// Between probes, in seconds.
const PROBE_INTERVAL: f64 = 1.0;
/// Suspicion lasts this many probe intervals, times the cluster's power of ten.
const SUSPICION_MULT: f64 = 4.0;
/// And this many times that while nobody confirms it.
const SUSPICION_MAX_MULT: f64 = 6.0;
/// A message is sent this many times, times the cluster's power of ten.
const RETRANSMIT_MULT: f64 = 4.0;
/// Between comparisons of states, in seconds, up to [`PUSH_PULL_NODES`]; with each doubling from there on it is as much
/// more.
const PUSH_PULL_INTERVAL: f64 = 30.0;
const PUSH_PULL_NODES: f64 = 32.0;
/// How many others are asked to probe for one.
const INDIRECT_CHECKS: i32 = 3;
/// From one node to the next on the simulated network, in seconds: a packet takes 1.6 ms on average, and timers tick
/// once in a millisecond.
const HOP: f64 = 0.0021;

/// The share of `nodes` that know something after so many seconds, by Serf's convergence simulator. It takes a contact
/// for half of one, so that it is on the safe side.
pub(crate) fn simulator(nodes: f64, seconds: f64) -> f64 {
    let rounds = seconds / GOSSIP_INTERVAL;
    1.0 / (1.0 + (nodes + 1.0) * (-0.5 * FAN_OUT * rounds).exp())
}

/// The same by the logistic curve of an epidemic, as in SWIM's paper: whoever knows tells [`FAN_OUT`] others in every
/// interval, at a random moment of it.
pub(crate) fn epidemic(nodes: f64, seconds: f64) -> f64 {
    let rounds = seconds / GOSSIP_INTERVAL;
    1.0 / (1.0 + (nodes - 1.0) * (-FAN_OUT * rounds).exp())
}

/// After how many seconds all of `nodes` know, by [`epidemic`]: fewer than half a node is left.
pub(crate) fn epidemic_all(nodes: f64) -> f64 {
    ((nodes - 1.0) * (2.0 * nodes - 1.0)).ln() / FAN_OUT * GOSSIP_INTERVAL
}

/// The shares that know after each hop, where whoever hears something passes it on at once and then in every interval:
/// what a quiet node does here. Ends when all know.
///
/// In each hop, of those that know nothing a share of (1 - 3/(n-1))^s stays ignorant, where s nodes send. First a wave
/// runs through the cluster; it dies where 1 - x = e^-3x, at 94 %, as it meets those that know already. Those left out
/// hear of it some intervals later.
pub(crate) fn forwarding(nodes: f64) -> Vec<Point> {
    let interval_hops = (GOSSIP_INTERVAL / HOP).round() as usize;
    let rounds = (retransmits(nodes) / FAN_OUT).floor() as usize;
    let mut ignorant = 1.0 - 1.0 / nodes;
    // What share heard of it in each of the last hops, the newest first.
    let mut heard = VecDeque::from([1.0 / nodes]);
    let mut points = vec![Point {
        seconds: 0.0,
        share: 1.0 / nodes,
    }];
    while ignorant * nodes > 0.5 && points.len() < rounds * interval_hops {
        let turns = heard.iter().step_by(interval_hops).take(rounds);
        let senders = nodes * turns.sum::<f64>();
        let still = ignorant * (1.0 - FAN_OUT / (nodes - 1.0)).powf(senders);
        heard.push_front(ignorant - still);
        ignorant = still;
        points.push(Point {
            seconds: points.len() as f64 * HOP,
            share: 1.0 - ignorant,
        });
    }
    points
}

/// After how many seconds all know, by [`forwarding`].
pub(crate) fn forwarding_all(nodes: f64) -> f64 {
    forwarding(nodes).last().map_or(0.0, |point| point.seconds)
}

/// How often each node sends a message.
pub(crate) fn retransmits(nodes: f64) -> f64 {
    RETRANSMIT_MULT * (nodes + 1.0).log10().ceil()
}

/// Until somebody finds that a node does not answer, in seconds: in each interval one of the others probes it with
/// probability 1 - 1/e (SWIM), and finds out at the end of it.
pub(crate) fn detection() -> f64 {
    E / (E - 1.0) * PROBE_INTERVAL
}

/// How long a node is suspected that enough others suspect too, in seconds.
pub(crate) fn suspicion_min(nodes: f64) -> f64 {
    SUSPICION_MULT * nodes.log10().max(1.0) * PROBE_INTERVAL
}

/// How long a node is suspected that nobody else suspects, in seconds.
pub(crate) fn suspicion_max(nodes: f64) -> f64 {
    SUSPICION_MAX_MULT * suspicion_min(nodes)
}

/// Packets that a node sends per second at rest: a ping, and an ack for another's.
pub(crate) fn packets() -> f64 {
    2.0 / PROBE_INTERVAL
}

/// Bytes of those packets.
pub(crate) fn packet_bytes() -> f64 {
    wire::probe_bytes() as f64 / PROBE_INTERVAL
}

/// Bytes that a node writes to streams per second at rest: its state, once as the one who asks and, on average, once as
/// the one who answers.
pub(crate) fn stream_bytes(nodes: usize) -> f64 {
    let doublings = (nodes as f64 / PUSH_PULL_NODES).log2().ceil().max(0.0);
    let interval = PUSH_PULL_INTERVAL * (doublings + 1.0);
    2.0 * wire::state(nodes).len() as f64 / interval
}

/// What share of probes fails where this share of packets and segments is lost: ping or ack is lost, one of the four
/// packets is on each of the ways through others, and TCP does not save it.
///
/// TCP has half a second. An opening that is lost is sent again after one, so it must not be lost, either way; of the ping
/// and of its ack, which are sent again after 200 ms and then 600, each may be lost once.
pub(crate) fn failed_probes(loss: f64) -> f64 {
    let comes = 1.0 - loss;
    let direct = comes.powi(2);
    let through_others = comes.powi(4);
    let tcp = comes.powi(2) * (1.0 - loss * loss).powi(2);
    (1.0 - direct) * (1.0 - through_others).powi(INDIRECT_CHECKS) * (1.0 - tcp)
}

/// What share of nodes never hears of something, where this share of packets is lost: each node sends it so many times to
/// random others, so each is sent it as often on average, and e^-average of all get nothing.
pub(crate) fn missed(nodes: f64, loss: f64) -> f64 {
    (-retransmits(nodes) * (1.0 - loss)).exp()
}
