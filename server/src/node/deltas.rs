//! What has changed since the layouts before the newest, for clients that have one of those: worked out once for each, not once for each
//! client. It goes away with the newest layout.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use dynamo::layout::delta::Delta;

use super::Known;

/// Differences to the newest layout, by the epochs they start from; `None` where the layout itself takes no more. There are no more of
/// them than layouts in the ring.
#[derive(Debug, Default)]
pub(super) struct Deltas(Mutex<BTreeMap<u64, Option<Arc<Delta>>>>);

impl Known {
    /// What has changed since a layout, if that one is still known here and telling the difference takes a quarter of telling the newest
    /// layout at most.
    pub(crate) fn delta_from(&self, epoch: u64, hash: &[u8]) -> Option<Arc<Delta>> {
        let old = self.ring.layout(epoch).filter(|old| old.epoch < self.layout().epoch)?;
        // Whoever else asks meanwhile asks for the same, and waits for it.
        let mut deltas = self.deltas.0.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Delta::between(old, self.layout()).filter(|delta| delta.is_worth_it(self.layout())).map(Arc::new);
        let delta = deltas.entry(epoch).or_insert_with(make).clone();
        delta.filter(|delta| *hash == delta.from_hash)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use dynamo::{
        ident::NodeId,
        layout::{Layout, Member, MemberState},
        planner::{Desired, plan},
        ring::Ring,
        settlement::Proven,
    };

    use super::Known;

    fn member(number: u16) -> Member {
        Member {
            id: NodeId(u128::from(number) + 1),
            name: format!("n{number}"),
            zone: format!("z{number}"),
            weight: 100,
            addresses: vec![format!("10.0.0.{number}:1")],
            state: MemberState::Active,
        }
    }

    fn layouts() -> (Arc<Layout>, Arc<Layout>) {
        let mut desired = Desired {
            cluster: 1,
            members: (0..12).map(member).collect(),
            replacements: BTreeMap::new(),
            replicas: 3,
            partition_bits: Some(10),
            buckets: BTreeMap::new(),
            proven: Proven::Everything,
        };
        let old = plan(None, &desired).unwrap().layout;
        desired.members[3].addresses = vec!["10.0.1.3:1".to_owned()];
        let new = plan(Some(&old), &desired).unwrap().layout;
        (Arc::new(old), Arc::new(new))
    }

    #[test]
    fn a_client_with_the_layout_before_is_told_the_difference_and_nobody_else() {
        let (old, new) = layouts();
        let mut ring = Ring::new(Arc::clone(&old));
        ring.push(Arc::clone(&new)).unwrap();
        let known = Known::first(Arc::new(ring), NodeId(1), 1);
        let delta = known.delta_from(1, &old.hash()).unwrap();
        assert_eq!(delta.apply(&old).unwrap(), *new);
        assert!(Arc::ptr_eq(&delta, &known.delta_from(1, &old.hash()).unwrap()), "it is worked out once");
        assert!(known.delta_from(1, &[9; 16]).is_none(), "another layout of that epoch");
        assert!(known.delta_from(1, &[]).is_none());
        assert!(known.delta_from(2, &new.hash()).is_none(), "nothing has changed since");
        assert!(known.delta_from(0, &old.hash()).is_none() && known.delta_from(7, &old.hash()).is_none());
    }
}
