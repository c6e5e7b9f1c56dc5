//! The agent's discovery (`-discover`): has [`Mdns`] run on the chosen network interface, and joins whom it finds.
//!
//! Who is a member already is not joined. Of many that are found a few are joined at once: the others are heard of from
//! them, and if not, found again in the next round. So a join that fails is tried again, where the reference tries once.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use log::{error, info};

use super::config::Config;
use crate::cluster::{Cluster, MemberStatus, Operation, Outcome, Ticket};
use crate::mdns::{self, Mdns, MdnsError, Via};
use crate::reactor::{MulticastInterface, MulticastPort, Server};
use crate::serf::Serf;

/// Nodes that are joined at once.
const JOINS_MAX: usize = 16;

/// Why there is no discovery.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The cluster has no name to be found by.
    #[error(transparent)]
    Name(#[from] MdnsError),
    /// The interface is none.
    #[error("{0}")]
    Interface(String),
    /// The sockets can't be had.
    #[error("can't take part in multicast DNS on interface {interface}: {source}")]
    Open {
        /// The interface's name.
        interface: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("can't read random data: {0}")]
    Random(#[from] getrandom::Error),
}

/// Checks what can be checked without taking part.
pub(super) fn check(config: &Config) -> Result<(), DiscoverError> {
    let Some(cluster) = &config.discover else {
        return Ok(());
    };
    mdns::check_name(cluster)?;
    match named_interface(config) {
        Some(name) => interface(config, name).map(drop),
        None => Ok(()),
    }
}

/// An agent's discovery.
pub(super) struct Discovery {
    core: Mdns,
    replay: bool,
    joining: Option<Ticket>,
}

impl Discovery {
    /// Begins, if it is configured; `bind` is where gossip is bound.
    pub(super) fn open(
        config: &Config,
        bind: &IpAddr,
        server: &mut Server<Serf>,
    ) -> Result<Option<Self>, DiscoverError> {
        let Some(cluster) = &config.discover else {
            return Ok(None);
        };
        let interface = match named_interface(config) {
            Some(name) => interface(config, name)?,
            None => interface(config, &likely_interface(bind)?)?,
        };
        let failed = |source| DiscoverError::Open {
            interface: interface.name.clone(),
            source,
        };
        let port = MulticastPort::open(&interface).map_err(failed)?;
        server.open_multicast(port).map_err(failed)?;
        info!(
            "agent: Starting mDNS listener on interface {}",
            interface.name
        );
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let local = server.hub().cluster().local();
        let addr = SocketAddr::new(local.addr, local.port);
        Ok(Some(Self {
            core: Mdns::new(Instant::now(), cluster, &config.node_name, addr, seed)?,
            replay: config.replay_on_join,
            joining: None,
        }))
    }

    /// When [`carry_out`](Self::carry_out) wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    /// A packet came.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        via: Via,
        from: SocketAddr,
        payload: &[u8],
    ) {
        self.core.handle_packet(now, via, from, payload);
    }

    /// Does what is due: asks, answers and joins.
    pub(super) fn carry_out(&mut self, now: Instant, server: &mut Server<Serf>) {
        self.core.handle_timeout(now);
        while let Some(transmit) = self.core.poll_transmit() {
            server.send_multicast(&transmit);
        }
        while let Some(found) = self.core.poll_found() {
            if self.joining.is_none() {
                self.join(found, server);
            }
        }
    }

    fn join(&mut self, found: Vec<SocketAddr>, server: &mut Server<Serf>) {
        let mut members = HashSet::new();
        server.hub().cluster().visit_members(&mut |member| {
            if member.status == MemberStatus::Alive {
                members.insert(SocketAddr::new(member.addr, member.port));
            }
        });
        let strangers = found.into_iter().filter(|addr| !members.contains(addr));
        let addresses: Vec<String> = strangers
            .take(JOINS_MAX)
            .map(|addr| addr.to_string())
            .collect();
        if addresses.is_empty() {
            return;
        }
        info!("agent.mdns: Joining {}", addresses.join(", "));
        let replay = self.replay;
        let operation = Operation::Join { addresses, replay };
        self.joining = Some(server.with_cluster(|serf, now| serf.start(now, operation)));
    }

    /// A join of the agent's has ended.
    pub(super) fn handle_completed(&mut self, ticket: Ticket, outcome: &Outcome) {
        let Outcome::Joined { count, failures } = outcome else {
            return;
        };
        if self.joining != Some(ticket) {
            return;
        }
        self.joining = None;
        if let Some(failures) = failures {
            error!("agent.mdns: Failed to join: {}", failures.0.join("; "));
        }
        if *count > 0 {
            info!("agent.mdns: Joined {count} hosts");
        }
    }
}

/// The interface that the configuration names, if it does.
fn named_interface(config: &Config) -> Option<&str> {
    let own = Some(config.mdns.interface.as_str()).filter(|name| !name.is_empty());
    own.or(config.interface.as_deref())
}

/// The name of the interface that has the address of gossip, or else of the one that the system sends multicast from.
fn likely_interface(bind: &IpAddr) -> Result<String, DiscoverError> {
    let refuse = |reason: String| {
        DiscoverError::Interface(format!(
            "{reason}; choose a network interface with -mdns-iface or -iface"
        ))
    };
    let addr = if bind.is_unspecified() || bind.is_loopback() {
        multicast_source()
            .map_err(|error| refuse(format!("the system has no way for multicast: {error}")))?
    } else {
        *bind
    };
    let all = if_addrs::get_if_addrs().map_err(|error| refuse(error.to_string()))?;
    all.into_iter()
        .find(|interface| interface.ip() == addr)
        .map(|interface| interface.name)
        .ok_or_else(|| refuse(format!("no interface has the address {addr}")))
}

/// The address that packets to the groups of multicast DNS leave from. Connecting sends nothing.
fn multicast_source() -> io::Result<IpAddr> {
    let source = |from: IpAddr, group: IpAddr| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect((group, mdns::PORT))?;
        socket.local_addr().map(|addr| addr.ip())
    };
    let v4 = source(Ipv4Addr::UNSPECIFIED.into(), mdns::GROUP_V4.into());
    v4.or_else(|error| {
        source(Ipv6Addr::UNSPECIFIED.into(), mdns::GROUP_V6.into()).map_err(|_| error)
    })
}

/// What multicast needs to know of the interface of this name.
fn interface(config: &Config, name: &str) -> Result<MulticastInterface, DiscoverError> {
    let refuse = |reason: String| DiscoverError::Interface(format!("interface {name}: {reason}"));
    let all = if_addrs::get_if_addrs().map_err(|error| refuse(error.to_string()))?;
    let addresses = || all.iter().filter(|interface| interface.name == name);
    let Some(index) = addresses().find_map(|interface| interface.index) else {
        let mut names: Vec<&str> = all.iter().map(|interface| &*interface.name).collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(", ");
        return Err(refuse(format!(
            "there is none of that name with an address; there are {names}"
        )));
    };
    let mut v4 = addresses().filter_map(|interface| match interface.ip() {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    });
    // Multicast over IPv6 has no way on the loopback interface.
    let mut v6 =
        addresses().filter(|interface| interface.ip().is_ipv6() && !interface.is_loopback());
    let interface = MulticastInterface {
        name: name.to_owned(),
        index,
        v4: v4.next().filter(|_| !config.mdns.disable_ipv4),
        v6: v6.next().is_some() && !config.mdns.disable_ipv6,
    };
    if interface.v4.is_none() && !interface.v6 {
        return Err(refuse(
            "it has no address of the version of IP that is to be used".to_owned(),
        ));
    }
    Ok(interface)
}
