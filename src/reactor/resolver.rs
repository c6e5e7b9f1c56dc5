//! Looks up host names off the loop.
//!
//! The system offers only a blocking call for this, so a short-lived thread makes it and wakes the loop when it has the
//! answer. A bounded number run at once; other names wait.

use std::collections::VecDeque;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::Waker;

/// Names looked up at the same time.
const THREADS_MAX: usize = 4;

/// A name that was looked up.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) request: u64,
    pub(super) result: Result<Vec<IpAddr>, String>,
}

/// Looks up host names off the loop.
#[derive(Debug)]
pub(super) struct Resolver {
    waker: Arc<Waker>,
    waiting: VecDeque<(u64, String)>,
    running: usize,
    sender: Sender<Resolved>,
    receiver: Receiver<Resolved>,
}

impl Resolver {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        let (sender, receiver) = channel();
        Self {
            waker,
            waiting: VecDeque::new(),
            running: 0,
            sender,
            receiver,
        }
    }

    /// Starts to look up a name.
    pub(super) fn start(&mut self, request: u64, host: String) {
        self.waiting.push_back((request, host));
        self.start_waiting();
    }

    /// The next answer. To be called until it returns `None`, after the loop was woken.
    pub(super) fn poll(&mut self) -> Option<Resolved> {
        let resolved = self.receiver.try_recv().ok()?;
        self.running -= 1;
        self.start_waiting();
        Some(resolved)
    }

    fn start_waiting(&mut self) {
        while self.running < THREADS_MAX
            && let Some((request, host)) = self.waiting.pop_front()
        {
            self.running += 1;
            let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
            let thread = std::thread::Builder::new().name("resolver".to_owned());
            let spawned = thread.spawn(move || {
                // Neither fails but when the loop is gone, and nobody waits.
                let _ = sender.send(Resolved {
                    request,
                    result: look_up(&host),
                });
                let _ = waker.wake();
            });
            if let Err(error) = spawned {
                let result = Err(format!("can't start a thread to look it up: {error}"));
                let _ = self.sender.send(Resolved { request, result });
                let _ = self.waker.wake();
            }
        }
    }
}

fn look_up(host: &str) -> Result<Vec<IpAddr>, String> {
    let found = (host, 0)
        .to_socket_addrs()
        .map_err(|error| format!("lookup {host}: {error}"))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        Err(format!("lookup {host}: no such host"))
    } else {
        Ok(addresses)
    }
}
