//! How a steward follows what changes around it: the ring, its node's rows, and what other nodes say of partitions. Everything it does
//! about partitions that move begins here; and here it is told how far they are.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::mem;

use super::{
    Steward,
    transfers::{TRANSFERS_LISTED_MAX, Transfer, TransferTotals},
    work::{Task, Work},
};
use crate::{
    holdings::Holdings,
    layout::{NodeIndex, View},
    peer::{MoveAnswer, PeerResult, Standing, TreeAnswer},
    relocation::{Step, step},
    replica::WriteOutcome,
    ring::Ring,
    round::Answer,
    tick::Tick,
};

impl Steward {
    /// The partitions that move to or from this node: those at work first, at most [`TRANSFERS_LISTED_MAX`].
    pub fn transfers(&self) -> Vec<Transfer> {
        let at_work = self.work.values().filter_map(|work| match &work.task {
            Task::Move(step) => Some(step.transfer(&self.holdings)),
            Task::Survey
            | Task::Exchange(_)
            | Task::Handoff(_)
            | Task::Rebuild(_)
            | Task::Learn { .. }
            | Task::Want { .. } => None,
        });
        at_work.chain(self.moves.waiting(&self.holdings)).take(TRANSFERS_LISTED_MAX).collect()
    }

    /// How far all of them are together.
    pub fn transfer_totals(&self) -> TransferTotals {
        self.moves.totals(self.now, &self.holdings, self.backlog.has_hints())
    }

    /// Partitions here of which more than one configuration may be active, or that are to leave.
    pub fn unsettled(&self) -> u32 {
        self.transfer_totals().unsettled
    }

    /// Follows a change of the ring.
    pub(super) fn follow(&mut self, now: Tick, me: Option<NodeIndex>, ring: Arc<Ring>, rows: Vec<Standing>) {
        let are_renumbered = ring.newest().partition_bits != self.holdings.layout().partition_bits;
        let holdings = Holdings::new(me, ring, rows);
        self.abandon(now, &holdings, are_renumbered);
        self.holdings = holdings;
        self.neighbours.follow(&self.holdings, are_renumbered);
        self.schedule.follow(&self.holdings, now);
        self.moves.follow(&self.holdings, now);
    }

    /// Ends the conversations that were begun about something else than what is the case now: partitions that are numbered otherwise,
    /// and moves to where nothing is to go any more. What they had to do comes again as it is to be done now.
    fn abandon(&mut self, now: Tick, holdings: &Holdings, are_renumbered: bool) {
        let is_over = |work: &Work| match &work.task {
            Task::Exchange(_) | Task::Rebuild(_) | Task::Learn { .. } => are_renumbered,
            Task::Move(moved) => are_renumbered || target(&step(holdings, moved.view().prefix)) != Some(*moved.view()),
            Task::Survey | Task::Handoff(_) | Task::Want { .. } => false,
        };
        let (over, kept): (BTreeMap<u64, Work>, _) =
            mem::take(&mut self.work).into_iter().partition(|(_, work)| is_over(work));
        self.work = kept;
        self.rounds.retain(|_, number| self.work.contains_key(number));
        self.ready.retain(|number| self.work.contains_key(number));
        for work in over.into_values() {
            match work.task {
                Task::Exchange(_) => self.exchange.finish(now, 1),
                Task::Rebuild(rebuild) => self.backlog.rebuild_failed(now, *rebuild.store_key(), &self.config),
                Task::Move(step) => self.moves.abandoned(&step),
                Task::Survey | Task::Handoff(_) | Task::Learn { .. } | Task::Want { .. } => {}
            }
        }
    }

    /// A row of this node has this view now.
    pub(super) fn note_view(&mut self, now: Tick, view: View) {
        if self.holdings.note_view(view) {
            self.changed(now, view.prefix);
        }
    }

    /// Takes what answers say of rows here and elsewhere.
    pub(super) fn learn(&mut self, now: Tick, answers: &[Answer]) {
        for answer in answers {
            match answer {
                Answer::Written(WriteOutcome::Moved { standing, .. }) => {
                    if self.holdings.note(*standing) {
                        self.changed(now, standing.view.prefix);
                    }
                }
                Answer::Written(WriteOutcome::Stale(view)) => self.note_view(now, *view),
                Answer::Peer(PeerResult::Stale(view))
                | Answer::Tree(TreeAnswer::Stale(view))
                | Answer::Move(MoveAnswer::Standing(Standing { view, .. })) => self.hear(now, *view),
                Answer::Written(_)
                | Answer::Peer(_)
                | Answer::Tree(_)
                | Answer::Move(_)
                | Answer::Targets(_)
                | Answer::Hints(_)
                | Answer::NotSent
                | Answer::Lost => {}
            }
        }
    }

    /// Another node has this view of a partition. What it knows and the row here does not is written there, for it was proven to whoever
    /// said it first; and what can't be understood without a newer layout has to wait for that.
    fn hear(&mut self, now: Tick, view: View) {
        let ring = self.holdings.ring();
        let is_beyond = view.hi > ring.epoch() || view.bits > ring.newest().partition_bits;
        if is_beyond {
            if self.wants_again_at <= now {
                self.wants_again_at = now.after(self.config.retry_min_ms);
                let epoch = ring.epoch() + 1;
                self.begin(Task::Want { epoch, is_asked: false });
            }
            return;
        }
        let is_learning = |work: &Work| matches!(&work.task, Task::Learn { view: other, .. } if other.covers(&view) && other.prefix == view.prefix);
        if self.holdings.hear(view) && !self.work.values().any(is_learning) {
            self.begin(Task::Learn { view, is_asked: false });
        }
    }

    /// A row here is other than before.
    fn changed(&mut self, now: Tick, partition: u32) {
        self.neighbours.follow_partition(&self.holdings, partition);
        self.moves.stir(&self.holdings, partition, now);
    }
}

/// The view that a step works towards.
fn target(step: &Step) -> Option<View> {
    match step {
        Step::Copy(active) | Step::Fill(active) | Step::Settle(active) | Step::Leave(active) => Some(active.view),
        Step::Rest | Step::Fetch { .. } | Step::Revive => None,
    }
}
