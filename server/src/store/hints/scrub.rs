//! The scrub of the hints: reads all of them and compares them with what the rows of their targets say. Checksums show what is
//! damaged; only the sums of names show what is *missing*.

use std::{collections::BTreeMap, ops::ControlFlow};

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
    /// Reads everything from one snapshot and says what is wrong. Hints that can't be verified are set aside; if some are
    /// missing, or the pages can't be read, the hints count as damaged from now on.
    pub fn verify(&self) -> HintReport {
        let mut report = HintReport::default();
        let tables = &self.shared.tables;
        let pages = match Pages::of(&tables.env, &tables.file) {
            Ok(pages) => pages,
            Err(error) => {
                report.errors.push(error.to_string());
                return report;
            }
        };
        let rows = match usages(&pages) {
            Ok(rows) => rows.into_iter().collect(),
            Err(error) => {
                report.errors.push(self.shared.damaged(error));
                BTreeMap::new()
            }
        };
        let mut found: BTreeMap<NodeId, HintUsage> = BTreeMap::new();
        let mut unreadable = Vec::new();
        let walked = pages.table(HINTS).and_then(|tree| {
            pages.walk(&tree, None, &mut |key, hint| {
                let Some(key) = HintKey::decode(key) else {
                    report.errors.push("a hint has a malformed name".to_owned());
                    return ControlFlow::Continue(());
                };
                found.entry(key.target).or_default().add(&key, hint.len());
                if record::verify(&key.store_key, hint).is_ok() {
                    report.sound += 1;
                } else {
                    report.damaged += 1;
                    unreadable.push(key);
                }
                ControlFlow::Continue(())
            })
        });
        if let Err(error) = walked {
            report.errors.push(self.shared.damaged(error.to_string()));
        } else {
            let targets: std::collections::BTreeSet<&NodeId> = rows.keys().chain(found.keys()).collect();
            report.targets_wrong =
                targets.into_iter().filter(|target| rows.get(target) != found.get(target)).count() as u64;
        }
        drop(pages);
        if report.targets_wrong > 0 {
            self.shared
                .damaged(format!("a scrub found other hints than the rows say, of {} targets", report.targets_wrong));
        }
        self.set_aside(unreadable);
        report
    }
}
