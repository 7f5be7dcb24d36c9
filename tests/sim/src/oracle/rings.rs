//! Quorums across configurations (I11): what every decided layout makes of each key's owners, what every row says of it and since when,
//! and whether what nodes conclude from that is true. Kept by key, so that partitions that were split are no special case.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use dynamo::{
    layout::{Layout, Level, MemberState},
    operation::Consistency,
    replica::PartitionRow,
};

use super::{Dots, KeyNumber, Oracle, losses::majority};
use crate::invariant::Invariant;

/// The owners of a key under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The epoch that introduced it.
    pub epoch: u64,
    /// Its nodes in order of preference.
    pub owners: Vec<usize>,
}

/// The names of the oldest and the newest active configuration, as somebody believes.
pub(super) type Names = (u64, u64);

/// What a node's rows said of a key.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Since when which view.
    views: Vec<(u64, Names)>,
    full: u64,
    is_moved: bool,
    /// What it held when it learned of a configuration.
    fenced: BTreeMap<u64, Rc<Dots>>,
    /// What it held of records that were damaged since: its trees still say so.
    damaged: Dots,
}

/// The configurations of one key, and what nodes know of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership {
    configurations: Vec<Configuration>,
    rows: Vec<Row>,
    /// All before it are known to be retired by some row.
    pub(super) retired: u64,
    /// When owners or their order were changed last; 0 for never.
    changed_us: u64,
}

/// What somebody asks of quorums, whatever the configurations are that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    level: Level,
    r: u8,
    w: u8,
    n: u8,
}

/// Which of the two numbers counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// R.
    Read,
    /// W.
    Write,
}

impl Demand {
    /// What is asked, with the level that holds when nothing is said.
    pub fn of(asked: &Consistency, level: Level) -> Self {
        Self { level: asked.level.unwrap_or(level), r: asked.r, w: asked.w, n: asked.n }
    }

    /// Whether only owners count.
    pub fn is_strict(&self) -> bool {
        self.level != Level::Available
    }

    fn in_use(&self, owners: usize) -> usize {
        if self.n == 0 { owners } else { owners.min(usize::from(self.n)) }
    }

    /// How many of so many owners, of whom so many are left, must answer while their configuration is the only one.
    fn need(&self, kind: Kind, owners: usize, left: usize) -> usize {
        let in_use = self.in_use(owners).min(left);
        // Who uses fewer owners than there are has chosen for itself whom its reads and writes have in common.
        let all = if self.in_use(owners) == owners { owners } else { in_use };
        let usual = match self.level {
            Level::One => 1,
            Level::Available | Level::Quorum => majority(all, in_use),
            Level::All => in_use,
        };
        let asked = match kind {
            Kind::Read => self.r,
            Kind::Write => self.w,
        };
        if asked == 0 { usual } else { usize::from(asked).min(in_use) }
    }

    /// The same while there are several: strict quorums are majorities at least.
    fn need_among_several(&self, kind: Kind, owners: usize, left: usize) -> usize {
        let whole = Self { n: 0, ..*self };
        let need = whole.need(kind, owners, left);
        if self.is_strict() { need.max(majority(owners, left)) } else { need }
    }

    /// Whether it asks for a majority of all owners of each of these.
    fn is_majority(&self, kind: Kind, configurations: &[Configuration]) -> bool {
        let of = |configuration: &Configuration| {
            let owners = configuration.owners.len();
            self.in_use(owners) == owners && self.need(kind, owners, owners) > owners / 2
        };
        self.is_strict() && configurations.iter().all(of)
    }
}

/// The quorums under which answers counted.
pub(super) struct Counted {
    /// Those of the answers that no configuration asks for.
    pub(super) strangers: BTreeSet<usize>,
    /// The most that one of the configurations needs.
    pub(super) need: usize,
    /// The view.
    pub(super) view: Names,
}

impl Ownership {
    /// Whether a record that was damaged on some node had any of these.
    pub(super) fn was_damaged(&self, dots: &Dots) -> bool {
        self.rows.iter().any(|row| row.damaged.meets(dots))
    }

    pub(super) fn new(nodes: usize) -> Self {
        Self { rows: vec![Row::default(); nodes], ..Self::default() }
    }

    /// The owners as they are to be.
    pub(super) fn newest(&self) -> &[usize] {
        self.configurations.last().map_or(&[], |newest| &newest.owners)
    }

    /// Every owner of every configuration that may be active.
    pub(super) fn holders(&self) -> BTreeSet<usize> {
        let active = self.configurations.iter().filter(|one| one.epoch >= self.retired);
        active.flat_map(|one| one.owners.iter().copied()).collect()
    }

    /// Whether owners or their order were ever changed.
    pub(super) fn has_changed(&self) -> bool {
        self.changed_us > 0
    }

    pub(super) fn between(&self, (lo, hi): Names) -> &[Configuration] {
        let from = self.configurations.partition_point(|one| one.epoch < lo);
        let to = self.configurations.partition_point(|one| one.epoch <= hi);
        self.configurations.get(from..to).unwrap_or(&[])
    }

    fn learn(&mut self, epoch: u64, since: u64, owners: Vec<usize>, now_us: u64) {
        match self.configurations.last_mut() {
            Some(newest) if newest.epoch == since && newest.owners == owners => return,
            Some(newest) if newest.epoch == since => newest.owners = owners,
            Some(_) | None => self.configurations.push(Configuration { epoch: since, owners }),
        }
        self.changed_us = if epoch == 1 { 0 } else { now_us.max(1) };
    }

    /// What these nodes knew since then, in words.
    pub(super) fn told(&self, nodes: &BTreeSet<usize>, since_us: u64) -> String {
        let views = |node: &usize| (*node, self.rows[*node].views_since(since_us).collect::<Vec<Names>>());
        format!("{:?} under {:?}", nodes.iter().map(views).collect::<Vec<_>>(), self.configurations)
    }

    /// Under which quorums these answers were enough, all of them given under one and the same view since then, to somebody who knew that
    /// the nodes `lost` were given up; none if under no view.
    pub(super) fn counted(
        &self,
        answered: &BTreeSet<usize>,
        (demand, kind): (&Demand, Kind),
        since_us: u64,
        lost: &BTreeSet<usize>,
    ) -> Vec<Counted> {
        let mut views: BTreeSet<Names> = BTreeSet::new();
        for row in answered.iter().filter_map(|node| self.rows.get(*node)) {
            views.extend(row.views_since(since_us));
        }
        if views.is_empty() || !demand.is_strict() {
            // Only stand-ins answered, whose hints are kept under any view.
            views.extend(self.rows.iter().flat_map(|row| row.views_since(0)));
        }
        let counted = |view| self.counted_under(view, answered, (demand, kind), since_us, lost);
        views.into_iter().filter_map(counted).collect()
    }

    fn counted_under(
        &self,
        view: Names,
        answered: &BTreeSet<usize>,
        (demand, kind): (&Demand, Kind),
        since_us: u64,
        lost: &BTreeSet<usize>,
    ) -> Option<Counted> {
        let sets = self.between(view);
        let is_named = sets.first()?.epoch == view.0 && sets.last()?.epoch == view.1;
        let is_alone = sets.len() == 1;
        let owners_in_use = |one: &Configuration| {
            // The order of preference may have changed since.
            let in_use =
                if is_alone && self.changed_us == 0 { demand.in_use(one.owners.len()) } else { one.owners.len() };
            one.left(lost).take(in_use).collect::<BTreeSet<usize>>()
        };
        let owners: BTreeSet<usize> = sets.iter().flat_map(owners_in_use).collect();
        let strangers: BTreeSet<usize> = answered.difference(&owners).copied().collect();
        let had_view = |node: &usize| self.rows[*node].had(view, since_us);
        let are_under_view = answered.intersection(&owners).all(had_view);
        let mut most = 0;
        // A configuration of which nobody is left is not asked; but somebody must be.
        let mut asked = sets.iter().filter(|one| one.left(lost).next().is_some()).peekable();
        let is_asked = asked.peek().is_some();
        let are_enough = asked.all(|one| {
            let (count, left) = (one.owners.len(), one.left(lost).count());
            let need = match is_alone {
                true => demand.need(kind, count, left),
                false => demand.need_among_several(kind, count, left),
            };
            most = most.max(need);
            owners_in_use(one).intersection(answered).count() + strangers.len() >= need
        });
        // Who was given up counts for nothing, not even as a stand-in.
        let is_fit = (!demand.is_strict() || strangers.is_empty()) && answered.is_disjoint(lost);
        let is_counted = is_named && are_under_view && is_asked && are_enough && is_fit;
        is_counted.then_some(Counted { strangers, need: most, view })
    }

    /// Whether a read must meet a write that ended before it began.
    pub(super) fn must_meet(&self, write: &Demand, read: &Demand) -> bool {
        if self.changed_us > 0 {
            // What quorums of other sizes promise is not carried from one configuration to the next.
            let all = &self.configurations;
            return write.is_majority(Kind::Write, all) && read.is_majority(Kind::Read, all);
        }
        let count = self.newest().len();
        let owners = write.in_use(count).max(read.in_use(count));
        let together = write.need(Kind::Write, count, count) + read.need(Kind::Read, count, count);
        write.is_strict() && read.is_strict() && together > owners
    }
}

impl Row {
    /// Whether it may have had a view since then: one transaction can take it through several, of which the last is seen here.
    fn had(&self, view: Names, since_us: u64) -> bool {
        let known: Vec<Names> = self.views_since(since_us).collect();
        let is_before = |one: Names, other: Names| one.0 <= other.0 && one.1 <= other.1;
        let is_passed = |pair: &[Names]| is_before(pair[0], view) && is_before(view, pair[1]);
        known.contains(&view) || known.windows(2).any(is_passed)
    }

    /// The views it had since then, the one among them that it had at that time.
    fn views_since(&self, since_us: u64) -> impl Iterator<Item = Names> + '_ {
        let first = self.views.partition_point(|(from, _)| *from <= since_us).saturating_sub(1);
        self.views[first.min(self.views.len())..].iter().map(|(_, view)| *view)
    }
}

impl Oracle {
    /// A layout was decided, the first time that anybody knows of it. Which nodes it gives up.
    pub fn decided(&mut self, layout: &Layout) -> Vec<usize> {
        let now_us = self.now_us;
        for truth in &mut self.keys {
            let partition = layout.partition(&truth.address.store_key.id());
            let number = |owner| layout.member(owner).map_or(usize::MAX, |member| member.id.0 as usize - 1);
            let owners = layout.owners(partition).map(number).collect();
            truth.ownership.learn(layout.epoch, layout.spans.of(partition).since, owners, now_us);
        }
        let lost = layout.members.iter().filter(|member| member.state == MemberState::Lost);
        self.give_up(layout.epoch, lost.map(|member| member.id.0 as usize - 1))
    }

    /// The durable row of a key's partition at a node that knows the layouts up to `epoch`; `None` if it is gone and none has taken its
    /// place.
    pub fn row(&mut self, node: usize, key: KeyNumber, row: Option<&PartitionRow>, epoch: u64) {
        let held = Rc::clone(&self.keys[key].held[node]);
        let now_us = self.now_us;
        let known = &mut self.keys[key].ownership.rows[node];
        let Some(row) = row else {
            let forgotten = known.views.last().copied();
            *known = Row { full: known.full, ..Row::default() };
            return self.broken(Invariant::I11, || {
                format!("n{node} has no row of key {key} any more, and knows nothing of {forgotten:?}")
            });
        };
        let (view, before) = ((row.view.lo, row.view.hi), known.views.last().map(|(_, view)| *view));
        let (full, was_moved) = (known.full, known.is_moved);
        (known.full, known.is_moved) = (row.full.max(full), row.is_moved);
        if before == Some(view) && full == known.full && was_moved == known.is_moved {
            return;
        }
        if before != Some(view) {
            known.views.push((now_us, view));
            known.fenced.entry(view.1).or_insert(held);
        }
        if let Some(before) = before.filter(|before| before.0 > view.0 || before.1 > view.1) {
            self.broken(Invariant::I11, || format!("n{node} knew {before:?} of key {key}, and knows {view:?} now"));
        }
        if row.full > full {
            self.check_full(node, key, view, row.full, epoch);
        }
        if view.0 > self.keys[key].ownership.retired {
            self.check_retired(node, key, view.0, epoch);
            self.retired(key, epoch);
        }
        if row.is_moved && !was_moved {
            self.check_deleted(node, key, view);
        }
    }

    /// FULL means that a majority of every older active configuration was merged, each as it was after its fence or later.
    /// Of those who were given up, as far as the node knew when it counted, nobody counts.
    fn check_full(&mut self, node: usize, key: KeyNumber, (lo, _): Names, full: u64, epoch: u64) {
        let truth = &self.keys[key];
        let ownership = &truth.ownership;
        let is_merged = |owner: &usize| {
            let fenced = ownership.rows[*owner].fenced.range(full..).next();
            let known = |(_, known): (_, &Rc<Dots>)| {
                let damaged = &ownership.rows[node].damaged;
                let has =
                    |dot| truth.held[node].contains(dot) || truth.forgotten.contains(dot) || damaged.contains(dot);
                known.iter().all(has)
            };
            *owner == node || fenced.is_some_and(known)
        };
        let older = || ownership.between((lo, full)).iter().filter(|one| one.epoch < full);
        let lacks = |one: &&Configuration, lost: &BTreeSet<usize>| {
            one.left(lost).filter(is_merged).count() < majority(one.owners.len(), one.left(lost).count())
        };
        let lacking = self.losses.known_until(epoch).into_iter().map(|lost| older().find(|one| lacks(one, &lost)));
        let lacking: Option<Vec<_>> = lacking.collect();
        if let Some(lacking) = lacking.and_then(|lacking| lacking.first().map(|one| Configuration::clone(one))) {
            self.broken(Invariant::I11, || {
                format!("n{node} is FULL for {full} of key {key} without a majority of {lacking:?}")
            });
        }
    }

    /// `lo` moves only when every owner is FULL, or was an owner all along while their number did not change.
    fn check_retired(&mut self, node: usize, key: KeyNumber, lo: u64, epoch: u64) {
        let lost = self.losses.known_at(epoch);
        let ownership = &mut self.keys[key].ownership;
        let before = std::mem::replace(&mut ownership.retired, lo);
        let sets = ownership.between((before, lo));
        let Some(newest) = sets.last().filter(|newest| newest.epoch == lo) else {
            return self
                .broken(Invariant::I11, || format!("n{node} retires key {key} up to {lo}, which nobody decided"));
        };
        let is_constant = sets.iter().all(|one| one.owners.len() == newest.owners.len());
        let is_ready = |owner: &usize| {
            let was_always = is_constant && sets.iter().all(|one| one.owners.contains(owner));
            was_always || ownership.rows[*owner].full >= lo
        };
        let unready = newest.left(&lost).find(|owner| !is_ready(owner));
        if let Some(unready) = unready.filter(|_| sets.len() > 1) {
            self.broken(Invariant::I11, || {
                format!("n{node} retires what is before {lo} of key {key}, and n{unready} is not FULL")
            });
        }
    }

    /// Data is deleted only when `lo` is past every configuration of the node that it knows.
    fn check_deleted(&mut self, node: usize, key: KeyNumber, view: Names) {
        let active = self.keys[key].ownership.between(view);
        if active.iter().any(|one| one.owners.contains(&node)) {
            self.broken(Invariant::I11, || format!("n{node} deletes key {key} while it owns it under {view:?}"));
        }
    }

    /// What a node knew when it was fenced is gone there: nobody can have read it.
    pub(super) fn unfence(&mut self, node: usize, key: KeyNumber) {
        let held = Rc::clone(&self.keys[key].held[node]);
        let row = &mut self.keys[key].ownership.rows[node];
        row.damaged.unite(&held);
        row.fenced.values_mut().for_each(|known| *known = Rc::default());
    }

    /// The owners of a key under every configuration that may be active.
    pub fn holders(&self, key: KeyNumber) -> BTreeSet<usize> {
        self.keys[key].ownership.holders()
    }
}
