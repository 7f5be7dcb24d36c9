//! What a store tells about partitions that move, and how its rows follow the ring (design, ring, "Moving a partition").

use std::sync::{Arc, mpsc};

use dynamo::{
    ident::StoreKey,
    layout::{NodeIndex, View},
    operation::{ErrorCode, Failure},
    peer::{MoveAnswer, Standing},
    replica::{Adoption, PartitionRow, Refusal, check_read},
    ring::Ring,
};

use super::{
    Store, ViewFeed, error,
    queue::{Wanted, WantedRows},
    shard::{first_key_of, last_key_of, row_of, shards_of},
    verify::read_row,
};

impl Store {
    /// Has the rows follow the ring, durably, for the node at this position of it ([`dynamo::replica::Adoption`]): learner rows for
    /// partitions that come to it, and a split of all rows after the number of partitions was doubled. To be called before serving and
    /// for every new layout; where nothing is to be done, nothing is written. The rows that there are now. Blocks.
    pub fn adopt(&self, ring: &Ring, me: NodeIndex) -> Result<Vec<Standing>, Failure> {
        let count = self.identity().shards;
        self.want(|number| {
            let keys = first_key_of(number, count)..=last_key_of(number, count);
            WantedRows::Following(Adoption { ring: ring.clone(), me, keys })
        })?;
        Ok(self.standings())
    }

    /// Makes the node hold partitions whatever any layout says: creates their rows where there are none, durably. For tests and
    /// measurements without a ring. Blocks.
    pub fn hold(&self, views: impl IntoIterator<Item = View>) -> Result<(), Failure> {
        let count = self.identity().shards;
        let mut by_shard: Vec<Vec<View>> = vec![Vec::new(); self.shards.len()];
        for view in views {
            for number in shards_of(view.prefix, view.bits, count) {
                by_shard[number].push(view);
            }
        }
        self.want(|number| WantedRows::Held(std::mem::take(&mut by_shard[usize::from(number)])))
    }

    /// How the node stands with every partition it has or had, in order. Records are counted as of the last commit that changed a view.
    pub fn standings(&self) -> Vec<Standing> {
        let mut standings: Vec<Standing> = Vec::new();
        for shard in self.shards() {
            standings.extend(shard.views().values().map(PartitionRow::standing));
        }
        standings.sort_unstable_by_key(|standing| (standing.view.bits, standing.view.prefix));
        // Where there are fewer partitions than shards, several have a part of one.
        standings.dedup_by(|part, all| {
            let is_same = (part.view.bits, part.view.prefix) == (all.view.bits, all.view.prefix);
            if is_same {
                all.records += part.records;
            }
            is_same
        });
        standings
    }

    /// How the node stands with one partition; `None` if it never held it, or holds it in larger or smaller ones.
    pub fn standing(&self, bits: u8, prefix: u32) -> Option<Standing> {
        let mut standings = shards_of(prefix, bits, self.identity().shards).filter_map(|number| {
            let shard = self.shard(number);
            let known = shard.views().get(&(bits, prefix)).copied()?;
            // The count is only in the row itself. If that can't be read, the shard is damaged, and will say so.
            Some(read_row(&shard.tables, (bits, prefix)).unwrap_or(known).standing())
        });
        let first = standings.next()?;
        Some(standings.fold(first, |all, part| Standing { records: all.records + part.records, ..all }))
    }

    /// How an operation under this view would be received now. Views only grow: whoever finds that this node is not behind an operation
    /// ([`Refusal::Behind`]) may go on and read; else he has the view adopted first, and before that, if the view has more bits than the
    /// rows here or names a layout the node lacks, fetches the layouts and has the rows follow them.
    pub fn check(&self, view: &View, store_key: &StoreKey) -> Result<(), Refusal> {
        let views = self.shard(self.shard_of(store_key)).views();
        check_read(row_of(&views, store_key, view.bits), store_key, view)
    }

    /// Records of a partition in the order of their keys behind `after`, for somebody's first copy: no quorum rests on it, so any view
    /// does, and any number of bits. At most so many bytes, unless the first record alone is longer.
    pub fn range(&self, view: &View, after: Option<StoreKey>, bytes_max: u32) -> MoveAnswer {
        let first = view.first_key();
        let is_moved = match row_of(&self.shard(self.shard_of(&first)).views(), &first, view.bits) {
            None => return MoveAnswer::Unknown,
            Some(row) => row.is_moved,
        };
        if is_moved {
            let message = "this node has handed the partition over and deleted it; ask one of its owners";
            return MoveAnswer::Failed(Failure::new(ErrorCode::StaleView, message));
        }
        let mut after = after;
        loop {
            let chunk = match self.snapshot().scan_bytes(view.prefix, view.bits, after, bytes_max as usize) {
                Ok(chunk) => chunk,
                Err(error) => return MoveAnswer::Failed(error::unreadable(&error.what)),
            };
            // A page of nothing but records that can't be read would leave the reader where it is.
            if chunk.records.is_empty() && chunk.next.is_some() {
                after = chunk.next;
                continue;
            }
            return MoveAnswer::Range { records: chunk.records, more: chunk.next.is_some() };
        }
    }

    /// A feed of the views of this node's rows: all of them at first, and then every change that is committed.
    pub fn view_feed(&self) -> Arc<ViewFeed> {
        let feed = self.feeds.open();
        for shard in self.shards() {
            feed.tell(shard.views().values().map(|row| row.view));
        }
        feed
    }

    /// Has every shard's writer see to its rows, and waits for all of them.
    fn want(&self, mut rows: impl FnMut(u8) -> WantedRows) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        for shard in &self.shards {
            let (answer, answered) = mpsc::sync_channel(1);
            shard.queue.adopt(Wanted { rows: rows(shard.number), answer })?;
            waiting.push(answered);
        }
        for answered in waiting {
            answered.recv().unwrap_or_else(|_| Err(error::unknown("its writer ended")))?;
        }
        Ok(())
    }
}
