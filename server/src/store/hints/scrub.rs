//! The scrub of the hints: reads all of them and compares them with what the rows of their targets say. Checksums show what is
//! damaged; only the sums of names show what is *missing*.

use std::ops::ControlFlow;

use dynamo::{
    hint::{HintKey, HintUsage},
    ident::NodeId,
    record,
};

use super::{
    Hints,
    opening::{HINTS, usages},
};
use crate::store::pages::Pages;

/// What a scrub of the hints found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintReport {
    /// Hints that verify.
    pub sound: u64,
    /// Hints that don't. They are set aside.
    pub damaged: u64,
    /// Targets for whom other things are kept than their rows say.
    pub targets_wrong: u64,
    /// What is wrong with pages and rows, or why something could not be looked at.
    pub errors: Vec<String>,
}

impl HintReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && self.targets_wrong == 0 && self.errors.is_empty()
    }
}

impl Hints {
    /// Reads everything, from a snapshot per target, so that nothing is held back for long, and says what is wrong. Hints that
    /// can't be verified are set aside; if some are missing, or the pages can't be read, the hints count as damaged from now on.
    pub fn verify(&self) -> HintReport {
        let mut report = HintReport::default();
        for (target, _) in self.backlog() {
            self.verify_target(target, &mut report);
        }
        match self.pages() {
            Ok(pages) => match count_strays(&pages) {
                Ok(0) => {}
                Ok(strays) => report.errors.push(self.shared.damaged(format!("{strays} hints are in no row"))),
                Err(error) => report.errors.push(self.shared.damaged(error)),
            },
            Err(error) => report.errors.push(error),
        }
        if report.targets_wrong > 0 {
            let what = format!("a scrub found other hints than the rows say, of {} targets", report.targets_wrong);
            self.shared.damaged(what);
        }
        report
    }

    fn verify_target(&self, target: NodeId, report: &mut HintReport) {
        let pages = match self.pages() {
            Ok(pages) => pages,
            Err(error) => return report.errors.push(error),
        };
        let row = match usages(&pages) {
            Ok(rows) => rows.into_iter().find(|(of, _)| *of == target).map_or_else(HintUsage::default, |(_, row)| row),
            Err(error) => return report.errors.push(self.shared.damaged(error)),
        };
        let (mut found, mut unreadable, mut sound) = (HintUsage::default(), Vec::new(), 0);
        let walked = pages.table(HINTS).and_then(|tree| {
            pages.walk(&tree, Some(&HintKey::first_of(target).encode()), &mut |key, hint| {
                let Some(key) = HintKey::decode(key).filter(|key| key.target == target) else {
                    return ControlFlow::Break(());
                };
                found.add(&key, hint.len());
                if record::verify(&key.store_key, hint).is_ok() {
                    sound += 1;
                } else {
                    unreadable.push(key);
                }
                ControlFlow::Continue(())
            })
        });
        report.sound += sound;
        report.damaged += unreadable.len() as u64;
        match walked {
            Ok(_) => report.targets_wrong += u64::from(row != found),
            Err(error) => report.errors.push(self.shared.damaged(error.to_string())),
        }
        self.set_aside(unreadable);
    }

    fn pages(&self) -> Result<Pages<'_>, String> {
        let tables = &self.shared.tables;
        Pages::of(&tables.env, &tables.file).map_err(|error| error.to_string())
    }
}

/// Hints that are in the table and in no row: of targets that have none.
fn count_strays(pages: &Pages<'_>) -> Result<u64, String> {
    let counted: u64 = usages(pages)?.iter().map(|(_, usage)| usage.records).sum();
    let entries = pages.table(HINTS).map_err(|error| error.to_string())?.entries;
    Ok(entries.abs_diff(counted))
}
