//! The keys of one partition as several owners tell them, united piece by piece.
//!
//! All owners tell keys in the same order, so any of them can take the place of another where that one stopped. It has to when
//! an owner fails, and also where an owner has records that it can't verify: such a gap may hide a key that nobody else has,
//! so an owner counts only for the pieces that it tells in full.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, StoreKey},
    layout::View,
    operation::Address,
};
use schema::convert::{SCAN_LIMIT_MAX, ScanPage};

use super::{Interrupted, Plan, Told};
use crate::{
    Error,
    driver::jobs::{Because, NoPiece},
};

/// Keys that are read together.
const READ_TOGETHER: usize = 256;

/// How large pieces may be, one size after another where every owner has gaps: the smaller they are, the less likely it is
/// that all owners' gaps fall into the same one.
const PIECES: [u32; 3] = [SCAN_LIMIT_MAX, 16, 1];

/// The keys of one partition, told by several owners.
pub(super) struct Partition {
    number: u32,
    bits: u8,
    owners: usize,
    tellers: Vec<Teller>,
    /// Owners that may take the place of one that fails.
    spare: VecDeque<NodeId>,
    /// The last key that was given out.
    after: Option<StoreKey>,
}

/// Owners of a key by whom a majority is all of them.
const TWO: usize = 2;

/// One owner, with what it has told and not been given out.
struct Teller {
    node: NodeId,
    told: VecDeque<Told>,
    /// Up to where this place has been told in full, by whichever owner.
    cursor: Bytes,
    finished: bool,
}

/// Why a place found no owner for its next piece.
struct Nobody {
    /// Owners that answered, but with gaps.
    with_gaps: Vec<NodeId>,
    /// What kept the others from it.
    reasons: Vec<Because>,
    /// Why the last of the others failed.
    error: Option<Error>,
}

impl Partition {
    /// A partition before its first key.
    pub(super) fn new(plan: &Plan, number: u32) -> Self {
        let owners = plan.layout.owners(number);
        let owners = owners.filter_map(|node| plan.layout.member(node)).map(|member| member.id);
        let (failed, sound): (Vec<NodeId>, Vec<NodeId>) = owners.partition(|node| plan.failed.contains(node));
        let mut owners: VecDeque<NodeId> = sound.into_iter().chain(failed).collect();
        let count = owners.len();
        let needed = plan.owners_needed(count).min(count);
        let tellers = owners.drain(..needed).map(Teller::new).collect();
        Self { number, bits: plan.layout.partition_bits, owners: count, tellers, spare: owners, after: None }
    }

    /// The same from behind the last key that was given out, under the layout that the plan has now.
    pub(super) fn again(&self, plan: &Plan) -> Self {
        let view = View { prefix: self.number, bits: self.bits, lo: 0, hi: 0 };
        let number = plan.layout.partition(&self.after.unwrap_or_else(|| view.first_key()).id());
        let mut again = Self { after: self.after, ..Self::new(plan, number) };
        if let Some(after) = self.after {
            again.tellers.iter_mut().for_each(|teller| teller.cursor = Bytes::copy_from_slice(&after.0));
        }
        again
    }

    /// Its number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The next keys of the partition, united; none when it is done.
    pub(super) async fn next(&mut self, plan: &mut Plan) -> Result<Vec<Told>, Interrupted> {
        let mut keys: Vec<Told> = Vec::new();
        while keys.len() < READ_TOGETHER {
            self.refill(plan).await?;
            let first = self.tellers.iter().filter_map(Teller::next_key).min();
            let Some(first) = first else { break };
            let mut united: Option<Told> = None;
            for teller in self.tellers.iter_mut().filter(|teller| teller.next_key() == Some(first)) {
                if let Some(told) = teller.told.pop_front() {
                    united = Some(match united {
                        Some(earlier) if earlier.siblings >= told.siblings => earlier,
                        _ => told,
                    });
                }
            }
            keys.extend(united);
        }
        self.after = keys.last().map(|told| told.address.store_key).or(self.after);
        Ok(keys)
    }

    /// Has every place tell more that has nothing left to give out.
    async fn refill(&mut self, plan: &mut Plan) -> Result<(), Interrupted> {
        let mut at = 0;
        while at < self.tellers.len() {
            let place = &self.tellers[at];
            if !place.told.is_empty() || place.finished {
                at += 1;
                continue;
            }
            match self.tell(plan, at).await {
                Ok(page) => self.tellers[at].take(page),
                Err(_) if plan.takes_what_is_there() && self.tellers.len() > 1 => drop(self.tellers.remove(at)),
                // Of two owners a majority is both, so each of them has every write that a majority has acknowledged. As long as one of
                // them is still being filled, it counts for nobody, and the other was an owner all along.
                Err(nobody) if self.owners == TWO && self.tellers.len() == TWO && nobody.is_arriving() => {
                    drop(self.tellers.remove(at));
                }
                Err(nobody) => {
                    let may_pass = nobody.may_pass();
                    return Err(Interrupted { may_pass, error: nobody.error(plan, self.number) });
                }
            }
        }
        Ok(())
    }

    /// The next piece of a place, from whichever owner tells it in full.
    async fn tell(&mut self, plan: &mut Plan, at: usize) -> Result<ScanPage, Nobody> {
        let mut nobody = Nobody { with_gaps: Vec::new(), reasons: Vec::new(), error: None };
        for limit in PIECES {
            // In the first round all that are left; in the others those that answered.
            let mut candidates = mem::take(&mut nobody.with_gaps);
            if limit == PIECES[0] {
                candidates = vec![self.tellers[at].node];
                candidates.extend(mem::take(&mut self.spare));
            }
            let mut candidates = VecDeque::from(candidates);
            while let Some(node) = candidates.pop_front() {
                match plan.ask(node, self.number, self.tellers[at].cursor.clone(), limit).await {
                    Ok(page) if page.unreadable == 0 => {
                        self.tellers[at].node = node;
                        // Those with gaps here may be sound elsewhere, and are asked after those that were not asked yet.
                        self.spare.extend(candidates);
                        self.spare.extend(nobody.with_gaps);
                        return Ok(page);
                    }
                    Ok(_) => nobody.with_gaps.push(node),
                    Err(NoPiece { because, error }) => {
                        if because == Because::Other && !plan.failed.contains(&node) {
                            plan.failed.push(node);
                        }
                        nobody.reasons.push(because);
                        nobody.error = Some(error);
                    }
                }
            }
        }
        self.spare.extend(&nobody.with_gaps);
        Err(nobody)
    }
}

impl Nobody {
    /// Whether all that kept anybody is that the partition has yet to arrive there.
    fn is_arriving(&self) -> bool {
        self.with_gaps.is_empty() && self.reasons.iter().all(|reason| *reason == Because::Arriving)
    }

    /// Whether it may be otherwise when the ring has changed, or has been looked at again.
    fn may_pass(&self) -> bool {
        self.reasons.iter().any(|reason| match reason {
            Because::Arriving | Because::Moved => true,
            Because::Other => false,
        })
    }

    fn error(self, plan: &Plan, partition: u32) -> Error {
        let name = |node: &NodeId| {
            let member = plan.layout.members.iter().find(|member| member.id == *node);
            member.map_or("?", |member| &member.name)
        };
        match (&self.with_gaps[..], self.error) {
            ([], Some(error)) => error,
            ([], None) => Error::internal("a partition without owners was scanned; please report this"),
            (with_gaps, error) => Error::corrupt(format!(
                "partition {partition} can't be listed in full: {} cannot verify every record there{}. Nothing was left \
                 out in silence; repair with `quorate repair run --scrub --wait`, then scan again",
                with_gaps.iter().map(name).collect::<Vec<_>>().join(", "),
                error.map_or_else(String::new, |error| format!(", and another owner failed ({})", error.message())),
            )),
        }
    }
}

impl Teller {
    fn new(node: NodeId) -> Self {
        Self { node, told: VecDeque::new(), cursor: Bytes::new(), finished: false }
    }

    fn next_key(&self) -> Option<StoreKey> {
        self.told.front().map(|told| told.address.store_key)
    }

    fn take(&mut self, page: ScanPage) {
        self.finished = page.cursor.is_empty();
        self.cursor = page.cursor;
        self.told.extend(page.keys.into_iter().map(|key| Told {
            address: Address::new(key.bucket, key.key),
            siblings: key.siblings,
            value_bytes: key.value_bytes,
        }));
    }
}
