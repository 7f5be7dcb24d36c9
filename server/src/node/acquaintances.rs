//! Which data directory each other node ran on when it first introduced itself. A node that comes back with another one has
//! lost its data, or is somebody else under its name; if it went on as the old owner, a quorum that counts it could miss what
//! the old one had acknowledged (design, ring; answers, "wiped owner keeps its identity").

use std::{collections::BTreeMap, sync::Mutex, sync::PoisonError};

use dynamo::ident::NodeId;

use crate::store::{OpenError, Store};

/// Bytes of an entry: node and directory, 16 each.
const ENTRY_BYTES: usize = 32;

/// The nodes that have introduced themselves, with their directories; durable.
#[derive(Debug)]
pub(crate) struct Acquaintances {
    known: Mutex<BTreeMap<NodeId, u128>>,
}

/// Why a node is not accepted.
#[derive(Debug)]
pub(crate) enum Stranger {
    /// It ran on another directory before.
    OtherDirectory {
        /// The directory it had.
        known: u128,
    },
    /// What was heard can't be remembered, so it can't be relied on.
    Forgetful(OpenError),
}

impl Acquaintances {
    /// Those a store remembers.
    pub(crate) fn recall(store: &Store) -> Result<Self, OpenError> {
        let bytes = store.acquaintances()?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        let entry = |entry: &[u8]| (NodeId(number(&entry[..16])), number(&entry[16..]));
        let known = bytes.chunks_exact(ENTRY_BYTES).map(entry).collect();
        Ok(Self { known: Mutex::new(known) })
    }

    /// A node says that it runs on `directory`. Remembers that durably the first time, and refuses it when it was another.
    pub(crate) fn meet(&self, store: &Store, node: NodeId, directory: u128) -> Result<(), Stranger> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&node) {
            Some(&known) if known == directory => return Ok(()),
            Some(&known) => return Err(Stranger::OtherDirectory { known }),
            None => {}
        }
        known.insert(node, directory);
        let bytes: Vec<u8> = known
            .iter()
            .flat_map(|(node, directory)| node.0.to_be_bytes().into_iter().chain(directory.to_be_bytes()))
            .collect();
        store.put_acquaintances(&bytes).map_err(|error| {
            known.remove(&node);
            Stranger::Forgetful(error)
        })
    }
}
