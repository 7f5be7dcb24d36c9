//! One buffer for all byte strings of a batch: they are appended while the message is read, and handed out as slices of
//! one shared [`Bytes`] when all have been read.

use bytes::Bytes;

/// A place in the buffer. Offsets are 32 bits wide: a batch is bounded far below 4 GiB.
#[derive(Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// The buffer while it grows.
pub(super) struct Gather {
    bytes: Vec<u8>,
    bytes_max: usize,
    refused: Option<usize>,
}

/// The buffer when it is complete.
pub(super) struct Gathered(Bytes);

impl Gather {
    /// A buffer that takes up to `bytes_max` bytes and expects `bytes_expected`.
    pub(super) fn new(bytes_max: usize, bytes_expected: usize) -> Self {
        let bytes = Vec::with_capacity(bytes_expected.min(bytes_max));
        Self { bytes, bytes_max: bytes_max.min(u32::MAX as usize), refused: None }
    }

    /// Appends a byte string, unless the buffer would become larger than allowed: then says how large.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<Span, usize> {
        let start = self.bytes.len();
        let end = start + bytes.len();
        if end > self.bytes_max {
            self.refused = Some(end);
            return Err(end);
        }
        self.bytes.extend_from_slice(bytes);
        // Both fit: `bytes_max` fits.
        Ok(Span { start: start as u32, end: end as u32 })
    }

    /// How large the buffer would have become with the last byte string that was too much.
    pub(super) fn refused(&self) -> Option<usize> {
        self.refused
    }

    /// The bytes of a span.
    pub(super) fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// Ends the growth.
    pub(super) fn finish(self) -> Gathered {
        Gathered(Bytes::from(self.bytes))
    }
}

impl Gathered {
    /// A slice that shares the buffer.
    pub(super) fn slice(&self, span: Span) -> Bytes {
        self.0.slice(span.start as usize..span.end as usize)
    }
}
