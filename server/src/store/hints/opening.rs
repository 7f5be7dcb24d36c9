//! The environment of the hints: its tables, making it, and opening it.
//!
//! | table | key | value |
//! |---|---|---|
//! | `hints` | target, bits, prefix, store key ([`dynamo::hint::HintKey`]) | record ([`dynamo::record`]) |
//! | `aside` | the same | what could not be verified under this name, as it was |
//! | `usages` | target | row ([`dynamo::hint::HintUsage`]) |
//! | `stamps` | `hints` | whose directory this is |
//!
//! It is made when the directory is founded; directories from before there were hints get it when they are opened. A stamp of
//! the node says that there is one, so that an environment that was lost is told from one that never was.

use std::{fs, io, ops::ControlFlow, path::Path, sync::Arc};

use dynamo::{
    hint::{HintKey, HintUsage},
    ident::NodeId,
};
use heed::{CommitOrAbort, Env, WithoutTls};

use super::shared::NAME;
use crate::store::{
    Identity,
    bounds::{Bounds, Mapping},
    directory::Directory,
    error::OpenError,
    filesystem,
    health::Watch,
    pages::Pages,
    tables::{DATA_FILE, Environment, Table, put_stamp, stamp},
};

const ENVIRONMENT: &str = "hints";
const MAKING: &str = "hints-making";
pub(super) const HINTS: &str = "hints";
pub(super) const ASIDE: &str = "aside";
pub(super) const USAGES: &str = "usages";

/// The stamp that says whose hints they are, and the one of the node that says that there are some.
pub(in crate::store) const STAMP: &str = "hints";

/// The environment of the hints, open.
#[derive(Clone, Debug)]
pub(super) struct HintTables {
    pub(super) env: Env<WithoutTls>,
    pub(super) hints: Table,
    pub(super) aside: Table,
    pub(super) usages: Table,
    pub(super) file: Arc<fs::File>,
    mapping: Mapping,
}

/// The environment with what was read of it.
pub(super) struct Opened {
    pub(super) tables: HintTables,
    pub(super) health: Watch,
    pub(super) backlog: Vec<(NodeId, HintUsage)>,
    pub(super) aside: Vec<HintKey>,
}

impl HintTables {
    /// All tables whose size changes.
    pub(super) fn all(&self) -> [Table; 3] {
        [self.hints, self.aside, self.usages]
    }

    /// The addresses at which values may lie now.
    pub(super) fn bounds(&self) -> Bounds {
        self.mapping.bounds(&self.env)
    }
}

/// Opens the hints of a directory; makes their environment if there never was one.
pub(super) fn open(directory: &Directory, map_bytes: u64) -> Result<Opened, OpenError> {
    let data = directory.data();
    let path = data.join(ENVIRONMENT);
    if !directory.has_fact(STAMP)? {
        // A crash may have come between making it and saying so: then what is there is ours and still empty.
        if !path.exists() {
            make(&directory.identity, &data, map_bytes)?;
        }
        let opened = read(directory, &path, map_bytes)?;
        directory.put(STAMP, &[])?;
        return Ok(opened);
    }
    read(directory, &path, map_bytes)
}

/// Makes the environment under another name and renames it when it is complete.
pub(super) fn make(identity: &Identity, data: &Path, map_bytes: u64) -> Result<(), OpenError> {
    let making = data.join(MAKING);
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(OpenError::io(making, "could not clear an unfinished environment")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let Environment { env, stamps, .. } = Environment::open(&making, map_bytes)?;
    let create = || {
        env.create_databases_and_commit(env.write_txn()?, |opener, transaction| -> heed::Result<_> {
            for name in [HINTS, ASIDE, USAGES] {
                opener.create_database::<heed::types::Bytes, heed::types::Bytes>(transaction, Some(name))?;
            }
            put_stamp(&stamps, transaction, STAMP, &identity.directory)?;
            Ok(CommitOrAbort::<_, ()>::Commit(()))
        })
    };
    create().map_err(OpenError::engine(&making, "make the environment of the hints"))?.unwrap_commit();
    drop((env, stamps));
    filesystem::sync_directory(&making)?;
    fs::rename(&making, data.join(ENVIRONMENT)).map_err(OpenError::io(data, "could not finish making the hints"))?;
    filesystem::sync_directory(data)
}

/// Opens the environment, makes sure it is this directory's, and reads what is kept for whom. A row that can't be read means
/// that something unknown was forgotten, so it is refused; more or fewer hints than the rows say are damage, and only read.
fn read(directory: &Directory, path: &Path, map_bytes: u64) -> Result<Opened, OpenError> {
    let file = path.join(DATA_FILE);
    if !file.exists() {
        return Err(OpenError::Missing { path: file });
    }
    let environment = Environment::open(path, map_bytes)?;
    let tables = tables(&environment, &file)?;
    let transaction = tables.env.read_txn().map_err(OpenError::engine(path, "begin a transaction"))?;
    let found = stamp(path, &environment.stamps, &transaction, STAMP)?;
    if found != directory.identity.directory {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (found, expected) = (hex(found), hex(&directory.identity.directory));
        return Err(OpenError::OtherOwner { path: path.to_owned(), what: "directory", found, expected });
    }
    drop(transaction);
    let pages = Pages::of(&tables.env, &tables.file).map_err(OpenError::engine(path, "begin a transaction"))?;
    let damaged = |detail: String| OpenError::Damaged { path: file.clone(), detail };
    let backlog = usages(&pages).map_err(damaged)?;
    let aside = set_aside(&pages).map_err(damaged)?;
    let hints = pages.table(HINTS).map_err(|error| damaged(error.to_string()))?.entries;
    drop(pages);
    let health = Watch::default();
    let expected: u64 = backlog.iter().map(|(_, usage)| usage.records).sum();
    if environment.is_truncated {
        health.damaged(NAME, "the file had lost its end when it was opened");
    } else if expected != hints {
        health.damaged(NAME, format!("the rows say {expected} hints, the table says {hints}"));
    }
    Ok(Opened { tables, health, backlog, aside })
}

/// Opens the tables. One that is not there any more is damage, never a new table.
fn tables(environment: &Environment, path: &Path) -> Result<HintTables, OpenError> {
    let env = environment.env.clone();
    let open = || {
        env.open_databases_and_commit(env.read_txn()?, |opener, transaction| -> heed::Result<_> {
            let tables = (
                opener.open_database(transaction, Some(HINTS))?,
                opener.open_database(transaction, Some(ASIDE))?,
                opener.open_database(transaction, Some(USAGES))?,
            );
            Ok(match tables {
                (Some(hints), Some(aside), Some(usages)) => CommitOrAbort::Commit((hints, aside, usages)),
                (_, _, _) => CommitOrAbort::Abort(()),
            })
        })
    };
    let (hints, aside, usages) = match open().map_err(OpenError::engine(path, "open the tables of the hints"))? {
        CommitOrAbort::Commit(tables) => tables,
        CommitOrAbort::Abort(()) => {
            return Err(OpenError::Damaged { path: path.to_owned(), detail: "a table is missing".to_owned() });
        }
    };
    let file = env.try_clone_inner_file().map_err(OpenError::engine(path, "share the data file"))?;
    let mapping = Mapping::of(&env, path);
    Ok(HintTables { env, hints, aside, usages, file: Arc::new(file), mapping })
}

/// The rows of all targets.
pub(super) fn usages(pages: &Pages<'_>) -> Result<Vec<(NodeId, HintUsage)>, String> {
    let tree = pages.table(USAGES).map_err(|error| error.to_string())?;
    let (mut rows, mut wrong) = (Vec::new(), None);
    let visit = &mut |key: &[u8], row: &[u8]| {
        let target = key.try_into().map(|key| NodeId(u128::from_be_bytes(key)));
        match target.map(|target| (target, HintUsage::decode(target, row))) {
            Ok((target, Ok(usage))) => rows.push((target, usage)),
            Ok((target, Err(error))) => wrong = Some(format!("what is kept for {target}: {error:?}")),
            Err(_) => wrong = Some("a row has a malformed key".to_owned()),
        }
        if wrong.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    pages.walk(&tree, None, visit).map_err(|error| error.to_string())?;
    match wrong {
        Some(wrong) => Err(wrong),
        None if rows.len() as u64 != tree.entries => Err(format!("{} rows of {}", rows.len(), tree.entries)),
        None => Ok(rows),
    }
}

/// The names under which hints stand aside.
fn set_aside(pages: &Pages<'_>) -> Result<Vec<HintKey>, String> {
    let tree = pages.table(ASIDE).map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        names.extend(HintKey::decode(key));
        ControlFlow::Continue(())
    };
    pages.walk(&tree, None, visit).map_err(|error| error.to_string())?;
    let found = names.len() as u64;
    if found == tree.entries { Ok(names) } else { Err(format!("{found} hints stand aside of {}", tree.entries)) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dynamo::ident::NodeId;

    use super::STAMP;
    use crate::store::{Store, StoreConfig, directory::Directory};

    /// A founded directory, as a version without hints left it, or one that ended before it said that there are some.
    fn from_before(root: &std::path::Path, is_made: bool) -> StoreConfig {
        let config = StoreConfig {
            founding: Some(Vec::new()),
            is_filesystem_forced: true,
            ..StoreConfig::new(root, 1, NodeId(1))
        };
        drop(Store::open(&config).unwrap());
        Directory::open(&config).unwrap().forget_fact(STAMP);
        if !is_made {
            fs::remove_dir_all(root.join("data/hints")).unwrap();
            fs::create_dir(root.join("data/hints-making")).unwrap();
            fs::write(root.join("data/hints-making/data.mdb"), "half").unwrap();
        }
        StoreConfig { founding: None, ..config }
    }

    #[test]
    fn a_directory_from_before_there_were_hints_gets_room_for_them_once() {
        for is_made in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let config = from_before(root.path(), is_made);
            assert!(Store::open(&config).unwrap().hints().backlog().is_empty());
            assert!(Directory::open(&config).unwrap().has_fact(STAMP).unwrap());
            fs::remove_dir_all(root.path().join("data/hints")).unwrap();
            assert!(Store::open(&config).is_err(), "what was there and is gone is not made anew");
        }
    }
}
