//! LMDB environments and the tables in them, all in one view: names, keys, values, and the one `unsafe` of this crate.
//!
//! | environment | table | key | value |
//! |---|---|---|---|
//! | shard | `records` | store key, 32 bytes | record ([`dynamo::record`]) |
//! | shard | `partitions` | bits u8, prefix u32 big end first | row ([`dynamo::replica::PartitionRow`]) |
//! | shard | `changes` | position u64 big end first | what changed in the hash trees up to there ([`super::log`]) |
//! | shard | `trees` | bits u8, prefix u64 big end first | stored copy of a hash tree's node ([`dynamo::merkle`]) |
//! | shard | `stamps` | name | stamp: which shard of which directory this is, and where it was closed |
//! | node | `stamps` | name | stamp: who the node is, and its layout |
//!
//! The environment of the hints has its tables in [`super::hints`].

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use dynamo::peer::TreePath;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls, types};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{bounds::Mapping, error::OpenError, header};

/// A table of bytes by bytes.
pub(super) type Table = Database<'static, types::Bytes, types::Bytes>;

/// LMDB's name for the data file of an environment.
pub(super) const DATA_FILE: &str = "data.mdb";

/// Address space for a shard that no budget bounds: far more than a node's disk, so that it never has to be resized, which
/// LMDB allows only while no transaction runs.
pub(super) const MAP_BYTES: u64 = 1 << 40;

/// LMDB wants whole pages; every page size there is divides this.
const MAP_ROUND_BYTES: u64 = 64 << 10;

/// The name of the table of records.
pub(super) const RECORDS: &str = "records";
/// The name of the table of partition rows.
pub(super) const PARTITIONS: &str = "partitions";
/// The name of the table of changes.
pub(super) const CHANGES: &str = "changes";
/// The name of the table of stored copies of trees.
pub(super) const TREES: &str = "trees";
const STAMPS: &str = "stamps";
const TABLES_MAX: u32 = 8;

/// The stamp of a shard that says at which position it was closed.
pub(super) const STAMP_CLOSED: &str = "closed";

/// Snapshots open at once. Each worker has one per shard, and background work a few; the default of 126 has been too few
/// for others, and a slot costs 64 bytes.
const READERS_MAX: u32 = 2048;

/// Zeros kept behind the last page of a file. A damaged offset inside a page may point up to 64 KiB further; beyond the
/// file's end that would be SIGBUS, here it is a wrong checksum.
const SLACK_BYTES: u64 = 128 << 10;

const STAMP_FORMAT: u8 = 1;
const STAMP_HEAD_BYTES: usize = 17;

/// An environment with only named stamps in it: the node's own.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) env: Env<WithoutTls>,
    pub(super) stamps: Table,
    /// The file had lost its end when it was opened.
    pub(super) is_truncated: bool,
}

/// The environment of a shard.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) env: Env<WithoutTls>,
    pub(super) records: Table,
    pub(super) partitions: Table,
    pub(super) changes: Table,
    pub(super) trees: Table,
    pub(super) stamps: Table,
    pub(super) is_truncated: bool,
    pub(super) mapping: Mapping,
    /// The data file, for those who read it page by page.
    pub(super) file: Arc<File>,
}

impl Environment {
    /// Creates an environment in an empty or absent directory, or opens one, and makes sure of its table of stamps.
    pub(super) fn open(directory: &Path, map_bytes: u64) -> Result<Self, OpenError> {
        let (env, is_truncated) = open_environment(directory, map_bytes)?;
        let create = || {
            env.create_databases_and_commit(env.write_txn()?, |opener, transaction| -> heed::Result<_> {
                Ok(CommitOrAbort::<_, ()>::Commit(opener.create_database(transaction, Some(STAMPS))?))
            })
        };
        let stamps = create().map_err(OpenError::engine(directory, "open its tables"))?.unwrap_commit();
        Ok(Self { env, stamps, is_truncated })
    }
}

/// The tables of a shard, in the order of its fields.
type ShardTables = (Table, Table, Table, Table, Table);

impl Tables {
    /// Creates the environment of a shard, or those of its tables that are not there.
    pub(super) fn create(directory: &Path, map_bytes: u64) -> Result<Self, OpenError> {
        let Environment { env, stamps, is_truncated } = Environment::open(directory, map_bytes)?;
        let create = || {
            env.create_databases_and_commit(env.write_txn()?, |opener, transaction| -> heed::Result<_> {
                let records = opener.create_database(transaction, Some(RECORDS))?;
                let partitions = opener.create_database(transaction, Some(PARTITIONS))?;
                let changes = opener.create_database(transaction, Some(CHANGES))?;
                let trees = opener.create_database(transaction, Some(TREES))?;
                Ok(CommitOrAbort::<_, ()>::Commit((records, partitions, changes, trees, stamps)))
            })
        };
        let tables = create().map_err(OpenError::engine(directory, "create its tables"))?;
        Self::new(env, tables.unwrap_commit(), is_truncated)
    }

    fn new(env: Env<WithoutTls>, tables: ShardTables, is_truncated: bool) -> Result<Self, OpenError> {
        let (records, partitions, changes, trees, stamps) = tables;
        let path = env.path().join(DATA_FILE);
        let file = env.try_clone_inner_file().map_err(OpenError::engine(&path, "share the data file"))?;
        let mapping = Mapping::of(&env, &path);
        let file = Arc::new(file);
        Ok(Self { env, records, partitions, changes, trees, stamps, is_truncated, mapping, file })
    }

    /// Opens the environment of a shard. Writes nothing: a table that is not there any more is damage, never a new table.
    pub(super) fn open(directory: &Path, map_bytes: u64) -> Result<Self, OpenError> {
        let path = directory.join(DATA_FILE);
        if !path.exists() {
            return Err(OpenError::Missing { path });
        }
        let (env, is_truncated) = open_environment(directory, map_bytes)?;
        let open = || {
            env.open_databases_and_commit(env.read_txn()?, |opener, transaction| -> heed::Result<_> {
                let tables = (
                    opener.open_database(transaction, Some(RECORDS))?,
                    opener.open_database(transaction, Some(PARTITIONS))?,
                    opener.open_database(transaction, Some(CHANGES))?,
                    opener.open_database(transaction, Some(TREES))?,
                    opener.open_database(transaction, Some(STAMPS))?,
                );
                Ok(match tables {
                    (Some(records), Some(partitions), Some(changes), Some(trees), Some(stamps)) => {
                        CommitOrAbort::Commit((records, partitions, changes, trees, stamps))
                    }
                    (_, _, _, _, _) => CommitOrAbort::Abort(()),
                })
            })
        };
        match open().map_err(OpenError::engine(&path, "open its tables"))? {
            CommitOrAbort::Commit(tables) => Self::new(env, tables, is_truncated),
            CommitOrAbort::Abort(()) => Err(OpenError::Damaged { path, detail: "a table is missing".to_owned() }),
        }
    }

    /// Opens the environment of a shard of directory format 1, which had no trees, and adds their tables.
    pub(super) fn open_format_1(directory: &Path, map_bytes: u64) -> Result<Self, OpenError> {
        let path = directory.join(DATA_FILE);
        if !path.exists() {
            return Err(OpenError::Missing { path });
        }
        let (env, is_truncated) = open_environment(directory, map_bytes)?;
        let open = || {
            env.create_databases_and_commit(env.write_txn()?, |opener, transaction| -> heed::Result<_> {
                let tables = (
                    opener.open_database(transaction, Some(RECORDS))?,
                    opener.open_database(transaction, Some(PARTITIONS))?,
                    opener.open_database(transaction, Some(STAMPS))?,
                );
                let (Some(records), Some(partitions), Some(stamps)) = tables else {
                    return Ok(CommitOrAbort::Abort(()));
                };
                let changes = opener.create_database(transaction, Some(CHANGES))?;
                let trees = opener.create_database(transaction, Some(TREES))?;
                Ok(CommitOrAbort::Commit((records, partitions, changes, trees, stamps)))
            })
        };
        match open().map_err(OpenError::engine(&path, "add tables"))? {
            CommitOrAbort::Commit(tables) => Self::new(env, tables, is_truncated),
            CommitOrAbort::Abort(()) => Err(OpenError::Damaged { path, detail: "a table is missing".to_owned() }),
        }
    }
}

impl Tables {
    /// All tables whose size changes.
    pub(super) fn all(&self) -> [Table; 4] {
        [self.records, self.partitions, self.changes, self.trees]
    }
}

/// The key of a partition's row. Sorted by it, the children of a doubled ring stand apart from their parents.
pub(super) fn partition_key(prefix: u32, bits: u8) -> [u8; 5] {
    let mut key = [bits; 5];
    key[1..].copy_from_slice(&prefix.to_be_bytes());
    key
}

/// Reads the key of a partition's row.
pub(super) fn parse_partition_key(key: &[u8]) -> Option<(u32, u8)> {
    let (bits, prefix) = key.split_first()?;
    Some((u32::from_be_bytes(prefix.try_into().ok()?), *bits))
}

/// The key of a stored node: nodes of wide ranges come before those of their parts.
pub(super) fn node_key(range: &TreePath) -> [u8; 9] {
    let mut key = [range.bits; 9];
    key[1..].copy_from_slice(&range.prefix.to_be_bytes());
    key
}

/// Reads the key of a stored node.
pub(super) fn parse_node_key(key: &[u8]) -> Option<TreePath> {
    let (bits, prefix) = key.split_first()?;
    Some(TreePath { prefix: u64::from_be_bytes(prefix.try_into().ok()?), bits: *bits })
}

/// Stores a stamp: `format u8 | xxh3-128 over the rest, seeded by the name | content`.
pub(super) fn put_stamp(stamps: &Table, transaction: &mut RwTxn<'_>, name: &str, content: &[u8]) -> heed::Result<()> {
    let mut stamp = Vec::with_capacity(STAMP_HEAD_BYTES + content.len());
    stamp.push(STAMP_FORMAT);
    stamp.extend_from_slice(&stamp_checksum(name, content).to_le_bytes());
    stamp.extend_from_slice(content);
    stamps.put(transaction, name.as_bytes(), &stamp)
}

/// Reads a stamp; a missing one is damage, because founding wrote all of them at once.
pub(super) fn stamp<'t>(
    path: &Path,
    stamps: &Table,
    transaction: &'t RoTxn<'_>,
    name: &str,
) -> Result<&'t [u8], OpenError> {
    let detail = format!("the stamp {name:?} is missing");
    stamp_if_any(path, stamps, transaction, name)?.ok_or_else(|| OpenError::Damaged { path: path.to_owned(), detail })
}

/// Reads a stamp that need not be there.
pub(super) fn stamp_if_any<'t>(
    path: &Path,
    stamps: &Table,
    transaction: &'t RoTxn<'_>,
    name: &str,
) -> Result<Option<&'t [u8]>, OpenError> {
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let stamp = stamps.get(transaction, name.as_bytes()).map_err(OpenError::engine(path, "read a stamp"))?;
    let Some(stamp) = stamp else { return Ok(None) };
    let (head, content) =
        stamp.split_at_checked(STAMP_HEAD_BYTES).ok_or_else(|| damaged(format!("the stamp {name:?} is cut")))?;
    if head[0] != STAMP_FORMAT {
        let known = format!("stamp format {STAMP_FORMAT}");
        return Err(OpenError::OtherFormat {
            path: path.to_owned(),
            found: format!("stamp format {}", head[0]),
            known,
        });
    }
    if head[1..] != stamp_checksum(name, content).to_le_bytes() {
        return Err(damaged(format!("the stamp {name:?} does not match its checksum")));
    }
    Ok(Some(content))
}

fn stamp_checksum(name: &str, content: &[u8]) -> u128 {
    xxh3_128_with_seed(content, name.bytes().fold(0, |seed, byte| seed << 8 ^ u64::from(byte)))
}

/// Checks an environment's file, gives it back its length if it lost its end, and has LMDB map it.
fn open_environment(directory: &Path, map_bytes: u64) -> Result<(Env<WithoutTls>, bool), OpenError> {
    fs::create_dir_all(directory).map_err(OpenError::io(directory, "could not create the directory"))?;
    let path = directory.join(DATA_FILE);
    let mut is_truncated = false;
    let mut least_map_bytes = 0;
    if path.exists() {
        let io = |action| OpenError::io(path.clone(), action);
        let file = File::options().read(true).write(true).open(&path).map_err(io("could not open the data file"))?;
        let header = header::read(&path, &file)?;
        let length = file.metadata().map_err(io("could not inspect the data file"))?.size();
        is_truncated = length < header.end();
        if length < header.end() + SLACK_BYTES {
            file.set_len(header.end() + SLACK_BYTES).map_err(io("could not extend the data file"))?;
        }
        // A budget that was lowered below what is stored already must leave room to delete.
        if header.end() > map_bytes {
            least_map_bytes = header.end() + header.end() / 8;
        }
    }
    let map_bytes = map_bytes.max(least_map_bytes).next_multiple_of(MAP_ROUND_BYTES);
    let env = map(directory, map_bytes).map_err(OpenError::engine(&path, "open the environment"))?;
    Ok((env, is_truncated))
}

/// Opens and maps an environment.
///
/// LMDB's conditions, and who keeps them:
/// * the file is changed by nobody but LMDB while it is mapped: the data directory's lock keeps other nodes out
///   ([`super::lock`]), and this process writes to it in no other way than growing it at its end, where nothing is mapped;
/// * an environment is open once per process: heed refuses a second time, and the directory's lock does before it;
/// * not on a remote file system: [`super::filesystem::check`];
/// * not across `fork`: child processes are started by `exec` alone, and LMDB opens its files close-on-exec;
/// * pages that LMDB did not write (damage) are beyond its promises. Headers are checked before, values are compared with
///   the bounds of the map before they are touched, records carry checksums, and the length of the file is restored
///   before anything is read; what remains can end this process by a signal, and then the node is down, not wrong.
#[allow(unsafe_code)]
fn map(directory: &Path, map_bytes: u64) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(usize::try_from(map_bytes).unwrap_or(usize::MAX)).max_readers(READERS_MAX).max_dbs(TABLES_MAX);
    // SAFETY: the conditions above. Default flags: every commit is synchronous, pages are written and never mapped writable.
    unsafe { options.open(directory) }
}
