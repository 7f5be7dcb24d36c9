//! What every replica holds: read from the data directories of stopped nodes, past everything that could make up for a
//! difference.

use std::{collections::BTreeMap, path::PathBuf};

use dynamo::{
    ident::{Id, NodeId, StoreKey},
    layout::Layout,
    record,
    version::Content,
};
use quorate_history::{Event, Kind, Stage};
use server::store::{OpenError, Store, StoreConfig};

use crate::{proxied::CLUSTER, values};

/// The records of one replica, encoded, by their store keys.
#[derive(Debug, Default)]
pub struct Replica {
    /// Those that verify.
    pub records: BTreeMap<StoreKey, bytes::Bytes>,
    /// The keys of those that don't.
    pub unreadable: Vec<StoreKey>,
}

/// How the store of a test's node is opened.
pub fn config(directory: impl Into<PathBuf>, node: usize) -> StoreConfig {
    let id = NodeId(u128::from_be_bytes(Id::of(CLUSTER.as_bytes(), format!("n{}", node + 1).as_bytes()).0));
    config_of(directory, id)
}

fn config_of(directory: impl Into<PathBuf>, id: NodeId) -> StoreConfig {
    let cluster = u128::from_be_bytes(Id::of(b"quorate cluster", CLUSTER.as_bytes()).0);
    StoreConfig { is_filesystem_forced: true, ..StoreConfig::new(directory, cluster, id) }
}

/// Reads everything that a stopped node has.
///
/// # Panics
/// When a page can't be read.
pub fn read(directory: impl Into<PathBuf>, node: usize) -> Result<Replica, OpenError> {
    read_with(&config(directory, node))
}

/// The same of a node that was not among the first and so drew its identity.
///
/// # Panics
/// When a page can't be read.
pub fn read_of(directory: impl Into<PathBuf>, id: NodeId) -> Result<Replica, OpenError> {
    read_with(&config_of(directory, id))
}

fn read_with(config: &StoreConfig) -> Result<Replica, OpenError> {
    let store = Store::open(config)?;
    let (mut replica, mut after) = (Replica::default(), None);
    loop {
        let chunk = store.snapshot().scan(0, 0, after).expect("the pages of a stopped node can be read");
        replica.records.extend(chunk.records);
        replica.unreadable.extend(chunk.unreadable);
        after = chunk.next;
        if after.is_none() {
            return Ok(replica);
        }
    }
}

/// What the owners of some keys hold of them, as the last lines of a history. A key that one lacks stands there without values.
pub fn finals<'k>(
    replicas: &[Replica],
    layout: &Layout,
    keys: impl IntoIterator<Item = &'k str>,
    bucket: &str,
    time_us: u64,
) -> Vec<Event> {
    let mut events = Vec::new();
    for key in keys {
        let store_key = StoreKey::of(bucket.as_bytes(), key.as_bytes());
        for owner in layout.owners(layout.partition(&store_key.id())) {
            let name = &layout.member(owner).expect("an owner is a member").name;
            let number: usize = name[1..].parse().expect("tests' nodes are called n1, n2 and so on");
            let (number, replica) = (number - 1, &replicas[number - 1]);
            let mut event = Event::new(time_us, number as u32, Kind::Get, key, Stage::Final);
            if let Some(bytes) = replica.records.get(&store_key) {
                event.values = live(&store_key, bytes);
                event.context = Some(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes)));
            }
            events.push(event);
        }
    }
    events
}

/// The ids of the live values of a record, ascending.
fn live(store_key: &StoreKey, bytes: &bytes::Bytes) -> Vec<u64> {
    let record = record::decode(store_key, bytes).expect("the scan verified it");
    let mut ids: Vec<u64> = record
        .object
        .live()
        .map(|version| match &version.content {
            Content::Value { bytes, .. } => values::decode(bytes),
            Content::Tombstone => values::NOBODY,
        })
        .collect();
    ids.sort_unstable();
    ids
}
