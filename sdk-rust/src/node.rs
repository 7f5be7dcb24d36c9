//! One node of the cluster by itself: how it is, how its repairs stand, what it holds under a key. For operators and their
//! tools; applications need none of it.

mod reshaping;

use std::time::Duration;

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, StoreKey},
    layout::NodeIndex,
    operation::Address,
    record,
    version::Object,
};
use schema::convert::{self, RepairRun, RepairStatus, Status};

use crate::{Client, Error, IntoBytes};

/// A node of the cluster, to be asked by itself: [`Client::node`].
#[derive(Clone, Debug)]
pub struct Node {
    client: Client,
    index: NodeIndex,
    timeout: Duration,
}

/// What one node holds under a key.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Whether it is an owner of the key.
    pub is_owner: bool,
    /// What it holds as an owner.
    pub held: Held,
    /// What it keeps of the key for owners that are away.
    pub hints: Vec<Hint>,
    /// Operations in flight there on the key's partition.
    pub running: u32,
}

/// A hint: what a node keeps for another one.
#[derive(Clone, Debug)]
pub struct Hint {
    /// Whom it is for.
    pub target: NodeId,
    /// What it is.
    pub held: Held,
}

/// What stands in one place under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Absent,
    /// An object.
    Object {
        /// Its versions, tombstones and expired ones included, with its causal context.
        object: Object,
        /// The checksum of its record: equal on two nodes exactly if they hold the same.
        digest: u128,
    },
    /// A record that can't be verified, there or on its way here.
    Corrupt,
}

impl Client {
    /// A node by its position in [`Client::ring`].
    pub fn node(&self, index: NodeIndex) -> Node {
        Node { client: self.clone(), index, timeout: self.shared().config.timeout }
    }
}

impl Node {
    /// Which node it is.
    pub fn index(&self) -> NodeIndex {
        self.index
    }

    /// The same with another time for each question than the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How it is, as it says itself.
    pub async fn status(&self) -> Result<Status, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.status(id, budget)).await?
    }

    /// How its repairs stand.
    pub async fn repair_status(&self) -> Result<RepairStatus, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.repair_status(id, budget)).await?
    }

    /// Has it begin repairs at once, and returns how they stand without waiting for them.
    pub async fn repair(&self, run: RepairRun) -> Result<RepairStatus, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.repair_run(id, run, budget)).await?
    }

    /// What it holds under a key.
    pub async fn inspect(&self, bucket: &str, key: impl IntoBytes) -> Result<Inspection, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        let address = Address::new(Bytes::copy_from_slice(bucket.as_bytes()), key.into_bytes());
        let question = address.clone();
        let answer = self.client.shared().on_thread(0, move |driver| driver.inspect(id, question, budget)).await??;
        let hint = |(target, held)| Hint { target, held: Held::of(&address, held) };
        Ok(Inspection {
            is_owner: answer.is_owner,
            held: Held::of(&address, answer.held),
            hints: answer.hints.into_iter().map(hint).collect(),
            running: answer.running,
        })
    }

    /// Removes its record of a key for good if it is exactly the one with this checksum, none of whose versions is live.
    ///
    /// Only safe when every owner holds the same record, no node keeps a hint for the key and nothing runs on it: `quorate reap`
    /// makes sure of all that, and whoever calls this must.
    pub async fn reap(&self, bucket: &str, key: impl IntoBytes, digest: u128) -> Result<bool, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        let address = Address::new(Bytes::copy_from_slice(bucket.as_bytes()), key.into_bytes());
        let reap = convert::Reap { address, digest };
        self.client.shared().on_thread(0, move |driver| driver.reap(id, reap, budget)).await?
    }

    fn id(&self) -> Result<NodeId, Error> {
        let layout = self.client.ring();
        let no_node = || Error::invalid(format!("the ring has no node {}", self.index.0));
        Ok(layout.member(self.index).ok_or_else(no_node)?.id)
    }
}

impl Held {
    /// The object behind a record, if it verifies and is of this key.
    fn of(address: &Address, held: convert::Held) -> Self {
        match held {
            convert::Held::Absent => Self::Absent,
            convert::Held::Corrupt => Self::Corrupt,
            convert::Held::Record(bytes) => match record::decode(&StoreKey(address.store_key.0), &bytes) {
                Ok(record) if record.is_of(address) => Self::Object { object: record.object, digest: record.digest },
                Ok(_) | Err(_) => Self::Corrupt,
            },
        }
    }
}
