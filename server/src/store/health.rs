//! Whether a part of the store, a shard say, can be trusted. It only ever gets worse while the process runs: neither damage nor a failed commit is
//! undone by trying again.

use std::{
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

/// The state of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// All is well as far as anybody has looked.
    #[default]
    Sound,
    /// The file has forgotten something unknown. Records that verify are still read, so that they can be copied; whatever is
    /// not found counts as unreadable, and nothing is written. The node should be replaced.
    Damaged(String),
    /// A commit failed, so what the disk holds is unknown to this process. Nothing more is written; committed data is read
    /// until the process is started again.
    Failed(String),
}

/// The health of a part of the store, cheap to ask.
#[derive(Debug, Default)]
pub(super) struct Watch {
    level: AtomicU8,
    health: Mutex<Health>,
}

const SOUND: u8 = 0;
const DAMAGED: u8 = 1;
const FAILED: u8 = 2;

impl Watch {
    /// Whether nothing is known to be wrong.
    pub(super) fn is_sound(&self) -> bool {
        self.level.load(Ordering::Acquire) == SOUND
    }

    /// Whether what is not found may have been lost.
    pub(super) fn is_damaged(&self) -> bool {
        self.level.load(Ordering::Acquire) == DAMAGED
    }

    /// What is known.
    pub(super) fn read(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes damage of a part of the store, named for the log. A failed shard that turns out to be damaged counts as damaged: that is the stricter of the two.
    pub(super) fn damaged(&self, part: impl Display, what: impl Into<String>) {
        let what = what.into();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*health, Health::Damaged(_)) {
            tracing::error!(%part, what, "the store is damaged: it is read-only now, and the node should be replaced");
            *health = Health::Damaged(what);
            self.level.store(DAMAGED, Ordering::Release);
        }
    }

    /// Notes a failed commit.
    pub(super) fn failed(&self, part: impl Display, what: impl Into<String>) {
        let what = what.into();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*health, Health::Sound) {
            tracing::error!(%part, what, "the store failed: it is read-only until the node is started again");
            *health = Health::Failed(what);
            self.level.store(FAILED, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, Watch};

    #[test]
    fn health_only_gets_worse() {
        let watch = Watch::default();
        assert!(watch.is_sound());
        watch.failed(0, "EIO");
        watch.failed(0, "later");
        assert_eq!(watch.read(), Health::Failed("EIO".to_owned()));
        watch.damaged(0, "page");
        watch.failed(0, "again");
        assert_eq!(watch.read(), Health::Damaged("page".to_owned()));
        assert!(!watch.is_sound() && watch.is_damaged());
    }
}
