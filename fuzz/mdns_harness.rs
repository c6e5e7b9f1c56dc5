//! What is fuzzed of multicast DNS, and what must hold.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serfling::mdns::{Mdns, Via};

/// An answer carries the questions back, of which a bounded number is looked at, and a handful of records.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Any packet, to the group and to the node alone: what is sent is bounded in number and size, nothing is sent to who
/// is not the asker, and only places that can be joined are found.
pub(crate) fn mdns(data: &[u8]) {
    let now = Instant::now();
    let here: SocketAddr = ([10, 0, 0, 1], 7946).into();
    let mut mdns = Mdns::new(now, "zz", "web", here, [9; 32]).expect("a name");
    mdns.handle_timeout(now);
    assert!(mdns.poll_transmit().is_some(), "it asks at once");
    let from: SocketAddr = ([10, 0, 0, 2], 40_000).into();
    mdns.handle_packet(now, Via::Group, from, data);
    mdns.handle_packet(now, Via::Own, from, data);
    let mut sent = 0;
    let mut at = now;
    while at <= now + Duration::from_millis(900) {
        mdns.handle_timeout(at);
        while let Some(transmit) = mdns.poll_transmit() {
            assert!(transmit.payload.len() <= ANSWER_BYTES_MAX);
            sent += 1;
        }
        let next = mdns.poll_timeout().expect("there is always a next round");
        at = next.max(at + Duration::from_millis(1));
    }
    assert!(sent <= 3, "{sent} packets for two");
    for addr in std::iter::from_fn(|| mdns.poll_found()).flatten() {
        assert!(addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast());
    }
}
