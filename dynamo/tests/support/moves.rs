//! One replica under a ring that changes at random: layouts that give partitions away and back, that double their number, views old and
//! new, drops in pieces, aborted transactions and restarts. Beside it stands an oracle that knows nothing but lists: which configurations
//! a partition had, which of them this node is in, and what is on the disk.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use dynamo::{
    ident::StoreKey,
    layout::{Layout, NodeIndex, View},
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{Adoption, MoveOperation, PartitionRow, WriteOperation, WriteOutcome, answer_read},
    ring::Ring,
    version::{Actor, Content, Dot},
};

#[path = "moves/checks.rs"]
mod checks;
#[path = "moves/layouts.rs"]
mod layouts;
#[path = "moves/steps.rs"]
mod steps;

use layouts::{first_layout, next_layout};
pub(crate) use steps::{KEYS, Step, ViewChoice, step};

use crate::node::{Node, Transaction, address, merge, mint, put, put_beside, value, write};

/// The node that is looked at.
const ME: NodeIndex = NodeIndex(0);

/// What came of a run, so that a test can see that it tried something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) splits: u64,
    pub(crate) moved: u64,
    pub(crate) returned: u64,
    pub(crate) stale: u64,
    pub(crate) adopted_by_writes: u64,
    pub(crate) acknowledged: u64,
    pub(crate) aborted: u64,
    pub(crate) dropped: u64,
}

pub(crate) struct World {
    node: Node,
    /// Others, whose versions are merged.
    source: Node,
    ring: Ring,
    nonce: u64,
    texts: u64,
    dots: BTreeSet<Dot>,
    /// Actors under which nothing may be minted any more, because something of theirs was forgotten.
    retired: BTreeSet<Actor>,
    pub(crate) seen: Seen,
}

type Judged = Result<(), String>;

impl World {
    /// Runs the steps; what was found wrong.
    pub(crate) fn run(steps: &[Step]) -> Result<Seen, String> {
        let mut world = Self::new();
        for (number, step) in steps.iter().enumerate() {
            let before: BTreeMap<(u8, u32), PartitionRow> = world.rows();
            world
                .step(step)
                .and_then(|()| world.check(&before))
                .map_err(|why| format!("step {number}, {step:?}: {why}"))?;
        }
        Ok(world.seen)
    }

    fn new() -> Self {
        let layout = Arc::new(first_layout());
        let mut node = Node::new(1);
        node.disk = crate::node::Disk::default();
        let (dots, retired) = (BTreeSet::new(), BTreeSet::new());
        let ring = Ring::new(layout);
        let (source, seen) = (Node::new(2), Seen::default());
        let mut world = Self { node, source, ring, nonce: 2, texts: 0, dots, retired, seen };
        world.adopt(false);
        world
    }

    fn step(&mut self, step: &Step) -> Judged {
        match *step {
            Step::Layout { seed, kept, settled, doubles, is_aborted } => {
                let push = |ring: &mut Ring, seed, doubles| {
                    let layout = next_layout(ring.newest(), seed, kept, settled, doubles);
                    ring.push(Arc::new(layout)).map_err(|misfit| format!("{misfit:?}"))
                };
                push(&mut self.ring, seed, doubles)?;
                if is_aborted {
                    // Before it is tried again the ring may change once more.
                    self.adopt(true);
                    push(&mut self.ring, seed.rotate_left(7), false)?;
                }
                self.adopt(false);
                Ok(())
            }
            Step::Write { key, choice, kind, is_aborted } => self.write(key, choice, kind, is_aborted),
            Step::Read { key, choice } => self.read(key, choice),
            Step::Adopt { key, choice } => self.take(MoveOperation::Adopt { view: self.view(key, choice) }, false),
            Step::Fill { key, choice } => self.take(MoveOperation::Fill { view: self.view(key, choice) }, false),
            Step::Copied { key, choice } => {
                let below = u64::from(choice.lo) << 56;
                self.take(MoveOperation::Copied { view: self.view(key, choice), below }, false)
            }
            Step::Drop { key, choice, records_max, is_aborted } => {
                let (view, records_max) = (self.view(key, choice), u32::from(records_max));
                self.take(MoveOperation::Drop { view, records_max }, is_aborted)
            }
            Step::Leave { key } => self.leave(key),
            Step::Restart => {
                self.restart();
                Ok(())
            }
        }
    }

    fn restart(&mut self) {
        self.nonce += 1;
        self.node.restart(self.nonce);
        self.retired.extend(self.dots.iter().map(|dot| dot.actor));
    }

    /// The store follows the ring.
    fn adopt(&mut self, is_aborted: bool) {
        let (rows, ring) = (self.rows(), self.ring.clone());
        let (bits, partitions) = (ring.newest().partition_bits, ring.newest().partitions());
        // Everything is looked at here, so that what was not told to be due shows if it is.
        let everything: Vec<(u8, u32)> = rows
            .keys()
            .copied()
            .filter(|(of, _)| *of < bits)
            .chain((0..partitions).map(|prefix| (bits, prefix)))
            .collect();
        let adoption = Adoption::new(ring, ME);
        let due = adoption.due(&rows.values().copied().collect::<Vec<_>>());
        let mut transaction = Transaction::begin(&mut self.node.disk);
        let mut batch = self.node.replica.begin();
        let Ok(is_whole) = batch.adopt(&mut transaction, &adoption, &everything);
        assert!(is_whole, "nothing is lost in these tests");
        if is_aborted {
            self.seen.aborted += 1;
            return;
        }
        let Ok(staged) = batch.stage(&mut transaction);
        transaction.commit();
        staged.committed();
        let after = self.rows();
        assert_eq!(!due.is_empty(), rows != after, "what is due was told wrongly");
        let has_changed = |place: &(u8, u32)| rows.get(place) != after.get(place);
        let places: BTreeSet<(u8, u32)> = rows.keys().chain(after.keys()).copied().collect();
        let changed: Vec<&(u8, u32)> = places.iter().filter(|place| has_changed(place)).collect();
        assert!(changed.iter().all(|place| due.contains(place)), "{changed:?} have changed, and {due:?} were due");
        let splits = rows.keys().filter(|place| !after.contains_key(place)).count() as u64;
        self.seen.splits += splits;
        if splits > 0 {
            self.retired.extend(self.dots.iter().map(|dot| dot.actor));
        }
        for (place, row) in &after {
            if rows.get(place).is_some_and(|before| before.is_moved) && !row.is_moved {
                self.seen.returned += 1;
            }
        }
    }

    fn rows(&self) -> BTreeMap<(u8, u32), PartitionRow> {
        let decode = |(place, bytes): (&(u8, u32), &Vec<u8>)| {
            (*place, PartitionRow::decode(place.1, place.0, bytes).expect("rows are sound"))
        };
        self.node.disk.rows.iter().map(decode).collect()
    }

    /// A view that a sender may have of a key's partition.
    fn view(&self, key: u8, choice: ViewChoice) -> View {
        let store_key = key_of(key).store_key;
        let bits = self.ring.newest().partition_bits.saturating_add_signed(choice.bits);
        let own = self.node.disk.row_of(&store_key).filter(|_| choice.is_own);
        let (lo, hi) = own.map_or_else(
            || {
                let names = self.names(&store_key);
                let [one, other] = [choice.lo, choice.hi].map(|at| names[usize::from(at) % names.len()]);
                (one.min(other), one.max(other))
            },
            |row| (row.view.lo, row.view.hi),
        );
        View { prefix: store_key.id().prefix(bits), bits, lo, hi }
    }

    /// The names of all configurations that a key's partition ever had.
    fn names(&self, store_key: &StoreKey) -> Vec<u64> {
        let since = |layout: &Arc<Layout>| layout.spans.of(layout.partition(&store_key.id())).since;
        let names: BTreeSet<u64> = self.ring.layouts().map(since).collect();
        names.into_iter().collect()
    }

    /// The newest configuration of a key's partition that this node is in, found the long way; 0 for none.
    fn newest_owned(&self, store_key: &StoreKey) -> u64 {
        let mut newest = 0;
        for layout in self.ring.layouts() {
            let partition = layout.partition(&store_key.id());
            if layout.owners(partition).any(|owner| owner == ME) {
                newest = layout.spans.of(partition).since;
            }
        }
        newest
    }

    /// Applies one operation in a transaction of its own, committed or not.
    fn apply(&mut self, operation: WriteOperation, is_aborted: bool) -> Option<WriteOutcome> {
        let mut transaction = Transaction::begin(&mut self.node.disk);
        let mut batch = self.node.replica.begin();
        let Ok(shown) = batch.apply(&mut transaction, operation);
        let shown = shown.cloned();
        if is_aborted {
            self.seen.aborted += 1;
            if let Some(dot) = shown.and_then(|shown| shown.dot) {
                assert!(self.dots.insert(dot), "a dot came twice: {dot:?}");
                self.retired.insert(dot.actor);
            }
            return None;
        }
        let Ok(staged) = batch.stage(&mut transaction);
        transaction.commit();
        Some(staged.committed().remove(0))
    }

    fn write(&mut self, key: u8, choice: ViewChoice, kind: u8, is_aborted: bool) -> Judged {
        let address = key_of(key);
        let view = self.view(key, choice);
        let before = self.node.disk.row_of(&address.store_key);
        self.texts += 1;
        let text = format!("text {}", self.texts);
        let operation = match kind % 5 {
            0 => put(&address, &text),
            1 => put_beside(&address, &text),
            2 => mint(&address, write(Content::Tombstone, dynamo::replica::MintBasis::Local)),
            3 => merge(&address, &self.source.mint(put_beside(&address, &text)).record),
            _ => merge(
                &address,
                &self.source.mint(mint(&address, write(value(&text), dynamo::replica::MintBasis::Local))).record,
            ),
        };
        let operation = under(view, operation);
        let Some(outcome) = self.apply(operation.clone(), is_aborted) else { return Ok(()) };
        let after = self.node.disk.row_of(&address.store_key);
        match outcome {
            WriteOutcome::Minted(minted) => {
                let dot = minted.dot.ok_or("a mint without a dot")?;
                if !self.dots.insert(dot) {
                    return Err(format!("{dot:?} came twice"));
                }
                if self.retired.contains(&dot.actor) {
                    return Err(format!("{dot:?} is of an actor that forgot something"));
                }
                self.acknowledged(&view, before.as_ref(), after.as_ref())
            }
            WriteOutcome::Stored => {
                let WriteOperation::Merge { record, store_key, .. } = &operation else {
                    return Err("stored, and not a merge".into());
                };
                self.is_merged(store_key, record)?;
                self.acknowledged(&view, before.as_ref(), after.as_ref())
            }
            WriteOutcome::Stale(mine) => self.refused(&view, &mine, after.as_ref()),
            WriteOutcome::Refused(_) => self.unacquainted(&view, after.as_ref()),
            WriteOutcome::Corrupt | WriteOutcome::Moved { .. } => Err(format!("{outcome:?}")),
        }
    }

    /// Whether what is stored holds all of a record that was merged.
    fn is_merged(&self, store_key: &StoreKey, bytes: &Bytes) -> Judged {
        let standing = self.node.disk.records.get(store_key).ok_or("nothing is stored")?;
        let standing = record::decode(store_key, standing).map_err(|error| format!("{error:?}"))?.object;
        let mut both = standing.clone();
        both.merge(&record::decode(store_key, bytes).map_err(|error| format!("{error:?}"))?.object);
        if both == standing { Ok(()) } else { Err("an acknowledged merge is missing".into()) }
    }

    /// An acknowledgement counts only under the very view of the row, of a partition that was not moved.
    fn acknowledged(&mut self, view: &View, before: Option<&PartitionRow>, after: Option<&PartitionRow>) -> Judged {
        self.seen.acknowledged += 1;
        let after = after.ok_or("acknowledged without a row")?;
        self.seen.adopted_by_writes += u64::from(before.is_some_and(|before| before.view != after.view));
        if after.is_moved || after.view != *view {
            return Err(format!("acknowledged under {view:?}, and the row is {after:?}"));
        }
        Ok(())
    }

    /// Stale says the row's view, which must know something the sender does not, be a child's, or be of a partition that was moved.
    fn refused(&mut self, view: &View, mine: &View, row: Option<&PartitionRow>) -> Judged {
        self.seen.stale += 1;
        let row = row.ok_or("stale without a row")?;
        let is_news = mine.hi > view.hi || mine.lo > view.lo || mine.bits > view.bits || row.is_moved;
        if *mine != row.view || !is_news {
            return Err(format!("{mine:?} was said to {view:?}, and the row is {row:?}"));
        }
        Ok(())
    }

    /// Refused for any other reason than an old view: there is no row, or this node's partitions are larger than the sender's.
    fn unacquainted(&self, view: &View, row: Option<&PartitionRow>) -> Judged {
        match row {
            Some(row) if row.view.bits >= view.bits => Err(format!("{view:?} was refused, and the row is {row:?}")),
            Some(_) | None => Ok(()),
        }
    }

    fn read(&mut self, key: u8, choice: ViewChoice) -> Judged {
        let store_key = key_of(key).store_key;
        let (view, row) = (self.view(key, choice), self.node.disk.row_of(&store_key));
        let operation = PeerOperation { view, store_key, action: PeerAction::Read };
        match answer_read(&operation, self.node.disk.records.get(&store_key), row.as_ref()) {
            PeerResult::Record(_) | PeerResult::Absent => self.acknowledged(&view, row.as_ref(), row.as_ref()),
            PeerResult::Stale(mine) => self.refused(&view, &mine, row.as_ref()),
            PeerResult::Failed(_) => {
                let is_behind =
                    |row: PartitionRow| row.view.hi < view.hi || row.view.lo < view.lo || row.view.bits < view.bits;
                if row.is_none_or(is_behind) { Ok(()) } else { Err(format!("{view:?} failed, and the row is {row:?}")) }
            }
            other => Err(format!("{other:?}")),
        }
    }

    fn take(&mut self, operation: MoveOperation, is_aborted: bool) -> Judged {
        let view = *operation.view();
        let first = view.first_key();
        let before = self.node.disk.row_of(&first);
        let records = self.node.disk.records.len();
        let Some(outcome) = self.apply(WriteOperation::Move(operation), is_aborted) else { return Ok(()) };
        let after = self.node.disk.row_of(&first);
        let dropped = records - self.node.disk.records.len();
        let is_drop = matches!(operation, MoveOperation::Drop { .. });
        if dropped > 0 {
            let row = before.ok_or("deleted without a row")?;
            let owned = self.newest_owned(&first);
            if !is_drop || row.view != view || owned >= row.view.lo || row.is_moved {
                return Err(format!("{dropped} records were deleted under {view:?} of {row:?}, owned {owned}"));
            }
            self.seen.dropped += dropped as u64;
            let last = self.dots.iter().map(|dot| dot.actor);
            // Which of them was the partition's is not known here; those of others may go on, so only its own row's is looked at.
            let own: Option<Actor> = row.last.map(|dot| dot.actor);
            self.retired.extend(last.filter(|actor| Some(*actor) == own));
        }
        match outcome {
            WriteOutcome::Moved { standing, more } => {
                let after = after.ok_or("a partition was moved, and nothing remembers it")?;
                let is_known = !matches!(operation, MoveOperation::Adopt { .. }) || standing.view.covers(&view);
                if after.standing() != standing || !is_known {
                    return Err(format!("{standing:?} was said, and the row is {after:?}"));
                }
                let is_full =
                    matches!(operation, MoveOperation::Fill { .. }) && (after.view != view || after.full < view.hi);
                if is_full || is_drop && more == after.is_moved {
                    return Err(format!("{operation:?} left {after:?}"));
                }
                self.seen.moved +=
                    u64::from(is_drop && after.is_moved && before.is_some_and(|before| !before.is_moved));
                Ok(())
            }
            WriteOutcome::Stale(mine) => {
                // These two count only under the very view of the row.
                let is_exact = matches!(operation, MoveOperation::Fill { .. } | MoveOperation::Drop { .. });
                if is_exact && after.is_some_and(|row| row.view == mine && row.view != view) {
                    return Ok(());
                }
                self.refused(&view, &mine, after.as_ref())
            }
            WriteOutcome::Refused(_) if is_drop && after.is_some_and(|row| row.owned >= view.lo) => Ok(()),
            WriteOutcome::Refused(_) => self.unacquainted(&view, after.as_ref()),
            other => Err(format!("{other:?}")),
        }
    }

    /// What a leaver does when it has learned that all configurations with it are retired.
    fn leave(&mut self, key: u8) -> Judged {
        let store_key = key_of(key).store_key;
        let Some(row) = self.node.disk.row_of(&store_key) else { return Ok(()) };
        let since = self.ring.newest().spans.of(self.ring.newest().partition(&store_key.id())).since;
        if self.newest_owned(&store_key) >= since {
            return Ok(());
        }
        let view = row.view.join(&View { lo: since, hi: since, ..row.view });
        self.take(MoveOperation::Adopt { view }, false)?;
        for _ in 0..=KEYS {
            self.take(MoveOperation::Drop { view, records_max: 2 }, false)?;
        }
        let row = self.node.disk.row_of(&store_key).ok_or("a partition was moved, and nothing remembers it")?;
        if row.is_moved { Ok(()) } else { Err(format!("{row:?} was to be moved")) }
    }
}

pub(crate) fn under(view: View, operation: WriteOperation) -> WriteOperation {
    match operation {
        WriteOperation::Merge { store_key, record, .. } => WriteOperation::Merge { view, store_key, record },
        WriteOperation::Mint { address, write, .. } => WriteOperation::Mint { view, address, write },
        other @ (WriteOperation::Rebuild { .. } | WriteOperation::Reap { .. } | WriteOperation::Move(_)) => other,
    }
}

fn key_of(key: u8) -> Address {
    address(&format!("key {key}"))
}
