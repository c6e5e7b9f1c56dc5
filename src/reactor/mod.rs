//! The only code that touches sockets, signals and the clock: one mio `Poll`, one thread.
//!
//! [`Server`] puts the RPC server on the network, in front of any cluster. [`Server::run`] drives it until it is
//! stopped; a host program with a loop of its own calls [`Server::turn`] instead.
//!
//! A turn reads once from every client that has something to say, lets timers fire, goes on with requests that had to
//! wait, and then writes to every client what the turn brought for it, at once. So a burst of requests is answered with
//! one write, and nobody's turn is longer than a buffer of requests.

mod children;
mod clients;
mod gossip_port;
mod listener;
mod metrics_port;
#[cfg(feature = "mdns")]
mod multicast;
mod network;
mod resolver;
pub(crate) mod socket;

pub use children::{ChildEvent, ErrorOutput};
pub use gossip_port::GossipPort;
pub use listener::ListenError;
#[cfg(feature = "mdns")]
pub use multicast::{MulticastInterface, MulticastPort};

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{debug, warn};
use mio::{Events, Poll, Token, Waker};
use rustix::process::Signal;
use signal_hook::consts::SIGCHLD;
use signal_hook_mio::v1_0::Signals;

use self::children::Children;
use self::clients::Clients;
use self::listener::Listener;
use self::metrics_port::MetricsPort;
use self::network::Network;
use crate::address::RpcAddr;
use crate::cluster::{Cluster, Event, Outcome, Ticket};
use crate::log_ring::LogRing;
use crate::rpc::{self, Hub, HubEvent};

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const PACKETS: Token = Token(2);
const STREAMS: Token = Token(3);
const FIRST_LISTENER: usize = 4;
/// Listeners there can be.
const LISTENERS_MAX: usize = 16;
/// Tokens of clients, of children's pipes and of streams to other nodes begin here, of 31 bits a half for each half.
const FIRST_CLIENT: usize = FIRST_LISTENER + LISTENERS_MAX;
const FIRST_CHILD: usize = 1 << 29;
const FIRST_METRICS: usize = FIRST_CHILD - MetricsPort::tokens();
#[cfg(feature = "mdns")]
const FIRST_MULTICAST: usize = FIRST_STREAM - MulticastPort::tokens();
const FIRST_STREAM: usize = 1 << 30;
/// Events taken from the poll at once.
const EVENTS_MAX: usize = 1024;
/// Connections accepted in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// What is read from a client in a turn, in bytes.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Packets are read before timers fire, but a flood of them holds no timer up for longer than this.
const TIMERS_WAIT_MAX: Duration = Duration::from_millis(50);
/// How long clients may take to take their last bytes when the server stops.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refused the loop itself.
    #[error("can't set up the event loop: {0}")]
    Loop(#[from] io::Error),
    /// More addresses than a server takes.
    #[error("a server listens on {LISTENERS_MAX} addresses at most")]
    TooManyListeners,
}

/// What a server's owner must know.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// The node has left the cluster; the server is stopping.
    Left,
    /// A signal came that the server watches.
    Signal(i32),
    /// Something happened in the cluster. Told only after [`Server::tell_events`].
    Event(Event),
    /// A child did something: the number it was started with.
    Child(u64, ChildEvent),
    /// A packet came to the port that [`Server::open_multicast`] opened.
    #[cfg(feature = "mdns")]
    Multicast {
        /// How.
        via: crate::mdns::Via,
        /// Where from.
        from: SocketAddr,
        /// What.
        payload: Vec<u8>,
    },
    /// The cluster takes another node for this one; the server is stopping.
    Evicted {
        /// Why, for people.
        reason: String,
    },
    /// An operation that the owner started on the cluster has ended.
    Completed {
        /// What [`Cluster::start`] returned.
        ticket: Ticket,
        /// How it ended.
        outcome: Outcome,
    },
}

/// Stops a server from elsewhere: another thread, or a signal handler's.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Has the server stop. Repeating it is harmless.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // It fails when the loop is gone, which is as good.
        let _ = self.waker.wake();
    }
}

/// What turns have cost so far.
#[derive(Debug, Clone, Copy, Default)]
struct Turns {
    count: u64,
    busy: Duration,
    longest: Duration,
}

impl Turns {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.busy += took;
        self.longest = self.longest.max(took);
    }

    /// In Prometheus' text format, with what the process holds of memory.
    fn metrics(self) -> String {
        let resident = std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok())
            .map_or(0, |pages| pages * rustix::param::page_size());
        format!(
            "# TYPE serfling_loop_turns_total counter\nserfling_loop_turns_total {}\n\
             # TYPE serfling_loop_busy_seconds_total counter\nserfling_loop_busy_seconds_total {:.6}\n\
             # TYPE serfling_loop_longest_turn_seconds gauge\nserfling_loop_longest_turn_seconds {:.6}\n\
             # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {resident}\n",
            self.count,
            self.busy.as_secs_f64(),
            self.longest.as_secs_f64(),
        )
    }
}

/// How far a server's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    /// Takes no clients; sends the last bytes to those it has.
    Stopping {
        until: Instant,
    },
    Stopped,
}

/// An RPC server on the network, in front of a cluster.
pub struct Server<C> {
    poll: Poll,
    events: Events,
    hub: Hub<C>,
    listeners: Vec<Listener>,
    clients: Clients,
    network: Network,
    children: Children,
    metrics: Option<MetricsPort>,
    #[cfg(feature = "mdns")]
    multicast: Option<MulticastPort>,
    turns: Turns,
    signals: Option<Signals>,
    stopper: Stopper,
    told: VecDeque<ServerEvent>,
    scratch: Vec<u8>,
    life: Life,
}

impl<C: Cluster> Server<C> {
    /// A server in front of `cluster` that does not listen yet. Monitors show the lines of `log`.
    ///
    /// # Errors
    /// [`ServerError::Loop`].
    pub fn new(config: rpc::Config, cluster: C, log: Arc<LogRing>) -> Result<Self, ServerError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            hub: Hub::new(Instant::now(), config, cluster, log),
            listeners: Vec::new(),
            clients: Clients::new(FIRST_CLIENT),
            network: Network::new(Arc::clone(&waker), FIRST_STREAM),
            children: Children::new(FIRST_CHILD),
            metrics: None,
            #[cfg(feature = "mdns")]
            multicast: None,
            turns: Turns::default(),
            signals: None,
            stopper: Stopper {
                stop: Arc::default(),
                waker,
            },
            told: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            life: Life::Serving,
        })
    }

    /// Listens on an address; returns the one that was bound, with the port the system chose for port 0.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::TooManyListeners`].
    pub fn listen(&mut self, address: &RpcAddr) -> Result<RpcAddr, ServerError> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(ServerError::TooManyListeners);
        }
        let token = Token(FIRST_LISTENER + self.listeners.len());
        let listener = Listener::open(address, self.poll.registry(), token)?;
        let local = listener.local_address()?;
        if let Some(bound) = listener.socket_address()
            && !bound.ip().is_loopback()
            && !self.hub.has_auth_key()
        {
            warn!(
                "agent.ipc: RPC listens on {bound}, which others can reach, without an auth key: set rpc_auth"
            );
        }
        self.listeners.push(listener);
        Ok(local)
    }

    /// Gossips on this port: the cluster behind the server gets its packets and streams.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open_gossip_port(&mut self, port: GossipPort) -> io::Result<()> {
        self.network
            .open(port, self.poll.registry(), PACKETS, STREAMS)
    }

    /// Serves the figures of `stats` as a page for Prometheus at `/metrics`; returns the address that was bound.
    ///
    /// # Errors
    /// When the address is taken, or not this machine's.
    pub fn listen_metrics(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        let port = MetricsPort::open(addr, self.poll.registry(), FIRST_METRICS)?;
        let addr = port.local_addr()?;
        self.metrics = Some(port);
        Ok(addr)
    }

    /// Takes part in multicast DNS: what comes is told as [`ServerEvent::Multicast`].
    ///
    /// # Errors
    /// When the system refuses.
    #[cfg(feature = "mdns")]
    pub fn open_multicast(&mut self, mut port: MulticastPort) -> io::Result<()> {
        port.register(self.poll.registry(), FIRST_MULTICAST)?;
        self.multicast = Some(port);
        Ok(())
    }

    /// Sends a packet of multicast DNS, where a port is open for it.
    #[cfg(feature = "mdns")]
    pub fn send_multicast(&mut self, transmit: &crate::mdns::Transmit) {
        if let Some(port) = &mut self.multicast {
            port.send(transmit);
        }
    }

    #[cfg(feature = "mdns")]
    fn read_multicast(&mut self) {
        let Some(port) = &mut self.multicast else {
            return;
        };
        for _ in 0..multicast::PACKETS_PER_TURN {
            let Some((length, via, from)) = port.receive(&mut self.scratch) else {
                return;
            };
            let payload = self.scratch.get(..length).unwrap_or_default().to_vec();
            let event = ServerEvent::Multicast { via, from, payload };
            self.told.push_back(event);
        }
    }

    /// The TCP address of the first listener that has one.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(Listener::socket_address)
    }

    /// Tells of these signals with [`ServerEvent::Signal`], instead of what the system does by default.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn watch_signals(&mut self, signals: &[i32]) -> io::Result<()> {
        let mut source = Signals::new(signals)?;
        self.poll
            .registry()
            .register(&mut source, SIGNALS, mio::Interest::READABLE)?;
        self.signals = Some(source);
        Ok(())
    }

    /// What `stats` shows of the owner.
    pub const fn owner_stats(&mut self) -> &mut rpc::OwnerStats {
        self.hub.owner_stats()
    }

    /// Starts a child process, which gets `input` as its standard input. What it does is told as
    /// [`ServerEvent::Child`] with the number given. [`SIGCHLD`] must be among the
    /// signals that are [watched](Self::watch_signals): it is how a child's end is noticed.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start_child(
        &mut self,
        number: u64,
        command: &mut Command,
        input: Vec<u8>,
        errors: ErrorOutput,
    ) -> io::Result<()> {
        self.children
            .start(self.poll.registry(), number, command, input, errors)
    }

    /// Signals a child and all it has started.
    pub fn signal_child(&self, number: u64, signal: Signal) {
        self.children.signal(number, signal);
    }

    /// Stops the server from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The sessions and the cluster behind them.
    #[must_use]
    pub fn hub(&self) -> &Hub<C> {
        &self.hub
    }

    /// Changes the cluster from outside; clients hear of it in the next turn.
    pub fn with_cluster<R>(&mut self, change: impl FnOnce(&mut C, Instant) -> R) -> R {
        let now = Instant::now();
        self.hub.with_cluster(now, |cluster| change(cluster, now))
    }

    /// Has [`poll_event`](Self::poll_event) tell of cluster events too.
    pub fn tell_events(&mut self) {
        self.hub.tell_events();
    }

    /// Leaves the cluster gracefully; ends with [`ServerEvent::Left`].
    pub fn leave(&mut self) {
        self.hub.leave(Instant::now());
    }

    /// Stops: no more clients are taken, those there are get what waits for them, then all is closed. Repeating it is
    /// harmless.
    pub fn stop(&mut self) {
        if self.life == Life::Serving {
            self.hub.shut_down();
            for listener in self.listeners.drain(..) {
                listener.close(self.poll.registry());
            }
            self.life = Life::Stopping {
                until: Instant::now() + LAST_BYTES_TIMEOUT,
            };
        }
    }

    /// Whether the server has stopped, and [`turn`](Self::turn) does nothing any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.life == Life::Stopped
    }

    /// The next thing the owner must know.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.told.pop_front()
    }

    /// Serves until stopped or left.
    ///
    /// # Errors
    /// When the system's poll fails.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_stopped() {
            self.turn(None)?;
            self.told.clear();
        }
        Ok(())
    }

    /// Waits for something to do, `timeout` at the most, and does it.
    ///
    /// # Errors
    /// When the system's poll fails.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.is_stopped() {
            return Ok(());
        }
        let timeout = [self.poll_timeout(), timeout].into_iter().flatten().min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = Instant::now();
        let clients_before = self.hub.client_count();
        self.take_events(now);
        self.accept(now);
        self.network
            .accept(now, self.poll.registry(), &mut self.hub);
        self.network
            .read_packets(now, &mut self.hub, &mut self.scratch);
        self.network.read(now, &mut self.hub, &mut self.scratch);
        self.clients.read(now, &mut self.hub, &mut self.scratch);
        #[cfg(feature = "mdns")]
        self.read_multicast();
        self.children.read(&mut self.scratch);
        self.told.extend(
            std::iter::from_fn(|| self.children.poll_event())
                .map(|(number, event)| ServerEvent::Child(number, event)),
        );
        // Timers come after what has come in: a packet that waited is no packet that failed to come.
        let packets_wait = self.network.has_packets();
        let due = self.hub.poll_timeout();
        if due.is_some_and(|due| due <= now && (!packets_wait || due + TIMERS_WAIT_MAX <= now)) {
            self.hub.handle_timeout(now);
        }
        if self.hub.has_ready() {
            self.hub.handle_ready(now);
        }
        self.network
            .carry_out(now, self.poll.registry(), &mut self.hub);
        self.hub.handle_log(now);
        self.clients.write(now, &mut self.hub);
        self.close_clients(now);
        if self.hub.client_count() < clients_before {
            self.listeners
                .iter_mut()
                .for_each(|listener| listener.end_rest(now));
        }
        if let Some(metrics) = &mut self.metrics {
            let (hub, turns) = (&self.hub, self.turns);
            metrics.serve(now, self.poll.registry(), || {
                hub.metrics() + &turns.metrics()
            });
        }
        self.take_hub_events();
        self.go_on_stopping(now);
        self.turns.add(now.elapsed());
        Ok(())
    }

    /// How long until [`turn`](Self::turn) has something to do though nothing comes in; `None` for ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        #[cfg(feature = "mdns")]
        if self
            .multicast
            .as_ref()
            .is_some_and(MulticastPort::has_packets)
        {
            return Some(Duration::ZERO);
        }
        if self.clients.has_work()
            || self.network.has_work()
            || self.children.has_work()
            || self.hub.has_ready()
        {
            return Some(Duration::ZERO);
        }
        if self
            .listeners
            .iter()
            .any(|listener| listener.may_accept(now))
        {
            return Some(Duration::ZERO);
        }
        let stopping = match self.life {
            Life::Stopping { until } => Some(until),
            Life::Serving | Life::Stopped => None,
        };
        let rests = self.listeners.iter().filter_map(Listener::rest_ends);
        let due = rests
            .chain(stopping)
            .chain(self.network.poll_timeout(now))
            .chain(self.metrics.as_ref().and_then(MetricsPort::poll_timeout))
            .chain(self.hub.poll_timeout())
            .min();
        due.map(|due| due.saturating_duration_since(now))
    }

    fn take_events(&mut self, now: Instant) {
        for event in &self.events {
            match event.token() {
                WAKER => {}
                SIGNALS => {
                    for signal in self.signals.iter_mut().flat_map(Signals::pending) {
                        if signal == SIGCHLD {
                            self.children.reap(&mut self.scratch);
                        } else {
                            self.told.push_back(ServerEvent::Signal(signal));
                        }
                    }
                }
                PACKETS => {
                    if let Some(port) = self.network.port_mut() {
                        port.note_packets(event);
                    }
                }
                STREAMS => {
                    if let Some(port) = self.network.port_mut() {
                        port.note_listener();
                    }
                }
                token if token.0 < FIRST_CLIENT => {
                    if let Some(listener) = self.listeners.get_mut(token.0 - FIRST_LISTENER) {
                        listener.note_ready();
                    }
                }
                token if token.0 < FIRST_METRICS => {
                    self.clients.note_ready(&self.hub, token, event)
                }
                token if token.0 < FIRST_CHILD => {
                    if let Some(metrics) = &mut self.metrics {
                        metrics.note_ready(token);
                    }
                }
                #[cfg(feature = "mdns")]
                token if (FIRST_MULTICAST..FIRST_STREAM).contains(&token.0) => {
                    if let Some(port) = &mut self.multicast {
                        port.note_ready(token.0 - FIRST_MULTICAST);
                    }
                }
                token if token.0 < FIRST_STREAM => self.children.note_ready(token, event),
                token => self.network.note_ready(now, &mut self.hub, token, event),
            }
        }
        self.network.take_resolved(now, &mut self.hub);
        if self.stopper.stop.load(Ordering::Acquire) {
            self.stop();
        }
    }

    fn accept(&mut self, now: Instant) {
        for listener in &mut self.listeners {
            for _ in 0..ACCEPTS_PER_TURN {
                if !listener.may_accept(now) {
                    break;
                }
                let Some((socket, peer)) = listener.accept(now) else {
                    break;
                };
                match self.hub.accept(now, peer) {
                    Ok(id) => {
                        if let Err(error) = self.clients.add(self.poll.registry(), socket, id) {
                            debug!("agent.ipc: Client {peer} is closed: {error}");
                            self.hub.handle_gone(now, id);
                        }
                    }
                    // The socket is closed as it goes out of scope.
                    Err(error) => debug!("agent.ipc: Client {peer} is closed: {error}"),
                }
            }
        }
    }

    fn close_clients(&mut self, now: Instant) {
        while let Some(id) = self.hub.poll_close() {
            self.clients.close(now, &mut self.hub, id);
        }
    }

    fn take_hub_events(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            match event {
                HubEvent::Left => {
                    self.told.push_back(ServerEvent::Left);
                    self.stop();
                }
                HubEvent::Event(event) => self.told.push_back(ServerEvent::Event(event)),
                HubEvent::Evicted { reason } => {
                    self.told.push_back(ServerEvent::Evicted { reason });
                    self.stop();
                }
                HubEvent::Completed { ticket, outcome } => {
                    let event = ServerEvent::Completed { ticket, outcome };
                    self.told.push_back(event);
                }
            }
        }
    }

    /// Ends a server that is stopping once nothing waits for its clients, or it has taken too long.
    fn go_on_stopping(&mut self, now: Instant) {
        let Life::Stopping { until } = self.life else {
            return;
        };
        let unsent = self
            .hub
            .clients()
            .any(|id| !self.hub.pending(id).is_empty());
        if unsent && now < until {
            return;
        }
        let clients: Vec<_> = self.hub.clients().collect();
        for id in clients {
            self.clients.close(now, &mut self.hub, id);
        }
        self.life = Life::Stopped;
    }
}

impl<C> AsRawFd for Server<C> {
    /// The poll's own descriptor, for a host program's loop: readable when [`Server::turn`] has something to do.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}
