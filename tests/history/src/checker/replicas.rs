//! What replicas hold in the end: everything that was acknowledged, nothing that was replaced, and all of them the same.

use std::collections::BTreeSet;

use crate::{
    Stage,
    checker::{Report, Rules, ViolationKind, key::KeyHistory},
};

/// Checks the end of one key.
pub(super) fn check(key: &KeyHistory<'_>, rules: &Rules, report: &mut Report) {
    let looked_at: BTreeSet<u32> = key.replicas.iter().map(|replica| replica.process).collect();
    let somebody_wrote = key.writes.values().any(|write| write.outcome == Stage::Ok);
    if looked_at.len() < rules.replicas && (somebody_wrote || !looked_at.is_empty()) {
        let detail = format!("{} replicas of {} were looked at", looked_at.len(), rules.replicas);
        return key.accuse(report, ViolationKind::NotLookedAt, detail);
    }
    diverged(key, rules, report);
    let values: BTreeSet<u64> = key.replicas.iter().flat_map(|replica| replica.values.iter().copied()).collect();
    report.keys_with_siblings += u64::from(values.len() > 1);
    for id in &values {
        if let Some(why) = key.invention(*id, u64::MAX) {
            key.accuse(report, ViolationKind::Invented, format!("in the end: {why}"));
        }
    }
    for (id, write) in &key.writes {
        if write.outcome == Stage::Ok && !key.explains(&values, *id, u64::MAX) {
            let detail = format!("{id} of process {} was acknowledged; in the end there are {values:?}", write.process);
            key.accuse(report, ViolationKind::Lost, detail);
        }
    }
    // A write is known to be done when it was acknowledged, or when anybody has seen it.
    let seen = key.reads.iter().flat_map(|read| read.values.iter().copied()).chain(values.iter().copied());
    let acknowledged = key.writes.iter().filter(|(_, write)| write.outcome == Stage::Ok).map(|(id, _)| *id);
    let gone = key.must_be_gone(seen.chain(acknowledged));
    for (id, by) in values.iter().filter_map(|id| gone.get_key_value(id)) {
        key.accuse(report, ViolationKind::Returned, format!("in the end there is {id}, which {by} had replaced"));
    }
}

fn diverged(key: &KeyHistory<'_>, rules: &Rules, report: &mut Report) {
    let Some((first, others)) = key.replicas.split_first() else { return };
    for other in others {
        let is_equal = first.values == other.values && (!rules.bytes_equal || first.context == other.context);
        if !is_equal {
            let detail = format!(
                "replica {} holds {:?} ({}), replica {} holds {:?} ({})",
                first.process,
                first.values,
                first.context.as_deref().unwrap_or("-"),
                other.process,
                other.values,
                other.context.as_deref().unwrap_or("-")
            );
            key.accuse(report, ViolationKind::Diverged, detail);
        }
    }
}
