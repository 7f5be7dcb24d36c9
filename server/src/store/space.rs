//! Room: how much a shard may use, how full it is, and making sure before a transaction that it will not run out within.
//!
//! LMDB reports a full disk in the middle of a commit, as an input/output error that can't be told from a dying disk. So
//! the space a group may need in the worst case is taken from the file system *before* the group's transaction; refusing
//! then is harmless. Two limits keep room for deletes, which need pages too before they free any.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use heed::{Env, RoTxn, WithoutTls};

use super::{filesystem, tables::Table};

/// From here on values are no longer accepted from clients, while peers may still replicate what they accepted.
const SOFT_PERCENT: u64 = 85;

/// From here on only deletes are accepted.
const HARD_PERCENT: u64 = 95;

/// Ballast on a disk large enough: room for a few thousand deletes, which is enough to make more room.
const BALLAST_BYTES_MAX: u64 = 32 << 20;

/// Space is taken from the file system in steps of this, so that few commits pay for it.
const STEP_BYTES_MAX: u64 = 64 << 20;
const STEP_BYTES_MIN: u64 = 1 << 20;

/// How long to wait before trying to get the ballast back.
const BALLAST_PAUSE: Duration = Duration::from_secs(10);

/// Pages a commit needs besides those of its writes: LMDB's list of free pages, the table of tables, the rows, the log's end
/// and beginning, a stored node.
const AROUND_PAGES: u64 = 16;

/// Deletes that share a transaction when there is hardly any room: few enough to find room, enough to make some.
pub(super) const DELETES_AT_ONCE: usize = 4;

/// Transactions of deletes for which everything else leaves room: what one frees can be used by the third after it.
const DELETES_AHEAD: u64 = 3;

/// How full a shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    #[default]
    Free,
    /// Values are no longer accepted from clients.
    Soft,
    /// Only deletes are accepted.
    Hard,
}

/// What a shard holds and may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes of pages in use.
    pub(super) live_bytes: u64,
    /// Bytes that may be in use: the budget, or what the disk gives.
    pub(super) capacity_bytes: u64,
    /// Bytes up to the file's last page, free ones among them.
    end_bytes: u64,
    page_bytes: u64,
    depth: u64,
}

/// What a group needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) writes: u64,
    pub(super) bytes: u64,
    /// All of it only makes room.
    pub(super) is_delete: bool,
}

/// There is no room for a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The room of one shard, or of the hints.
#[derive(Debug)]
pub(super) struct Space {
    file: Arc<File>,
    /// The shard's share of the configured budget.
    budget_bytes: Option<u64>,
    shards: u64,
    /// The file is known to have room on disk up to here.
    allocated_bytes: u64,
}

impl Space {
    /// The room of the shard that has this file open.
    pub(super) fn new(file: Arc<File>, budget_bytes: Option<u64>, shards: u8) -> Self {
        Self { file, budget_bytes, shards: u64::from(shards), allocated_bytes: 0 }
    }

    /// Looks how full an environment is; `tables` are all it has, the stamps left out.
    pub(super) fn survey(&self, env: &Env<WithoutTls>, tables: &[Table], read: &RoTxn<'_>) -> heed::Result<Survey> {
        let (mut live, mut depth, mut page_bytes) = (0, 0, 0);
        for table in tables {
            let stat = table.stat(read)?;
            live += stat.non_free_page_size();
            depth = stat.depth.max(depth);
            page_bytes = u64::from(stat.page_size);
        }
        let available = filesystem::available_bytes(&self.file) / self.shards;
        let disk = filesystem::occupied_bytes(&self.file).saturating_add(available);
        Ok(Survey {
            live_bytes: live as u64,
            capacity_bytes: self.budget_bytes.map_or(disk, |budget| budget.min(disk)),
            end_bytes: (env.info().last_page_number as u64 + 1) * page_bytes,
            page_bytes,
            depth: u64::from(depth),
        })
    }

    /// Makes sure that a group of this size can't run out of space: neither on disk nor within the budget, where LMDB's map
    /// ends. Unless the group only deletes, it must leave what deletes will need.
    pub(super) fn prepare(&mut self, survey: &Survey, need: &Need) -> Result<(), Full> {
        let reserve = if need.is_delete { 0 } else { DELETES_AHEAD * survey.worst_bytes(DELETES_AT_ONCE as u64, 0) };
        let worst = survey.worst_bytes(need.writes, need.bytes) + reserve;
        // The pages that are free may be used before new ones are.
        let free = survey.end_bytes.saturating_sub(survey.live_bytes);
        let (most, least) = (survey.end_bytes + worst, survey.end_bytes + worst.saturating_sub(free));
        if self.budget_bytes.is_some_and(|budget| least > budget) {
            return Err(Full);
        }
        // What is there may do; else a step more, so that the next groups need not ask; else what can be had.
        let step = (survey.capacity_bytes / 64).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        let is_had = self.is_allocated(most) || [most + step, most, least].into_iter().any(|end| self.allocate(end));
        if is_had { Ok(()) } else { Err(Full) }
    }

    fn allocate(&mut self, end: u64) -> bool {
        let end = self.budget_bytes.map_or(end, |budget| end.min(budget));
        if !self.is_allocated(end) && filesystem::allocate(&self.file, self.allocated_bytes, end).is_ok() {
            self.allocated_bytes = end;
        }
        self.is_allocated(end)
    }

    fn is_allocated(&self, end: u64) -> bool {
        self.budget_bytes.map_or(end, |budget| end.min(budget)) <= self.allocated_bytes
    }
}

impl Survey {
    /// How full it is.
    pub(super) fn pressure(&self) -> Pressure {
        let percent = self.live_bytes.saturating_mul(100) / self.capacity_bytes.max(1);
        match percent {
            HARD_PERCENT.. => Pressure::Hard,
            SOFT_PERCENT.. => Pressure::Soft,
            _ => Pressure::Free,
        }
    }

    /// How many writes may share a transaction, so that it needs at most half of what is left.
    pub(super) fn writes_max(&self) -> usize {
        let spare = self.capacity_bytes.saturating_sub(self.live_bytes) / self.page_bytes.max(1);
        usize::try_from(spare / 2 / (self.depth + 2)).unwrap_or(usize::MAX).max(1)
    }

    /// The most a group can add to the file: a copy of every page on the way to its keys, but of no page twice; a split
    /// for each; pages of its own for what is large.
    fn worst_bytes(&self, writes: u64, bytes: u64) -> u64 {
        let live = self.live_bytes / self.page_bytes.max(1);
        let copies = writes.saturating_mul(self.depth + 1).min(live);
        let pages = copies + writes + writes / 8 + 2 * bytes / self.page_bytes.max(1) + AROUND_PAGES;
        pages * self.page_bytes
    }
}

/// A file that only takes room, to be let go when a disk is so full that not even deletes can be written.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    state: Mutex<BallastState>,
}

#[derive(Debug)]
struct BallastState {
    is_held: bool,
    tried: Option<Instant>,
}

impl Ballast {
    /// The ballast of a data directory, taken if there is room.
    pub(super) fn take(path: PathBuf) -> Self {
        let ballast = Self { path, state: Mutex::new(BallastState { is_held: false, tried: None }) };
        ballast.restore();
        ballast
    }

    /// Lets it go; whether that freed anything.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_held {
            return false;
        }
        state.is_held = false;
        state.tried = Some(Instant::now());
        tracing::warn!("the disk is full: the ballast is let go, so that deletes can still be written");
        fs::remove_file(&self.path).is_ok()
    }

    /// Takes it again, if it was let go and there is room for it several times over.
    pub(super) fn restore(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_held || state.tried.is_some_and(|tried| tried.elapsed() < BALLAST_PAUSE) {
            return;
        }
        state.tried = Some(Instant::now());
        let take = || {
            let file = File::options().write(true).create(true).truncate(false).open(&self.path)?;
            let held = filesystem::occupied_bytes(&file);
            let bytes = (filesystem::available_bytes(&file).saturating_add(held) / 16).min(BALLAST_BYTES_MAX);
            if held < bytes {
                file.set_len(0)?;
                filesystem::allocate(&file, 0, bytes)?;
            }
            std::io::Result::Ok(())
        };
        match take() {
            Ok(()) => state.is_held = true,
            Err(error) => tracing::warn!(%error, "no room for the ballast yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Full, Need, Pressure, Space, Survey};

    fn survey(live_bytes: u64, capacity_bytes: u64) -> Survey {
        Survey { live_bytes, capacity_bytes, end_bytes: live_bytes, page_bytes: 4096, depth: 3 }
    }

    #[test]
    fn pressure_rises_at_85_and_at_95_percent() {
        let of = |live| survey(live, 1_000_000).pressure();
        assert_eq!([of(0), of(849_999), of(850_000)], [Pressure::Free, Pressure::Free, Pressure::Soft]);
        assert_eq!([of(949_999), of(950_000), of(2_000_000)], [Pressure::Soft, Pressure::Hard, Pressure::Hard]);
        assert_eq!(survey(0, 0).pressure(), Pressure::Free);
        assert_eq!(survey(1, 0).pressure(), Pressure::Hard);
    }

    #[test]
    fn deletes_find_room_where_other_writes_no_longer_do() {
        let budget = 8 << 20;
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut space = Space::new(Arc::clone(&file), Some(budget), 1);
        let need = |is_delete| Need { writes: 4, bytes: 400, is_delete };
        let ends: Vec<(u64, bool)> = (0..budget / 4096)
            .flat_map(|page| [false, true].map(|is_delete| (page * 4096, is_delete)))
            .filter(|(end, is_delete)| space.prepare(&survey(*end, budget), &need(*is_delete)).is_ok())
            .collect();
        let last = |of: bool| ends.iter().filter(|(_, is_delete)| *is_delete == of).map(|(end, _)| *end).max().unwrap();
        assert!(last(true) > last(false) + (256 << 10), "{} and {}", last(true), last(false));
        assert!(last(true) < budget);
        assert_eq!(space.prepare(&survey(budget, budget), &need(true)), Err(Full));
        assert!(file.metadata().unwrap().len() <= budget, "room was taken beyond the budget");
    }
}
