//! Why a group's transaction was aborted, and what that means for the writes in it and for whoever comes after them.

use std::fmt::Display;

use dynamo::replica::WriteOutcome;

use super::{
    error::{self, Trouble},
    health::{Health, Watch},
};

/// Why a group's transaction was aborted. Nothing of it was done.
pub(super) enum Aborted {
    /// No space.
    Full,
    /// What was read can't be trusted any more.
    Damage(String),
    /// LMDB refused for another reason.
    Other(String),
    /// The commit itself failed: whether it was done is unknown.
    Commit(String),
}

impl Aborted {
    /// The meaning of an error before the commit.
    pub(super) fn by(trouble: Trouble, error: &impl Display) -> Self {
        match trouble {
            Trouble::Full => Self::Full,
            Trouble::Damage => Self::Damage(error.to_string()),
            Trouble::Other => Self::Other(error.to_string()),
        }
    }

    /// The meaning of an error of LMDB before the commit.
    pub(super) fn by_engine(error: heed::Error) -> Self {
        Self::by(Trouble::of(&error), &error)
    }

    /// The meaning of an error of the commit.
    pub(super) fn by_commit(error: heed::Error) -> Self {
        match Trouble::of(&error) {
            // Pages ran out while LMDB made its list of free ones, before it wrote anything: known not to be done.
            Trouble::Full => Self::Full,
            Trouble::Damage | Trouble::Other => Self::Commit(error.to_string()),
        }
    }

    /// What the group's writes are told; the health of what they were written to gets worse, if it must.
    pub(super) fn outcome(self, part: impl Display, health: &Watch) -> WriteOutcome {
        match self {
            Self::Full => WriteOutcome::Refused(error::full()),
            Self::Damage(what) => {
                health.damaged(part, what);
                WriteOutcome::Corrupt
            }
            Self::Other(what) => {
                health.failed(part, &*what);
                WriteOutcome::Refused(error::stopped(&what))
            }
            Self::Commit(what) => {
                health.failed(part, &*what);
                WriteOutcome::Refused(error::unknown(&what))
            }
        }
    }
}

/// What every write is told while none is accepted; `None` if all is well.
pub(super) fn refusal(health: &Watch) -> Option<WriteOutcome> {
    if health.is_sound() {
        return None;
    }
    match health.read() {
        Health::Sound => None,
        Health::Damaged(_) => Some(WriteOutcome::Corrupt),
        Health::Failed(why) => Some(WriteOutcome::Refused(error::stopped(&why))),
    }
}
