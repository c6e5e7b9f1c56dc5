//! All clients, and which of them have something to do.

use std::collections::VecDeque;

use slab::Slab;

use super::outbox::BufferPool;
use super::session::{Access, Peer, Session, SessionId};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is to be sent, after so many bytes that waited before.
    Queued { waiting: usize },
    /// There is no room.
    Full,
    /// The client is gone.
    Gone,
}

/// All clients, and which of them have something to do.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slab: Slab<Session>,
    generation: u32,
    pool: BufferPool,
    dirty: Vec<SessionId>,
    ready: VecDeque<SessionId>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn insert(&mut self, peer: Peer, access: Access) -> SessionId {
        self.generation = self.generation.wrapping_add(1);
        let slot = self
            .slab
            .insert(Session::new(self.generation, peer, access));
        self.id(slot, self.generation)
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.get(id)?;
        let session = self.slab.remove(id.slot as usize);
        if self.slab.is_empty() {
            // After a crowd has gone its memory goes too.
            self.slab = Slab::new();
            self.dirty = Vec::new();
            self.ready = VecDeque::new();
        }
        Some(session)
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab
            .get(id.slot as usize)
            .filter(|session| session.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab
            .get_mut(id.slot as usize)
            .filter(|session| session.generation == id.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.slab
            .iter()
            .map(|(slot, session)| (self.id(slot, session.generation), session))
    }

    fn id(&self, slot: usize, generation: u32) -> SessionId {
        // Descriptors run out far below this.
        SessionId {
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            generation,
        }
    }

    /// The buffer to append to what a client is sent.
    pub(super) fn out(&mut self, id: SessionId) -> Option<&mut Vec<u8>> {
        self.mark_dirty(id);
        let session = self
            .slab
            .get_mut(id.slot as usize)
            .filter(|session| session.generation == id.generation)?;
        Some(session.outbox.buffer(&mut self.pool))
    }

    /// Lets go of memory that nobody has used since the last time.
    pub(super) fn trim(&mut self) {
        self.pool.trim();
    }

    /// Appends a record to what a client is sent, unless that would be more than `limit` bytes.
    pub(super) fn push_record(&mut self, id: SessionId, record: &[u8], limit: usize) -> Pushed {
        let session = self.slab.get_mut(id.slot as usize);
        let Some(session) = session.filter(|session| session.generation == id.generation) else {
            return Pushed::Gone;
        };
        let waiting = session.outbox.len();
        if waiting + record.len() > limit {
            return Pushed::Full;
        }
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(id);
        }
        let out = session.outbox.buffer(&mut self.pool);
        out.extend_from_slice(record);
        Pushed::Queued { waiting }
    }

    /// Takes in that a client took bytes; returns how many are left.
    pub(super) fn consume(&mut self, id: SessionId, count: usize) -> usize {
        let session = self.slab.get_mut(id.slot as usize);
        let Some(session) = session.filter(|session| session.generation == id.generation) else {
            return 0;
        };
        session.outbox.consume(count, &mut self.pool);
        session.outbox.len()
    }

    /// Has [`next_dirty`](Self::next_dirty) name the client.
    pub(super) fn mark_dirty(&mut self, id: SessionId) {
        if let Some(session) = self.get_mut(id)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(id);
        }
    }

    /// A client with something to send or to end.
    pub(super) fn next_dirty(&mut self) -> Option<SessionId> {
        while let Some(id) = self.dirty.pop() {
            if let Some(session) = self.get_mut(id) {
                session.dirty = false;
                return Some(id);
            }
        }
        None
    }

    /// Has [`next_ready`](Self::next_ready) name the client.
    pub(super) fn mark_ready(&mut self, id: SessionId) {
        if let Some(session) = self.get_mut(id)
            && !session.ready
        {
            session.ready = true;
            self.ready.push_back(id);
        }
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// A client with requests to go on with.
    pub(super) fn next_ready(&mut self) -> Option<SessionId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(session) = self.get_mut(id) {
                session.ready = false;
                return Some(id);
            }
        }
        None
    }
}
