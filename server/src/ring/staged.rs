//! The changes that are staged here: kept in memory, made durable before anybody is told that they are staged.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use dynamo::{
    operation::{ErrorCode, Failure},
    staging::{Change, Staged},
};
use schema::convert::StageReply;

use crate::{node::Node, store::OpenError};

/// The staged changes of this node; read from the store when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct StagedHere(Mutex<Option<Staged>>);

impl Node {
    /// What is staged here.
    pub(crate) fn staged(&self) -> Result<Staged, Failure> {
        Ok(self.loaded()?.clone().unwrap_or_default())
    }

    /// Takes changes, in this order. Blocks until they are durable.
    pub(crate) fn stage(&self, changes: Vec<Change>) -> Result<Staged, Failure> {
        let layout = self.layout();
        self.edit_staged(|staged| {
            staged.make_room(&layout);
            for change in changes {
                staged.stage(change, staged.next_stamp(wall_ms(), self.id()));
            }
        })
    }

    /// Learns what another node has staged. Blocks until it is durable, if it was new.
    pub(crate) fn join_staged(&self, other: &Staged) -> Result<Staged, Failure> {
        self.edit_staged(|staged| {
            staged.join(other);
        })
    }

    /// Forgets everything that is staged. Blocks until that is durable.
    pub(crate) fn clear_staged(&self) -> Result<Staged, Failure> {
        self.edit_staged(|staged| staged.clear(staged.next_stamp(wall_ms(), self.id())))
    }

    /// What this node tells another that asks what is staged, or an operator's plan rests on.
    pub(crate) fn stage_reply(&self, staged: &Staged) -> StageReply {
        let (store, progress) = (self.store.status(), self.steward.progress());
        StageReply {
            changes: Bytes::from(staged.encode()),
            epoch: self.ring().epoch(),
            unsettled: progress.unsettled,
            records: store.records().unwrap_or_default(),
            bytes: store.shards.iter().map(|shard| shard.disk_bytes).sum(),
        }
    }

    fn edit_staged(&self, edit: impl FnOnce(&mut Staged)) -> Result<Staged, Failure> {
        let mut here = self.loaded()?;
        let before = here.clone().unwrap_or_default();
        let mut staged = before.clone();
        edit(&mut staged);
        if staged != before {
            self.store.put_staged(&staged.encode()).map_err(|error| unsaved(&error))?;
            *here = Some(staged.clone());
        }
        Ok(staged)
    }

    fn loaded(&self) -> Result<MutexGuard<'_, Option<Staged>>, Failure> {
        let mut here = self.staged_here.0.lock().unwrap_or_else(PoisonError::into_inner);
        if here.is_none() {
            let stored = self.store.staged().map_err(|error| unsaved(&error))?;
            let staged = stored.map_or_else(|| Ok(Staged::default()), |bytes| Staged::decode(&bytes));
            *here = Some(staged.map_err(|error| staging_failure("this node", &error))?);
        }
        Ok(here)
    }
}

/// A node's staged changes can't be read.
pub(crate) fn staging_failure(whose: &str, error: &impl fmt::Display) -> Failure {
    Failure::with_message(ErrorCode::Internal, format!("the changes staged at {whose} can't be read: {error}"))
}

fn unsaved(error: &OpenError) -> Failure {
    let message = format!("what is staged could not be read or made durable here: {error}; nothing was staged");
    Failure::with_message(ErrorCode::Internal, message)
}

fn wall_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
