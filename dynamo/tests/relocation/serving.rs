//! What a node does with what comes to it, as its driver does: it fetches a layout that it lacks, makes a newer view durable before it
//! reads, and asks its replica; and what is known to be right about deleting.

use dynamo::{
    ident::StoreKey,
    layout::{NodeIndex, View},
    operation::{ErrorCode, Failure},
    peer::{MoveAnswer, MoveAsk, MoveQuestion, PeerAction, PeerOperation, PeerResult, TreeAnswer, TreeQuestion},
    replica::{MoveOperation, WriteOperation, WriteOutcome, answer_read},
    round::Answer,
};

use crate::{
    tree,
    world::{COMMIT_MS, Event, Request, World, rows},
};

impl World {
    /// What a node's driver does with what comes to it.
    pub(crate) fn serve(&mut self, node: usize, request: Request) -> Answer {
        let behind = || Failure::new(ErrorCode::StaleView, "behind");
        match request {
            Request::Peer(PeerOperation { view, .. }) if self.lacks_layout(node, &view) => {
                Answer::Peer(PeerResult::Failed(behind()))
            }
            Request::Tree(TreeQuestion { view, .. }) if self.lacks_layout(node, &view) => {
                Answer::Tree(TreeAnswer::Failed(behind()))
            }
            Request::Move(MoveQuestion { view, ask: MoveAsk::Adopt }) if self.lacks_layout(node, &view) => {
                Answer::Move(MoveAnswer::Failed(behind()))
            }
            Request::Peer(PeerOperation { view, store_key, action: PeerAction::Merge(record) }) => {
                Answer::Peer(match self.apply(node, WriteOperation::Merge { view, store_key, record }) {
                    WriteOutcome::Stored => PeerResult::Stored,
                    WriteOutcome::Corrupt => PeerResult::Corrupt,
                    WriteOutcome::Stale(view) => PeerResult::Stale(view),
                    WriteOutcome::Refused(failure) => PeerResult::Failed(failure),
                    WriteOutcome::Minted(_) | WriteOutcome::Moved { .. } => panic!("a merge mints nothing"),
                })
            }
            Request::Peer(operation) => {
                self.adopt_first(node, &operation.view);
                let disk = &self.nodes[node].node.disk;
                let row = disk.row_of(&operation.store_key);
                Answer::Peer(answer_read(&operation, disk.records.get(&operation.store_key), row.as_ref()))
            }
            Request::Tree(question) => {
                self.adopt_first(node, &question.view);
                Answer::Tree(tree::answer(&self.nodes[node].node, &question))
            }
            Request::Move(MoveQuestion { view, ask }) => Answer::Move(match ask {
                MoveAsk::Standing => self.standing(node, view.bits, view.prefix),
                MoveAsk::Adopt => match self.apply(node, WriteOperation::Move(MoveOperation::Adopt { view })) {
                    WriteOutcome::Moved { standing, .. } => MoveAnswer::Standing(standing),
                    WriteOutcome::Refused(failure) => MoveAnswer::Failed(failure),
                    // Of a partition that has been split here meanwhile.
                    WriteOutcome::Stale(_) => MoveAnswer::Failed(behind()),
                    WriteOutcome::Stored | WriteOutcome::Minted(_) | WriteOutcome::Corrupt => {
                        panic!("it writes nothing")
                    }
                },
                MoveAsk::Range { after, .. } => self.range(node, &view, after),
            }),
        }
    }

    /// Whether a node lacks the layout that a view is named after; then it fetches it.
    fn lacks_layout(&mut self, node: usize, view: &View) -> bool {
        let ring = &self.nodes[node].ring;
        let is_lacking = view.hi > ring.epoch() || view.bits > ring.newest().partition_bits;
        if is_lacking {
            let epoch = self.ring.epoch();
            self.post(5, Event::Learn { node, epoch });
        }
        is_lacking
    }

    /// A read can't make a newer view durable, so that is done before it.
    fn adopt_first(&mut self, node: usize, view: &View) {
        let row = self.nodes[node].node.disk.row_of(&view.first_key());
        if row.is_some_and(|row| row.view.bits == view.bits && !row.view.covers(view)) {
            self.apply(node, WriteOperation::Move(MoveOperation::Adopt { view: *view }));
        }
    }

    pub(crate) fn standing(&self, node: usize, bits: u8, prefix: u32) -> MoveAnswer {
        let row =
            rows(&self.nodes[node].node).into_iter().find(|row| (row.view.bits, row.view.prefix) == (bits, prefix));
        row.map_or(MoveAnswer::Unknown, |row| MoveAnswer::Standing(row.standing()))
    }

    fn range(&mut self, node: usize, view: &View, after: Option<StoreKey>) -> MoveAnswer {
        let mut bytes = 0;
        let mut records = Vec::new();
        let mut more = false;
        for (key, bytes_of) in &self.nodes[node].node.disk.records {
            if key.id().prefix(view.bits) != view.prefix || Some(*key) <= after {
                continue;
            }
            if bytes > 0 && bytes + bytes_of.len() > self.page_bytes_max {
                more = true;
                break;
            }
            bytes += bytes_of.len();
            records.push((*key, bytes_of.clone()));
        }
        self.copied += records.len() as u64;
        MoveAnswer::Range { records, more }
    }

    /// Applies a write at a node, and lets its steward know when that has changed a row's view.
    pub(crate) fn apply(&mut self, node: usize, operation: WriteOperation) -> WriteOutcome {
        if let WriteOperation::Move(MoveOperation::Drop { view, .. }) = &operation {
            self.judge_deletion(node, view);
        }
        let key = operation.store_key();
        let before = self.nodes[node].node.disk.row_of(&key).map(|row| row.view);
        let outcome = self.nodes[node].node.apply(operation);
        let after = self.nodes[node].node.disk.row_of(&key).map(|row| row.view);
        if let Some(view) = after.filter(|_| before != after) {
            // The feed of the store is read by another thread, a little later.
            let process = self.nodes[node].process;
            self.post(COMMIT_MS, Event::View { node, process, view });
        }
        outcome
    }

    /// Whether a node may delete its copy: it owns the partition under no active configuration, and whatever it has is merged at a majority
    /// of the new owners.
    fn judge_deletion(&mut self, node: usize, view: &View) {
        let Some(row) = self.nodes[node].node.disk.row_of(&view.first_key()).filter(|row| row.view == *view) else {
            return;
        };
        if row.is_moved {
            return;
        }
        let Some(active) = self.ring.configurations(&view.first_key().id(), view) else {
            return self.violations.push(format!("n{node} deletes under {view:?}, which nobody can read"));
        };
        if active.iter().any(|set| set.owners.contains(&NodeIndex(node as u16))) {
            self.violations.push(format!("n{node} deletes {view:?} although it may own it"));
        }
        let newest = active.last().expect("there is one");
        let owners: Vec<NodeIndex> = newest.owners.iter().copied().filter(|owner| !self.dead.contains(owner)).collect();
        let keys: Vec<StoreKey> = self.nodes[node].node.disk.records.keys().copied().collect();
        for key in keys.into_iter().filter(|key| key.id().prefix(view.bits) == view.prefix) {
            let Some(at) = self.keys.iter().position(|address| address.store_key == key) else { continue };
            let number = self.number(node, at);
            let holds = owners.iter().filter(|owner| self.number(usize::from(owner.0), at) >= number).count();
            if holds <= owners.len() / 2 {
                self.violations.push(format!("n{node} deletes {number} of key {at}, which {holds} of {owners:?} have"));
            }
        }
    }
}
