//! In place of discovery by multicast DNS where the program is built without it: the agent refuses to start with it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Instant;

use super::config::Config;
use crate::cluster::{Outcome, Ticket};
use crate::reactor::Server;
use crate::serf::Serf;

/// There is no discovery here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this program is built without multicast DNS (cargo's feature `mdns`): use -join or -retry-join"
)]
pub struct DiscoverError;

/// Refuses to discover.
pub(super) fn check(config: &Config) -> Result<(), DiscoverError> {
    config
        .discover
        .as_ref()
        .map_or(Ok(()), |_| Err(DiscoverError))
}

/// There is none of these.
pub(super) struct Discovery(Infallible);

impl Discovery {
    pub(super) fn open(
        config: &Config,
        _: &IpAddr,
        _: &mut Server<Serf>,
    ) -> Result<Option<Self>, DiscoverError> {
        check(config).map(|()| None)
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        match self.0 {}
    }

    pub(super) const fn carry_out(&mut self, _: Instant, _: &mut Server<Serf>) {
        match self.0 {}
    }

    pub(super) const fn handle_completed(&mut self, _: Ticket, _: &Outcome) {
        match self.0 {}
    }
}
