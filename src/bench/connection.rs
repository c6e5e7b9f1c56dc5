//! One connection of a run: its socket, what waits to be sent, and what came of an incomplete message.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mio::net::{TcpStream, UnixStream};
use mio::{Registry, Token};
use rustix::net::sockopt::set_socket_linger;

use super::BenchError;
use super::wire::{FIRST_SEQ, next_seq};
use crate::address::RpcAddr;
use crate::reactor::socket::{Progress, Socket};

/// Where the agent is, looked up.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    pub(super) fn resolve(address: &RpcAddr) -> io::Result<Self> {
        Ok(match address {
            RpcAddr::Tcp(address) => Self::Tcp(address.resolve()?),
            RpcAddr::Unix(path) => Self::Unix(path.clone()),
        })
    }
}

/// A request that is not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// When it was due, in nanoseconds of the run.
    pub(super) due: u64,
    /// When it was sent.
    pub(super) sent: u64,
}

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Role {
    /// Asks, again and again; of [`super::Workload::FanOut`], publishes.
    Client,
    /// Gets the events of a run; the number of the last one, by publisher.
    Subscriber { last: Vec<u32> },
    /// Asks queries; those not over by number, beginning with this one.
    Asker {
        first: u32,
        open: VecDeque<Option<Waiting>>,
    },
    /// Answers queries.
    Responder,
    /// Comes and goes.
    Visitor,
    /// Does nothing.
    Idle,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The system is at it.
    Connecting,
    /// So many answers are missing until it is ready.
    Greeting(u32),
    Ready,
    /// It was closed, or not opened yet.
    Gone,
}

/// One connection of a run.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) role: Role,
    pub(super) stage: Stage,
    socket: Option<Socket>,
    writable: bool,
    outgoing: Vec<u8>,
    written: usize,
    /// An incomplete message.
    inbox: Vec<u8>,
    /// Number of the next request.
    pub(super) next: u32,
    /// Number of the next request to be answered.
    pub(super) expected: u32,
    /// Requests not answered, in their order. Empty while greeting.
    pub(super) waiting: VecDeque<Waiting>,
    /// Requests that are not over.
    pub(super) in_flight: usize,
    /// Requests sent so far, while it runs.
    pub(super) sent: u32,
}

impl Connection {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            stage: Stage::Gone,
            socket: None,
            writable: false,
            outgoing: Vec::new(),
            written: 0,
            inbox: Vec::new(),
            next: FIRST_SEQ,
            expected: FIRST_SEQ,
            waiting: VecDeque::new(),
            in_flight: 0,
            sent: 0,
        }
    }

    /// Begins to connect.
    pub(super) fn open(
        &mut self,
        target: &Target,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let mut socket = match target {
            Target::Tcp(address) => Socket::Tcp(TcpStream::connect(*address)?),
            Target::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.register(registry, token)?;
        self.socket = Some(socket);
        self.stage = Stage::Connecting;
        self.writable = false;
        self.outgoing.clear();
        self.written = 0;
        self.inbox.clear();
        self.next = FIRST_SEQ;
        self.expected = FIRST_SEQ;
        Ok(())
    }

    /// Takes in that the system has connected it, or has not.
    pub(super) fn handle_connected(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        socket.take_error()?;
        if let Socket::Tcp(stream) = socket {
            stream.set_nodelay(true)?;
        }
        self.writable = true;
        Ok(())
    }

    /// Closes it. A reset leaves nothing behind that would use up ports.
    pub(super) fn close(&mut self) {
        if let Some(Socket::Tcp(stream)) = &self.socket {
            // Without it the port is free a minute later, which is as correct.
            let _ = set_socket_linger(stream, Some(std::time::Duration::ZERO));
        }
        self.socket = None;
        self.stage = Stage::Gone;
    }

    /// Appends a request; `push` gets its number.
    pub(super) fn send(&mut self, push: impl FnOnce(u32, &mut Vec<u8>)) {
        push(self.next, &mut self.outgoing);
        self.next = next_seq(self.next);
    }

    /// Whether an answer with this number is the next one to come.
    pub(super) fn awaits(&self, seq: u64) -> bool {
        self.expected != self.next && u64::from(self.expected) == seq
    }

    /// The poll says that the socket takes bytes.
    pub(super) fn note_writable(&mut self) {
        self.writable = true;
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.writable
            && let Some(rest) = self
                .outgoing
                .get(self.written..)
                .filter(|rest| !rest.is_empty())
            && let Some(socket) = &mut self.socket
        {
            match socket.write(rest) {
                Progress::Bytes(count) => {
                    self.writable = count == rest.len();
                    self.written += count;
                }
                Progress::Blocked => self.writable = false,
                Progress::Ended => return Err(io::ErrorKind::WriteZero.into()),
                Progress::Broken(error) => return Err(error),
            }
        }
        if self.written == self.outgoing.len() {
            self.outgoing.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        match &mut self.socket {
            Some(socket) => socket.read(buffer),
            None => Progress::Blocked,
        }
    }

    /// Cuts what came into messages. `take` says how long the message is that its bytes begin with, if it is whole.
    pub(super) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&mut Self, &[u8]) -> Result<Option<usize>, BenchError>,
    ) -> Result<(), BenchError> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let input = if inbox.is_empty() {
            bytes
        } else {
            inbox.extend_from_slice(bytes);
            &inbox
        };
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty())
            && let Some(length) = take(self, rest)?
        {
            used += length;
            if self.stage == Stage::Gone {
                return Ok(());
            }
        }
        if inbox.is_empty() {
            inbox.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            inbox.drain(..used);
        }
        self.inbox = inbox;
        Ok(())
    }
}
