//! The keys of one partition as several owners tell them, united piece by piece.
//!
//! All owners tell keys in the same order, so any of them can take the place of another where that one stopped. It has to when
//! an owner fails, and also where an owner has records that it can't verify: such a gap may hide a key that nobody else has,
//! so an owner counts only for the pieces that it tells in full.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, StoreKey},
    operation::Address,
};
use schema::convert::{SCAN_LIMIT_MAX, ScanPage};

use super::{Plan, Told};
use crate::Error;

/// Keys that are read together.
const READ_TOGETHER: usize = 256;

/// How large pieces may be, one size after another where every owner has gaps: the smaller they are, the less likely it is
/// that all owners' gaps fall into the same one.
const PIECES: [u32; 3] = [SCAN_LIMIT_MAX, 16, 1];

/// The keys of one partition, told by several owners.
pub(super) struct Partition {
    number: u32,
    tellers: Vec<Teller>,
    /// Owners that may take the place of one that fails.
    spare: VecDeque<NodeId>,
}

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
        let needed = plan.owners_needed(owners.len()).min(owners.len());
        let tellers = owners.drain(..needed).map(Teller::new).collect();
        Self { number, tellers, spare: owners }
    }

    /// The next keys of the partition, united; none when it is done.
    pub(super) async fn next(&mut self, plan: &mut Plan) -> Result<Vec<Told>, Error> {
        let mut keys = Vec::new();
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
        Ok(keys)
    }

    /// Has every place tell more that has nothing left to give out.
    async fn refill(&mut self, plan: &mut Plan) -> Result<(), Error> {
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
                Err(nobody) => return Err(nobody.error(plan, self.number)),
            }
        }
        Ok(())
    }

    /// The next piece of a place, from whichever owner tells it in full.
    async fn tell(&mut self, plan: &mut Plan, at: usize) -> Result<ScanPage, Nobody> {
        let mut nobody = Nobody { with_gaps: Vec::new(), error: None };
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
                    Err(error) => {
                        plan.failed.push(node);
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
