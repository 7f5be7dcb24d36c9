//! The two header ("meta") pages of an LMDB file, read with plain reads before LMDB maps it.
//!
//! LMDB looks at a magic number and a version there and believes the rest. The rest decides where the roots are and how
//! long the file is, so a damaged header can lose a whole tree without an error. Everything in it that has a rule is
//! checked here; the fields and their places are those of data format 1 on 64-bit machines of this byte order.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use super::error::OpenError;

/// What a sound header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes per page.
    pub(super) page_bytes: u64,
    /// The last page that either header knows of.
    pub(super) last_page: u64,
}

impl Header {
    /// Bytes up to and with the last page.
    pub(super) fn end(&self) -> u64 {
        (self.last_page + 1) * self.page_bytes
    }
}

const PAGE_HEAD_BYTES: usize = 16;
const META_BYTES: usize = 136;
const FLAG_META: u16 = 0x08;
const MAGIC: u32 = 0xbeef_c0de;
const DATA_VERSION: u32 = 1;
const NO_PAGE: u64 = u64::MAX;

/// LMDB's own bound on the height of a tree.
const DEPTH_MAX: u16 = 32;

/// One header page.
struct Meta {
    page_bytes: u64,
    last_page: u64,
    transaction: u64,
}

/// Reads and checks the headers of an LMDB file.
pub(super) fn read(path: &Path, file: &File) -> Result<Header, OpenError> {
    let damaged = |detail: &str| OpenError::Damaged { path: path.to_owned(), detail: format!("header: {detail}") };
    let page_of = |offset: u64| {
        let mut bytes = [0; PAGE_HEAD_BYTES + META_BYTES];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes).map_err(|_| damaged("the file ends inside of it"))
    };
    let even = read_meta(&page_of(0)?, 0).map_err(damaged)?;
    let odd = read_meta(&page_of(even.page_bytes)?, 1).map_err(damaged)?;
    if even.page_bytes != odd.page_bytes {
        return Err(damaged("its two copies disagree about the page size"));
    }
    // Commits write the two pages in turn, so their transactions are neighbours; before the first one both are 0.
    let (older, newer) = if even.transaction < odd.transaction { (&even, &odd) } else { (&odd, &even) };
    let neighbours = newer.transaction - older.transaction == 1 || newer.transaction == 0;
    if !neighbours || even.transaction % 2 != 0 || (odd.transaction % 2 != 1 && odd.transaction != 0) {
        return Err(damaged("its two copies are not of neighbouring transactions"));
    }
    if newer.last_page < older.last_page {
        return Err(damaged("the newer copy knows fewer pages than the older"));
    }
    Ok(Header { page_bytes: even.page_bytes, last_page: newer.last_page })
}

fn read_meta(bytes: &[u8; PAGE_HEAD_BYTES + META_BYTES], number: u64) -> Result<Meta, &'static str> {
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| {
        let mut long = [0; 8];
        long.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(long)
    };
    if long(0) != number || half(10) != FLAG_META {
        return Err("not a header page");
    }
    if word(16) != MAGIC {
        return Err("the magic number is wrong; this is no LMDB file");
    }
    if word(20) != DATA_VERSION {
        return Err("the data version is unknown");
    }
    let (address, map_bytes) = (long(24), long(32));
    let page_bytes = u64::from(word(40));
    let (last_page, transaction) = (long(136), long(144));
    if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
        return Err("the page size is impossible");
    }
    if address != 0 || last_page < 1 || last_page >= map_bytes.max(1) / page_bytes.max(1) + 2 || last_page >= 1 << 48 {
        return Err("the number of pages is impossible");
    }
    for tree in [40, 88] {
        let (depth, root, entries) = (half(tree + 6), long(tree + 40), long(tree + 32));
        let pages = long(tree + 8).checked_add(long(tree + 16)).and_then(|pages| pages.checked_add(long(tree + 24)));
        let is_empty = root == NO_PAGE;
        if is_empty != (depth == 0) || is_empty != (entries == 0) || depth > DEPTH_MAX {
            return Err("a tree is empty and is not");
        }
        if !is_empty && !(2..=last_page).contains(&root) || pages.is_none_or(|pages| pages > last_page) {
            return Err("a tree lies outside of the file");
        }
    }
    Ok(Meta { page_bytes, last_page, transaction })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::read;

    fn sound_file(directory: &std::path::Path) -> std::path::PathBuf {
        let tables = crate::store::tables::Environment::open(directory, 1 << 24).unwrap();
        for round in 0..3_u8 {
            let mut transaction = tables.env.write_txn().unwrap();
            tables.stamps.put(&mut transaction, b"round", &[round; 100]).unwrap();
            transaction.commit().unwrap();
        }
        directory.join("data.mdb")
    }

    #[test]
    fn a_header_lmdb_wrote_is_sound_and_every_flipped_bit_of_its_rules_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = sound_file(directory.path());
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let header = read(&path, &file).unwrap();
        assert_eq!(header.page_bytes, 4096);
        assert!(file.metadata().unwrap().len() >= header.end());
        // Page number, flags, magic, version, address, page size, both roots and the last page, of both copies, in their
        // high bytes: what a header check can know. Low bits of roots and counters need the tree, see `Tables`.
        for copy in [0, 4096] {
            for at in [7, 10, 16, 19, 20, 24, 31, 41, 42, 43, 87, 135, 143, 151] {
                let mut byte = [0];
                file.read_exact_at(&mut byte, copy + at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x40], copy + at).unwrap();
                assert!(read(&path, &file).is_err(), "byte {at} of the copy at {copy}");
                file.write_all_at(&byte, copy + at).unwrap();
            }
        }
        read(&path, &file).unwrap();
    }

    #[test]
    fn a_file_cut_inside_its_header_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = sound_file(directory.path());
        for length in [0, 100, 4095, 4096, 4200] {
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            file.set_len(length).unwrap();
            assert!(read(&path, &file).is_err(), "cut at {length}");
        }
    }
}
