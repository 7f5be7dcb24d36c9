//! The book of hints: one operation on what is kept, from its name to what stands afterwards.
//!
//! Obligations: what is kept is merged, never replaced, and only with hints of the same full key; a bound is judged before
//! anything is written, and what does not fit is refused as a whole; a hint goes only if it is exactly the one that was
//! delivered; a hint that can't be verified is set aside, neither served nor overwritten; and an actor mints no longer than
//! this node holds all that it ever minted, so it ends with the first hint of its partition that goes.

use alloc::{collections::BTreeMap, vec::Vec};

use bytes::Bytes;

use super::{
    Batch, HintBounds, HintKey, HintOperation, HintRows, HintUsage,
    batch::Changed,
    bounds,
    read::{combine, misplaced},
};
use crate::{
    bug::{self, Bug},
    ident::NodeId,
    operation::Address,
    record,
    replica::{Actors, Limits, Minting, Nonce, Place, Received, Standing, Write, WriteOutcome, mint, receive},
    version::{CausalContext, Object},
};

/// The hints of one node. Their truth is in [`HintRows`]; only the current actors and the sums live in memory.
#[derive(Debug)]
pub struct Book {
    actors: Actors,
    /// What is kept for each target that anything is kept for, as it is committed or as the open batch has changed it; `None`
    /// until it has been read, and again after a batch was aborted.
    usages: Option<BTreeMap<NodeId, HintUsage>>,
    limits: Limits,
    bounds: HintBounds,
}

/// One operation at work.
struct Work<'w, R> {
    book: &'w mut Book,
    rows: &'w mut R,
    changed: &'w mut Changed,
    key: HintKey,
}

/// A hint was there and can't be verified. It stands aside now.
struct Unreadable;

/// What was looked for, if it can be verified; or an error of the store.
type Found<T, E> = Result<Result<T, Unreadable>, E>;

impl Book {
    /// The book of one process. `nonce` is fresh randomness, drawn for this process start and used nowhere else: the actors
    /// under which this node stands in are derived from it.
    pub fn new(nonce: Nonce, limits: Limits, bounds: HintBounds) -> Self {
        Self { actors: Actors::new(nonce), usages: None, limits, bounds }
    }

    /// Opens a batch in a write transaction that has just begun.
    pub fn begin(&mut self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Changes the bounds, because the disk has other room than before. What is kept already stays.
    pub fn set_bounds(&mut self, bounds: HintBounds) {
        self.bounds = bounds;
    }

    /// What is kept for each target that anything is kept for; nothing before the first batch has read it.
    pub fn usages(&self) -> impl Iterator<Item = (NodeId, HintUsage)> + '_ {
        self.usages.iter().flatten().map(|(target, usage)| (*target, *usage))
    }

    pub(super) fn apply<R: HintRows>(
        &mut self,
        rows: &mut R,
        operation: HintOperation,
        changed: &mut Changed,
    ) -> Result<WriteOutcome, R::Error> {
        if self.usages.is_none() {
            self.usages = Some(rows.usages()?.into_iter().collect());
        }
        let (target, view) = match &operation {
            HintOperation::Keep { target, view, .. }
            | HintOperation::Mint { target, view, .. }
            | HintOperation::Drop { target, view, .. } => (*target, *view),
        };
        let Some(key) = HintKey::new(target, &view, *operation.store_key()) else {
            return Ok(WriteOutcome::Refused(misplaced()));
        };
        let work = Work { book: self, rows, changed, key };
        match operation {
            HintOperation::Keep { record, .. } => work.keep(&record),
            HintOperation::Mint { address, write, .. } => work.mint(&address, write),
            HintOperation::Drop { digest, .. } => work.drop_delivered(digest),
        }
    }

    /// What is kept for a target.
    pub(super) fn usage_of(&self, target: NodeId) -> HintUsage {
        self.usages.as_ref().and_then(|usages| usages.get(&target)).copied().unwrap_or_default()
    }

    /// Forgets what a transaction changed that is not committed. Versions it minted may live on at other nodes.
    pub(super) fn forget(&mut self, changed: &Changed) {
        changed.places.iter().for_each(|place| self.actors.retire(*place));
        if !changed.targets.is_empty() {
            self.usages = None;
        }
    }

    fn total(&self) -> HintUsage {
        self.usages().fold(HintUsage::default(), |total, (_, usage)| total.plus(&usage))
    }

    fn set_usage(&mut self, target: NodeId, usage: HintUsage) {
        let usages = self.usages.get_or_insert_default();
        if usage.is_empty() {
            usages.remove(&target);
        } else {
            usages.insert(target, usage);
        }
    }
}

impl<R: HintRows> Work<'_, R> {
    fn keep(mut self, bytes: &Bytes) -> Result<WriteOutcome, R::Error> {
        let standing = match self.standing(self.key)? {
            Ok(standing) => standing,
            Err(Unreadable) => return Ok(WriteOutcome::Corrupt),
        };
        if standing.as_ref().is_some_and(|standing| standing.bytes == bytes) {
            return Ok(WriteOutcome::Stored);
        }
        let Received { address, object: incoming } = match receive(&self.key.store_key, standing.as_ref(), bytes) {
            Ok(received) => received,
            Err(failure) => return Ok(WriteOutcome::Refused(failure)),
        };
        self.notice_amnesia(standing.as_ref(), &incoming)?;
        let before = standing.as_ref().map(|standing| (standing.bytes.len(), standing.record.digest));
        let mut object = match standing {
            Some(standing) if !bug::is_on(Bug::ReplaceHint) => standing.record.object,
            Some(_) | None => Object::new(),
        };
        object.merge(&incoming);
        let encoded = record::encode(&address, &object);
        if before.is_some_and(|(_, digest)| digest == record::digest(&encoded)) {
            return Ok(WriteOutcome::Stored);
        }
        self.store(before.map(|(length, _)| length), &encoded)
            .map(|stored| stored.err().unwrap_or(WriteOutcome::Stored))
    }

    fn mint(mut self, address: &Address, write: Write) -> Result<WriteOutcome, R::Error> {
        let mut hints = Vec::new();
        let mut before = None;
        for (name, standing) in match self.standing_for_all()? {
            Ok(all) => all,
            Err(Unreadable) => return Ok(WriteOutcome::Corrupt),
        } {
            if name == self.key {
                before = Some(standing.bytes.len());
            }
            hints.push(standing);
        }
        let standing = match combine(&self.key.store_key, hints) {
            Ok(standing) => standing.filter(|_| !bug::is_on(Bug::StandInForgetsItsHints)),
            Err(failure) => return Ok(WriteOutcome::Refused(failure)),
        };
        let place = self.place();
        let minted = match mint(&mut self.book.actors, place, &self.book.limits, standing, address, write) {
            Minting::Ended(outcome) => return Ok(outcome),
            Minting::New { minted, .. } => minted,
        };
        // First of all: whatever fails from here on, this actor must not count on.
        self.changed.places.insert(place);
        match self.store(before, &minted.record)? {
            Ok(()) => Ok(WriteOutcome::Minted(minted)),
            Err(refused) => {
                self.book.actors.retire(place);
                Ok(refused)
            }
        }
    }

    fn drop_delivered(mut self, digest: u128) -> Result<WriteOutcome, R::Error> {
        let standing = match self.standing(self.key)? {
            Ok(Some(standing)) => standing,
            Ok(None) => return Ok(WriteOutcome::Stored),
            Err(Unreadable) => return Ok(WriteOutcome::Corrupt),
        };
        if standing.record.digest != digest && !bug::is_on(Bug::DropChangedHint) {
            return Ok(WriteOutcome::Stored);
        }
        self.rows.delete_hint(&self.key)?;
        self.count_out(self.key, standing.bytes.len());
        // What goes may hold dots of the current actor. Were it to count on, its next dot of this key would stand for those
        // too, without their versions, and swallow them wherever they were delivered.
        if !bug::is_on(Bug::StandInKeepsActor) {
            self.book.actors.retire(self.place());
        }
        Ok(WriteOutcome::Stored)
    }

    /// What is kept under a name. What can't be verified is set aside: the slot is free for what comes, and what it held is
    /// forgotten here, dots of the current actor among it.
    fn standing(&mut self, key: HintKey) -> Found<Option<Standing>, R::Error> {
        let Some(bytes) = self.rows.hint(&key)? else {
            return Ok(Ok(None));
        };
        let length = bytes.len();
        if let Ok(standing) = Standing::read(&key.store_key, bytes) {
            return Ok(Ok(Some(standing)));
        }
        self.rows.set_aside(&key)?;
        self.count_out(key, length);
        self.book.actors.retire(self.place());
        self.book.actors.retire((key.bits, key.prefix));
        Ok(Err(Unreadable))
    }

    /// What is kept of the key for every target, also from before its partition was divided.
    fn standing_for_all(&mut self) -> Found<Vec<(HintKey, Standing)>, R::Error> {
        let targets: Vec<NodeId> = self.book.usages().map(|(target, _)| target).collect();
        let mut all = Vec::new();
        let mut is_unreadable = false;
        let store_key = self.key.store_key;
        for name in targets.into_iter().flat_map(|target| HintKey::names(target, store_key)) {
            match self.standing(name)? {
                Ok(standing) => all.extend(standing.map(|standing| (name, standing))),
                Err(Unreadable) => is_unreadable = true,
            }
        }
        Ok(if is_unreadable { Err(Unreadable) } else { Ok(all) })
    }

    /// A record that knows more of this node's current actor than the node itself shows that it has forgotten something.
    fn notice_amnesia(&mut self, standing: Option<&Standing>, incoming: &Object) -> Result<(), R::Error> {
        let Some(last) = self.book.actors.last(self.place()) else {
            return Ok(());
        };
        let known = standing.map_or(0, |standing| standing.record.object.context.seen(last.actor));
        if incoming.context.seen(last.actor) <= known {
            return Ok(());
        }
        // It may hold the same dots for another target; only together do its hints say what it knows.
        let mut ours = CausalContext::new();
        match self.standing_for_all()? {
            Ok(all) => all.iter().for_each(|(_, standing)| ours.join(&standing.record.object.context)),
            // Looking has ended the actor.
            Err(Unreadable) => return Ok(()),
        }
        let place = self.place();
        self.book.actors.notice_amnesia(place, &ours, &incoming.context);
        Ok(())
    }

    /// Puts a hint in the place of one of `before` bytes, if the bounds allow it.
    fn store(&mut self, before: Option<usize>, encoded: &[u8]) -> Result<Result<(), WriteOutcome>, R::Error> {
        let old = self.book.usage_of(self.key.target);
        let mut new = old;
        if let Some(before) = before {
            new.remove(&self.key, before);
        }
        new.add(&self.key, encoded.len());
        if let Err(failure) = bounds::check(&self.book.bounds, &old, &new, &self.book.total()) {
            return Ok(Err(WriteOutcome::Refused(failure)));
        }
        self.changed.targets.insert(self.key.target);
        self.book.set_usage(self.key.target, new);
        self.rows.put_hint(&self.key, encoded)?;
        Ok(Ok(()))
    }

    fn count_out(&mut self, key: HintKey, length: usize) {
        let mut usage = self.book.usage_of(key.target);
        usage.remove(&key, length);
        self.changed.targets.insert(key.target);
        self.book.set_usage(key.target, usage);
    }

    fn place(&self) -> Place {
        (self.key.bits, self.key.prefix)
    }
}
