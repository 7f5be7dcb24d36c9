//! What waits to be written: small messages copied one behind the other, large ones kept as they were built.
//!
//! The queue knows nothing of limits or sockets; it gathers slices for a vectored write and forgets what was taken.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use capnp::OutputSegments;
use capnp::message::{Builder, HeapAllocator};

use crate::frame::{table_bytes, write_table};
use crate::pool::{BUFFER_BYTES, Pool, WRITING};

/// From this size on a message is not copied. Below it, one copy is cheaper than the bookkeeping for its segments, and
/// frees the memory of the message at once.
const SHARED_BYTES: usize = 32 * 1024;

/// A buffer starts with room for one small answer, and doubles up to the size that the pool keeps.
const FIRST_BUFFER_BYTES: usize = 1024;

/// How many slices one system call takes. Linux allows 1024; each is 16 bytes of stack.
pub(crate) const SLICES: usize = 64;

enum Piece {
    Copied(Vec<u8>),
    /// The segments of a message, without their table, which stands in the piece before.
    Shared(Rc<Builder<HeapAllocator>>, usize),
}

/// Frames in the order in which they will be written.
///
/// Invariants: `queued_bytes` is the length of all pieces less `front_offset`; no piece is empty; `front_offset` is
/// less than the length of the first piece, or zero.
#[derive(Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Piece>,
    front_offset: usize,
    queued_bytes: usize,
}

impl Outgoing {
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Appends a message as one frame.
    pub(crate) fn push(&mut self, message: &Rc<Builder<HeapAllocator>>) {
        let output = message.get_segments_for_output();
        let segments: &[&[u8]] = match &output {
            OutputSegments::SingleSegment(segments) => segments,
            OutputSegments::MultiSegment(segments) => segments,
        };
        let body_bytes: usize = segments.iter().map(|segment| segment.len()).sum();
        let header_bytes = table_bytes(segments.len());
        let is_shared = body_bytes >= SHARED_BYTES;
        let copied_bytes = if is_shared { header_bytes } else { header_bytes + body_bytes };
        let tail = self.tail(copied_bytes);
        write_table(segments, tail);
        if is_shared {
            self.pieces.push_back(Piece::Shared(Rc::clone(message), body_bytes));
        } else {
            segments.iter().for_each(|segment| tail.extend_from_slice(segment));
        }
        self.queued_bytes += header_bytes + body_bytes;
    }

    /// A buffer at the end of the queue for that many bytes.
    fn tail(&mut self, bytes: usize) -> &mut Vec<u8> {
        let has_room = match self.pieces.back() {
            Some(Piece::Copied(buffer)) => buffer.len() + bytes <= BUFFER_BYTES,
            Some(Piece::Shared(..)) | None => false,
        };
        if !has_room {
            let buffer = WRITING.with(Pool::take).unwrap_or_else(|| Vec::with_capacity(FIRST_BUFFER_BYTES));
            self.pieces.push_back(Piece::Copied(buffer));
        }
        match self.pieces.back_mut() {
            Some(Piece::Copied(buffer)) => buffer,
            Some(Piece::Shared(..)) | None => unreachable!("the last piece was just made a buffer"),
        }
    }

    /// Fills `slices` from the front of the queue and returns how many it used.
    pub(crate) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut used = 0;
        let mut skip = self.front_offset;
        let mut add = |bytes: &'a [u8]| -> bool {
            if skip >= bytes.len() {
                skip -= bytes.len();
            } else {
                slices[used] = IoSlice::new(&bytes[skip..]);
                skip = 0;
                used += 1;
            }
            used < SLICES
        };
        'pieces: for piece in &self.pieces {
            match piece {
                Piece::Copied(buffer) => {
                    if !add(buffer) {
                        break 'pieces;
                    }
                }
                Piece::Shared(message, _) => match message.get_segments_for_output() {
                    OutputSegments::SingleSegment([segment]) => {
                        if !add(segment) {
                            break 'pieces;
                        }
                    }
                    OutputSegments::MultiSegment(segments) => {
                        for segment in segments {
                            if !add(segment) {
                                break 'pieces;
                            }
                        }
                    }
                },
            }
        }
        used
    }

    /// Forgets the first `bytes`, which were written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.queued_bytes -= bytes;
        self.front_offset += bytes;
        while let Some(front) = self.pieces.front() {
            let length = match front {
                Piece::Copied(buffer) => buffer.len(),
                Piece::Shared(_, length) => *length,
            };
            if self.front_offset < length {
                break;
            }
            self.front_offset -= length;
            if let Some(Piece::Copied(buffer)) = self.pieces.pop_front() {
                WRITING.with(|pool| pool.give_back(buffer));
            }
        }
        if self.pieces.is_empty() {
            // A burst must not leave its mark on a connection that is idle afterwards.
            self.pieces.shrink_to(SLICES);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
