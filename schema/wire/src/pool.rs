//! Buffers that the connections of one thread lend each other, so that a connection without traffic holds none.
//!
//! A connection takes a buffer when it is about to read or write and gives it back when nothing is left in it. It is not
//! an allocator: what does not come back is simply freed.

use std::cell::RefCell;

/// Large enough to read hundreds of small calls at once, small enough to stay in the second level cache.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Connections are served one after the other, so few buffers are in use at once; the rest are freed.
const KEPT_BUFFERS: usize = 8;

thread_local! {
    static FULL_SIZE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for [`BUFFER_BYTES`].
pub(crate) fn take() -> Vec<u8> {
    FULL_SIZE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

/// Gives a buffer back. Buffers of another size are freed.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == BUFFER_BYTES {
        buffer.clear();
        FULL_SIZE.with_borrow_mut(|kept| {
            if kept.len() < KEPT_BUFFERS {
                kept.push(buffer);
            }
        });
    }
}
