//! Where a simulated node keeps hints: what is durable. A transaction is a copy that takes its place when the commit returns; hints are
//! few, so that is cheap enough.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use dynamo::{
    hint::{HintKey, HintRows, HintUsage, answer_read},
    ident::NodeId,
    peer::{PeerOperation, PeerResult},
    record,
    round::{Hint, HintPage, HintTarget},
};

/// Hints.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// By name.
    pub hints: BTreeMap<HintKey, Bytes>,
    /// Those that can't be verified.
    pub aside: BTreeMap<HintKey, Bytes>,
    usages: BTreeMap<NodeId, HintUsage>,
}

impl Shelf {
    /// What is kept of a key, for all targets.
    pub fn read(&self, operation: &PeerOperation) -> PeerResult {
        let is_it = |key: &HintKey| key.store_key == operation.store_key;
        let hints = self.hints.iter().filter(|(key, _)| is_it(key)).map(|(_, hint)| hint.clone());
        answer_read(&operation.view, &operation.store_key, hints, self.aside.keys().any(is_it))
    }

    /// For whom hints are kept.
    pub fn targets(&self) -> Vec<HintTarget> {
        let mut targets: BTreeMap<NodeId, u64> = BTreeMap::new();
        self.hints.keys().for_each(|key| *targets.entry(key.target).or_default() += 1);
        targets.into_iter().map(|(target, objects)| HintTarget { target, objects }).collect()
    }

    /// Some of the hints for a target.
    pub fn scan(&self, target: NodeId, after: Option<HintKey>, records_max: usize) -> HintPage {
        let of_target = self.hints.iter().filter(|(key, _)| key.target == target && Some(**key) > after);
        let mut page: Vec<Hint> =
            of_target.take(records_max + 1).map(|(key, record)| Hint { key: *key, record: record.clone() }).collect();
        let is_last = page.len() <= records_max;
        page.truncate(records_max);
        let after = if is_last { None } else { page.last().map(|hint| hint.key) };
        page.retain(|hint| record::verify(&hint.key.store_key, &hint.record).is_ok());
        HintPage { hints: page, after }
    }
}

impl HintRows for Shelf {
    type Error = Infallible;

    fn hint(&mut self, key: &HintKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.hints.get(key).cloned())
    }

    fn put_hint(&mut self, key: &HintKey, record: &[u8]) -> Result<(), Infallible> {
        self.hints.insert(*key, Bytes::copy_from_slice(record));
        Ok(())
    }

    fn delete_hint(&mut self, key: &HintKey) -> Result<(), Infallible> {
        self.hints.remove(key);
        Ok(())
    }

    fn set_aside(&mut self, key: &HintKey) -> Result<(), Infallible> {
        if let Some(hint) = self.hints.remove(key) {
            self.aside.insert(*key, hint);
        }
        Ok(())
    }

    fn usages(&mut self) -> Result<Vec<(NodeId, HintUsage)>, Infallible> {
        Ok(self.usages.iter().map(|(target, usage)| (*target, *usage)).collect())
    }

    fn put_usage(&mut self, target: NodeId, usage: &HintUsage) -> Result<(), Infallible> {
        if usage.is_empty() {
            self.usages.remove(&target);
        } else {
            self.usages.insert(target, *usage);
        }
        Ok(())
    }
}
