//! What a write does to an object, at the replica that mints its dot (paper, section 4.4: the coordinator advances the
//! version). Choosing the dot is [`crate::replica`]'s business, choosing the clock [`crate::hlc`]'s.

use alloc::vec::Vec;

use super::{CausalContext, Content, Dot, Object, Spent, Version, fingerprint};
use crate::{
    bug::{self, Bug},
    ident::OpId,
};

/// Most entries of a context that is given to a client, and most fingerprints with it: both together stay below 6 KiB, which
/// fits beside any value.
pub const SEEN_ENTRIES_MAX: usize = 256;

/// What an object already knows of an operation that is about to be minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition<'o> {
    /// Nothing: it is new here.
    New,
    /// This version is this very write: a retry. Nothing is to be minted.
    Standing(&'o Version),
    /// It was minted and has been overwritten since. Nothing is to be minted.
    Spent,
    /// The id stands here with a different content: a client used it twice.
    Contradicted,
}

/// What a write replaces, in the terms of a context token: the dots its client has seen and the fingerprints of the
/// versions among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The dots the client has seen.
    pub context: CausalContext,
    /// Fingerprints of the versions it saw.
    pub spent: Vec<u64>,
}

impl Object {
    /// Whether the operation was seen here before.
    pub fn recognise(&self, op_id: &OpId, content: &Content) -> Recognition<'_> {
        let Some(fingerprint) = fingerprint(op_id, content).filter(|_| !bug::is_on(Bug::RetryMakesSibling)) else {
            return Recognition::New;
        };
        let mut same_id = self.versions.iter().filter(|version| version.op_id == *op_id).peekable();
        let is_used = same_id.peek().is_some();
        match same_id.find(|version| version.content.digest() == content.digest()) {
            Some(version) => Recognition::Standing(version),
            None if is_used => Recognition::Contradicted,
            None if self.is_spent(fingerprint) => Recognition::Spent,
            None => Recognition::New,
        }
    }

    /// What a write does, in one: overwrites what its basis covers and adds the version.
    pub fn put(&mut self, seen: &Seen, version: Version) {
        self.overwrite(seen, version.clock, version.fingerprint());
        self.add(version);
    }

    /// Drops what `seen` covers, and remembers the operations that were overwritten at `clock` by the operation with the
    /// fingerprint `by`. That one itself may have been seen, when a retry reads before it writes again; it must not be
    /// remembered as overwritten, or merging would drop the new version too.
    pub fn overwrite(&mut self, seen: &Seen, clock: u64, by: Option<u64>) {
        let overwritten = self.versions.extract_if(.., |standing| seen.context.covers(standing.dot));
        let mut spent: Vec<u64> = overwritten.filter_map(|standing| standing.fingerprint()).collect();
        spent.extend(&seen.spent);
        spent.retain(|fingerprint| Some(*fingerprint) != by);
        self.spend(clock, &spent);
        self.settle();
        self.forget_spent();
        self.context.join(&seen.context);
    }

    /// Adds a newly minted version, whose dot is greater than all of its actor's in this object.
    pub fn add(&mut self, version: Version) {
        debug_assert!(!self.context.covers(version.dot), "a dot is minted once");
        self.context.add(version.dot);
        let at = self.versions.partition_point(|standing| standing.dot < version.dot);
        self.versions.insert(at, version);
    }

    /// What a client knows that has read this object: what its token is sealed from, and what a write without a context
    /// replaces.
    ///
    /// A context too long for a token is cut down to the actors of the versions that stand, as far as there is room. It
    /// then still replaces all that was read, and claims less of what was overwritten long ago.
    pub fn seen(&self) -> Seen {
        let context = if self.context.len() <= SEEN_ENTRIES_MAX {
            self.context.clone()
        } else {
            let standing = self.versions.iter().map(|version| version.dot.actor);
            let known = standing.map(|actor| Dot { actor, seq: self.context.seen(actor) });
            known.collect()
        };
        Seen { context, spent: self.fingerprints().collect() }
    }

    /// Remembers operations as overwritten now. "Now" is the clock of the overwriting version, or just above the latest
    /// memory where that clock runs behind: a clock once set wrong must not make the memory keep the oldest.
    fn spend(&mut self, clock: u64, fingerprints: &[u64]) {
        if bug::is_on(Bug::ForgetSpent) {
            return;
        }
        let latest = self.spent.first().map_or(0, |spent| spent.clock);
        let clock = clock.max(latest.saturating_add(1));
        let spent: Vec<Spent> = fingerprints.iter().map(|&hash| Spent { clock, hash }).collect();
        self.recall(&spent);
    }
}
