//! Rebuilding a record that can't be verified (design, data, "Record on disk") from what the other owners hold.
//!
//! One owner is not enough: a write that was acknowledged by W owners, this one among them, may be missing at N − W of the
//! others. So N − W + 1 of them must answer well, W being a majority. All are asked; an owner that can't be reached, or can't
//! verify its own record, is no answer, and nothing is "absent" because of it. Too few answers leave everything as it is.
//!
//! While a partition moves, the owners that count are those of its oldest active configuration: no write was ever acknowledged
//! without a majority of them. The owners of newer ones are asked too, and what they hold is merged, but nothing rests on them.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use crate::{
    bug::{Bug, is_on},
    holdings::Holdings,
    ident::StoreKey,
    layout::{NodeIndex, View},
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::WriteOperation,
    round::{Answer, Ask, End, Merged, Next, merged},
};

/// One attempt to rebuild one record.
#[derive(Debug)]
pub struct Rebuild {
    view: View,
    store_key: StoreKey,
    others: Vec<Other>,
    need: usize,
    phase: Phase,
}

/// Another owner.
#[derive(Clone, Copy, Debug)]
struct Other {
    node: NodeIndex,
    /// It belongs to the oldest active configuration.
    counts: bool,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// The other owners are asked what they hold.
    Reading,
    /// The merge is being written.
    Writing,
}

impl Rebuild {
    /// An attempt to rebuild the record under `store_key` here. Without the layouts that say who owns it, it fails.
    pub fn new(holdings: &Holdings, store_key: StoreKey) -> Self {
        let view = holdings.view(holdings.layout().partition(&store_key.id()));
        let configurations = holdings.configurations(&view).unwrap_or_default();
        let mut others: Vec<Other> = Vec::new();
        let mut need = usize::MAX;
        for (at, set) in configurations.iter().enumerate() {
            let owners: Vec<NodeIndex> = set.owners.iter().copied().filter(|owner| !holdings.is_gone(*owner)).collect();
            if at == 0 {
                need = self::need(owners.len(), set.owners.len() - owners.len());
            }
            for node in owners {
                if Some(node) != holdings.me() && !others.iter().any(|other| other.node == node) {
                    others.push(Other { node, counts: at == 0 });
                }
            }
        }
        Self { view, store_key, others, need, phase: Phase::Idle }
    }

    /// Which record.
    pub fn store_key(&self) -> &StoreKey {
        &self.store_key
    }

    /// Goes on after a round, given its answers in order; or begins, given none.
    pub fn next(&mut self, answers: Vec<Answer>) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle if self.others.is_empty() => Next::End(End::Failed),
            Phase::Idle => {
                self.phase = Phase::Reading;
                let operation = PeerOperation { view: self.view, store_key: self.store_key, action: PeerAction::Read };
                let ask = |other: &Other| Ask::Peer { to: other.node, operation: operation.clone() };
                Next::Ask(self.others.iter().map(ask).collect())
            }
            Phase::Reading => self.write(&answers),
            Phase::Writing => match answers.first().map(merged) {
                Some(Merged::Stored) => Next::End(End::Complete),
                Some(Merged::Refused | Merged::Full | Merged::Failed) | None => Next::End(End::Failed),
            },
        }
    }

    fn write(&mut self, answers: &[Answer]) -> Next {
        let answered = self.others.iter().zip(answers);
        let good = answered.filter_map(|(other, answer)| Some((other.counts, holding(answer)?)));
        let (counting, good): (Vec<bool>, Vec<Option<&Bytes>>) = good.unzip();
        if counting.into_iter().filter(|counts| *counts).count() < self.need {
            return Next::End(End::Failed);
        }
        let Some(record) = merge(&self.store_key, &good) else { return Next::End(End::Failed) };
        self.phase = Phase::Writing;
        let operation = WriteOperation::Rebuild { view: self.view, store_key: self.store_key, record };
        Next::Ask(alloc::vec![Ask::LocalWrite { operation }])
    }
}

/// How many of a partition's other owners must answer well. A write may have been acknowledged by a majority of all owners, this one and
/// those among them that were given up for lost since; N − W + 1 others meet what is left of it, N being all and W a majority of them.
/// What only lost owners and this one had is not to be found: then all others are the most there can be.
fn need(owners: usize, lost: usize) -> usize {
    if is_on(Bug::RebuildFromOne) {
        return 1;
    }
    let all = owners + lost;
    let majority = all / 2 + 1;
    (all - majority + 1).min(owners.saturating_sub(1)).max(1)
}

/// What an owner holds, if it said so: a record, or nothing.
fn holding(answer: &Answer) -> Option<Option<&Bytes>> {
    match answer {
        Answer::Peer(PeerResult::Record(record)) => Some(Some(record)),
        Answer::Peer(PeerResult::Absent) => Some(None),
        Answer::Peer(
            PeerResult::Digest(_)
            | PeerResult::Stored
            | PeerResult::Stale(_)
            | PeerResult::Corrupt
            | PeerResult::Failed(_),
        )
        | Answer::Tree(_)
        | Answer::Move(_)
        | Answer::Written(_)
        | Answer::Targets(_)
        | Answer::Hints(_)
        | Answer::NotSent
        | Answer::Lost => is_on(Bug::RebuildCountsFailures).then_some(None),
    }
}

/// The merge of what the owners hold: `Some(None)` if all of them hold nothing, `None` if one sent what is no record of the key.
fn merge(store_key: &StoreKey, held: &[Option<&Bytes>]) -> Option<Option<Bytes>> {
    let mut merged: Option<record::Record> = None;
    for bytes in held.iter().copied().flatten() {
        let next = record::decode(store_key, bytes).ok()?;
        match &mut merged {
            None => merged = Some(next),
            Some(merged) if merged.bucket == next.bucket && merged.key == next.key => merged.object.merge(&next.object),
            Some(_) => return None,
        }
    }
    Some(merged.map(|record::Record { bucket, key, object, .. }| {
        let address = Address { store_key: *store_key, bucket, key };
        Bytes::from(record::encode(&address, &object))
    }))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, format, string::ToString, sync::Arc, vec, vec::Vec};

    use bytes::Bytes;

    use super::{Rebuild, need};
    use crate::{
        holdings::Holdings,
        ident::NodeId,
        layout::{Layout, Member, MemberState, NodeIndex, SLOT_EMPTY},
        operation::Address,
        peer::PeerResult,
        record,
        replica::{WriteOperation, WriteOutcome},
        ring::Ring,
        round::{Answer, Ask, End, Next},
        version::Object,
    };

    fn layout(nodes: u16, replicas: u8) -> Layout {
        let member = |index: u16| Member {
            id: NodeId(u128::from(index)),
            name: format!("n{index}"),
            zone: "z".to_string(),
            weight: 1,
            addresses: Vec::new(),
            state: MemberState::Active,
        };
        Layout {
            cluster: 1,
            generation: 0,
            epoch: 1,
            parent_hash: [0; 16],
            electors: Vec::new(),
            members: (0..nodes).map(member).collect(),
            partition_bits: 0,
            replicas,
            slots: (0..u16::from(replicas)).map(|slot| if slot < nodes { slot } else { SLOT_EMPTY }).collect(),
            buckets: BTreeMap::new(),
            spans: crate::layout::spans::Spans::settled(1),
        }
    }

    fn holdings(layout: Layout) -> Holdings {
        Holdings::new(Some(NodeIndex(0)), Arc::new(Ring::new(Arc::new(layout))), Vec::new())
    }

    fn address() -> Address {
        Address::new(Bytes::from_static(b"carts"), Bytes::from_static(b"alice"))
    }

    fn begun(nodes: u16) -> (Rebuild, usize) {
        let mut rebuild = Rebuild::new(&holdings(layout(nodes, 5)), address().store_key);
        match rebuild.next(Vec::new()) {
            Next::Ask(asks) => (rebuild, asks.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rebuild_needs_more_good_answers_than_a_majority_may_have_left_out() {
        let needs: Vec<usize> = (1..=7).map(|owners| need(owners, 0)).collect();
        assert_eq!(needs, [1, 1, 2, 2, 3, 3, 4]);
        // A majority of five may have left out both others that remain of them.
        assert_eq!([need(3, 2), need(4, 1), need(2, 1), need(1, 2)], [2, 3, 1, 1]);
    }

    #[test]
    fn of_five_owners_three_must_answer_well_and_the_rest_may_fail() {
        let (mut rebuild, asked) = begun(5);
        assert_eq!(asked, 4);
        let bytes = Bytes::from(record::encode(&address(), &Object::new()));
        let answers = [
            Answer::Peer(PeerResult::Record(bytes.clone())),
            Answer::Lost,
            Answer::Peer(PeerResult::Absent),
            Answer::Peer(PeerResult::Record(bytes.clone())),
        ];
        let next = rebuild.next(answers.to_vec());
        let Next::Ask(asks) = next else { panic!("{next:?}") };
        let [Ask::LocalWrite { operation: WriteOperation::Rebuild { record, .. } }] = &asks[..] else {
            panic!("{asks:?}")
        };
        assert_eq!(record.as_ref(), Some(&bytes));
        assert_eq!(rebuild.next(vec![Answer::Written(WriteOutcome::Stored)]), Next::End(End::Complete));
    }

    #[test]
    fn an_owner_that_is_away_or_damaged_itself_is_not_one_that_holds_nothing() {
        let (mut rebuild, _) = begun(5);
        let nothing = Answer::Peer(PeerResult::Absent);
        let answers = [nothing.clone(), nothing, Answer::NotSent, Answer::Peer(PeerResult::Corrupt)];
        assert_eq!(rebuild.next(answers.to_vec()), Next::End(End::Failed));
    }

    #[test]
    fn when_enough_owners_hold_nothing_nothing_is_put_in_its_place() {
        let (mut rebuild, _) = begun(3);
        let next = rebuild.next(vec![Answer::Peer(PeerResult::Absent); 2]);
        let Next::Ask(asks) = next else { panic!("{next:?}") };
        assert!(
            matches!(&asks[..], [Ask::LocalWrite { operation: WriteOperation::Rebuild { record: None, .. } }]),
            "{asks:?}"
        );
    }

    #[test]
    fn a_lone_node_has_nobody_to_ask() {
        let mut rebuild = Rebuild::new(&holdings(layout(1, 3)), address().store_key);
        assert_eq!(rebuild.next(Vec::new()), Next::End(End::Failed));
    }
}
