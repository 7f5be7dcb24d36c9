//! Which partitions move to or from this node, and when their next step is taken: a turn for each, in lanes, so that what takes seconds
//! does not wait for what takes hours; and what failed rests before it is tried again, unless something has changed.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use super::{
    StewardConfig,
    moving::Move,
    neighbours::Neighbours,
    rate::Rate,
    transfers::{Transfer, TransferState, TransferTotals},
};
use crate::{
    holdings::Holdings,
    layout::NodeIndex,
    relocation::{Active, Step, Trouble, copy::Copy, fill::Fill, leave::Leave, settle::Settle, step},
    round::End,
    tick::Tick,
};

/// Most partitions that become FULL at once: each of them needs quorums in more than one configuration meanwhile, for some round trips.
const FILLS_MAX: isize = 16;

/// Most looks at once at how others stand: one small question to each owner.
const LOOKS_MAX: isize = 64;

/// Most partitions that are handed over and deleted at once: deleting holds up the writers that clients wait for too.
const LEAVES_MAX: isize = 4;

/// What waits for turns together, in the order in which they are given: what is quick and lets others go on comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Look,
    Fill,
    Leave,
    Copy,
}

const LANES: [Lane; 4] = [Lane::Look, Lane::Fill, Lane::Leave, Lane::Copy];

/// The partitions that move.
#[derive(Debug)]
pub(super) struct Moves {
    retry_min_ms: u64,
    retry_max_ms: u64,
    confirm_after_ms: u64,
    /// How many more may be at work in each lane; negative where a step has become another one since it was given its turn.
    room: [isize; LANES.len()],
    entries: BTreeMap<u32, Entry>,
    due: [BTreeSet<(Tick, u32)>; LANES.len()],
    rate: Rate,
}

/// One of them.
#[derive(Debug)]
struct Entry {
    lane: Lane,
    /// When its turn is; `None` while it is at work.
    due: Option<Tick>,
    /// Something has changed while it was at work.
    is_stirred: bool,
    failures: u32,
    /// What the last attempt left.
    last: Shown,
}

/// What is shown of a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) peer: Option<NodeIndex>,
    pub(super) records: u64,
    pub(super) records_total: u64,
    pub(super) bytes: u64,
    pub(super) trouble: Option<Trouble>,
}

impl Moves {
    pub(super) fn new(config: &StewardConfig, holdings: &Holdings, now: Tick) -> Self {
        let mut moves = Self {
            retry_min_ms: config.retry_min_ms,
            retry_max_ms: config.retry_max_ms,
            confirm_after_ms: config.confirm_move_after_ms,
            room: [LOOKS_MAX, FILLS_MAX, LEAVES_MAX, config.copies_max.try_into().unwrap_or(isize::MAX)],
            entries: BTreeMap::new(),
            due: Default::default(),
            rate: Rate::default(),
        };
        moves.follow(holdings, now);
        moves
    }

    /// Follows a change of the ring. Partitions that are not here by these numbers any more are forgotten; none may be at work on them.
    pub(super) fn follow(&mut self, holdings: &Holdings, now: Tick) {
        let gone: Vec<u32> =
            self.entries.keys().copied().filter(|partition| holdings.row(*partition).is_none()).collect();
        for partition in gone {
            self.forget(partition);
        }
        for (partition, _) in holdings.rows() {
            self.stir(holdings, partition, now);
        }
    }

    /// Something has changed about a partition: its turn is now.
    pub(super) fn stir(&mut self, holdings: &Holdings, partition: u32, now: Tick) {
        let lane = lane(&step(holdings, partition));
        match (self.entries.get_mut(&partition), lane) {
            (Some(entry), _) if entry.due.is_none() => entry.is_stirred = true,
            (Some(_), None) => self.forget(partition),
            (Some(_), Some(lane)) => {
                self.unschedule(partition);
                self.schedule(partition, lane, now);
            }
            (None, Some(lane)) => {
                let last = Shown::default();
                let entry = Entry { lane, due: None, is_stirred: false, failures: 0, last };
                self.entries.insert(partition, entry);
                self.schedule(partition, lane, now);
            }
            (None, None) => {}
        }
    }

    /// Whatever waits is tried now: a node came back, or an operator wants it.
    pub(super) fn hurry(&mut self, now: Tick) {
        let waiting: Vec<(u32, Lane)> =
            self.entries.iter().filter(|(_, entry)| entry.due.is_some()).map(|(at, entry)| (*at, entry.lane)).collect();
        for (partition, lane) in waiting {
            self.unschedule(partition);
            self.schedule(partition, lane, now);
        }
    }

    /// When the next turn is, as far as it depends on time.
    pub(super) fn next_due(&self) -> Option<Tick> {
        let open = LANES.iter().filter(|lane| self.room[**lane as usize] > 0);
        open.filter_map(|lane| self.due[*lane as usize].first().map(|(due, _)| *due)).min()
    }

    /// The next step of a partition whose turn is now; to be followed by [`Moves::ended`].
    pub(super) fn take(&mut self, now: Tick, holdings: &Holdings, neighbours: &Neighbours) -> Option<Move> {
        let me = holdings.me()?;
        loop {
            let is_next = |lane: &&Lane| {
                let first = self.due[**lane as usize].first();
                self.room[**lane as usize] > 0 && first.is_some_and(|(due, _)| *due <= now)
            };
            let lane = *LANES.iter().find(is_next)?;
            let (_, partition) = self.due[lane as usize].pop_first()?;
            let next = match step(holdings, partition) {
                Step::Rest => {
                    self.entries.remove(&partition);
                    continue;
                }
                Step::Fetch { epoch } => Move::want(holdings.view(partition), epoch),
                Step::Revive => Move::want(holdings.view(partition), holdings.ring().epoch()),
                Step::Copy(active) => {
                    let sources = sources(holdings, &active, me, partition, neighbours);
                    let row = holdings.row(partition)?;
                    Move::Copy(Copy::new(active, row, sources))
                }
                Step::Fill(active) => {
                    Move::Fill(Fill::new(me, active, holdings.view(partition), self.confirm_after_ms))
                }
                Step::Settle(active) => Move::Settle(Settle::new(me, active)),
                Step::Leave(active) => Move::Leave(Leave::new(active)),
            };
            let lane = next.lane();
            if let Some(entry) = self.entries.get_mut(&partition) {
                (entry.due, entry.lane, entry.is_stirred) = (None, lane, false);
            }
            self.room[lane as usize] -= 1;
            return Some(next);
        }
    }

    /// A step has ended, one way or another.
    pub(super) fn ended(&mut self, now: Tick, holdings: &Holdings, ended: &Move, end: End) {
        let partition = ended.view().prefix;
        self.room[ended.lane() as usize] += 1;
        let lane = lane(&step(holdings, partition));
        let Some(entry) = self.entries.get_mut(&partition).filter(|entry| entry.due.is_none()) else { return };
        entry.last = ended.shown();
        let Some(lane) = lane else {
            self.entries.remove(&partition);
            return;
        };
        // What is complete and yet to be done again would go round in circles.
        let goes_on = entry.is_stirred || (end == End::Complete && lane != entry.lane);
        let wait_ms = if goes_on {
            entry.failures = 0;
            0
        } else {
            entry.failures += 1;
            (self.retry_min_ms << (entry.failures - 1).min(16)).min(self.retry_max_ms)
        };
        self.schedule(partition, lane, now.after(wait_ms));
    }

    /// A step was given up, to be taken as it is to be taken now.
    pub(super) fn abandoned(&mut self, given_up: &Move) {
        self.room[given_up.lane() as usize] += 1;
        self.entries.remove(&given_up.view().prefix);
    }

    /// Bytes of records have come.
    pub(super) fn received(&mut self, now: Tick, bytes: u64) {
        self.rate.add(now, bytes);
    }

    /// How far all of them are together.
    pub(super) fn totals(&self, now: Tick, holdings: &Holdings, has_hints: bool) -> TransferTotals {
        let layout = holdings.layout();
        let owns = |partition: u32| layout.owners(partition).any(|owner| Some(owner) == holdings.me());
        let (mut coming, mut going, mut unsettled) = (0, 0, 0);
        for (partition, entry) in &self.entries {
            unsettled += 1;
            match entry.lane {
                Lane::Copy | Lane::Fill => coming += 1,
                Lane::Leave | Lane::Look => going += u32::from(!owns(*partition)),
            }
        }
        // What a node keeps for others must have reached them before it goes for good.
        let owns_nothing = holdings.me().is_some_and(|me| !layout.slots.contains(&me.0));
        going += u32::from(owns_nothing && has_hints && !holdings.is_given_up());
        let (bytes_in, bytes_per_second) = (self.rate.total(), self.rate.per_second(now));
        TransferTotals { coming, going, unsettled, bytes_in, bytes_per_second }
    }

    /// Those that wait, as they are shown.
    pub(super) fn waiting<'m>(&'m self, holdings: &'m Holdings) -> impl Iterator<Item = Transfer> + 'm {
        let waiting = self.entries.iter().filter(|(_, entry)| entry.due.is_some());
        waiting.map(|(partition, entry)| {
            let Shown { peer, records, records_total, bytes, trouble } = entry.last.clone();
            let is_full = holdings.row(*partition).is_some_and(|row| row.full >= row.view.hi && row.full > 0);
            Transfer {
                view: holdings.view(*partition),
                state: if is_full { TransferState::Full } else { TransferState::Waiting },
                peer,
                records,
                records_total,
                bytes,
                trouble: trouble.map(|trouble| told(holdings, &trouble)),
            }
        })
    }

    fn schedule(&mut self, partition: u32, lane: Lane, due: Tick) {
        if let Some(entry) = self.entries.get_mut(&partition) {
            if entry.lane != lane {
                entry.failures = 0;
            }
            (entry.lane, entry.due) = (lane, Some(due));
            self.due[lane as usize].insert((due, partition));
        }
    }

    fn unschedule(&mut self, partition: u32) {
        if let Some(entry) = self.entries.get_mut(&partition)
            && let Some(due) = entry.due.take()
        {
            self.due[entry.lane as usize].remove(&(due, partition));
        }
    }

    fn forget(&mut self, partition: u32) {
        self.unschedule(partition);
        self.entries.remove(&partition);
    }
}

/// In which lane a step is taken.
fn lane(step: &Step) -> Option<Lane> {
    match step {
        Step::Rest => None,
        Step::Fetch { .. } | Step::Revive | Step::Settle(_) => Some(Lane::Look),
        Step::Copy(_) => Some(Lane::Copy),
        Step::Fill(_) => Some(Lane::Fill),
        Step::Leave(_) => Some(Lane::Leave),
    }
}

/// Whom to copy from: owners by the oldest configuration before others, who can be reached before who can't, who is near before who is
/// far; and among equals another one for every partition.
fn sources(
    holdings: &Holdings,
    active: &Active,
    me: NodeIndex,
    partition: u32,
    neighbours: &Neighbours,
) -> Vec<NodeIndex> {
    let layout = holdings.layout();
    let zone = |node: NodeIndex| layout.member(node).map(|member| member.zone.as_str());
    let oldest = active.oldest().map_or(&[][..], |set| &set.owners);
    let mut sources: Vec<NodeIndex> = active.older().iter().flat_map(|set| &set.owners).copied().collect();
    sources.sort_unstable();
    sources.dedup();
    sources.retain(|node| *node != me);
    let turn = partition as usize % sources.len().max(1);
    sources.rotate_left(turn);
    sources.sort_by_key(|node| (!oldest.contains(node), !neighbours.is_reachable(*node), zone(*node) != zone(me)));
    sources
}

/// A trouble in words.
pub(super) fn told(holdings: &Holdings, trouble: &Trouble) -> String {
    let names = |nodes: &[NodeIndex]| {
        let name = |node: &NodeIndex| holdings.layout().member(*node).map_or("?", |member| member.name.as_str());
        let names: Vec<&str> = nodes.iter().map(name).collect();
        names.join(", ")
    };
    match trouble {
        Trouble::NoSource => "no node that has the partition answers; start one, or give up those that are gone: quorate ring stage lost NAME".into(),
        Trouble::NoRoom => "there is no room on this node's disk; it goes on when there is".into(),
        Trouble::Changed => "what this node knows of the partition changed meanwhile, or its store was busy".into(),
        Trouble::Refused => "this node's store refused a step; its log says why".into(),
        Trouble::NoMajority { epoch, missing } => {
            alloc::format!(
                "too few owners of epoch {epoch} could be asked or read from in full: {}; start them, or give up those that are gone: \
                 quorate ring stage lost NAME",
                names(missing)
            )
        }
        Trouble::NotFull(nodes) => {
            alloc::format!(
                "these owners have not said yet that they have everything: {}; start those that are down, or replace them",
                names(nodes)
            )
        }
        Trouble::NoLayout(epoch) => alloc::format!("the layout of epoch {epoch} is not known here yet"),
    }
}
