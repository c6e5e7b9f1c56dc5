//! The sockets of multicast DNS: for IPv4 and IPv6 each one of the group's, which the machine's other responders share,
//! and one to ask from, which nobody else gets answers of.
//!
//! The group's sockets are bound to the group's address and joined on one interface: what is sent to this machine alone,
//! or on another network, does not arrive. What the system does not take at once is lost, as any packet may be.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::mdns::{Destination, GROUP_V4, GROUP_V6, PORT, Transmit, Via};

/// Receivers may take anything less for a packet from elsewhere (RFC 6762, 11).
const HOPS: u32 = 255;
/// Errors taken from a socket in a turn: they are about packets sent before, and each is reported once.
const ERRORS_MAX: usize = 64;
/// Packets read in a turn.
pub(super) const PACKETS_PER_TURN: usize = 64;

/// The network interface that multicast DNS uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MulticastInterface {
    /// Its name.
    pub name: String,
    /// The system's number for it.
    pub index: u32,
    /// Its address, for IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Whether to use IPv6.
    pub v6: bool,
}

/// The sockets for one version of IP.
#[derive(Debug)]
struct Family {
    group: SocketAddr,
    listener: UdpSocket,
    asker: UdpSocket,
    /// Whether packets may wait, of the listener and of the asker.
    ready: [bool; 2],
    /// Whether the last question could be sent.
    works: bool,
}

/// The sockets of multicast DNS.
#[derive(Debug)]
pub struct MulticastPort {
    families: Vec<Family>,
}

impl MulticastPort {
    /// Takes part in multicast DNS on an interface.
    ///
    /// # Errors
    /// When the system refuses both versions of IP, or those that the interface has.
    pub fn open(interface: &MulticastInterface) -> io::Result<Self> {
        let v4 = interface.v4.map(|addr| Family::v4(interface.index, addr));
        let v6 = interface.v6.then(|| Family::v6(interface.index));
        let mut families = Vec::new();
        let mut failed = None;
        for (version, family) in [("IPv4", v4), ("IPv6", v6)] {
            match family {
                Some(Ok(family)) => families.push(family),
                Some(Err(error)) => {
                    log::warn!(
                        "agent.mdns: No multicast by {version} on {}: {error}",
                        interface.name
                    );
                    failed = Some(error);
                }
                None => {}
            }
        }
        if families.is_empty() {
            return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
        }
        Ok(Self { families })
    }

    /// How many tokens it takes.
    pub(super) const fn tokens() -> usize {
        4
    }

    pub(super) fn register(&mut self, registry: &Registry, first_token: usize) -> io::Result<()> {
        for (at, family) in self.families.iter_mut().enumerate() {
            let token = first_token + 2 * at;
            registry.register(&mut family.listener, Token(token), Interest::READABLE)?;
            registry.register(&mut family.asker, Token(token + 1), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The poll reports the socket of this token, counted from the first.
    pub(super) fn note_ready(&mut self, token: usize) {
        if let Some(family) = self.families.get_mut(token / 2) {
            family.ready[token % 2] = true;
        }
    }

    pub(super) fn has_packets(&self) -> bool {
        self.families
            .iter()
            .any(|family| family.ready != [false; 2])
    }

    /// The next packet: its length in `buffer`, how it came, and where it is from.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, Via, SocketAddr)> {
        self.families
            .iter_mut()
            .find_map(|family| family.receive(buffer))
    }

    /// Sends a packet.
    pub(super) fn send(&mut self, transmit: &Transmit) {
        let payload = &transmit.payload;
        match transmit.to {
            Destination::Ask => self
                .families
                .iter_mut()
                .for_each(|family| family.ask(payload)),
            Destination::Group => {
                for family in &self.families {
                    let _ = family.listener.send_to(payload, family.group);
                }
            }
            Destination::One(to) => {
                let same = |family: &&Family| family.group.is_ipv4() == to.is_ipv4();
                if let Some(family) = self.families.iter().find(same) {
                    let _ = family.listener.send_to(payload, to);
                }
            }
        }
    }
}

impl Family {
    fn v4(index: u32, addr: Ipv4Addr) -> io::Result<Self> {
        let group = SocketAddr::from((GROUP_V4, PORT));
        let open = |bind: SocketAddr| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(bind == group)?;
            socket.bind(&bind.into())?;
            socket.set_multicast_if_v4(&addr)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            Ok::<_, io::Error>(socket)
        };
        let listener = open(group)?;
        // Without this the socket gets what other sockets have joined on other interfaces.
        listener.set_multicast_all_v4(false)?;
        listener.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
        let asker = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        Ok(Self::new(group, listener, asker))
    }

    fn v6(index: u32) -> io::Result<Self> {
        let group = SocketAddr::V6(SocketAddrV6::new(GROUP_V6, PORT, 0, index));
        let open = |bind: SocketAddr| {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            socket.set_only_v6(true)?;
            socket.set_reuse_address(bind == group)?;
            socket.bind(&bind.into())?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(HOPS)?;
            Ok::<_, io::Error>(socket)
        };
        let listener = open(group)?;
        listener.join_multicast_v6(&GROUP_V6, index)?;
        let asker = open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))?;
        Ok(Self::new(group, listener, asker))
    }

    fn new(group: SocketAddr, listener: Socket, asker: Socket) -> Self {
        Self {
            group,
            listener: UdpSocket::from_std(listener.into()),
            asker: UdpSocket::from_std(asker.into()),
            ready: [false; 2],
            works: true,
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, Via, SocketAddr)> {
        let sockets = [(&self.listener, Via::Group), (&self.asker, Via::Own)];
        for (ready, (socket, via)) in self.ready.iter_mut().zip(sockets) {
            for _ in 0..ERRORS_MAX {
                if !*ready {
                    break;
                }
                match socket.recv_from(buffer) {
                    Ok((length, from)) => return Some((length, via, from)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => *ready = false,
                    Err(_) => {}
                }
            }
        }
        None
    }

    /// Sends a question; says so when that begins or ceases to work.
    fn ask(&mut self, payload: &[u8]) {
        let sent = self.asker.send_to(payload, self.group);
        match &sent {
            Ok(_) if !self.works => log::info!("agent.mdns: Can ask {} again", self.group),
            Err(error) if self.works => log::warn!("agent.mdns: Can't ask {}: {error}", self.group),
            _ => {}
        }
        self.works = sent.is_ok();
    }
}
