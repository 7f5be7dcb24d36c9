//! What answered reads show: nothing invented, and for strict reads nothing missed and nothing that had been replaced.

use std::collections::BTreeSet;

use crate::{
    Stage,
    checker::{
        Report, ViolationKind,
        key::{KeyHistory, Read, Replaces, Write},
    },
};

/// Checks the reads of one key.
pub(super) fn check(key: &KeyHistory<'_>, report: &mut Report) {
    for read in &key.reads {
        for id in &read.values {
            if let Some(why) = key.invention(*id, read.ended) {
                key.accuse(report, ViolationKind::Invented, format!("read by process {}: {why}", read.process));
            }
        }
    }
    // Strict reads in the order of their beginnings, so that acknowledged writes only join.
    let mut reads: Vec<&Read> = key.reads.iter().filter(|read| read.strict).collect();
    reads.sort_by_key(|read| read.began);
    let strict = |write: &Write| write.strict && write.outcome == Stage::Ok;
    let mut acknowledged: Vec<(u64, u64)> =
        key.writes.iter().filter(|(_, write)| strict(write)).filter_map(|(id, it)| Some((it.ended?, *id))).collect();
    acknowledged.sort_unstable();
    let mut acknowledged = acknowledged.into_iter().peekable();
    // The acknowledged writes that no other one has replaced: whoever explains these explains all.
    let mut frontier: BTreeSet<u64> = BTreeSet::new();
    let mut done = Vec::new();
    for read in reads {
        while let Some((_, id)) = acknowledged.next_if(|(ended, _)| *ended < read.began) {
            if let Replaces::Known(replaced) = &key.writes[&id].replaces {
                frontier.retain(|one| !replaced.contains(one));
            }
            frontier.insert(id);
            done.push(id);
        }
        missed(key, read, &frontier, report);
        // Only what the answer shows has to be looked up among everything that was replaced.
        let gone = key.must_be_gone(done.iter().copied());
        for (id, by) in read.values.iter().filter_map(|id| gone.get_key_value(id)) {
            let detail = format!("process {} read {id} after its replacement {by} was acknowledged", read.process);
            key.accuse(report, ViolationKind::Returned, detail);
        }
    }
}

fn missed(key: &KeyHistory<'_>, read: &Read, frontier: &BTreeSet<u64>, report: &mut Report) {
    for id in frontier.iter().filter(|id| !key.explains(&read.values, **id, read.ended)) {
        let write = &key.writes[id];
        let kind = match write.process == read.process {
            true => ViolationKind::OwnWriteMissed,
            false => ViolationKind::WriteMissed,
        };
        let detail = format!(
            "process {} began to read at {} µs and got {:?}, but {id} of process {} was acknowledged before",
            read.process, read.began, read.values, write.process
        );
        key.accuse(report, kind, detail);
    }
}
