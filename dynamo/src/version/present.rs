//! What a read shows of an object. Everything hidden here is still there and still covered by the read's context: twins of
//! one operation are shown as one, expired values and tombstones not at all, and where the last writer wins its concurrent
//! losers are hidden. To drop them while merging instead would lose data (losers of one pair are winners of another, and a
//! single wrong clock would expire things everywhere).

use super::{Object, Version};
use crate::layout::ConflictRule;

impl Object {
    /// The values a reader at the clock `now` is shown, in the order of their dots; none when the key is not found.
    pub fn present(&self, rule: ConflictRule, now: u64) -> impl Iterator<Item = &Version> + Clone {
        let winner = match rule {
            ConflictRule::Siblings => None,
            ConflictRule::LastWriterWins => self.versions.iter().max_by_key(|version| (version.clock, version.dot)),
        };
        self.versions.iter().filter(move |version| {
            version.content.bytes().is_some()
                && !version.is_expired(now)
                && match rule {
                    ConflictRule::Siblings => self.is_first_twin(version),
                    ConflictRule::LastWriterWins => winner.is_some_and(|winner| winner.dot == version.dot),
                }
        })
    }

    /// Whether no version before this one is its twin.
    fn is_first_twin(&self, version: &Version) -> bool {
        if self.versions.len() < 2 {
            return true;
        }
        let Some(fingerprint) = version.fingerprint() else {
            return true;
        };
        let twins = |other: &&Version| other.op_id == version.op_id && other.fingerprint() == Some(fingerprint);
        self.versions.iter().find(twins).is_none_or(|first| first.dot == version.dot)
    }
}
