//! How often and how long: the profiles of memberlist, and how its times grow with the cluster.
//!
//! Source: hashicorp/memberlist, `config.go` (`DefaultLANConfig`, `DefaultWANConfig`, `DefaultLocalConfig`) and
//! `util.go` (`suspicionTimeout`, `retransmitLimit`, `pushPullScale`).

use std::time::Duration;

/// From this many nodes on, each doubling makes push/pulls rarer.
const PUSH_PULL_SCALE_THRESHOLD: f64 = 32.0;

/// How often a node probes, gossips and compares, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Between probes of other nodes, one at a time.
    pub probe_interval: Duration,
    /// How long a probe waits before it asks others for help.
    pub probe_timeout: Duration,
    /// How many others are asked.
    pub indirect_checks: usize,
    /// A node is suspected for this many probe intervals at least, times the cluster's power of ten.
    pub suspicion_mult: u32,
    /// And this many times that, as long as nobody else suspects it.
    pub suspicion_max_mult: u32,
    /// A broadcast is sent this many times, times the cluster's power of ten.
    pub retransmit_mult: u32,
    /// Between rounds of gossip.
    pub gossip_interval: Duration,
    /// To how many nodes a round goes.
    pub gossip_nodes: usize,
    /// How long dead nodes are still gossiped to, so that those that are not dead can refute it.
    pub gossip_to_the_dead: Duration,
    /// Between comparisons of all that is known with another node, in a small cluster.
    pub push_pull_interval: Duration,
    /// How long a stream may take.
    pub stream_timeout: Duration,
    /// The health score stays below this.
    pub awareness_max: u32,
}

impl Timing {
    /// For a local network.
    pub const LAN: Self = Self {
        probe_interval: Duration::from_secs(1),
        probe_timeout: Duration::from_millis(500),
        indirect_checks: 3,
        suspicion_mult: 4,
        suspicion_max_mult: 6,
        retransmit_mult: 4,
        gossip_interval: Duration::from_millis(200),
        gossip_nodes: 3,
        gossip_to_the_dead: Duration::from_secs(30),
        push_pull_interval: Duration::from_secs(30),
        stream_timeout: Duration::from_secs(10),
        awareness_max: 8,
    };

    /// For the internet.
    pub const WAN: Self = Self {
        probe_interval: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(3),
        suspicion_mult: 6,
        gossip_interval: Duration::from_millis(500),
        gossip_nodes: 4,
        gossip_to_the_dead: Duration::from_secs(60),
        push_pull_interval: Duration::from_secs(60),
        stream_timeout: Duration::from_secs(30),
        ..Self::LAN
    };

    /// For the loopback address.
    pub const LOCAL: Self = Self {
        probe_timeout: Duration::from_millis(200),
        indirect_checks: 1,
        suspicion_mult: 3,
        retransmit_mult: 2,
        gossip_interval: Duration::from_millis(100),
        gossip_to_the_dead: Duration::from_secs(15),
        push_pull_interval: Duration::from_secs(15),
        stream_timeout: Duration::from_secs(1),
        ..Self::LAN
    };

    /// How long a node among `nodes` is suspected at least.
    #[must_use]
    pub fn suspicion_min(&self, nodes: usize) -> Duration {
        let scale = (nodes.max(1) as f64).log10().max(1.0);
        // In thousandths, as memberlist rounds it.
        let thousandths = (scale * 1000.0) as u32;
        self.probe_interval * self.suspicion_mult * thousandths / 1000
    }

    /// How long a node among `nodes` is suspected while nobody confirms it.
    #[must_use]
    pub fn suspicion_max(&self, nodes: usize) -> Duration {
        self.suspicion_min(nodes) * self.suspicion_max_mult
    }

    /// How many confirmations bring the longest suspicion down to the shortest; 0 where the cluster has too few nodes to
    /// give them.
    #[must_use]
    pub const fn confirmations(&self, nodes: usize) -> u32 {
        let expected = self.suspicion_mult.saturating_sub(2);
        if nodes < expected as usize + 2 {
            0
        } else {
            expected
        }
    }

    /// How often a broadcast is sent among `nodes`.
    #[must_use]
    pub fn retransmit_limit(&self, nodes: usize) -> u32 {
        self.retransmit_mult * power_of_ten(nodes)
    }

    /// How long between comparisons among `nodes`.
    #[must_use]
    pub fn push_pull_interval(&self, nodes: usize) -> Duration {
        let nodes = nodes as f64;
        if nodes <= PUSH_PULL_SCALE_THRESHOLD {
            return self.push_pull_interval;
        }
        let doublings = (nodes / PUSH_PULL_SCALE_THRESHOLD).log2().ceil();
        self.push_pull_interval * (doublings as u32 + 1)
    }
}

/// How many powers of ten reach past `nodes`: `ceil(log10(nodes + 1))`, without floating point.
#[must_use]
pub fn power_of_ten(nodes: usize) -> u32 {
    let mut powers = 0;
    let mut power = 1usize;
    while power <= nodes {
        powers += 1;
        power = power.saturating_mul(10);
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_with_the_cluster_as_memberlists_do() {
        let lan = Timing::LAN;
        for (nodes, suspicion, retransmits, push_pull) in [
            (1, 4_000, 4, 30),
            (3, 4_000, 4, 30),
            (10, 4_000, 8, 30),
            (33, 6_072, 8, 60),
            (100, 8_000, 12, 90),
            (1_000, 12_000, 16, 180),
            (10_000, 16_000, 20, 300),
        ] {
            assert_eq!(lan.suspicion_min(nodes).as_millis(), suspicion, "{nodes}");
            assert_eq!(lan.retransmit_limit(nodes), retransmits, "{nodes}");
            assert_eq!(
                lan.push_pull_interval(nodes).as_secs(),
                push_pull,
                "{nodes}"
            );
        }
        assert_eq!(lan.suspicion_max(10), Duration::from_secs(24));
    }

    #[test]
    fn small_clusters_expect_no_confirmations() {
        assert_eq!(Timing::LAN.confirmations(3), 0);
        assert_eq!(Timing::LAN.confirmations(4), 2);
        assert_eq!(Timing::LOCAL.confirmations(2), 0);
        assert_eq!(Timing::LOCAL.confirmations(3), 1);
    }
}
