//! Frames: a segment table and segments, read without trusting what the table announces. Memory grows with the bytes that have
//! arrived, never with the bytes that were promised.

use capnp::{
    Word,
    message::{Reader, ReaderOptions, ReaderSegments},
};

use crate::{Limits, Reason};

/// How deep structures may nest: the contract's deepest has six levels, RPC adds five.
const NESTING_MAX: i32 = 24;

/// A message that was received, in one aligned piece of memory.
#[derive(Debug)]
pub(crate) struct Segments {
    words: Vec<Word>,
    /// Where each segment begins, in words, and at last where the last one ends.
    bounds: Vec<usize>,
}

impl ReaderSegments for Segments {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        let index = index as usize;
        let (from, to) = (*self.bounds.get(index)?, *self.bounds.get(index + 1)?);
        Some(Word::words_to_bytes(&self.words[from..to]))
    }

    fn len(&self) -> usize {
        self.bounds.len() - 1
    }
}

/// The segment table of a frame: what it announces.
#[derive(Debug)]
pub(crate) struct Header {
    bounds: Vec<usize>,
    /// Bytes of the table itself.
    pub(crate) table_bytes: usize,
    /// Bytes of all segments together.
    pub(crate) body_bytes: usize,
}

impl Header {
    /// Reads the table at the beginning of `bytes`; `None` while it is not there in full.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits, frame_bytes: usize) -> Result<Option<Self>, Reason> {
        let Some(count) = number(bytes, 0) else { return Ok(None) };
        let segments = u64::from(count) + 1;
        if segments > limits.segments as u64 {
            return Err(Reason::TooManySegments { segments, limit: limits.segments as u64 });
        }
        let segments = count as usize + 1;
        let table_bytes = (4 + 4 * segments).next_multiple_of(8);
        if bytes.len() < table_bytes {
            return Ok(None);
        }
        let mut bounds = Vec::with_capacity(segments + 1);
        let mut end = 0u64;
        bounds.push(0);
        for segment in 0..segments {
            end += u64::from(number(bytes, 4 + 4 * segment).ok_or(Reason::Malformed)?);
            if end * 8 + table_bytes as u64 > frame_bytes as u64 {
                return Err(Reason::FrameTooLarge { bytes: end * 8 + table_bytes as u64, limit: frame_bytes as u64 });
            }
            bounds.push(end as usize);
        }
        Ok(Some(Self { bounds, table_bytes, body_bytes: end as usize * 8 }))
    }
}

/// The segments of a frame while they arrive.
#[derive(Debug)]
pub(crate) struct Body {
    header: Header,
    words: Vec<Word>,
    filled: usize,
}

/// The least memory that is made ready for bytes that have begun to arrive: a page.
const GROWTH_BYTES: usize = 4 << 10;

impl Body {
    /// A body of which nothing has arrived, and for which nothing is reserved.
    pub(crate) fn new(header: Header) -> Self {
        Self { header, words: Vec::new(), filled: 0 }
    }

    /// Takes what belongs to this body from the front of `bytes` and says how much that was.
    pub(crate) fn take_from(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.header.body_bytes - self.filled);
        let end = self.filled + count;
        let ready = self.words.len() * 8;
        if end > ready {
            // Doubling keeps the copying linear; what stands ready is at most twice what has arrived.
            let next = end.max((2 * ready).max(GROWTH_BYTES)).min(self.header.body_bytes);
            self.words.reserve_exact(next.div_ceil(8) - self.words.len());
            self.words.resize(next.div_ceil(8), capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        }
        Word::words_to_bytes_mut(&mut self.words)[self.filled..end].copy_from_slice(&bytes[..count]);
        self.filled = end;
        count
    }

    /// Whether every byte has arrived.
    pub(crate) fn is_whole(&self) -> bool {
        self.filled == self.header.body_bytes
    }

    /// The message. A reader may walk each word four times, since the application reads some fields more than once; more is an
    /// amplification attack by pointers that share their target.
    pub(crate) fn into_reader(self) -> Reader<Segments> {
        let mut options = ReaderOptions::new();
        options.nesting_limit(NESTING_MAX).traversal_limit_in_words(Some(4 * self.words.len() + 1024));
        Reader::new(Segments { words: self.words, bounds: self.header.bounds }, options)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
