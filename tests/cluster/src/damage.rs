//! Damage to records where they lie: bytes of the stopped node's `data.mdb` that belong to a record are changed in place, and
//! nobody is told.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dynamo::ident::StoreKey;

use crate::random::Random;

/// Records begin with a checksum, so that many bytes tell one from every other.
const HEAD_BYTES: usize = 24;

/// Keys and values of LMDB begin at even places.
const ALIGNMENT: usize = 2;

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One bit is flipped.
    Bit,
    /// Up to 32 bytes in a row become others.
    Noise,
    /// Everything behind some place becomes zero.
    Zeros,
}

impl Harm {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Bit, Self::Noise, Self::Zeros];
}

/// Harms every copy of the records of some keys in a stopped node's directory, each in one of several ways; `records` is what
/// the node holds. Returns the keys of those that were found on disk and harmed.
pub fn records(
    directory: &Path,
    records: &BTreeMap<StoreKey, Bytes>,
    keys: &[StoreKey],
    random: &mut Random,
) -> io::Result<Vec<StoreKey>> {
    let wanted: BTreeMap<&[u8], &StoreKey> =
        keys.iter().filter_map(|key| Some((records.get(key)?.get(..HEAD_BYTES)?, key))).collect();
    let mut harmed = Vec::new();
    for path in data_files(directory)? {
        let file = fs::read(&path)?;
        let out = OpenOptions::new().write(true).open(&path)?;
        for at in (0..file.len().saturating_sub(HEAD_BYTES)).step_by(ALIGNMENT) {
            // Most of a file is none of it, and one look at eight bytes is cheap.
            let Some(key) = wanted.get(&file[at..at + HEAD_BYTES]) else { continue };
            let record = &records[*key];
            if file[at..].starts_with(record) {
                let mut bytes = record.to_vec();
                harm(&mut bytes, random);
                out.write_all_at(&bytes, at as u64)?;
                harmed.push(**key);
            }
        }
        out.sync_all()?;
    }
    harmed.sort_unstable();
    harmed.dedup();
    Ok(harmed)
}

fn harm(bytes: &mut [u8], random: &mut Random) {
    let before = bytes.to_vec();
    let at = random.below(bytes.len() as u64) as usize;
    match random.choose(&Harm::ALL) {
        Harm::Bit => bytes[at] ^= 1 << random.below(8),
        Harm::Noise => bytes[at..].iter_mut().take(32).for_each(|byte| *byte = random.number() as u8),
        Harm::Zeros => bytes[at..].fill(0),
    }
    if bytes == before {
        bytes[at] ^= 1;
    }
}

/// The LMDB files of the shards below a data directory.
fn data_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("data.mdb") && path.to_string_lossy().contains("shard") {
                found.push(path);
            }
        }
    }
    Ok(found)
}
