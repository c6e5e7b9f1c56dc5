//! Addresses of nodes to join, as people write them.

use std::net::IpAddr;

use crate::address::AddrParts;

/// Where to find a node: `host`, `host:port`, `[v6]:port`, a bare IPv6 address, and any of them behind `name/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAddress {
    /// The node's name, if it was given.
    pub name: Option<String>,
    /// A host name or address, without brackets.
    pub host: String,
    /// The port, or the default.
    pub port: u16,
}

/// The text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Failed to resolve {0}: expected host, host:port, [IPv6]:port or name/host:port")]
pub struct InvalidAddress(String);

impl JoinAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`InvalidAddress`] when a port is no number or the host is missing.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (name, address) = match text.split_once('/') {
            Some((name, address)) => (Some(name.to_owned()), address),
            None => (None, text),
        };
        let AddrParts { host, port } =
            AddrParts::parse(address, default_port).map_err(|_| invalid())?;
        if host.is_empty() || port == 0 {
            return Err(invalid());
        }
        Ok(Self { name, host, port })
    }

    /// The host, where it is an address and no name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, name, host, port) in [
            ("10.0.0.1", None, "10.0.0.1", 7946),
            ("10.0.0.1:80", None, "10.0.0.1", 80),
            ("db.example:80", None, "db.example", 80),
            ("::1", None, "::1", 7946),
            ("[::1]", None, "::1", 7946),
            ("[::1]:80", None, "::1", 80),
            ("node/10.0.0.1:80", Some("node"), "10.0.0.1", 80),
        ] {
            let name = name.map(str::to_owned);
            assert_eq!(
                JoinAddress::parse(text, 7946),
                Ok(JoinAddress {
                    name,
                    host: host.into(),
                    port
                }),
                "{text}"
            );
        }
        for text in ["", ":80", "host:port", "host:70000", "[::1", "host:"] {
            assert!(JoinAddress::parse(text, 7946).is_err(), "{text}");
        }
    }
}
