//! The gossip port: a UDP socket and a TCP listener at one address.
//!
//! Packets are read in bounded batches, so that a flood of them holds up nobody else. What the system does not take at
//! once waits in a bounded queue. A listener that is out of descriptors rests, like that of RPC.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

/// What the system is asked to hold of packets that came in (memberlist's `udpRecvBufSize`), in bytes.
const RECEIVE_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// Packets that wait for the system to take them.
const UNSENT_MAX: usize = 1024;
/// How often another port is tried when the system may choose it: the one of TCP may be taken for UDP.
const BIND_ATTEMPTS: usize = 10;
/// How long nobody is accepted after the system refused a descriptor.
const REST: Duration = Duration::from_millis(250);

/// A UDP socket and a TCP listener at one address.
#[derive(Debug)]
pub struct GossipPort {
    packets: UdpSocket,
    listener: TcpListener,
    addr: SocketAddr,
    packets_ready: bool,
    listener_ready: bool,
    resting_until: Option<Instant>,
    unsent: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl GossipPort {
    /// Binds both; with port 0 to the same free port.
    ///
    /// # Errors
    /// When the address is taken, or not this machine's.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let attempts = if addr.port() == 0 { BIND_ATTEMPTS } else { 1 };
        let mut result = Self::bind_once(addr);
        for _ in 1..attempts {
            match &result {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    result = Self::bind_once(addr);
                }
                _ => break,
            }
        }
        result
    }

    fn bind_once(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        let packets = UdpSocket::bind(addr)?;
        // The system may grant less, which only means that it drops more in a burst.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&packets, RECEIVE_BUFFER_BYTES);
        Ok(Self {
            packets,
            listener,
            addr,
            packets_ready: false,
            listener_ready: false,
            resting_until: None,
            unsent: VecDeque::new(),
        })
    }

    /// The address that was bound, with its port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn register(
        &mut self,
        registry: &Registry,
        packets: Token,
        listener: Token,
    ) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.packets, packets, both)?;
        registry.register(&mut self.listener, listener, Interest::READABLE)
    }

    /// The poll reports something about the packets. Those that waited are sent, as far as the system takes them.
    pub(super) fn note_packets(&mut self, event: &Event) {
        self.packets_ready |= event.is_readable() || event.is_error();
        if event.is_writable() {
            self.send_unsent();
        }
    }

    /// The poll reports that somebody connects.
    pub(super) const fn note_listener(&mut self) {
        self.listener_ready = true;
    }

    /// Whether packets may wait.
    pub(super) const fn has_packets(&self) -> bool {
        self.packets_ready
    }

    /// Whether somebody may wait to be accepted now.
    pub(super) fn may_accept(&self, now: Instant) -> bool {
        self.listener_ready && self.resting_until.is_none_or(|until| until <= now)
    }

    /// When the listener has rested enough, if it does.
    pub(super) fn rest_ends(&self) -> Option<Instant> {
        self.resting_until.filter(|_| self.listener_ready)
    }

    /// The next packet: its length in `buffer`, and where it is from.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        // Errors reported here are about packets sent before; each is reported once.
        const ERRORS_MAX: usize = 64;
        for _ in 0..ERRORS_MAX {
            match self.packets.recv_from(buffer) {
                Ok((length, from)) => return Some((length, canonical(from))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.packets_ready = false;
                    return None;
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Sends a packet, now or when the system takes it.
    pub(super) fn send(&mut self, to: SocketAddr, packet: Vec<u8>) -> io::Result<()> {
        if self.unsent.is_empty() {
            match self.packets.send_to(&packet, to) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if self.unsent.len() >= UNSENT_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.unsent.push_back((to, packet));
        Ok(())
    }

    fn send_unsent(&mut self) {
        while let Some((to, packet)) = self.unsent.front() {
            match self.packets.send_to(packet, *to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A packet may get lost on any way.
                Ok(_) | Err(_) => drop(self.unsent.pop_front()),
            }
        }
    }

    /// The next stream that another node opens.
    pub(super) fn accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        self.resting_until = None;
        loop {
            match self.listener.accept() {
                Ok((stream, from)) => return Some((stream, canonical(from))),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.listener_ready = false;
                        return None;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        log::error!("memberlist: Error accepting TCP connection: {error}");
                        self.resting_until = Some(now + REST);
                        return None;
                    }
                },
            }
        }
    }
}

/// An IPv4 address that came over an IPv6 socket, as what it is.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
