//! The history of one key, put in order: its writes with what each may have replaced, its answered reads, and its replicas in
//! the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Basis, Event, Kind, Stage,
    checker::{Report, Violation, ViolationKind},
};

/// The history of one key.
pub(super) struct KeyHistory<'h> {
    pub(super) name: &'h str,
    /// The writes by their ids.
    pub(super) writes: BTreeMap<u64, Write>,
    /// The answered reads in the order of their ends.
    pub(super) reads: Vec<Read>,
    /// What replicas held in the end.
    pub(super) replicas: Vec<&'h Event>,
    /// For each write under a context that replaced it, by the id of what was replaced.
    replaced_by: BTreeMap<u64, Vec<u64>>,
    /// Writes without a context.
    blind: Vec<u64>,
}

/// A write.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) process: u32,
    pub(super) began: u64,
    /// When it was acknowledged or refused. `None`: unclear, so it may be done at any later time.
    pub(super) ended: Option<u64>,
    pub(super) outcome: Stage,
    pub(super) strict: bool,
    pub(super) is_delete: bool,
    pub(super) replaces: Replaces,
}

/// What a write may have replaced.
#[derive(Debug)]
pub(super) enum Replaces {
    /// Exactly these, and what these had replaced.
    Known(BTreeSet<u64>),
    /// Whatever had begun before it ended.
    Anything,
}

/// An answered read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) process: u32,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) strict: bool,
    pub(super) values: BTreeSet<u64>,
}

impl<'h> KeyHistory<'h> {
    /// Reads the events of one key, in the order of time.
    pub(super) fn new(name: &'h str, events: &[&'h Event], report: &mut Report) -> Self {
        let mut key = Self {
            name,
            writes: BTreeMap::new(),
            reads: Vec::new(),
            replicas: Vec::new(),
            replaced_by: BTreeMap::new(),
            blind: Vec::new(),
        };
        let mut open: BTreeMap<u32, &Event> = BTreeMap::new();
        // What each context had shown to the process that was given it.
        let mut shown: BTreeMap<(u32, &str), BTreeSet<u64>> = BTreeMap::new();
        for &event in events {
            report.count(event.op, event.stage);
            match event.stage {
                Stage::Final => key.replicas.push(event),
                Stage::Invoke => {
                    // An earlier one that never ended stays unclear: its process died or gave up.
                    open.insert(event.process, event);
                    key.begin(event, &shown, report);
                }
                Stage::Ok | Stage::Fail | Stage::Unclear => match open.remove(&event.process) {
                    Some(began) if began.op == event.op && began.id == event.id => {
                        if let (Stage::Ok, Some(context)) = (event.stage, &event.context) {
                            let values = event.values.iter().copied().chain(event.id).collect();
                            shown.insert((event.process, context), values);
                        }
                        key.end(began, event);
                    }
                    _ => key.accuse(report, ViolationKind::Malformed, format!("an answer to nothing: {event:?}")),
                },
            }
        }
        key.index();
        key
    }

    fn begin(&mut self, event: &Event, shown: &BTreeMap<(u32, &str), BTreeSet<u64>>, report: &mut Report) {
        if event.op == Kind::Get {
            return;
        }
        let Some(id) = event.id else {
            return self.accuse(report, ViolationKind::Malformed, format!("a write without an id: {event:?}"));
        };
        let replaces = match &event.basis {
            Some(Basis::Beside) => Replaces::Known(BTreeSet::new()),
            Some(Basis::Local) | None => Replaces::Anything,
            Some(Basis::Context(context)) => match shown.get(&(event.process, &**context)) {
                Some(values) => Replaces::Known(values.clone()),
                None => {
                    let detail = format!("write {id} has a context that its process was not given");
                    return self.accuse(report, ViolationKind::Malformed, detail);
                }
            },
        };
        let write = Write {
            process: event.process,
            began: event.time_us,
            ended: None,
            outcome: Stage::Unclear,
            strict: event.strict,
            is_delete: event.op == Kind::Delete,
            replaces,
        };
        if self.writes.insert(id, write).is_some() {
            self.accuse(report, ViolationKind::Malformed, format!("id {id} is used twice"));
        }
    }

    fn end(&mut self, began: &Event, event: &Event) {
        if event.op == Kind::Get {
            if event.stage == Stage::Ok {
                let values = event.values.iter().copied().collect();
                let (process, strict) = (event.process, began.strict);
                self.reads.push(Read { process, began: began.time_us, ended: event.time_us, strict, values });
            }
            return;
        }
        let Some(write) = event.id.and_then(|id| self.writes.get_mut(&id)) else { return };
        write.outcome = event.stage;
        write.ended = (event.stage != Stage::Unclear).then_some(event.time_us);
    }

    fn index(&mut self) {
        for (id, write) in &self.writes {
            match &write.replaces {
                Replaces::Anything => self.blind.push(*id),
                Replaces::Known(ids) => {
                    ids.iter().for_each(|replaced| self.replaced_by.entry(*replaced).or_default().push(*id));
                }
            }
        }
    }

    pub(super) fn accuse(&self, report: &mut Report, kind: ViolationKind, detail: String) {
        report.violations.push(Violation { kind, key: self.name.to_owned(), detail });
    }

    /// Whether what a reader got until `until` explains why `id` is not among it.
    pub(super) fn explains(&self, values: &BTreeSet<u64>, id: u64, until: u64) -> bool {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if values.contains(&id) || self.writes.get(&id).is_some_and(|write| write.is_delete) {
                return true;
            }
            for replacer in self.replacers(id) {
                let write = &self.writes[&replacer];
                if write.outcome != Stage::Fail && write.began <= until && seen.insert(replacer) {
                    open.push(replacer);
                }
            }
        }
        false
    }

    /// The writes that may have replaced `id`.
    fn replacers(&self, id: u64) -> impl Iterator<Item = u64> {
        let known = self.replaced_by.get(&id).into_iter().flatten().copied();
        let began = self.writes.get(&id).map_or(0, |write| write.began);
        let later = move |blind: &u64| *blind != id && self.writes[blind].ended.is_none_or(|ended| ended >= began);
        known.chain(self.blind.iter().copied().filter(later))
    }

    /// Everything that `replacers`, all of which are known to be done, must have replaced.
    pub(super) fn must_be_gone(&self, replacers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
        let mut gone = BTreeMap::new();
        let mut open: Vec<u64> = replacers.into_iter().collect();
        while let Some(id) = open.pop() {
            let Some(Write { replaces: Replaces::Known(replaced), .. }) = self.writes.get(&id) else { continue };
            for one in replaced {
                if gone.insert(*one, id).is_none() {
                    open.push(*one);
                }
            }
        }
        gone
    }

    /// Says what is wrong with a value that was seen at `at`, if nobody can have written it.
    pub(super) fn invention(&self, id: u64, at: u64) -> Option<String> {
        match self.writes.get(&id) {
            None => Some(format!("{id} was never written")),
            Some(write) if write.is_delete => Some(format!("{id} is a delete and can't be read")),
            Some(write) if write.outcome == Stage::Fail => Some(format!("{id} was refused, nothing was to be done")),
            Some(write) if write.began > at => Some(format!("{id} was seen before it was written")),
            Some(_) => None,
        }
    }
}
