//! Addresses as users write them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// The port for gossip if none is written.
pub const DEFAULT_GOSSIP_PORT: u16 = 7946;

/// The port for RPC if none is written.
pub const DEFAULT_RPC_PORT: u16 = 7373;

/// What an address of the RPC server starts with that is a Unix socket's path.
const UNIX_PREFIX: &str = "unix:";

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddrParts {
    /// An IP address without brackets, or a name; empty for all addresses.
    pub host: String,
    /// The port; 0 for any free one.
    pub port: u16,
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// There is nothing.
    #[error("the address is empty")]
    Empty,
    /// What follows the colon is no port.
    #[error("invalid port {port:?} in address {text:?}; ports are 0 to 65535")]
    Port {
        /// What should be one.
        port: String,
        /// The whole address.
        text: String,
    },
    /// Brackets are not around an IPv6 address.
    #[error("invalid brackets in address {0:?}; write IPv6 as [::1] or [::1]:7946")]
    Brackets(String),
    /// Colons, but no IPv6 address.
    #[error("too many colons in address {0:?}; write IPv6 with a port as [::1]:7946")]
    Colons(String),
    /// `unix:` with nothing after it.
    #[error("address {0:?} has no path")]
    NoPath(String),
}

impl AddrParts {
    /// Reads `host`, `host:port`, `:port`, `::1`, `[::1]` or `[::1]:port`.
    ///
    /// Without brackets and with more than one colon everything belongs to an IPv6 address: `::1:7946` has no port.
    ///
    /// # Errors
    /// The text is none of that.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, AddrError> {
        if text.is_empty() {
            return Err(AddrError::Empty);
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest
                .split_once(']')
                .filter(|(host, _)| is_ipv6(host))
                .ok_or_else(|| AddrError::Brackets(text.to_owned()))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(AddrError::Brackets(text.to_owned())),
            }
        } else {
            match text.split_once(':') {
                None => (text, None),
                Some((_, rest)) if rest.contains(':') => {
                    if !is_ipv6(text) {
                        return Err(AddrError::Colons(text.to_owned()));
                    }
                    (text, None)
                }
                Some((host, port)) => (host, Some(port)),
            }
        };
        if host.contains(['[', ']']) {
            return Err(AddrError::Brackets(text.to_owned()));
        }
        let port = match port {
            None => default_port,
            Some("") => 0,
            Some(port) => parse_port(port).ok_or_else(|| AddrError::Port {
                port: port.to_owned(),
                text: text.to_owned(),
            })?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The IP address, if the host is one and not a name. All addresses of IPv4 if it is empty.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        if self.host.is_empty() {
            return Some(Ipv4Addr::UNSPECIFIED.into());
        }
        self.host.parse().ok()
    }

    /// Whether only programs of this host can connect to it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.ip().map_or_else(
            || self.host.eq_ignore_ascii_case("localhost"),
            |ip| ip.to_canonical().is_loopback(),
        )
    }

    /// Looks up the address; of a name with several, an IPv4 one goes first.
    ///
    /// For a name this waits for the system's resolver: call it before the loop runs, or on a thread of its own.
    ///
    /// # Errors
    /// The name has no address, or the resolver failed.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        if let Some(ip) = self.ip() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        found
            .iter()
            .find(|address| address.is_ipv4())
            .or_else(|| found.first())
            .copied()
            .ok_or_else(|| {
                let text = format!("{} has no address", self.host);
                io::Error::new(io::ErrorKind::NotFound, text)
            })
    }
}

impl fmt::Display for AddrParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether the text is an IPv6 address, perhaps with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
    !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok()
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` takes a plus sign, too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Where the RPC server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RpcAddr {
    /// At a TCP port.
    Tcp(AddrParts),
    /// At a Unix socket with this path.
    Unix(PathBuf),
}

impl RpcAddr {
    /// Reads a host with or without a port, `unix:/path` or `unix:///path`.
    ///
    /// # Errors
    /// The text is none of that.
    pub fn parse(text: &str) -> Result<Self, AddrError> {
        let Some(path) = text.strip_prefix(UNIX_PREFIX) else {
            return AddrParts::parse(text, DEFAULT_RPC_PORT).map(Self::Tcp);
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(AddrError::NoPath(text.to_owned()));
        }
        Ok(Self::Unix(path.into()))
    }

    /// Whether only programs of this host can connect to it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl std::str::FromStr for RpcAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<SocketAddr> for RpcAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(AddrParts {
            host: address.ip().to_string(),
            port: address.port(),
        })
    }
}

impl fmt::Display for RpcAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            // Two slashes after the prefix are part of it.
            Self::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"//") => {
                write!(f, "{UNIX_PREFIX}//{}", path.display())
            }
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, host, port) in [
            ("0.0.0.0", "0.0.0.0", 7946),
            ("0.0.0.0:1234", "0.0.0.0", 1234),
            ("::", "::", 7946),
            ("::1", "::1", 7946),
            ("[::1]", "::1", 7946),
            ("[::1]:5", "::1", 5),
            ("[::1]:", "::1", 0),
            ("fe80::1%eth0", "fe80::1%eth0", 7946),
            ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1", 7946),
            (":80", "", 80),
            ("10.0.0.1:", "10.0.0.1", 0),
            ("node.example", "node.example", 7946),
            ("node.example:65535", "node.example", 65535),
        ] {
            let parts = AddrParts::parse(text, DEFAULT_GOSSIP_PORT).unwrap();
            assert_eq!((parts.host.as_str(), parts.port), (host, port), "{text:?}");
            let printed = parts.to_string();
            assert_eq!(AddrParts::parse(&printed, 1), Ok(parts), "{printed:?}");
        }
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let parse = |text: &str| AddrParts::parse(text, 1).unwrap_err();
        assert_eq!(parse(""), AddrError::Empty);
        for text in ["a:65536", "a:-1", "a:+1", "a:http", "[::1]:x", "a: 1"] {
            assert!(matches!(parse(text), AddrError::Port { .. }), "{text:?}");
        }
        for text in [
            "[::1",
            "::1]",
            "[::1]5",
            "[]",
            "[a]:1",
            "[1.2.3.4]",
            "a]:1",
            "[fe80::1%]",
        ] {
            let error = parse(text);
            assert!(
                matches!(error, AddrError::Brackets(_) | AddrError::Colons(_)),
                "{text:?}: {error}"
            );
        }
        for text in ["::1:22952", "a:b:c", "1.2.3.4:5:6"] {
            assert!(matches!(parse(text), AddrError::Colons(_)), "{text:?}");
        }
    }

    #[test]
    fn literals_resolve_without_a_resolver() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:7"),
            ("[::1]:9", "[::1]:9"),
            (":9", "0.0.0.0:9"),
        ] {
            let resolved = AddrParts::parse(text, 7).unwrap().resolve().unwrap();
            assert_eq!(resolved.to_string(), address);
        }
    }

    #[test]
    fn rpc_may_listen_at_a_unix_socket() {
        for (text, path) in [
            ("unix:/run/s", "/run/s"),
            ("unix:///run/s", "/run/s"),
            ("unix:s", "s"),
        ] {
            assert_eq!(RpcAddr::parse(text), Ok(RpcAddr::Unix(path.into())));
        }
        for text in ["unix:", "unix://"] {
            assert_eq!(
                RpcAddr::parse(text),
                Err(AddrError::NoPath(text.to_owned()))
            );
        }
        assert_eq!(
            RpcAddr::parse("10.0.0.1").unwrap().to_string(),
            "10.0.0.1:7373"
        );
        assert_eq!(RpcAddr::parse("unix:///a").unwrap().to_string(), "unix:/a");
        // A path that begins with two slashes keeps them.
        let twice = RpcAddr::parse("unix:////a").unwrap();
        assert_eq!(RpcAddr::parse(&twice.to_string()).unwrap(), twice);
    }

    #[test]
    fn what_is_local() {
        for text in [
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:1",
            "localhost:1",
            "[::ffff:127.0.0.1]:1",
            "unix:/x",
        ] {
            assert!(RpcAddr::parse(text).unwrap().is_local(), "{text:?}");
        }
        for text in ["0.0.0.0:1", ":1", "[::]:1", "10.0.0.1", "node.example:1"] {
            assert!(!RpcAddr::parse(text).unwrap().is_local(), "{text:?}");
        }
    }
}
