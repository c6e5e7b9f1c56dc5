//! Bytes that wait for a client to take them.
//!
//! One queue, first in, first out, so what is sent never interleaves. An empty outbox owns no memory: buffers come from
//! and go back to a [`BufferPool`] of the hub.

/// What the empty buffers of a pool take at the most, in bytes. An event to a hundred subscribers fills a buffer for
/// each: to have them grow anew every turn costs more than the copying.
const POOLED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A buffer that grew past this goes back to the system, in bytes. Members of a thousand nodes are well below it: to have the
/// system map, clear and unmap so much for each answer takes longer than the copying.
const POOLED_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Sent bytes at the front are given back when they are this many, and half of the buffer.
const COMPACT_BYTES_MIN: usize = 64 * 1024;

/// Buffers between two uses.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    spare: Vec<Vec<u8>>,
    bytes: usize,
    /// The fewest that were spare since the last [`trim`](Self::trim).
    unused: usize,
}

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        self.unused = self.unused.min(self.spare.len());
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = self.bytes + buffer.capacity();
        if buffer.capacity() <= POOLED_BUFFER_BYTES_MAX && bytes <= POOLED_BYTES_MAX {
            buffer.clear();
            self.bytes = bytes;
            self.spare.push(buffer);
        }
    }

    /// Gives back to the system what nobody took since the last time.
    pub(super) fn trim(&mut self) {
        // Those at the front have waited longest.
        for buffer in self.spare.drain(..self.unused) {
            self.bytes -= buffer.capacity();
        }
        if self.spare.is_empty() {
            self.spare = Vec::new();
        }
        self.unused = self.spare.len();
    }
}

/// Bytes that wait for a client to take them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The bytes that wait.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The buffer to append to.
    pub(super) fn buffer(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        &mut self.bytes
    }

    /// Forgets the first `count` bytes that wait: they are sent.
    pub(super) fn consume(&mut self, count: usize, pool: &mut BufferPool) {
        self.sent = self.bytes.len().min(self.sent + count);
        if self.sent == self.bytes.len() {
            self.sent = 0;
            pool.give(std::mem::take(&mut self.bytes));
        } else if self.sent >= COMPACT_BYTES_MIN && self.sent * 2 >= self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.bytes.shrink_to(self.bytes.len() * 2);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(steps in proptest::collection::vec((0..200_000usize, 0..200_000usize), 1..30)) {
            let mut pool = BufferPool::default();
            let mut outbox = Outbox::default();
            let (mut pushed, mut taken) = (0u64, 0u64);
            for (push, take) in steps {
                let buffer = outbox.buffer(&mut pool);
                for _ in 0..push {
                    buffer.push(pushed as u8);
                    pushed += 1;
                }
                let take = take.min(outbox.len());
                for &byte in &outbox.pending()[..take] {
                    prop_assert_eq!(byte, taken as u8);
                    taken += 1;
                }
                outbox.consume(take, &mut pool);
                prop_assert_eq!(outbox.len() as u64, pushed - taken);
            }
        }
    }

    #[test]
    fn an_empty_outbox_owns_no_memory() {
        let mut pool = BufferPool::default();
        let mut outbox = Outbox::default();
        outbox.buffer(&mut pool).extend_from_slice(b"hello");
        outbox.consume(5, &mut pool);
        assert_eq!(outbox.bytes.capacity(), 0);
        assert_eq!(pool.spare.len(), 1);
    }

    #[test]
    fn buffers_that_nobody_takes_are_given_back() {
        let mut pool = BufferPool::default();
        let mut outboxes: Vec<Outbox> = (0..200).map(|_| Outbox::default()).collect();
        let mut use_some = |pool: &mut BufferPool, count: usize| {
            for outbox in &mut outboxes[..count] {
                outbox.buffer(pool).resize(40 * 1024, 0);
            }
            for outbox in &mut outboxes[..count] {
                outbox.consume(40 * 1024, pool);
            }
        };
        use_some(&mut pool, 200);
        assert!(pool.spare.len() > 50 && pool.bytes <= POOLED_BYTES_MAX);
        pool.trim();
        use_some(&mut pool, 3);
        pool.trim();
        assert_eq!(pool.spare.len(), 3);
        pool.trim();
        assert_eq!((pool.spare.len(), pool.bytes), (0, 0));
    }
}
