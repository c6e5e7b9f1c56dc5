//! What operators do: they start agents, have them join and leave, and give machines new addresses.

use rand::RngExt;
use serfling::cluster::{Cluster, MemberStatus, Operation};
use serfling::gossip::envelope::EnvelopeConfig;
use serfling::rpc;
use serfling::serf::SerfConfig;
use serfling::serf::coalesce::{Coalescer, PERIOD, QUIESCENT_PERIOD};

use super::{Chaos, Later, SECOND};
use crate::ledger::ProcessId;

impl Chaos {
    pub(super) fn start(&mut self, node: usize) {
        let now = self.world.now;
        let mut config = self.world.config(node);
        self.choose(node, &mut config);
        self.hand_out_keys(node);
        let disk = self.world.disks.entry(node).or_default();
        disk.full = false;
        disk.configure(now, &mut config);
        let alone = self.can_return_alone(node) && self.chance(0.5);
        if alone {
            config.seeds.clear();
        }
        let rpc = rpc::Config {
            auth_key: self.auth_key.clone(),
            outbox_bytes_max: 128 * 1024,
            clients_max: 8,
            ..rpc::Config::default()
        };
        self.world.spawn_with(node, config, rpc);
        let id = self.id(node).expect("it runs");
        self.trace(format_args!("n{node} starts, run {}", id.1));
        self.ledger.start(id);
        self.observe(node);
        if alone {
            self.trace(format_args!("n{node} is to find the others by itself"));
            self.alone.insert(id);
            self.summary.returns += 1;
            self.after(120 * SECOND, Later::Look(id));
        } else {
            self.operator_joins(id);
        }
    }

    /// Nodes differ in what can be chosen.
    fn choose(&self, node: usize, config: &mut SerfConfig) {
        if let Some(keys) = &self.keys {
            config.envelope = EnvelopeConfig {
                keyring: Some(keys.ring().clone()),
                ..EnvelopeConfig::default()
            };
        }
        config.envelope.compress = node.is_multiple_of(3);
        config.coalescer = node
            .is_multiple_of(2)
            .then(|| Coalescer::new(PERIOD, QUIESCENT_PERIOD));
        config.early_done = node.is_multiple_of(5);
        if let Some(retention) = self.retention {
            (config.reconnect_timeout, config.tombstone_timeout) = (retention, retention);
        }
        config.seeds = vec![self.world.address(0).to_string(), "host-1:7946".to_owned()];
    }

    /// Whether somebody runs whom the node's snapshot knows.
    fn can_return_alone(&self, node: usize) -> bool {
        let disk = &self.world.disks[&node];
        let name = format!("n{node}");
        disk.others(&name)
            .into_iter()
            .any(|addr| self.world.runs_at(addr))
    }

    /// Who was to find the others by itself and has not is helped: those it knew may be gone, or have moved.
    pub(super) fn look_for(&mut self, id: ProcessId) {
        let mut alive = 0;
        self.world.serf(id.0).visit_members(&mut |member| {
            alive += usize::from(member.status == MemberStatus::Alive);
        });
        if alive < self.world.count() {
            self.operator_joins(id);
        }
    }

    /// Whoever starts an agent has it join somebody, until it works.
    pub(super) fn operator_joins(&mut self, id: ProcessId) {
        let (node, now) = (id.0, self.world.now);
        let others: Vec<_> = self
            .world
            .running()
            .filter(|other| *other != node)
            .collect();
        if others.is_empty() {
            self.after(5 * SECOND, Later::Join(id));
            return;
        }
        let other = others[self.rng.random_range(0..others.len())];
        let addr = self.world.address(other);
        let addresses = vec![match self.rng.random_range(0..3) {
            0 => addr.to_string(),
            1 => format!("host-{other}"),
            _ => format!("n{other}/{addr}"),
        }];
        self.trace(format_args!("n{node} joins {addresses:?}"));
        let replay = false;
        let ticket = self.world.with(node, |serf, _| {
            serf.start(now, Operation::Join { addresses, replay })
        });
        self.ledger.process(id).joins += 1;
        self.joins.insert((id, ticket));
        self.observe(node);
    }

    /// An operator has a node leave.
    pub(super) fn operator_leaves(&mut self, node: usize) {
        let Some(id) = self.id(node) else { return };
        self.trace(format_args!("n{node} leaves"));
        self.unsound.insert(id);
        let ticket = self
            .world
            .with(node, |serf, now| serf.start(now, Operation::Leave));
        self.leaves.insert((id, ticket));
        self.observe(node);
    }

    pub(super) fn kill(&mut self, node: usize) {
        let Some(id) = self.id(node) else { return };
        self.trace(format_args!("n{node} dies"));
        let sound = !self.unsound.remove(&id) && self.up(node);
        self.world.kill(node);
        self.ledger.end(id, self.world.now, sound);
        self.alone.remove(&id);
        self.joins.retain(|(of, _)| *of != id);
        self.leaves.retain(|(of, _)| *of != id);
        self.clients.retain(|(of, _), _| *of != node);
        self.sending.retain(|(of, ..), _| *of != node);
    }

    /// The machine of a node that does not run gets another address.
    pub(super) fn readdress(&mut self, node: usize) {
        self.world.readdress(node);
        self.summary.moves += 1;
        let addr = self.world.address(node);
        self.trace(format_args!("n{node} moves to {addr}"));
    }

    /// Most took a node for an impostor; it is started again when they have noticed that it lives there no more.
    pub(super) fn evicted(&mut self, id: ProcessId, reason: &str) {
        assert!(self.world.moved(id.0), "n{} is evicted: {reason}", id.0);
        self.trace(format_args!("n{} is evicted", id.0));
        self.summary.evictions += 1;
        self.kill(id.0);
        let time = self.seconds(60, 120);
        self.after(time, Later::Return(id.0));
    }
}
