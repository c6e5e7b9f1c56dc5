//! The sockets of RPC clients: what is read goes to the hub, what waits there is written.
//!
//! Readiness is edge-triggered: it is remembered until a read or write finds the socket blocked. One client gets one
//! buffer read, and a bounded number of bytes written, before the others have their turn.

use std::collections::VecDeque;
use std::time::Instant;

use log::debug;
use mio::{Registry, Token};

use super::socket::{Progress, Socket};
use crate::cluster::Cluster;
use crate::rpc::{Flushed, Hub, SessionId};

/// What is written to a client before others have their turn, in bytes.
const WRITE_BYTES_PER_TURN: usize = 1024 * 1024;

#[derive(Debug)]
struct Client {
    socket: Socket,
    id: SessionId,
    /// The socket may have something to read.
    readable: bool,
    /// The peer has ended its side, so reading goes on to the end whatever is wanted.
    ended: bool,
    /// The socket may take something.
    writable: bool,
    /// Stands in the queue of those to read from.
    queued: bool,
}

/// The sockets of RPC clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// By the slot of the session.
    clients: Vec<Option<Client>>,
    /// Tokens of clients begin here.
    first_token: usize,
    /// Those that may have something to read.
    readable: VecDeque<SessionId>,
    /// Those whose turn to be written to ended early.
    unwritten: Vec<SessionId>,
}

impl Clients {
    pub(super) fn new(first_token: usize) -> Self {
        Self {
            clients: Vec::new(),
            first_token,
            readable: VecDeque::new(),
            unwritten: Vec::new(),
        }
    }

    /// Takes in the socket of a new session.
    pub(super) fn add(
        &mut self,
        registry: &Registry,
        mut socket: Socket,
        id: SessionId,
    ) -> std::io::Result<()> {
        let slot = id.slot();
        socket.register(registry, Token(self.first_token + slot))?;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
        }
        let client = Client {
            socket,
            id,
            readable: false,
            ended: false,
            writable: true,
            queued: false,
        };
        if let Some(place) = self.clients.get_mut(slot) {
            *place = Some(client);
        }
        Ok(())
    }

    /// The poll reports something about the client of this token.
    pub(super) fn note_ready<C: Cluster>(
        &mut self,
        hub: &Hub<C>,
        token: Token,
        event: &mio::event::Event,
    ) {
        let slot = token.0 - self.first_token;
        let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        if event.is_writable() && !client.writable {
            client.writable = true;
            if !hub.pending(client.id).is_empty() {
                self.unwritten.push(client.id);
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            client.readable = true;
            client.ended |= event.is_read_closed() || event.is_error();
            if !client.queued {
                client.queued = true;
                self.readable.push_back(client.id);
            }
        }
    }

    /// Whether there is something to do without waiting for the poll.
    pub(super) fn has_work(&self) -> bool {
        !self.readable.is_empty() || !self.unwritten.is_empty()
    }

    fn get(&mut self, id: SessionId) -> Option<&mut Client> {
        self.clients
            .get_mut(id.slot())
            .and_then(Option::as_mut)
            .filter(|client| client.id == id)
    }

    /// Reads once from every client that has something to read and is wanted.
    pub(super) fn read<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>, scratch: &mut [u8]) {
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop_front() else {
                break;
            };
            let Some(client) = self.get(id) else { continue };
            client.queued = false;
            if hub.wants_read(id) {
                self.read_once(now, hub, id, scratch);
            }
        }
    }

    fn read_once<C: Cluster>(
        &mut self,
        now: Instant,
        hub: &mut Hub<C>,
        id: SessionId,
        scratch: &mut [u8],
    ) {
        let Some(client) = self.get(id) else { return };
        match client.socket.read(scratch) {
            Progress::Bytes(count) => {
                // A short read has emptied the socket, unless the end of the stream waits behind it.
                client.readable = count == scratch.len() || client.ended;
                hub.handle_bytes(now, id, scratch.get(..count).unwrap_or_default());
                self.queue_if_readable(hub, id);
            }
            Progress::Ended => {
                client.readable = false;
                hub.handle_eof(now, id);
                if hub.pending(id).is_empty() {
                    self.flush(now, hub, id);
                }
            }
            Progress::Blocked => client.readable = false,
            Progress::Broken(error) => self.handle_broken(now, hub, id, &error),
        }
    }

    fn queue_if_readable<C: Cluster>(&mut self, hub: &Hub<C>, id: SessionId) {
        if let Some(client) = self.get(id)
            && client.readable
            && !client.queued
            && hub.wants_read(id)
        {
            client.queued = true;
            self.readable.push_back(id);
        }
    }

    /// Writes what waits for clients.
    pub(super) fn write<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>) {
        for id in std::mem::take(&mut self.unwritten) {
            self.flush(now, hub, id);
        }
        while let Some(id) = hub.poll_dirty() {
            self.flush(now, hub, id);
        }
    }

    fn flush<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>, id: SessionId) {
        let mut budget = WRITE_BYTES_PER_TURN;
        loop {
            let Some(client) = self.get(id) else { return };
            let pending = hub.pending(id);
            if pending.is_empty() {
                break;
            }
            if !client.writable {
                return;
            }
            if budget == 0 {
                self.unwritten.push(id);
                return;
            }
            let chunk = pending.get(..budget.min(pending.len())).unwrap_or_default();
            match client.socket.write(chunk) {
                Progress::Bytes(count) => {
                    budget -= count.min(budget);
                    // A short write has filled the socket.
                    client.writable = count == chunk.len();
                    hub.handle_sent(id, count);
                }
                Progress::Blocked => client.writable = false,
                Progress::Ended => return,
                Progress::Broken(error) => return self.handle_broken(now, hub, id, &error),
            }
        }
        match hub.handle_flushed(now, id) {
            Flushed::Keep => {}
            Flushed::EndOurSide => {
                if let Some(client) = self.get(id) {
                    client.socket.end();
                }
            }
            Flushed::Close => return self.close(now, hub, id),
        }
        // Room in the outbox may be what reading waited for.
        self.queue_if_readable(hub, id);
    }

    /// A reset is a way to go like any other, and no error (Windows reports one at every end).
    fn handle_broken<C: Cluster>(
        &mut self,
        now: Instant,
        hub: &mut Hub<C>,
        id: SessionId,
        error: &std::io::Error,
    ) {
        debug!(client = id.number(); "agent.ipc: Connection ended: {error}");
        self.close(now, hub, id);
    }

    /// Lets go of a client.
    pub(super) fn close<C: Cluster>(&mut self, now: Instant, hub: &mut Hub<C>, id: SessionId) {
        if self.get(id).is_some()
            && let Some(place) = self.clients.get_mut(id.slot())
        {
            // Closing the descriptor takes it out of the poll too.
            *place = None;
        }
        while let Some(None) = self.clients.last() {
            self.clients.pop();
        }
        if self.clients.is_empty() {
            self.clients = Vec::new();
        }
        hub.handle_gone(now, id);
    }
}
