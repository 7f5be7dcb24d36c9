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
    /// To read into. Every connection needs one in its turn, for a moment.
    pub(crate) static READING: Pool = const { Pool(RefCell::new(Vec::new())) };
    /// To collect what will be written. A pool of its own: many connections may have a few bytes to write at the same
    /// time, and if each took a full buffer away from reading, there would soon be one for each of them.
    pub(crate) static WRITING: Pool = const { Pool(RefCell::new(Vec::new())) };
}

/// Empty buffers with room for [`BUFFER_BYTES`].
pub(crate) struct Pool(RefCell<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer, if one is kept.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        self.0.borrow_mut().pop()
    }

    /// Gives a buffer back. Buffers of another size are freed.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if buffer.capacity() == BUFFER_BYTES && kept.len() < KEPT_BUFFERS {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
