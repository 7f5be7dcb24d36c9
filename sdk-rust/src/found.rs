//! What reads and writes return.

use bytes::Bytes;
use dynamo::operation::{Outcome, Receipt, Reply, Sibling};

use crate::{Context, Error};

/// The live values of a key.
///
/// Values share memory with the reply they came in, up to 4 MiB of it. To keep a small value for long, copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    siblings: Vec<Sibling>,
    context: Context,
    receipt: Receipt,
}

/// The absence of live values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Covers the tombstones that were seen, if any. A put under it replaces exactly those.
    pub context: Context,
    /// What the answer rested on.
    pub receipt: Receipt,
}

/// A read's answer with its context, whether there are values or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There are live values.
    Found(Found),
    /// There are none.
    Absent(Absent),
}

/// The answer to a put or a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The context after this write, if the new version stands alone. `None` when siblings stand beside it: get before the
    /// next put.
    pub context: Option<Context>,
    /// How many live versions the key has now, this one included.
    pub siblings: u16,
    /// The hybrid logical clock the write was given: milliseconds since 1970 in the upper 48 bits.
    pub clock: u64,
    /// What the acknowledgement rested on.
    pub receipt: Receipt,
}

impl Found {
    /// The value, if there is exactly one; [`Error::Siblings`] when there are concurrent ones.
    pub fn value(&self) -> Result<&Bytes, Error> {
        match &self.siblings[..] {
            [only] => Ok(&only.value),
            several => Err(Error::siblings(several.len())),
        }
    }

    /// As [`Found::value`], owned.
    pub fn into_value(mut self) -> Result<Bytes, Error> {
        match self.siblings.len() {
            1 => Ok(self.siblings.swap_remove(0).value),
            several => Err(Error::siblings(several)),
        }
    }

    /// Every concurrent value, at least one; what was written last comes last.
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// Whether there are concurrent values.
    pub fn is_conflict(&self) -> bool {
        self.siblings.len() > 1
    }

    /// Covers everything that was seen: a put or delete under it replaces exactly these values.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What the answer rested on.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl Lookup {
    /// The live values, if there are any.
    pub fn found(self) -> Option<Found> {
        match self {
            Self::Found(found) => Some(found),
            Self::Absent(_) => None,
        }
    }

    /// Covers everything that was seen.
    pub fn context(&self) -> &Context {
        match self {
            Self::Found(found) => &found.context,
            Self::Absent(absent) => &absent.context,
        }
    }

    /// What the answer rested on.
    pub fn receipt(&self) -> &Receipt {
        match self {
            Self::Found(found) => &found.receipt,
            Self::Absent(absent) => &absent.receipt,
        }
    }

    /// The concurrent values; none when the key is absent.
    pub fn siblings(&self) -> &[Sibling] {
        match self {
            Self::Found(found) => &found.siblings,
            Self::Absent(_) => &[],
        }
    }

    pub(crate) fn from_reply(reply: Reply) -> Result<Self, Error> {
        let receipt = reply.receipt;
        match reply.outcome {
            Outcome::Found { mut siblings, context } => {
                // What was written last comes last, in whatever order the replicas were asked.
                siblings.sort_by_key(|sibling| (sibling.clock, sibling.hash));
                Ok(Self::Found(Found { siblings, context: Context::sealed(context), receipt }))
            }
            Outcome::NotFound { context } => Ok(Self::Absent(Absent { context: Context::sealed(context), receipt })),
            Outcome::Failed(failure) => Err(Error::from_failure(failure)),
            Outcome::Stored { .. } => Err(Error::internal("a node answered a read as if it were a write")),
        }
    }
}

impl Stored {
    pub(crate) fn from_reply(reply: Reply) -> Result<Self, Error> {
        let receipt = reply.receipt;
        match reply.outcome {
            Outcome::Stored { context, siblings, clock } => {
                Ok(Self { context: context.map(Context::sealed), siblings, clock, receipt })
            }
            Outcome::Failed(failure) => Err(Error::from_failure(failure)),
            Outcome::Found { .. } | Outcome::NotFound { .. } => {
                Err(Error::internal("a node answered a write as if it were a read"))
            }
        }
    }
}
