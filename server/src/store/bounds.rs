//! Where the bytes of a value may lie. LMDB takes a value's place and length from its page without looking; on a damaged
//! page they may point anywhere, and touching what lies there could end the process. Comparing addresses touches nothing.
//!
//! LMDB does not say where it mapped a file, so the operating system is asked. Where it can't tell, only the length of a
//! value is checked.

use std::{fs, path::Path};

use heed::{Env, WithoutTls};

/// Longest value that LMDB keeps inside a leaf page of the largest size it knows; longer ones have pages of their own.
const INLINE_BYTES_MAX: usize = 32 << 10;

/// Longest record there is: seven owners' worth of the longest object of the largest configurable value, and its head.
const RECORD_BYTES_MAX: usize = 8 * (16 << 20);

/// Where an environment's file is mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    first: Option<usize>,
    page_bytes: usize,
}

impl Mapping {
    /// Finds the mapping of an environment that is open.
    pub(super) fn of(env: &Env<WithoutTls>, file: &Path) -> Self {
        let page_bytes = env.unnamed_database_stat().page_size as usize;
        let first = fs::read_to_string("/proc/self/maps").ok().and_then(|maps| {
            let file = file.to_str()?;
            // address-end permissions offset device inode path
            maps.lines().find_map(|line| {
                let (numbers, _) = line.split_once(file).filter(|(_, behind)| behind.is_empty())?;
                let (first, rest) = numbers.split_once('-')?;
                let is_start = rest.split_whitespace().nth(2).is_some_and(|offset| offset.bytes().all(|b| b == b'0'));
                usize::from_str_radix(first, 16).ok().filter(|_| is_start)
            })
        });
        Self { first, page_bytes }
    }

    /// The bounds now. A snapshot taken before sees only pages within them.
    pub(super) fn bounds(&self, env: &Env<WithoutTls>) -> Bounds {
        let info = env.info();
        let Some(first) = self.first else { return Bounds { first: 0, end: usize::MAX, map_end: usize::MAX } };
        let end = first + (info.last_page_number + 1) * self.page_bytes;
        Bounds { first, end, map_end: first + info.map_size }
    }
}

/// The addresses of a file's pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    first: usize,
    end: usize,
    map_end: usize,
}

impl Bounds {
    /// Whether a value that a read transaction shows lies within the file's pages.
    pub(super) fn admit(&self, value: &[u8]) -> bool {
        let start = value.as_ptr() as usize;
        value.len() <= RECORD_BYTES_MAX
            && start >= self.first
            && start.checked_add(value.len()).is_some_and(|end| end <= self.end)
    }

    /// Whether a value that a write transaction shows, and did not write itself, can be where it seems to be: in the map, or
    /// in the transaction's own copy of a leaf.
    pub(super) fn admit_in_write(&self, value: &[u8]) -> bool {
        let start = value.as_ptr() as usize;
        if (self.first..self.map_end).contains(&start) { self.admit(value) } else { value.len() <= INLINE_BYTES_MAX }
    }
}
