//! Clusters of both kinds of agents on the loopback address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serfling::client::{Client, Options};
use serfling::cluster::{MemberStatus, Tags, VersionRange};

use crate::common::agent::{Agent, Kind, free_port};

/// How long the slowest thing may take: suspicion of a node in the local profile.
const PATIENCE: Duration = Duration::from_secs(120);

/// What an agent says of a member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) addr: IpAddr,
    pub(crate) port: u16,
    pub(crate) tags: Tags,
    pub(crate) status: MemberStatus,
    pub(crate) protocol: VersionRange,
    pub(crate) delegate: VersionRange,
}

/// A node of a mixed cluster.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) agent: Agent,
    pub(crate) client: Client,
}

impl Node {
    /// Starts an agent in the local profile, which finds out about failures soonest.
    pub(crate) fn start(kind: Kind, name: &str, arguments: &[&str]) -> Self {
        Self::start_at(kind, name, (free_port(), free_port()), arguments)
    }

    pub(crate) fn start_at(kind: Kind, name: &str, ports: (u16, u16), arguments: &[&str]) -> Self {
        let node = format!("-node={name}");
        let mut all = vec![&*node, "-profile=local", "-log-level=debug"];
        all.extend(arguments);
        let agent = Agent::start_at(kind, &all, None, None, ports);
        let client = connect(&agent);
        let name = name.to_owned();
        Self {
            name,
            agent,
            client,
        }
    }

    /// Starts an agent that joins a node at its start.
    pub(crate) fn joining(kind: Kind, name: &str, other: &Self, arguments: &[&str]) -> Self {
        let join = format!("-join={}", other.gossip_addr());
        let mut all = vec![&*join];
        all.extend(arguments);
        Self::start(kind, name, &all)
    }

    /// Joins over RPC: how many answered, and what went wrong.
    pub(crate) fn join(&mut self, addresses: &[String]) -> (usize, Option<String>) {
        match self.client.join(addresses, false) {
            Ok(joined) => (joined.count, joined.error),
            Err(error) => (0, Some(error.to_string())),
        }
    }

    pub(crate) fn ports(&self) -> (u16, u16) {
        (self.agent.rpc_port, self.agent.gossip_port)
    }

    pub(crate) fn gossip_addr(&self) -> String {
        format!("127.0.0.1:{}", self.agent.gossip_port)
    }

    /// What it says of all members, by name.
    pub(crate) fn members(&mut self) -> BTreeMap<String, Seen> {
        let members = self.client.members().expect("members");
        members
            .into_iter()
            .map(|member| {
                let seen = Seen {
                    addr: member.addr,
                    port: member.port,
                    tags: member.tags.clone(),
                    status: member.status,
                    protocol: member.protocol,
                    delegate: member.delegate,
                };
                (member.name.to_string(), seen)
            })
            .collect()
    }

    pub(crate) fn status_of(&mut self, name: &str) -> Option<MemberStatus> {
        self.members().get(name).map(|member| member.status)
    }

    pub(crate) fn stat(&mut self, section: &str, key: &str) -> u64 {
        let stats = self.client.stats().expect("stats");
        stats[section][key].parse().expect("a number")
    }
}

pub(crate) fn connect(agent: &Agent) -> Client {
    let address = format!("127.0.0.1:{}", agent.rpc_port).parse();
    Client::connect(&Options::new(address.expect("an address"))).expect("it connects")
}

/// Waits until something holds; says what all nodes logged if it does not.
pub(crate) fn wait_until(
    what: &str,
    nodes: &mut [Node],
    mut holds: impl FnMut(&mut [Node]) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(nodes) {
        if Instant::now() >= deadline {
            for node in &mut *nodes {
                let members = node.members();
                println!("== {} sees {members:#?}\n{}", node.name, node.agent.log());
            }
            panic!("gave up waiting: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until every node believes so of one.
pub(crate) fn wait_for_status(nodes: &mut [Node], name: &str, status: Option<MemberStatus>) {
    wait_until(&format!("{name} is {status:?}"), nodes, |nodes| {
        nodes.iter_mut().all(|node| node.status_of(name) == status)
    });
}

/// Waits until all nodes see the same members, so many of them alive.
pub(crate) fn wait_for_agreement(nodes: &mut [Node], alive: usize) {
    wait_until("all see the same", nodes, |nodes| {
        let mut views = nodes.iter_mut().map(Node::members);
        let Some(first) = views.next() else {
            return true;
        };
        let count = first
            .values()
            .filter(|member| member.status == MemberStatus::Alive)
            .count();
        count == alive && views.all(|view| view == first)
    });
}
