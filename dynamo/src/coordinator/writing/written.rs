//! A write that starts again under another view: what it has minted is not minted again, its record is sent under the new view.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Told, Writing};
use crate::{
    coordinator::{
        Effect,
        call::Ask,
        flight::{Head, Shared, Stage},
        route::Route,
    },
    hint::HintOperation,
    operation::Failure,
    quorum::{Place, put::Answer},
    replica::WriteOperation,
};

/// A version that was minted, for a write that starts again under another view.
#[derive(Debug)]
pub(in crate::coordinator) struct Written {
    record: Bytes,
    told: Told,
}

impl Writing {
    /// Goes on with a version that was minted under a view before: this node and the others are sent the record under the view of
    /// now, and nothing is minted.
    pub(in crate::coordinator) fn resume(
        written: Written,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Result<Stage, Failure> {
        let store_key = head.operation.address.store_key;
        let quorums = head.route.write_quorums(&head.demand)?;
        let mut writing = Self { is_resumed: true, ..Self::new(quorums, shared.unreachable(&head.route)) };
        let Written { record, told } = written;
        let (call, view) = (Some(head.call(Place::FIRST, Ask::Whole)), head.route.view);
        let kept = record.clone();
        let local = match writing.local_target(head, shared)? {
            Some(target) => {
                Effect::LocalHint { call, operation: HintOperation::Keep { view, target, store_key, record: kept } }
            }
            None => Effect::LocalWrite { call, operation: WriteOperation::Merge { view, store_key, record: kept } },
        };
        writing.set_out(local, head, shared, effects)?;
        writing.send_out(record, head, shared, effects);
        writing.version = Some(told);
        Ok(Stage::Writing(writing))
    }

    /// Takes the version out of a write that ends here to start again.
    pub(in crate::coordinator) fn take_written(&mut self) -> Option<Written> {
        Some(Written { record: self.record.take()?, told: self.version.take()? })
    }

    /// A known mistake: counts what was acknowledged under the view before.
    pub(in crate::coordinator) fn keep(&mut self, before: &Self, way_before: &Route, head: &Head) {
        for place in before.tally.durable().iter().filter_map(|place| head.route.find(way_before.node(place))) {
            self.tally.on_reply(place, head.route.view, Answer::Durable);
        }
    }
}

impl Written {
    /// Bytes of the record it keeps.
    pub(in crate::coordinator) fn record_bytes(&self) -> usize {
        self.record.len()
    }
}
