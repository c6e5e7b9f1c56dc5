//! Listening sockets of the RPC server: TCP and Unix.
//!
//! When the system has no descriptors left, a listener rests: pending connections wait in the kernel, everybody else is
//! served on, and it tries again after [`REST`] or when a client goes. It never spins.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{error, warn};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::Mode;

use super::socket::Socket;
use crate::address::{AddrParts, RpcAddr};
use crate::rpc::Peer;

/// How long a listener rests when it can't accept.
const REST: Duration = Duration::from_millis(250);
/// The log tells of that at most this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Permissions of a Unix socket: its owner alone.
const UNIX_SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct ListenError {
    address: RpcAddr,
    source: io::Error,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        path: PathBuf,
        accepted: u64,
    },
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    kind: Kind,
    /// Connections may be waiting.
    ready: bool,
    resting_until: Option<Instant>,
    told_at: Option<Instant>,
}

impl Listener {
    /// Opens a listening socket and has the poll report it as `token`.
    pub(super) fn open(
        address: &RpcAddr,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, ListenError> {
        let opened = match address {
            RpcAddr::Tcp(address) => open_tcp(address, registry, token),
            RpcAddr::Unix(path) => open_unix(path, registry, token),
        };
        let kind = opened.map_err(|source| ListenError {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            kind,
            ready: true,
            resting_until: None,
            told_at: None,
        })
    }

    /// The address that was bound, with the port the system chose.
    pub(super) fn local_address(&self) -> io::Result<RpcAddr> {
        Ok(match &self.kind {
            Kind::Tcp(listener) => listener.local_addr()?.into(),
            Kind::Unix { path, .. } => RpcAddr::Unix(path.clone()),
        })
    }

    /// The TCP address that was bound, if it is one.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    /// The poll says that connections wait.
    pub(super) fn note_ready(&mut self) {
        self.ready = true;
    }

    /// Whether to call [`accept`](Self::accept) now.
    pub(super) fn may_accept(&self, now: Instant) -> bool {
        self.ready && self.resting_until.is_none_or(|until| until <= now)
    }

    /// When a rest ends.
    pub(super) fn rest_ends(&self) -> Option<Instant> {
        self.resting_until
    }

    /// A descriptor was given back.
    pub(super) fn end_rest(&mut self, now: Instant) {
        if self.resting_until.is_some() {
            self.resting_until = Some(now);
        }
    }

    /// The next connection, or `None` when there is none now.
    pub(super) fn accept(&mut self, now: Instant) -> Option<(Socket, Peer)> {
        self.resting_until = None;
        loop {
            let accepted = match &mut self.kind {
                Kind::Tcp(listener) => listener.accept().map(|(stream, from)| {
                    // Answers are written whole; waiting for more would only add latency.
                    let _ = stream.set_nodelay(true);
                    (Socket::Tcp(stream), Peer::Tcp(from))
                }),
                Kind::Unix {
                    listener, accepted, ..
                } => listener.accept().map(|(stream, _)| {
                    *accepted += 1;
                    (Socket::Unix(stream), Peer::Unix(*accepted))
                }),
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.ready = false;
                        return None;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.rest(now, &error);
                        return None;
                    }
                },
            }
        }
    }

    fn rest(&mut self, now: Instant, error: &io::Error) {
        self.resting_until = Some(now + REST);
        if self
            .told_at
            .is_none_or(|told| now.duration_since(told) >= TOLD_EVERY)
        {
            self.told_at = Some(now);
            error!(
                "agent.ipc: Failed to accept client: {error}; new clients wait until others leave"
            );
        }
    }

    /// Stops listening.
    pub(super) fn close(mut self, registry: &Registry) {
        match &mut self.kind {
            Kind::Tcp(listener) => drop(registry.deregister(listener)),
            Kind::Unix { listener, path, .. } => {
                drop(registry.deregister(listener));
                if let Err(error) = std::fs::remove_file(&*path) {
                    warn!("agent.ipc: can't remove socket {}: {error}", path.display());
                }
            }
        }
    }
}

fn open_tcp(address: &AddrParts, registry: &Registry, token: Token) -> io::Result<Kind> {
    // Names are looked up only here, at start, where blocking harms nobody.
    let mut listener = TcpListener::bind(address.resolve()?)?;
    registry.register(&mut listener, token, Interest::READABLE)?;
    Ok(Kind::Tcp(listener))
}

fn open_unix(path: &Path, registry: &Registry, token: Token) -> io::Result<Kind> {
    remove_stale_socket(path)?;
    // The mode must hold from the first moment, so the mask is set around the bind.
    let mask = rustix::process::umask(UNIX_SOCKET_MODE.complement());
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    let mut listener = bound?;
    registry.register(&mut listener, token, Interest::READABLE)?;
    Ok(Kind::Unix {
        listener,
        path: path.to_owned(),
        accepted: 0,
    })
}

/// Removes the socket of an agent that is gone; one that is listened on stays, and binding fails.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}
