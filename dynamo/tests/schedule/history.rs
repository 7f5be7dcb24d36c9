//! What clients asked and were told, and what that allows later answers to be. The history knows nothing of dots, contexts
//! or replicas: a write is known by its value, and replaces the values its client had been shown.

use std::collections::{BTreeMap, BTreeSet};

use dynamo::{ident::OpId, version::SPENT_MAX};

/// A client's write, retries included: its position in the history.
pub(crate) type WriteId = usize;

/// What a write replaces, as far as its client can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Replaces {
    /// Exactly these.
    Exactly(BTreeSet<WriteId>),
    /// Whatever the coordinator held or read: nobody outside can tell.
    Unknown,
}

/// A write.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) key: usize,
    pub(crate) op_id: OpId,
    /// What it writes; `None` for a delete.
    pub(crate) value: Option<String>,
    pub(crate) replaces: Replaces,
    /// What is certainly gone once this is acknowledged: what its client knows it replaces and, for a delete that reads
    /// first, every write its read had to meet.
    removes: BTreeSet<WriteId>,
    /// When it was first asked for, in events.
    begun: u64,
    /// When its last attempt ended; `None` while one is under way.
    ended: Option<u64>,
    /// Whether any attempt may have been stored, or still may.
    maybe_applied: bool,
    /// Whether an attempt ended unclear: it may go on behind the client's back and act at any later time.
    may_still_act: bool,
    /// Acknowledgements: when, and by how many owners.
    acknowledged: Vec<(u64, u8)>,
    was_seen: bool,
}

impl Written {
    /// Whether a read of `need` of `replicas` replicas that begins at `begun` meets a replica that acknowledged this write.
    fn must_be_met(&self, begun: u64, need: u8, replicas: u8) -> bool {
        self.acknowledged.iter().any(|&(at, durable)| at < begun && durable + need > replicas)
    }
}

/// Everything that happened between clients and the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) writes: Vec<Written>,
    by_value: BTreeMap<String, WriteId>,
}

/// A read that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Read<'r> {
    pub(crate) key: usize,
    pub(crate) begun: u64,
    /// How many owners' records it merged, and how many the key has.
    pub(crate) need: u8,
    pub(crate) replicas: u8,
    pub(crate) values: &'r [String],
}

impl History {
    /// A write begins, which waits for `need` of `replicas` replicas, and so does its read if it is a delete that reads first.
    pub(crate) fn begin(
        &mut self,
        key: usize,
        op_id: OpId,
        value: Option<String>,
        replaces: Replaces,
        (need, replicas): (u8, u8),
        at: u64,
    ) -> WriteId {
        let id = self.writes.len();
        if let Some(value) = &value {
            self.by_value.insert(value.clone(), id);
        }
        let must_meet = |written: &Written| written.key == key && written.must_be_met(at, need, replicas);
        let removes = match &replaces {
            Replaces::Exactly(replaced) => replaced.clone(),
            Replaces::Unknown if value.is_none() => (0..id).filter(|&id| must_meet(&self.writes[id])).collect(),
            Replaces::Unknown => BTreeSet::new(),
        };
        self.writes.push(Written {
            key,
            removes,
            op_id,
            value,
            replaces,
            begun: at,
            ended: None,
            maybe_applied: false,
            may_still_act: false,
            acknowledged: Vec::new(),
            was_seen: false,
        });
        id
    }

    /// Another attempt at the same write.
    pub(crate) fn begin_again(&mut self, id: WriteId) {
        self.writes[id].ended = None;
    }

    pub(crate) fn acknowledge(&mut self, id: WriteId, durable: u8, at: u64) {
        let written = &mut self.writes[id];
        written.acknowledged.push((at, durable));
        written.maybe_applied = true;
        written.ended = Some(at);
    }

    /// Everything that stand-ins kept has reached an owner.
    pub(crate) fn handed_off(&mut self) {
        let all = self.writes.iter_mut().flat_map(|written| &mut written.acknowledged);
        all.for_each(|(_, durable)| *durable = (*durable).max(1));
    }

    /// An attempt failed.
    pub(crate) fn fail(&mut self, id: WriteId, maybe_applied: bool, at: u64) {
        let written = &mut self.writes[id];
        written.maybe_applied |= maybe_applied;
        written.may_still_act |= maybe_applied;
        written.ended = Some(at);
        let is_certain = !written.maybe_applied;
        assert!(!(is_certain && written.was_seen), "{written:?} was read and is said not to have been applied");
    }

    /// The writes whose values these are.
    pub(crate) fn shown(&self, values: &[String]) -> BTreeSet<WriteId> {
        values.iter().map(|value| *self.by_value.get(value).unwrap_or_else(|| panic!("{value} is invented"))).collect()
    }

    /// Judges a read. Returns whether there was an acknowledged write that it had to show. `has_twins` says which operations
    /// were minted more than once.
    pub(crate) fn judge(&mut self, read: &Read<'_>, has_twins: impl Fn(&OpId) -> bool) -> bool {
        let shown = self.shown(read.values);
        assert_eq!(shown.len(), read.values.len(), "twins are shown as one: {read:?}");
        for &id in &shown {
            let written = &mut self.writes[id];
            assert_eq!(written.key, read.key, "{written:?} belongs to another key than {read:?}");
            assert!(
                written.ended.is_none() || written.maybe_applied,
                "{written:?} was not applied, and is read by {read:?}"
            );
            written.was_seen = true;
        }
        let overwritten = self.overwritten(read.key);
        let must_stay_away = |id: &WriteId| overwritten <= SPENT_MAX || !has_twins(&self.writes[*id].op_id);
        let mut had_to_show = false;
        for (id, written) in self.writes.iter().enumerate().filter(|(_, written)| written.key == read.key) {
            if !written.must_be_met(read.begun, read.need, read.replicas) {
                continue;
            }
            let back = written.removes.intersection(&shown).find(|id| must_stay_away(id));
            assert!(back.is_none(), "{back:?}, overwritten by {id} {written:?}, came back in {read:?}");
            if written.value.is_some() && !shown.contains(&id) {
                assert!(
                    self.may_be_covered(id),
                    "{id} {written:?} was acknowledged and is lost in {read:?}: {self:#?}"
                );
            } else if written.value.is_some() {
                had_to_show = true;
            }
        }
        had_to_show
    }

    /// How many writes of a key may have been overwritten: as long as replicas remember all of them, no twin of theirs may
    /// ever be seen again.
    pub(crate) fn overwritten(&self, key: usize) -> usize {
        let writes = self.writes.iter().enumerate().filter(|(_, written)| written.key == key);
        let mut all: BTreeSet<WriteId> = BTreeSet::new();
        for (id, written) in writes {
            // Whoever reads is not shown tombstones, and overwrites them too.
            all.extend(written.value.is_none().then_some(id));
            match &written.replaces {
                Replaces::Exactly(replaced) => all.extend(replaced),
                Replaces::Unknown => return usize::MAX,
            }
        }
        all.len()
    }

    /// Whether another write may have replaced this one.
    fn may_be_covered(&self, id: WriteId) -> bool {
        let covered = &self.writes[id];
        self.writes.iter().enumerate().any(|(other, by)| {
            let is_possible = other != id && by.key == covered.key && (by.ended.is_none() || by.maybe_applied);
            is_possible
                && match &by.replaces {
                    Replaces::Exactly(replaced) => replaced.contains(&id),
                    Replaces::Unknown => by.may_still_act || by.ended.is_none_or(|ended| ended >= covered.begun),
                }
        })
    }
}
