//! The data directory: founding one, recognising one, refusing whatever is not.
//!
//! ```text
//! LOCK                 who has it open
//! ballast              space to let go when the disk is full, so that deletes still can be written
//! founding/            a store being made; never used, and replaced at the next attempt
//! data/FORMAT          what this is, for people and for other versions of the software
//! data/node/           LMDB: who the node is, its layout
//! data/shard-0/ …      LMDB: records, partition rows, hash trees
//! data/hints/          LMDB: what is kept for other nodes ([`super::hints`])
//! ```
//!
//! A store is made under another name and renamed when it is complete, so there is no half-made one to tell from a damaged
//! one: whatever is missing in `data` was lost.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use dynamo::ident::NodeId;

use super::{
    Identity, StoreConfig,
    error::OpenError,
    filesystem,
    hints::{self, STAMP_HINTS},
    lock::{LOCK_FILE, Lock},
    tables::{DATA_FILE, Environment, STAMP_CLOSED, Tables, put_stamp, stamp, stamp_if_any},
};

/// The format of the directory as a whole: names, tables, stamps.
const FORMAT_LINE: &str = "quorate data directory, format 2";

/// The format before, without hash trees. It is brought up when it is opened; what knows only this one must not write to the other,
/// because its writes would not reach the trees.
const FORMAT_1_LINE: &str = "quorate data directory, format 1";
const FORMAT_FILE: &str = "FORMAT";

/// The name of the ballast file inside a data directory.
pub(super) const BALLAST_FILE: &str = "ballast";

const DATA: &str = "data";
const FOUNDING: &str = "founding";

/// Most shards: more would only split the groups that share a commit, and every shard costs its own flushes.
pub(super) const SHARDS_MAX: u8 = 16;

/// A partition lies in one shard: torn over several it would have several rows, and a move changes one. Every ring is founded with at
/// least so many partitions, and they only become more.
const _: () = assert!(1 << dynamo::planner::PARTITION_BITS_MIN_CHOSEN >= SHARDS_MAX as u32);

/// Address space for the node's own facts: 33 layouts at least, of which one of 10,000 nodes that have come and gone has 11 MB, and what
/// copy-on-write keeps of them. The file has only what is used.
const NODE_MAP_BYTES: u64 = 2 << 30;

const STAMP_IDENTITY: &str = "identity";
pub(super) const STAMP_LAYOUT: &str = "layout";
const STAMP_ACQUAINTANCES: &str = "acquaintances";
const STAMP_SHARD: &str = "shard";

/// A data directory that is locked, recognised, and whose parts are there.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) root: PathBuf,
    pub(super) identity: Identity,
    /// It has format 1 as yet.
    pub(super) is_format_1: bool,
    node: Environment,
    _lock: Lock,
}

impl Directory {
    /// Locks and recognises the directory of a configuration, or founds a store in it where that is allowed.
    pub(super) fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let root = create(&config.directory)?;
        if !config.is_filesystem_forced {
            filesystem::check(&root)?;
        }
        let lock = Lock::take(&root)?;
        if !root.join(DATA).exists() {
            let layout = config.founding.as_deref().ok_or_else(|| OpenError::Absent { path: root.clone() })?;
            refuse_strangers(&root)?;
            found(&root, config, layout)?;
        }
        let is_format_1 = check_format(&root.join(DATA).join(FORMAT_FILE))? == FORMAT_1_LINE;
        let path = root.join(DATA).join("node");
        if !path.join(DATA_FILE).exists() {
            return Err(OpenError::Missing { path: path.join(DATA_FILE) });
        }
        let node = Environment::open(&path, NODE_MAP_BYTES)?;
        if node.is_truncated {
            return Err(OpenError::Damaged { path: path.join(DATA_FILE), detail: "it has lost its end".to_owned() });
        }
        let identity = read_identity(&path, &node)?;
        check_owner(&root, config, &identity)?;
        Ok(Self { root, identity, is_format_1, node, _lock: lock })
    }

    /// Whose the store in a directory is; `None` if none was ever founded there. Takes the lock for as long as it looks.
    pub(super) fn recognise(directory: &Path) -> Result<Option<Identity>, OpenError> {
        if !directory.join(DATA).exists() {
            return Ok(None);
        }
        let root = create(directory)?;
        let _lock = Lock::take(&root)?;
        check_format(&root.join(DATA).join(FORMAT_FILE))?;
        let path = root.join(DATA).join("node");
        if !path.join(DATA_FILE).exists() {
            return Err(OpenError::Missing { path: path.join(DATA_FILE) });
        }
        read_identity(&path, &Environment::open(&path, NODE_MAP_BYTES)?).map(Some)
    }

    /// Opens the environment of a shard and makes sure it is this directory's.
    pub(super) fn open_shard(&self, shard: u8, map_bytes: u64) -> Result<Tables, OpenError> {
        let path = shard_path(&self.root.join(DATA), shard);
        let tables =
            if self.is_format_1 { Tables::open_format_1(&path, map_bytes)? } else { Tables::open(&path, map_bytes)? };
        let expected = shard_stamp(&self.identity, shard);
        let transaction = tables.env.read_txn().map_err(OpenError::engine(&path, "begin a transaction"))?;
        let found = stamp(&path, &tables.stamps, &transaction, STAMP_SHARD)?;
        if found != expected {
            let (found, expected) = (hex(found), hex(&expected));
            return Err(OpenError::OtherOwner { path, what: "directory and shard", found, expected });
        }
        drop(transaction);
        Ok(tables)
    }

    /// Notes that every shard has what this format needs.
    pub(super) fn finish_format(&mut self) -> Result<(), OpenError> {
        if self.is_format_1 {
            let data = self.root.join(DATA);
            filesystem::write_durably(&data.join(FORMAT_FILE), &format!("{FORMAT_LINE}\n"))?;
            self.is_format_1 = false;
        }
        Ok(())
    }

    /// What the node remembers of other nodes, as it was stored last.
    pub(super) fn acquaintances(&self) -> Result<Vec<u8>, OpenError> {
        self.fact(STAMP_ACQUAINTANCES)
    }

    /// Stores durably what the node remembers of other nodes.
    pub(super) fn put_acquaintances(&self, acquaintances: &[u8]) -> Result<(), OpenError> {
        self.put(STAMP_ACQUAINTANCES, acquaintances)
    }

    /// Where the environments are.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// Whether a fact about the node was ever stored under a name.
    pub(super) fn has_fact(&self, name: &str) -> Result<bool, OpenError> {
        let find = || {
            let transaction = self.node.env.read_txn()?;
            Ok(self.node.stamps.get(&transaction, name.as_bytes())?.is_some())
        };
        find().map_err(OpenError::engine(self.data().join("node"), "read a fact about the node"))
    }

    /// A fact about the node that founding has stored.
    pub(super) fn fact(&self, name: &str) -> Result<Vec<u8>, OpenError> {
        let path = self.data().join("node");
        let transaction = self.node.env.read_txn().map_err(OpenError::engine(&path, "begin a transaction"))?;
        stamp(&path, &self.node.stamps, &transaction, name).map(<[u8]>::to_vec)
    }

    /// A fact about the node that may never have been stored.
    pub(super) fn fact_if_any(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let path = self.data().join("node");
        let transaction = self.node.env.read_txn().map_err(OpenError::engine(&path, "begin a transaction"))?;
        Ok(stamp_if_any(&path, &self.node.stamps, &transaction, name)?.map(<[u8]>::to_vec))
    }

    /// All facts whose names begin with `prefix`, in the order of their names.
    pub(super) fn facts(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
        let names = || {
            let transaction = self.node.env.read_txn()?;
            let found = self.node.stamps.prefix_iter(&transaction, prefix.as_bytes())?;
            let name =
                |entry: heed::Result<(&[u8], _)>| entry.map(|(name, _)| String::from_utf8_lossy(name).into_owned());
            found.map(name).collect::<heed::Result<Vec<String>>>()
        };
        let names = names().map_err(OpenError::engine(self.data().join("node"), "list facts about the node"))?;
        let mut facts = Vec::new();
        for name in names {
            if let Some(content) = self.fact_if_any(&name)? {
                facts.push((name, content));
            }
        }
        Ok(facts)
    }

    /// Forgets facts about the node, all at once and durably.
    pub(super) fn forget(&self, names: &[String]) -> Result<(), OpenError> {
        if names.is_empty() {
            return Ok(());
        }
        let write = || {
            let mut transaction = self.node.env.write_txn()?;
            for name in names {
                self.node.stamps.delete(&mut transaction, name.as_bytes())?;
            }
            transaction.commit()
        };
        write().map_err(OpenError::engine(self.data().join("node"), "forget facts about the node"))
    }

    /// What is stored about the node can't be believed.
    pub(super) fn damaged(&self, detail: String) -> OpenError {
        OpenError::Damaged { path: self.data().join("node").join(DATA_FILE), detail }
    }

    /// Takes a directory back to before a fact was stored, as an older version of the software left it.
    #[cfg(test)]
    pub(super) fn forget_fact(&self, name: &str) {
        let mut transaction = self.node.env.write_txn().unwrap();
        assert!(self.node.stamps.delete(&mut transaction, name.as_bytes()).unwrap());
        transaction.commit().unwrap();
    }

    /// Stores a fact about the node durably.
    pub(super) fn put(&self, name: &str, content: &[u8]) -> Result<(), OpenError> {
        let write = || {
            let mut transaction = self.node.env.write_txn()?;
            put_stamp(&self.node.stamps, &mut transaction, name, content)?;
            transaction.commit()
        };
        write().map_err(OpenError::engine(self.root.join(DATA).join("node"), "store a fact about the node"))
    }
}

fn create(directory: &Path) -> Result<PathBuf, OpenError> {
    // Nobody but the node's own user has business in here.
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.map_err(OpenError::io(directory, "could not create the data directory"))?;
    directory.canonicalize().map_err(OpenError::io(directory, "could not resolve the data directory"))
}

/// Founding happens only where nothing else is: a directory that holds other things was probably given by mistake, and one
/// that held a store once must not silently become a new one.
fn refuse_strangers(root: &Path) -> Result<(), OpenError> {
    let entries = fs::read_dir(root).map_err(OpenError::io(root, "could not list the data directory"))?;
    for entry in entries {
        let entry = entry.map_err(OpenError::io(root, "could not list the data directory"))?;
        let name = entry.file_name();
        let is_ours = [LOCK_FILE, FOUNDING, BALLAST_FILE, "lost+found"].iter().any(|known| name == **known);
        if !is_ours {
            return Err(OpenError::NotOurs { path: root.to_owned(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

fn found(root: &Path, config: &StoreConfig, layout: &[u8]) -> Result<(), OpenError> {
    let founding = root.join(FOUNDING);
    // What stands there was never renamed, so it never served, and nothing in it was ever acknowledged.
    match fs::remove_dir_all(&founding) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(OpenError::io(founding, "could not clear an unfinished founding")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut directory = [0; 16];
    getrandom::fill(&mut directory).map_err(|error| OpenError::Configuration(format!("no randomness: {error}")))?;
    let shards = config.shards_or_default()?;
    let identity = Identity { cluster: config.cluster, node: config.node, directory, shards };
    let node = founding.join("node");
    let environment = Environment::open(&node, NODE_MAP_BYTES)?;
    let write = || {
        let mut transaction = environment.env.write_txn()?;
        put_stamp(&environment.stamps, &mut transaction, STAMP_IDENTITY, &encode_identity(&identity))?;
        put_stamp(&environment.stamps, &mut transaction, STAMP_LAYOUT, layout)?;
        put_stamp(&environment.stamps, &mut transaction, STAMP_ACQUAINTANCES, &[])?;
        put_stamp(&environment.stamps, &mut transaction, STAMP_HINTS, &[])?;
        transaction.commit()
    };
    write().map_err(OpenError::engine(&node, "write who the node is"))?;
    drop(environment);
    filesystem::sync_directory(&node)?;
    for shard in 0..shards {
        found_shard(&founding, &identity, shard, config.map_bytes(shards))?;
    }
    hints::found(config, root, &founding, &identity)?;
    filesystem::write_durably(&founding.join(FORMAT_FILE), &format!("{FORMAT_LINE}\n"))?;
    filesystem::sync_directory(&founding)?;
    fs::rename(&founding, root.join(DATA)).map_err(OpenError::io(root, "could not finish founding"))?;
    filesystem::sync_directory(root)
}

fn found_shard(founding: &Path, identity: &Identity, shard: u8, map_bytes: u64) -> Result<(), OpenError> {
    let path = shard_path(founding, shard);
    let tables = Tables::create(&path, map_bytes)?;
    let write = || {
        let mut transaction = tables.env.write_txn()?;
        put_stamp(&tables.stamps, &mut transaction, STAMP_SHARD, &shard_stamp(identity, shard))?;
        put_stamp(&tables.stamps, &mut transaction, STAMP_CLOSED, &0_u64.to_le_bytes())?;
        transaction.commit()
    };
    write().map_err(OpenError::engine(&path, "stamp the shard"))?;
    drop(tables);
    filesystem::sync_directory(&path)
}

/// Which of the formats we know it is.
fn check_format(path: &Path) -> Result<&'static str, OpenError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(OpenError::io(path, "could not read the format")(error)),
    };
    let found = text.lines().next().unwrap_or_default();
    if let Some(known) = [FORMAT_LINE, FORMAT_1_LINE].into_iter().find(|known| found == *known) {
        return Ok(known);
    }
    Err(OpenError::OtherFormat {
        path: path.to_owned(),
        found: format!("{found:?}"),
        known: format!("{FORMAT_LINE:?}"),
    })
}

fn check_owner(root: &Path, config: &StoreConfig, identity: &Identity) -> Result<(), OpenError> {
    let other = |what, found, expected| Err(OpenError::OtherOwner { path: root.to_owned(), what, found, expected });
    if identity.cluster != config.cluster {
        return other("cluster", format!("{:032x}", identity.cluster), format!("{:032x}", config.cluster));
    }
    if identity.node != config.node {
        return other("node", identity.node.to_string(), config.node.to_string());
    }
    if let Some(shards) = config.shards
        && shards != identity.shards
    {
        return Err(OpenError::Configuration(format!(
            "{}: the directory was made with {} shards, and {shards} are configured. The number is fixed when a directory \
             is made; take it out of the configuration",
            root.display(),
            identity.shards
        )));
    }
    Ok(())
}

fn read_identity(path: &Path, node: &Environment) -> Result<Identity, OpenError> {
    let transaction = node.env.read_txn().map_err(OpenError::engine(path, "begin a transaction"))?;
    let bytes = stamp(path, &node.stamps, &transaction, STAMP_IDENTITY)?;
    decode_identity(bytes)
        .ok_or_else(|| OpenError::Damaged { path: path.to_owned(), detail: "the identity is malformed".to_owned() })
}

fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(49);
    bytes.extend_from_slice(&identity.cluster.to_le_bytes());
    bytes.extend_from_slice(&identity.node.0.to_le_bytes());
    bytes.extend_from_slice(&identity.directory);
    bytes.push(identity.shards);
    bytes
}

fn decode_identity(bytes: &[u8]) -> Option<Identity> {
    let (cluster, rest) = bytes.split_first_chunk()?;
    let (node, rest) = rest.split_first_chunk()?;
    let (directory, rest) = rest.split_first_chunk()?;
    let [shards] = *rest else { return None };
    let is_possible = shards.is_power_of_two() && shards <= SHARDS_MAX;
    let (cluster, node) = (u128::from_le_bytes(*cluster), NodeId(u128::from_le_bytes(*node)));
    is_possible.then_some(Identity { cluster, node, directory: *directory, shards })
}

fn shard_stamp(identity: &Identity, shard: u8) -> [u8; 18] {
    let mut stamp = [0; 18];
    stamp[..16].copy_from_slice(&identity.directory);
    stamp[16] = shard;
    stamp[17] = identity.shards;
    stamp
}

fn shard_path(data: &Path, shard: u8) -> PathBuf {
    data.join(format!("shard-{shard}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
