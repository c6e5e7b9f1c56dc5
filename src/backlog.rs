//! Takes from a queue, and gives back the room that a storm has left in it.

use std::collections::VecDeque;

/// Room for this many stays when a queue is empty.
const KEPT: usize = 64;

/// The next of a queue. One that is empty keeps little room.
pub(crate) fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if next.is_none() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_when_all_is_taken() {
        let mut queue: VecDeque<usize> = (0..10 * KEPT).collect();
        let taken: Vec<usize> = std::iter::from_fn(|| pop(&mut queue)).collect();
        assert_eq!(taken, (0..10 * KEPT).collect::<Vec<_>>());
        assert_eq!(queue.capacity(), 0);
        queue.push_back(1);
        let before = queue.capacity();
        assert_eq!((pop(&mut queue), pop(&mut queue)), (Some(1), None));
        assert_eq!(queue.capacity(), before);
    }
}
