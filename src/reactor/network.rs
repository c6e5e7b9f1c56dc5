//! Carries out what a cluster asks of the network, and tells it what the network brings.
//!
//! Owns the gossip port's sockets and the streams to other nodes. Work per turn is bounded: one buffer read from a
//! stream, a bounded number of datagrams.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Registry, Token, Waker};

use super::gossip_port::GossipPort;
use super::resolver::Resolver;
use super::socket::{Progress, Socket};
use crate::cluster::{Cluster, NetworkCommand, NetworkEvent, StreamId};
use crate::rpc::Hub;

/// Packets read in a turn: their handling takes a millisecond or so.
const PACKETS_PER_TURN: usize = 128;
/// Streams accepted in a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// A stream to another node.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    socket: Socket,
    connected: bool,
    closing: bool,
    outgoing: VecDeque<u8>,
}

/// Carries out what a cluster asks of the network.
#[derive(Debug)]
pub(super) struct Network {
    port: Option<GossipPort>,
    resolver: Resolver,
    first_token: usize,
    /// By token; numbers are not used again while the process runs, short of 2^31 streams.
    streams: HashMap<usize, Stream>,
    tokens: HashMap<StreamId, usize>,
    next_token: usize,
    accepted: u64,
    /// Streams that may have something to read.
    readable: VecDeque<usize>,
}

impl Network {
    pub(super) fn new(waker: Arc<Waker>, first_token: usize) -> Self {
        Self {
            port: None,
            accepted: 0,
            resolver: Resolver::new(waker),
            first_token,
            streams: HashMap::new(),
            tokens: HashMap::new(),
            next_token: 0,
            readable: VecDeque::new(),
        }
    }

    /// Whether there is something to do without waiting for the poll.
    pub(super) fn has_work(&self) -> bool {
        !self.readable.is_empty() || self.has_packets()
    }

    /// Whether packets may wait to be read.
    pub(super) fn has_packets(&self) -> bool {
        self.port.as_ref().is_some_and(GossipPort::has_packets)
    }

    /// Gossips on this port from now on.
    pub(super) fn open(
        &mut self,
        mut port: GossipPort,
        registry: &Registry,
        packets: Token,
        listener: Token,
    ) -> io::Result<()> {
        port.register(registry, packets, listener)?;
        self.port = Some(port);
        Ok(())
    }

    /// The gossip port.
    pub(super) const fn port_mut(&mut self) -> Option<&mut GossipPort> {
        self.port.as_mut()
    }

    /// When there is something to do about the listener though nothing comes in.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let port = self.port.as_ref()?;
        if port.may_accept(now) {
            Some(now)
        } else {
            port.rest_ends()
        }
    }

    /// Accepts the streams that other nodes open.
    pub(super) fn accept<C: Cluster>(
        &mut self,
        now: Instant,
        registry: &Registry,
        hub: &mut Hub<C>,
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(port) = self.port.as_mut().filter(|port| port.may_accept(now)) else {
                return;
            };
            let Some((socket, from)) = port.accept(now) else {
                return;
            };
            let id = StreamId::accepted(self.accepted);
            self.accepted += 1;
            match self.add(registry, id, Socket::Tcp(socket), true) {
                Ok(()) => {
                    let event = NetworkEvent::Accepted { stream: id, from };
                    hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
                }
                Err(error) => log::error!("memberlist: can't serve {from}: {error}"),
            }
        }
    }

    /// Reads packets, a bounded number.
    pub(super) fn read_packets<C: Cluster>(
        &mut self,
        now: Instant,
        hub: &mut Hub<C>,
        scratch: &mut [u8],
    ) {
        for _ in 0..PACKETS_PER_TURN {
            let Some(port) = self.port.as_mut().filter(|port| port.has_packets()) else {
                return;
            };
            let Some((length, from)) = port.receive(scratch) else {
                return;
            };
            let payload = scratch.get(..length).unwrap_or_default();
            let event = NetworkEvent::Packet { from, payload };
            hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
        }
    }

    /// Tells the cluster of names that were looked up.
    pub(super) fn take_resolved<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>) {
        while let Some(resolved) = self.resolver.poll() {
            let event = NetworkEvent::Resolved {
                request: resolved.request,
                result: resolved.result,
            };
            hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
        }
    }

    /// Carries out what the cluster asks.
    pub(super) fn carry_out<C: Cluster>(
        &mut self,
        now: Instant,
        registry: &Registry,
        hub: &mut Hub<C>,
    ) {
        while let Some(command) = hub.poll_network() {
            match command {
                NetworkCommand::Resolve { request, host } => self.resolver.start(request, host),
                NetworkCommand::Connect { stream, to } => {
                    if let Err(error) = self.connect(registry, stream, to) {
                        let event = NetworkEvent::Ended {
                            stream,
                            error: Some(describe(&error)),
                        };
                        hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
                    }
                }
                NetworkCommand::Write { stream, bytes } => {
                    if let Some(&token) = self.tokens.get(&stream) {
                        if let Some(stream) = self.streams.get_mut(&token) {
                            stream.outgoing.extend(bytes);
                        }
                        self.write(now, hub, token);
                    }
                }
                NetworkCommand::Close { stream } => {
                    if let Some(&token) = self.tokens.get(&stream) {
                        if let Some(stream) = self.streams.get_mut(&token) {
                            stream.closing = true;
                        }
                        self.write(now, hub, token);
                    }
                }
                NetworkCommand::Reset { stream } => {
                    if let Some(&token) = self.tokens.get(&stream) {
                        self.remove(token);
                    }
                }
                NetworkCommand::SendPacket { to, payload } => {
                    let sent = match &mut self.port {
                        Some(port) => port.send(to, payload),
                        None => Err(io::ErrorKind::NotConnected.into()),
                    };
                    if let Err(error) = sent {
                        let error = describe(&error);
                        let event = NetworkEvent::PacketFailed { to, error };
                        hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
                    }
                }
            }
        }
    }

    fn connect(&mut self, registry: &Registry, id: StreamId, to: SocketAddr) -> io::Result<()> {
        self.add(registry, id, Socket::Tcp(TcpStream::connect(to)?), false)
    }

    fn add(
        &mut self,
        registry: &Registry,
        id: StreamId,
        mut socket: Socket,
        connected: bool,
    ) -> io::Result<()> {
        let token = self.first_token + self.next_token;
        socket.register(registry, Token(token))?;
        self.next_token += 1;
        let stream = Stream {
            id,
            socket,
            connected,
            closing: false,
            outgoing: VecDeque::new(),
        };
        self.streams.insert(token, stream);
        self.tokens.insert(id, token);
        Ok(())
    }

    /// The poll reports something about the stream of this token.
    pub(super) fn note_ready<C: Cluster>(
        &mut self,
        now: Instant,
        hub: &mut Hub<C>,
        token: Token,
        event: &mio::event::Event,
    ) {
        let Some(stream) = self.streams.get_mut(&token.0) else {
            return;
        };
        if !stream.connected {
            match stream.socket.take_error() {
                Ok(()) if event.is_writable() => {
                    stream.connected = true;
                    let event = NetworkEvent::Connected { stream: stream.id };
                    hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
                }
                Ok(()) => return,
                Err(error) => return self.end(now, hub, token.0, Some(&error)),
            }
        }
        if event.is_writable() {
            self.write(now, hub, token.0);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.readable.push_back(token.0);
        }
    }

    /// Reads once from every stream that has something to read.
    pub(super) fn read<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>, scratch: &mut [u8]) {
        for _ in 0..self.readable.len() {
            let Some(token) = self.readable.pop_front() else {
                break;
            };
            let Some(stream) = self.streams.get_mut(&token) else {
                continue;
            };
            match stream.socket.read(scratch) {
                Progress::Bytes(count) => {
                    self.readable.push_back(token);
                    let bytes = scratch.get(..count).unwrap_or_default();
                    let event = NetworkEvent::Received {
                        stream: stream.id,
                        bytes,
                    };
                    hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
                }
                Progress::Blocked => {}
                Progress::Ended => self.end(now, hub, token, None),
                Progress::Broken(error) => self.end(now, hub, token, Some(&error)),
            }
        }
    }

    fn write<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>, token: usize) {
        let Some(stream) = self.streams.get_mut(&token) else {
            return;
        };
        while stream.connected && !stream.outgoing.is_empty() {
            let (front, _) = stream.outgoing.as_slices();
            match stream.socket.write(front) {
                Progress::Bytes(count) => drop(stream.outgoing.drain(..count)),
                Progress::Blocked | Progress::Ended => return,
                Progress::Broken(error) => return self.end(now, hub, token, Some(&error)),
            }
        }
        if stream.closing && (stream.outgoing.is_empty() || !stream.connected) {
            self.end(now, hub, token, None);
        }
    }

    fn end<C: Cluster>(
        &mut self,
        now: Instant,
        hub: &mut Hub<C>,
        token: usize,
        error: Option<&io::Error>,
    ) {
        let Some(stream) = self.remove(token) else {
            return;
        };
        let event = NetworkEvent::Ended {
            stream: stream.id,
            error: error.map(describe),
        };
        hub.with_cluster(now, |cluster| cluster.handle_network(now, event));
    }

    fn remove(&mut self, token: usize) -> Option<Stream> {
        let stream = self.streams.remove(&token)?;
        self.tokens.remove(&stream.id);
        Some(stream)
    }
}

/// A system error as the reference words it: lower case, without the number.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}
