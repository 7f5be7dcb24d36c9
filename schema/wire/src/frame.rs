//! The stream framing of Cap'n Proto: a table with the length of each segment, then the segments.
//!
//! This is the encoding alone, on bytes that are already here; reading from a socket is the business of `reader`. Nothing in it
//! reserves memory for what a table merely announces.

use capnp::Word;
use capnp::message::ReaderSegments;

use crate::limits::Limits;
use crate::reason::Reason;

/// The unit of the encoding.
pub(crate) const WORD_BYTES: usize = 8;

/// Where the segments of a frame lie in its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Length of the table itself.
    pub(crate) header_bytes: usize,
    /// Length of all segments together.
    pub(crate) body_words: usize,
    /// The end of each segment in the body, in words; empty for a single segment, which needs no list.
    ends: Box<[u32]>,
}

impl Table {
    /// Length of the whole frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.header_bytes + self.body_words * WORD_BYTES
    }
}

/// Reads a segment table from the start of `bytes`; `None` when it is not complete yet.
///
/// # Errors
/// As soon as it is certain that the frame is beyond the limits, even if the table is not complete.
pub(crate) fn parse_table(bytes: &[u8], limits: &Limits, frame_limit_bytes: usize) -> Result<Option<Table>, Reason> {
    let Some(segments_less_one) = read_u32(bytes, 0) else {
        return Ok(None);
    };
    let announced = u64::from(segments_less_one) + 1;
    if announced > limits.segments as u64 {
        return Err(Reason::TooManySegments { announced, limit: limits.segments });
    }
    let segments = announced as usize;
    // One length per segment behind the count, padded to a whole word.
    let header_bytes = (segments / 2 + 1) * WORD_BYTES;
    let mut ends = Vec::new();
    if segments > 1 {
        ends.reserve_exact(segments);
    }
    let mut words = 0_u64;
    for segment in 0..segments {
        let Some(length) = read_u32(bytes, 1 + segment) else {
            return Ok(None);
        };
        words += u64::from(length);
        let announced_bytes = header_bytes as u64 + words * WORD_BYTES as u64;
        if announced_bytes > frame_limit_bytes as u64 {
            return Err(Reason::FrameTooLarge { announced_bytes, limit_bytes: frame_limit_bytes });
        }
        if segments > 1 {
            ends.push(u32::try_from(words).map_err(|_| too_large(announced_bytes, frame_limit_bytes))?);
        }
    }
    if bytes.len() < header_bytes {
        return Ok(None);
    }
    Ok(Some(Table { header_bytes, body_words: words as usize, ends: ends.into_boxed_slice() }))
}

fn too_large(announced_bytes: u64, limit_bytes: usize) -> Reason {
    Reason::FrameTooLarge { announced_bytes, limit_bytes }
}

fn read_u32(bytes: &[u8], index: usize) -> Option<u32> {
    let (number, _) = bytes.get(index * 4..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*number))
}

/// Appends the segment table for `segments` to `out`.
pub(crate) fn write_table(segments: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(&(segments.len() as u32 - 1).to_le_bytes());
    for segment in segments {
        out.extend_from_slice(&((segment.len() / WORD_BYTES) as u32).to_le_bytes());
    }
    if segments.len().is_multiple_of(2) {
        out.extend_from_slice(&[0; 4]);
    }
}

/// Length of the segment table for that many segments.
pub(crate) fn table_bytes(segments: usize) -> usize {
    (segments / 2 + 1) * WORD_BYTES
}

/// The segments of one received frame, in one piece of aligned memory.
#[derive(Debug)]
pub(crate) struct Segments {
    words: Vec<Word>,
    ends: Box<[u32]>,
}

impl Segments {
    /// `words` must be the complete body that `table` describes.
    pub(crate) fn new(table: Table, words: Vec<Word>) -> Self {
        debug_assert_eq!(words.len(), table.body_words);
        Self { words, ends: table.ends }
    }

    /// Copies the body of a frame out of a buffer.
    pub(crate) fn copied(table: Table, body: &[u8]) -> Self {
        let mut words = Word::allocate_zeroed_vec(table.body_words);
        Word::words_to_bytes_mut(&mut words).copy_from_slice(body);
        Self::new(table, words)
    }

    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }
}

impl ReaderSegments for Segments {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        if self.ends.is_empty() {
            return (index == 0).then(|| Word::words_to_bytes(&self.words));
        }
        let index = index as usize;
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(Word::words_to_bytes(&self.words[start..end]))
    }

    fn len(&self) -> usize {
        self.ends.len().max(1)
    }
}

#[cfg(test)]
mod tests;
