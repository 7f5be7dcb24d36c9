//! The slots of a layout in pages of 4,096 partitions, each with a hash of its own, so that a client fetches only the pages
//! it lacks; and the hash of a whole layout, by which the next one names its parent.

use super::{Layout, codec::SLOT_BYTES, spans::SpanRun};

/// Partitions of a page: 24 KiB of slots at N = 3, small beside a frame and large beside its hash.
pub const PAGE_PARTITIONS: u32 = 4096;

/// A page's slots pass through a buffer of this many slots on their way into the hash: large enough for the hash function
/// to work on whole chunks, small enough for the stack.
const HASH_BUFFER_SLOTS: usize = 1024;

impl Layout {
    /// How many pages the slots fill; the last may be shorter.
    pub fn page_count(&self) -> u32 {
        self.partitions().div_ceil(PAGE_PARTITIONS)
    }

    /// The slots of a page, or `None` beyond the last.
    pub fn page_slots(&self, page: u32) -> Option<&[u16]> {
        if page >= self.page_count() {
            return None;
        }
        let replicas = usize::from(self.replicas);
        let first = page as usize * PAGE_PARTITIONS as usize * replicas;
        let last = first + PAGE_PARTITIONS as usize * replicas;
        self.slots.get(first..last.min(self.slots.len()))
    }

    /// The spans of a page's partitions, in runs; nothing beyond the last page.
    pub fn page_spans(&self, page: u32) -> impl Iterator<Item = SpanRun> + '_ {
        let first = page.saturating_mul(PAGE_PARTITIONS);
        let end = first.saturating_add(PAGE_PARTITIONS).min(self.partitions());
        let runs = self.spans.runs();
        let inside = runs.iter().filter(move |run| first < run.first && run.first < end).copied();
        let head = (first < end).then(|| SpanRun { first, span: self.spans.of(first) });
        head.into_iter().chain(inside)
    }

    /// BLAKE3 over the slots of a page, each in big-endian order, cut to 16 bytes; `None` beyond the last page.
    pub fn page_hash(&self, page: u32) -> Option<[u8; 16]> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = [0; HASH_BUFFER_SLOTS * SLOT_BYTES];
        for slots in self.page_slots(page)?.chunks(HASH_BUFFER_SLOTS) {
            for (bytes, slot) in buffer.chunks_exact_mut(SLOT_BYTES).zip(slots) {
                bytes.copy_from_slice(&slot.to_be_bytes());
            }
            hasher.update(&buffer[..slots.len() * SLOT_BYTES]);
        }
        Some(truncated(&hasher.finalize()))
    }

    /// BLAKE3 over [`Layout::encode`], cut to 16 bytes: two layouts with the same hash are the same layout.
    pub fn hash(&self) -> [u8; 16] {
        truncated(&blake3::hash(&self.encode()))
    }
}

fn truncated(hash: &blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}
