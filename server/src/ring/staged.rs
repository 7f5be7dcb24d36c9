//! The changes that are staged here: kept in memory, made durable before anybody is told that they are staged.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use dynamo::{
    layout::Member,
    operation::{ErrorCode, Failure},
    settlement::Testimony,
    staging::{Change, Staged, StagingError},
};
use schema::convert::StageReply;

use crate::{node::Node, store::OpenError, worker::wall_ms};

/// The staged changes of this node; read from the store when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct StagedHere(Mutex<Option<Staged>>);

impl StagedHere {
    /// Looks at what is staged, if it was read and nobody is writing it: for threads that must not wait for the disk.
    fn peek<T>(&self, look: impl FnOnce(&Staged) -> Option<T>) -> Option<T> {
        self.0.try_lock().ok()?.as_ref().and_then(look)
    }
}

impl Node {
    /// What is staged here.
    pub(crate) fn staged(&self) -> Result<Staged, Failure> {
        Ok(self.loaded()?.clone().unwrap_or_default())
    }

    /// Where a node may be reached: at the addresses that the ring has, and at those that it told when it was started elsewhere.
    pub(crate) fn addresses_of(&self, member: &Member) -> Vec<String> {
        let mut addresses = member.addresses.clone();
        // Whoever needs to know what is staged is told if it can't be read.
        let staged = self.staged_here.peek(|staged| staged.addresses(member.id).map(<[String]>::to_vec));
        let is_new = |address: &String| !member.addresses.contains(address);
        addresses.extend(staged.unwrap_or_default().into_iter().filter(is_new));
        addresses
    }

    /// Takes changes, in this order. Blocks until they are durable.
    pub(crate) fn stage_changes(&self, changes: Vec<Change>) -> Result<Staged, Failure> {
        let layout = self.layout();
        self.edit_staged(|staged| {
            staged.make_room(&layout);
            changes.into_iter().try_for_each(|change| {
                let stamp = staged.next_stamp(wall_ms(), self.id);
                staged.stage(change, stamp).map_err(|error| unsound(&error))
            })
        })
    }

    /// Learns what another node has staged. Blocks until it is durable, if it was new.
    pub(crate) fn join_staged(&self, other: &Staged) -> Result<Staged, Failure> {
        self.edit_staged(|staged| {
            staged.join(other);
            Ok(())
        })
    }

    /// Forgets everything that is staged. Blocks until that is durable.
    pub(crate) fn clear_staged(&self) -> Result<Staged, Failure> {
        self.edit_staged(|staged| {
            staged.clear(staged.next_stamp(wall_ms(), self.id));
            Ok(())
        })
    }

    /// What this node tells another that asks what is staged, or an operator's plan rests on.
    pub(crate) fn stage_reply(&self, staged: &Staged) -> StageReply {
        let (store, (totals, _)) = (self.store.status(), self.steward.transfers());
        let known = self.known();
        let has_hints = self.store.hints().backlog().iter().any(|(_, usage)| usage.records > 0);
        // From the rows, not from what the steward has heard of them: what is said here is taken for proven.
        let testimony = Testimony::new(known.me, known.layout(), &self.rows(), has_hints);
        StageReply {
            changes: Bytes::from(staged.encode()),
            testimony,
            unsettled: totals.unsettled,
            records: store.records().unwrap_or_default(),
            bytes: self.store.record_bytes(),
        }
    }

    fn edit_staged(&self, edit: impl FnOnce(&mut Staged) -> Result<(), Failure>) -> Result<Staged, Failure> {
        let mut here = self.loaded()?;
        let before = here.clone().unwrap_or_default();
        let mut staged = before.clone();
        // On a copy: of several changes all are staged, or none.
        edit(&mut staged)?;
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

fn unsound(error: &StagingError) -> Failure {
    Failure::with_message(ErrorCode::InvalidRequest, format!("{error}; nothing was staged"))
}

fn unsaved(error: &OpenError) -> Failure {
    let message = format!("what is staged could not be read or made durable here: {error}; nothing was staged");
    Failure::with_message(ErrorCode::Internal, message)
}
