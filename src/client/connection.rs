//! Bytes to and from an agent, sorted by whom they are for.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{ClientError, Options};
use crate::address::RpcAddr;
use crate::msgpack::frame::{DEPTH_MAX, Limits, Progress, Scanner};
use crate::rpc::message::{Command, RequestHeader, ResponseHeader, Text};

/// A response larger than this is refused, in bytes: some hundred thousand members.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How long a read of what should be there may take.
const READ_WAIT: Duration = Duration::from_millis(1);
/// These refusals have no body, whatever the command.
const ERRORS_WITHOUT_BODY: [&str; 2] = ["Authentication required", "Handshake required"];

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn open(options: &Options) -> io::Result<Self> {
        match &options.address {
            RpcAddr::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            RpcAddr::Tcp(address) => {
                let stream =
                    TcpStream::connect_timeout(&address.resolve()?, options.connect_timeout)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Duration) -> io::Result<()> {
        // The system takes zero for no timeout at all.
        let read = read.map(|read| read.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream
                .set_read_timeout(read)
                .and_then(|()| stream.set_write_timeout(Some(write))),
            Self::Unix(stream) => stream
                .set_read_timeout(read)
                .and_then(|()| stream.set_write_timeout(Some(write))),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) seq: u64,
    pub(super) error: Option<String>,
    pub(super) body: Option<Vec<u8>>,
}

/// A request whose answer has not come.
#[derive(Debug, Clone, Copy)]
struct Sent {
    command: Command,
    /// Whether somebody will take the answer.
    wanted: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    timeout: Duration,
    next_seq: u64,
    inbox: Vec<u8>,
    /// How much of the inbox has been taken.
    taken: usize,
    scanner: Scanner,
    /// A header whose body has not come yet.
    header: Option<(u64, Option<String>)>,
    sent: HashMap<u64, Sent>,
    /// Answers that have come, and wait to be taken.
    replies: HashMap<u64, Reply>,
    /// Records that have come, by subscription.
    records: HashMap<u64, VecDeque<Vec<u8>>>,
}

impl Connection {
    pub(super) fn open(options: &Options) -> Result<Self, ClientError> {
        let socket = Socket::open(options).map_err(|source| ClientError::Connect {
            address: options.address.clone(),
            source,
        })?;
        Ok(Self {
            socket,
            timeout: options.request_timeout,
            next_seq: 0,
            inbox: Vec::new(),
            taken: 0,
            scanner: new_scanner(),
            header: None,
            sent: HashMap::new(),
            replies: HashMap::new(),
            records: HashMap::new(),
        })
    }

    /// Sends a request; its answer is to be taken by the number that is returned.
    pub(super) fn send<B: Serialize>(
        &mut self,
        command: Command,
        body: Option<&B>,
    ) -> Result<u64, ClientError> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut request = Vec::new();
        encode(
            &mut request,
            &RequestHeader {
                command: Text(command.name()),
                seq,
            },
        )?;
        if let Some(body) = body {
            encode(&mut request, body)?;
        }
        self.socket
            .set_timeouts(Some(self.timeout), self.timeout)
            .map_err(ClientError::Io)?;
        self.socket.write_all(&request).map_err(failed)?;
        let wanted = true;
        self.sent.insert(seq, Sent { command, wanted });
        Ok(seq)
    }

    /// Sends a request and waits for its answer.
    pub(super) fn exchange<B: Serialize>(
        &mut self,
        command: Command,
        body: Option<&B>,
    ) -> Result<Reply, ClientError> {
        let seq = self.send(command, body)?;
        self.finish(seq)
    }

    /// Sends a request for records, waits for its answer, and keeps the records that follow.
    pub(super) fn subscribe<B: Serialize>(
        &mut self,
        command: Command,
        body: &B,
    ) -> Result<u64, ClientError> {
        let reply = self.exchange(command, Some(body))?;
        match reply.error {
            Some(error) => Err(ClientError::Agent(error)),
            None => {
                self.records.insert(reply.seq, VecDeque::new());
                Ok(reply.seq)
            }
        }
    }

    /// The answer to a request, waited for as long as a request may take.
    pub(super) fn finish(&mut self, seq: u64) -> Result<Reply, ClientError> {
        if let Some(reply) = self.reply(seq, Some(self.timeout))? {
            return Ok(reply);
        }
        // It may come yet, and must be known for what it is.
        if let Some(sent) = self.sent.get_mut(&seq) {
            sent.wanted = false;
        }
        Err(ClientError::Timeout)
    }

    /// The answer to a request; `None` when it does not come in time.
    pub(super) fn reply(
        &mut self,
        seq: u64,
        timeout: Option<Duration>,
    ) -> Result<Option<Reply>, ClientError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(reply) = self.replies.remove(&seq) {
                return Ok(Some(reply));
            }
            if !self.read_message(deadline)? {
                return Ok(None);
            }
        }
    }

    /// An answer that has come already.
    pub(super) fn take_reply(&mut self, seq: u64) -> Option<Reply> {
        self.replies.remove(&seq)
    }

    /// The next record of a subscription; `None` when none comes in time, or it has ended.
    pub(super) fn next_record(
        &mut self,
        seq: u64,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        while self.records.contains_key(&seq) {
            if let Some(record) = self.take_record(seq) {
                return Ok(Some(record));
            }
            if !self.read_message(deadline)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// A record that has come already.
    pub(super) fn take_record(&mut self, seq: u64) -> Option<Vec<u8>> {
        self.records.get_mut(&seq)?.pop_front()
    }

    /// Waits for a record of any subscription.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, ClientError> {
        if self.records.values().any(|records| !records.is_empty()) {
            return Ok(true);
        }
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        self.read_message(deadline)
    }

    /// Reads once and sorts in what came.
    pub(super) fn receive(&mut self) -> Result<(), ClientError> {
        self.fill(Some(Instant::now() + READ_WAIT))?;
        while self.sort_in()? {}
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, seq: u64) {
        self.records.remove(&seq);
    }

    /// Reads until a header, and what belongs to it, is sorted in. Says whether one came before the deadline.
    fn read_message(&mut self, deadline: Option<Instant>) -> Result<bool, ClientError> {
        loop {
            if self.sort_in()? {
                return Ok(true);
            }
            if !self.fill(deadline)? {
                return Ok(false);
            }
        }
    }

    /// Takes a header, and what belongs to it, from the inbox, and keeps it for whom it is. Says whether one was there.
    fn sort_in(&mut self) -> Result<bool, ClientError> {
        if self.header.is_none() {
            let Some(frame) = self.take_frame()? else {
                return Ok(false);
            };
            let header: ResponseHeader<'_> = rmp_serde::from_slice(&frame)
                .map_err(|error| ClientError::Protocol(error.to_string()))?;
            let error = Some(header.error.0.to_owned()).filter(|error| !error.is_empty());
            self.header = Some((header.seq, error));
        }
        let Some((seq, error)) = self.header.clone() else {
            return Ok(false);
        };
        // What is no answer is a record, and a record has a body, whoever it is for.
        let answered = self.sent.get(&seq).copied();
        let has_body = answered.is_none_or(|sent| {
            let bare = error
                .as_deref()
                .is_some_and(|error| ERRORS_WITHOUT_BODY.contains(&error));
            sent.command.response_has_body() && !bare
        });
        let body = if has_body {
            let Some(body) = self.take_frame()? else {
                return Ok(false);
            };
            Some(body)
        } else {
            None
        };
        self.header = None;
        if let Some(sent) = answered {
            self.sent.remove(&seq);
            if sent.wanted {
                self.replies.insert(seq, Reply { seq, error, body });
            }
        } else if let (Some(records), Some(body)) = (self.records.get_mut(&seq), body) {
            records.push_back(body);
        }
        Ok(true)
    }

    /// Takes a whole object from the inbox.
    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let bytes = self.inbox.get(self.taken..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let progress = self
            .scanner
            .scan(bytes)
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        let Progress::Complete(length) = progress else {
            return Ok(None);
        };
        self.scanner = new_scanner();
        let frame = bytes.get(..length).unwrap_or_default().to_vec();
        self.taken += frame.len();
        Ok(Some(frame))
    }

    /// Reads once into the inbox. Says whether something came before the deadline.
    fn fill(&mut self, deadline: Option<Instant>) -> Result<bool, ClientError> {
        self.inbox.drain(..self.taken);
        self.taken = 0;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            self.socket
                .set_timeouts(left, self.timeout)
                .map_err(ClientError::Io)?;
            let mut buffer = [0; READ_BYTES];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => {
                    self.inbox
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    return Ok(true);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(false),
                    // A signal: whoever waits for ever may want to look up.
                    io::ErrorKind::Interrupted if deadline.is_none() => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(failed(error)),
                },
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

fn new_scanner() -> Scanner {
    Scanner::new(Limits {
        bytes_max: MESSAGE_BYTES_MAX,
        depth_max: DEPTH_MAX,
    })
}

fn encode<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), ClientError> {
    rmp_serde::encode::write_named(out, value)
        .map_err(|error| ClientError::Protocol(error.to_string()))
}

fn failed(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Closed,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout,
        _ => ClientError::Io(error),
    }
}
