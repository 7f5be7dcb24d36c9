//! Which actor counts for a partition now, and how far it has counted. Only in memory: an actor lives no longer than the
//! process that took it.

use alloc::collections::BTreeMap;

use super::Place;
use crate::{
    bug::{self, Bug},
    version::{Actor, CausalContext, Dot},
};

/// Fresh randomness for one process start of one shard.
#[derive(Clone, Copy)]
pub struct Nonce(pub [u8; 32]);

impl core::fmt::Debug for Nonce {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Nonce(…)")
    }
}

/// The current actors, by partition.
#[derive(Debug)]
pub(crate) struct Actors {
    nonce: Nonce,
    /// How many actors were taken; makes each different.
    taken: u64,
    current: BTreeMap<Place, Dot>,
}

impl Actors {
    pub(crate) fn new(nonce: Nonce) -> Self {
        Self { nonce, taken: 0, current: BTreeMap::new() }
    }

    /// The last dot minted in a partition under its current actor.
    pub(crate) fn last(&self, place: Place) -> Option<Dot> {
        self.current.get(&place).copied()
    }

    /// The next dot of a partition. It is never given again, whatever becomes of the transaction.
    pub(crate) fn mint(&mut self, place: Place) -> Dot {
        let next = match self.current.get(&place) {
            Some(last) => Dot { actor: last.actor, seq: last.seq + 1 },
            None => Dot { actor: self.fresh(place), seq: 1 },
        };
        self.current.insert(place, next);
        next
    }

    /// Gives up a partition's actor; the next dot there has a new one.
    pub(crate) fn retire(&mut self, place: Place) {
        if bug::is_on(Bug::ReuseDotAfterForgetting) {
            return;
        }
        self.current.remove(&place);
    }

    /// The current actor's own dots on a key are all in what this node holds of it (`ours`), unless it has forgotten some. A
    /// context from elsewhere that knows more of them proves that it has: minting under that actor stops at once.
    pub(crate) fn notice_amnesia(&mut self, place: Place, ours: &CausalContext, elsewhere: &CausalContext) {
        let Some(last) = self.last(place) else {
            return;
        };
        let ours = ours.seen(last.actor);
        if elsewhere.seen(last.actor) > ours || ours > last.seq {
            self.retire(place);
        }
    }

    fn fresh(&mut self, (bits, prefix): Place) -> Actor {
        self.taken += 1;
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.taken.to_le_bytes());
        name[8..12].copy_from_slice(&prefix.to_le_bytes());
        name[12] = bits;
        let digest = blake3::keyed_hash(&self.nonce.0, &name);
        let mut actor = [0; 8];
        actor.copy_from_slice(&digest.as_bytes()[..8]);
        Actor(u64::from_le_bytes(actor))
    }
}
