//! What a batch of writes is made of: one entry for each key, with options of its own.

use std::time::Duration;

use bytes::Bytes;

use crate::{Context, IntoBytes};

/// A value to write, for [`Bucket::put_many`](crate::Bucket::put_many). A pair of key and value is one without options.
///
/// ```
/// # use std::time::Duration;
/// # use quorate::{Context, PutEntry};
/// let session = PutEntry::new("session-7", "ann").ttl(Duration::from_secs(3600));
/// let beside = PutEntry::new("cart-7", "milk").context(Context::EMPTY);
/// assert_eq!(PutEntry::from(("k", "v")), PutEntry::new("k", "v"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutEntry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// What it replaces: exactly what the read that gave the context saw; with the empty one nothing; without one whatever its
    /// coordinator holds.
    pub context: Option<Context>,
    /// When it expires, from the moment it is written.
    pub ttl: Option<Duration>,
}

/// A key to delete, for [`Bucket::delete_many`](crate::Bucket::delete_many). A key alone is one without options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteEntry {
    /// The key.
    pub key: Bytes,
    /// What is deleted: exactly what the read that gave the context saw; without one what a read at the call's level sees.
    pub context: Option<Context>,
}

impl PutEntry {
    /// A value to write, without options.
    pub fn new(key: impl IntoBytes, value: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), value: value.into_bytes(), context: None, ttl: None }
    }

    /// Replaces exactly what the read that gave `context` saw. Under [`Context::EMPTY`] it replaces nothing.
    #[must_use]
    pub fn context(self, context: impl Into<Context>) -> Self {
        Self { context: Some(context.into()), ..self }
    }

    /// Lets the version expire, as [`Put::ttl`](crate::Put::ttl) does.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }
}

impl DeleteEntry {
    /// A key to delete, without options.
    pub fn new(key: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), context: None }
    }

    /// Deletes exactly what the read that gave `context` saw.
    #[must_use]
    pub fn context(self, context: impl Into<Context>) -> Self {
        Self { context: Some(context.into()), ..self }
    }
}

impl<K: IntoBytes, V: IntoBytes> From<(K, V)> for PutEntry {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

impl<K: IntoBytes> From<K> for DeleteEntry {
    fn from(key: K) -> Self {
        Self::new(key)
    }
}
