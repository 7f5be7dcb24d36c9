//! The data of the fake cluster: versions kept as simply as can be, one number for each write, and a context that is the
//! highest number that was seen. No store: nothing expires, and a context says nothing of the key it came from.

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use dynamo::{
    ident::{OpId, StoreKey},
    operation::{Action, Address, Basis, ErrorCode, Failure, Operation, Outcome, Receipt, Reply, Sibling, value_hash},
};

#[derive(Clone)]
struct Version {
    number: u64,
    op_id: OpId,
    /// `None` is a tombstone.
    value: Option<Bytes>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<StoreKey, (Address, Vec<Version>)>,
    writes: u64,
}

/// The data.
#[derive(Default)]
pub struct Map(Mutex<State>);

impl Map {
    /// How many writes were applied, repetitions not counted.
    pub fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    /// Does what an operation says.
    pub fn carry_out(&self, operation: &Operation) -> Reply {
        let mut state = self.0.lock().unwrap();
        let outcome = match &operation.action {
            Action::Get { without_values } => state.get(&operation.address, *without_values),
            Action::Put { value, basis, op_id, .. } => {
                state.write(&operation.address, Some(value.clone()), basis, *op_id)
            }
            Action::Delete { basis, op_id, .. } => state.write(&operation.address, None, basis, *op_id),
        };
        Reply { outcome, receipt: Receipt { epoch: 1, need: 1, durable: 1, replicas: 3, ..Receipt::default() } }
    }

    /// The keys of a partition after `cursor`, in order, with their live values.
    pub fn partition(&self, bits: u8, partition: u32) -> Vec<(Address, Vec<Bytes>)> {
        let state = self.0.lock().unwrap();
        let inside = state.keys.iter().filter(|(key, _)| key.id().prefix(bits) == partition);
        inside
            .map(|(_, (address, versions))| {
                (address.clone(), versions.iter().filter_map(|version| version.value.clone()).collect())
            })
            .collect()
    }
}

impl State {
    fn get(&self, address: &Address, without_values: bool) -> Outcome {
        let none = Vec::new();
        let versions = self.keys.get(&address.store_key).map_or(&none, |(_, versions)| versions);
        let context = context(versions);
        let siblings: Vec<Sibling> = versions
            .iter()
            .filter_map(|version| Some((version.number, version.value.clone()?)))
            .map(|(number, value)| Sibling {
                value_bytes: value.len() as u32,
                hash: value_hash(&value),
                value: if without_values { Bytes::new() } else { value },
                clock: number << 16,
            })
            .collect();
        if siblings.is_empty() { Outcome::NotFound { context } } else { Outcome::Found { siblings, context } }
    }

    fn write(&mut self, address: &Address, value: Option<Bytes>, basis: &Basis, op_id: OpId) -> Outcome {
        assert!(!op_id.is_none(), "a write came without an operation id");
        let seen = match basis {
            Basis::Local => u64::MAX,
            Basis::Beside => 0,
            Basis::Context(token) => match token[..].try_into() {
                Ok(number) => u64::from_be_bytes(number),
                Err(_) => {
                    let message = "context: not one of this cluster";
                    return Outcome::Failed(Failure::new(ErrorCode::InvalidRequest, message));
                }
            },
        };
        let number = self.writes + 1;
        let (_, versions) = self.keys.entry(address.store_key).or_insert_with(|| (address.clone(), Vec::new()));
        let repeated = versions.iter().find(|version| version.op_id == op_id).map(|version| version.number);
        if repeated.is_none() {
            versions.retain(|version| version.number > seen);
            versions.push(Version { number, op_id, value });
            self.writes += 1;
        }
        let context = (versions.len() == 1).then(|| context(versions));
        let siblings = versions.iter().filter(|version| version.value.is_some()).count() as u16;
        Outcome::Stored { context, siblings, clock: repeated.unwrap_or(number) << 16 }
    }
}

fn context(versions: &[Version]) -> Bytes {
    match versions.iter().map(|version| version.number).max() {
        Some(number) => Bytes::copy_from_slice(&number.to_be_bytes()),
        None => Bytes::new(),
    }
}
