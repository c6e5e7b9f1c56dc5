//! Bytes to and from an agent, sorted by whom they are for.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
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

/// What came in.
enum Incoming {
    Reply(Reply),
    Record,
}

/// A request whose answer is waited for.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    seq: u64,
    command: Command,
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    timeout: Duration,
    next_seq: u64,
    inbox: Vec<u8>,
    scanner: Scanner,
    /// A header whose body has not come yet.
    header: Option<(u64, Option<String>)>,
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
            scanner: new_scanner(),
            header: None,
            records: HashMap::new(),
        })
    }

    /// Sends a request and waits for its answer. Records that follow from it are kept if it subscribes.
    pub(super) fn exchange<B: Serialize>(
        &mut self,
        command: Command,
        body: Option<&B>,
        subscribes: bool,
    ) -> Result<Reply, ClientError> {
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
        let deadline = Instant::now() + self.timeout;
        self.socket
            .set_timeouts(Some(self.timeout), self.timeout)
            .map_err(ClientError::Io)?;
        self.socket.write_all(&request).map_err(failed)?;
        loop {
            match self.read_message(Some(Awaited { seq, command }), Some(deadline))? {
                Some(Incoming::Reply(reply)) => {
                    if subscribes && reply.error.is_none() {
                        self.records.insert(seq, VecDeque::new());
                    }
                    return Ok(reply);
                }
                Some(Incoming::Record) => {}
                None => return Err(ClientError::Timeout),
            }
        }
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
            if self.read_message(None, deadline)?.is_none() {
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
        Ok(self.read_message(None, deadline)?.is_some())
    }

    pub(super) fn unsubscribe(&mut self, seq: u64) {
        self.records.remove(&seq);
    }

    /// Reads a header and what belongs to it; `None` when the deadline comes first.
    fn read_message(
        &mut self,
        awaited: Option<Awaited>,
        deadline: Option<Instant>,
    ) -> Result<Option<Incoming>, ClientError> {
        if self.header.is_none() {
            let Some(frame) = self.read_frame(deadline)? else {
                return Ok(None);
            };
            let header: ResponseHeader<'_> = rmp_serde::from_slice(&frame)
                .map_err(|error| ClientError::Protocol(error.to_string()))?;
            let error = Some(header.error.0.to_owned()).filter(|error| !error.is_empty());
            self.header = Some((header.seq, error));
        }
        let Some((seq, error)) = self.header.clone() else {
            return Ok(None);
        };
        let answered = awaited.filter(|awaited| awaited.seq == seq);
        // What is no answer is a record, and a record has a body, whoever it is for.
        let has_body = answered.is_none_or(|awaited| {
            let bare = error
                .as_deref()
                .is_some_and(|error| ERRORS_WITHOUT_BODY.contains(&error));
            awaited.command.response_has_body() && !bare
        });
        let body = if has_body {
            let Some(body) = self.read_frame(deadline)? else {
                return Ok(None);
            };
            Some(body)
        } else {
            None
        };
        self.header = None;
        if answered.is_some() {
            return Ok(Some(Incoming::Reply(Reply { seq, error, body })));
        }
        if let (Some(records), Some(body)) = (self.records.get_mut(&seq), body) {
            records.push_back(body);
        }
        Ok(Some(Incoming::Record))
    }

    /// Reads a whole object; `None` when the deadline comes first.
    fn read_frame(&mut self, deadline: Option<Instant>) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if !self.inbox.is_empty() {
                let progress = self.scanner.scan(&self.inbox);
                if let Progress::Complete(length) =
                    progress.map_err(|error| ClientError::Protocol(error.to_string()))?
                {
                    self.scanner = new_scanner();
                    let rest = self.inbox.split_off(length.min(self.inbox.len()));
                    return Ok(Some(std::mem::replace(&mut self.inbox, rest)));
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            self.socket
                .set_timeouts(left, self.timeout)
                .map_err(ClientError::Io)?;
            let mut buffer = [0; READ_BYTES];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self
                    .inbox
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    // A signal: whoever waits for ever may want to look up.
                    io::ErrorKind::Interrupted if deadline.is_none() => return Ok(None),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(failed(error)),
                },
            }
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
