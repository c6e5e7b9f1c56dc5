//! Tells the service manager how far the agent is (systemd's `sd_notify` protocol).
//!
//! Where `NOTIFY_SOCKET` names a socket, lines like `READY=1` go there, a datagram each. Without it nothing happens.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Environment variable with the service manager's socket.
pub(super) const VARIABLE: &str = "NOTIFY_SOCKET";

/// How far the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Clients and other nodes are served.
    Ready,
    /// It is ending.
    Stopping,
}

/// Tells the service manager, if there is one.
pub(super) fn tell(readiness: Readiness) {
    let Some(socket) = std::env::var_os(VARIABLE) else {
        return;
    };
    if let Err(error) = send(&socket, readiness) {
        log::warn!("agent: can't tell the service manager: {error}");
    }
}

fn send(socket: &OsStr, readiness: Readiness) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        // A name that begins with @ is one of the abstract kind, which Linux alone has.
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let line = match readiness {
        Readiness::Ready => "READY=1",
        Readiness::Stopping => "STOPPING=1",
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(line.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("serfling-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        send(path.as_os_str(), Readiness::Ready).unwrap();
        send(OsStr::new(&format!("@{name}")), Readiness::Stopping).unwrap();
        let mut buffer = [0; 100];
        let length = by_path.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        let length = by_name.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STOPPING=1");
        assert!(send(OsStr::new("/no/such/socket"), Readiness::Ready).is_err());
    }
}
