//! A connected byte stream of either kind.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

/// A connected byte stream of either kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What came of reading or writing once.
#[derive(Debug)]
pub(crate) enum Progress {
    /// So many bytes.
    Bytes(usize),
    /// The peer has ended its side.
    Ended,
    /// Nothing goes now; the poll will tell.
    Blocked,
    /// The connection is broken.
    Broken(io::Error),
}

impl Socket {
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    /// Has the poll report everything about the socket as `token`.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source()
            .register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Why a connection could not be made, if that is known.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        let error = match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        };
        error?.map_or(Ok(()), Err)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        let progress = once(|| match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        });
        if matches!(progress, Progress::Bytes(0)) {
            Progress::Ended
        } else {
            progress
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Progress {
        once(|| match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        })
    }

    /// Ends our side; the peer sees the end of the stream after what was written.
    pub(crate) fn end(&self) {
        // It may be gone already, which is as good.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

fn once(mut operation: impl FnMut() -> io::Result<usize>) -> Progress {
    loop {
        match operation() {
            Ok(count) => return Progress::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
            Err(error) => return Progress::Broken(error),
        }
    }
}
