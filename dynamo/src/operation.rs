//! What clients ask and what they are told: operations, outcomes, receipts, errors. The schema's `Kv` in the protocol's own
//! types, shared by the coordinator (which answers) and the client (which asks). Paper, sections 4.3 and 4.5.

use alloc::{borrow::Cow, string::String, vec::Vec};

use bytes::Bytes;

use crate::{
    ident::{OpId, StoreKey},
    layout::{Level, NodeIndex},
};

/// Which record an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where it stands on the ring and in the store; always computed from the two fields below, never taken from a peer.
    pub store_key: StoreKey,
    /// The bucket's name, already checked.
    pub bucket: Bytes,
    /// The application's key, already checked.
    pub key: Bytes,
}

impl Address {
    /// The address of `key` in `bucket`.
    pub fn new(bucket: Bytes, key: Bytes) -> Self {
        Self { store_key: StoreKey::of(&bucket, &key), bucket, key }
    }
}

/// What one operation asks of replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consistency {
    /// The level; `None` leaves it to the bucket.
    pub level: Option<Level>,
    /// Replicas a read waits for; 0 leaves it to the level.
    pub r: u8,
    /// Replicas that make a write durable before it is acknowledged; 0 leaves it to the level.
    pub w: u8,
    /// How many owners of the preference list are used; 0 means all N.
    pub n: u8,
}

/// What a write replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Whatever the coordinator holds when it mints.
    Local,
    /// Nothing: the version is added beside the others.
    Beside,
    /// Exactly what a read saw: its sealed context token.
    Context(Bytes),
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which record.
    pub address: Address,
    /// How many replicas.
    pub consistency: Consistency,
    /// What to do.
    pub action: Action,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the live values.
    Get {
        /// Leave the values out of the answer: only counts, lengths, clocks and the context.
        without_values: bool,
    },
    /// Write a value.
    Put {
        /// The value.
        value: Bytes,
        /// XXH3-128 of the value as the writer computed it; `None` to let the node compute it.
        hash: Option<u128>,
        /// What it replaces.
        basis: Basis,
        /// Names the write across retries.
        op_id: OpId,
        /// The highest clock the client has seen.
        seen_clock: u64,
        /// Readers no longer see the value after so many milliseconds; 0 for ever.
        ttl_ms: u64,
    },
    /// Write a tombstone. With [`Basis::Local`] the coordinator reads at the operation's level first.
    Delete {
        /// What it replaces; [`Basis::Beside`] makes no sense here and is refused.
        basis: Basis,
        /// Names the write across retries.
        op_id: OpId,
        /// The highest clock the client has seen.
        seen_clock: u64,
    },
}

/// A live version, as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value; empty when the request asked for none.
    pub value: Bytes,
    /// The value's length, also when it was left out.
    pub value_bytes: u32,
    /// Hybrid logical clock of the write: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
    pub clock: u64,
    /// XXH3-128 of the value.
    pub hash: u128,
}

/// How an operation ended, with what it rested on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub outcome: Outcome,
    /// What it rested on.
    pub receipt: Receipt,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are live values.
    Found {
        /// At least one; several when writes were concurrent.
        siblings: Vec<Sibling>,
        /// Sealed context token over everything seen, tombstones included.
        context: Bytes,
    },
    /// There is no live value.
    NotFound {
        /// Sealed context token over the tombstones that were seen.
        context: Bytes,
    },
    /// The write is durable at as many replicas as were asked for.
    Stored {
        /// Sealed context token, only if the new version stands alone.
        context: Option<Bytes>,
        /// How many live versions the key has now.
        siblings: u16,
        /// The clock the write was given.
        clock: u64,
    },
    /// It failed.
    Failed(Failure),
}

/// What an operation rested on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The nodes whose answers counted.
    pub answered: Vec<NodeIndex>,
    /// The layout epoch under which they counted.
    pub epoch: u64,
    /// How many answers were waited for.
    pub need: u8,
    /// For a write: how many nodes had committed it to disk when it was acknowledged.
    pub durable: u8,
    /// How many of `answered` were stand-ins.
    pub stand_ins: u8,
    /// For a read: owners that were behind are being sent the merged object.
    pub repaired: bool,
    /// How many owners the key has.
    pub replicas: u8,
}

/// Why an operation failed; the schema's `ErrorCode` says what each means to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A bug, or a condition nobody foresaw.
    Internal,
    /// The request itself is wrong; never to be retried unchanged.
    InvalidRequest,
    /// A key, value, object or batch above its limit.
    TooLarge,
    /// The key holds as many concurrent versions as are allowed.
    TooManySiblings,
    /// Not enough replicas can be reached.
    Unavailable,
    /// Not enough replicas answered in time.
    QuorumTimeout,
    /// Refused before anything was done.
    Overloaded,
    /// This node does not offer that.
    Unsupported,
    /// No or wrong credentials.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// Replicas hold a record they can't verify.
    Corrupt,
    /// Sent under an old view of the partition.
    StaleView,
    /// No space: reads go on, writes are refused.
    StorageFull,
    /// The node drains.
    ShuttingDown,
    /// The other side belongs to another cluster.
    WrongCluster,
}

/// An error as data: the same fields in the schema and in every client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub code: ErrorCode,
    /// What happened and what to do, for people; not part of any contract.
    pub message: Cow<'static, str>,
    /// Whether the same request, with the same operation id, may succeed later or elsewhere.
    pub retryable: bool,
    /// Whether a write may have been stored somewhere.
    pub maybe_applied: bool,
    /// Wait at least this long before the next attempt.
    pub retry_after_ms: u32,
    /// Replicas needed, where that is what failed.
    pub need: u8,
    /// Replicas that answered well.
    pub got: u8,
    /// The owners of the key, where knowing them helps.
    pub owners: Vec<NodeIndex>,
}

impl Failure {
    /// A failure with nothing applied, which is retryable as its code usually is.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: code.is_retryable(),
            maybe_applied: false,
            retry_after_ms: 0,
            need: 0,
            got: 0,
            owners: Vec::new(),
        }
    }

    /// A failure whose message is made at run time.
    pub fn with_message(code: ErrorCode, message: String) -> Self {
        Self::new(code, Cow::Owned(message))
    }
}

impl ErrorCode {
    /// Whether a retry, here later or at another node, may succeed.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unavailable
            | Self::QuorumTimeout
            | Self::Overloaded
            | Self::StaleView
            | Self::StorageFull
            | Self::ShuttingDown
            | Self::Corrupt => true,
            Self::Internal
            | Self::InvalidRequest
            | Self::TooLarge
            | Self::TooManySiblings
            | Self::Unsupported
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::WrongCluster => false,
        }
    }
}

/// The checksum that travels with a value and is stored beside it: XXH3-128 of its bytes.
pub fn value_hash(value: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(value)
}
