//! Reading hints: one key for whoever asks what is kept of it, or the hints of one target in order for whoever delivers them.
//! On the calling thread, without waiting for anybody.

use std::ops::ControlFlow;

use bytes::Bytes;
use dynamo::{
    hint::{HintKey, HintOperation, answer_read},
    ident::{NodeId, StoreKey},
    layout::View,
    operation::{ErrorCode, Failure},
    peer::PeerResult,
    record,
};

use super::{HintSubmission, Hints, opening::HINTS};
use crate::store::{SCAN_BYTES_MAX, SCAN_RECORDS_MAX, error::Trouble, pages::Pages};

impl Hints {
    /// Answers a peer's `ReadHint`, or this node's own: the hints of the key merged over all targets.
    pub fn read(&self, view: &View, store_key: &StoreKey) -> PeerResult {
        let hints = match self.hints_of(store_key) {
            Ok(hints) => hints,
            Err(Unread::Corrupt) => return PeerResult::Corrupt,
            Err(Unread::Failed(failure)) => return PeerResult::Failed(failure),
        };
        let names: Vec<HintKey> = hints.iter().map(|(name, _)| *name).collect();
        let is_aside = self.shared.is_aside(store_key);
        let answer = answer_read(view, store_key, hints.into_iter().map(|(_, hint)| hint), is_aside);
        match answer {
            // Once anything was lost, what is not found does not count as absent, nor what is found as all there was.
            PeerResult::Absent | PeerResult::Record(_) if self.shared.health.is_damaged() => PeerResult::Corrupt,
            PeerResult::Corrupt => {
                self.set_aside(names);
                PeerResult::Corrupt
            }
            other => other,
        }
    }

    /// What is kept of a key for each target, verified or not; several for one where the partition was divided meanwhile.
    pub fn kept_of(&self, store_key: &StoreKey) -> Result<Vec<(NodeId, Bytes)>, Failure> {
        match self.hints_of(store_key) {
            Ok(hints) => Ok(hints.into_iter().map(|(name, hint)| (name.target, hint)).collect()),
            Err(Unread::Corrupt) => Err(damaged()),
            Err(Unread::Failed(failure)) => Err(failure),
        }
    }

    /// The next hints for a target behind `after`, or from its first: at most so many, and so many bytes unless the first alone
    /// is longer; none only when there are no more. Those that can't be verified are left out, and set aside.
    pub fn scan(
        &self,
        target: NodeId,
        after: Option<HintKey>,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(HintKey, Bytes)>, Failure> {
        let (records_max, bytes_max) = (records_max.clamp(1, SCAN_RECORDS_MAX), bytes_max.min(SCAN_BYTES_MAX));
        let (mut found, mut unreadable, mut bytes) = (Vec::new(), Vec::new(), 0);
        let from = after.unwrap_or(HintKey::first_of(target));
        self.walk(&from, &mut |key, hint| {
            if key.target != target || found.len() >= records_max {
                return ControlFlow::Break(());
            }
            if Some(key) == after {
                return ControlFlow::Continue(());
            }
            if record::verify(&key.store_key, hint).is_err() {
                unreadable.push(key);
                return ControlFlow::Continue(());
            }
            bytes += hint.len();
            if !found.is_empty() && bytes > bytes_max {
                return ControlFlow::Break(());
            }
            found.push((key, Bytes::copy_from_slice(hint)));
            ControlFlow::Continue(())
        })?;
        self.set_aside(unreadable);
        Ok(found)
    }

    fn hints_of(&self, store_key: &StoreKey) -> Result<Vec<(HintKey, Bytes)>, Unread> {
        let tables = &self.shared.tables;
        let targets = self.shared.backlog();
        let look_up = || -> heed::Result<Result<Vec<(HintKey, Bytes)>, NodeId>> {
            let transaction = tables.env.read_txn()?;
            let (bounds, mut hints) = (tables.bounds(), Vec::new());
            for (target, _) in &targets {
                // Of the partitions there may have been, those without a hint for the target are passed over.
                let mut bits_min = 0;
                for name in HintKey::names(*target, *store_key) {
                    if name.bits < bits_min {
                        continue;
                    }
                    let sought = name.encode();
                    match tables.hints.get_greater_than_or_equal_to(&transaction, &sought)? {
                        Some((key, hint)) if key == sought && bounds.admit(hint) => {
                            hints.push((name, Bytes::copy_from_slice(hint)));
                        }
                        Some((key, _)) if key == sought => return Ok(Err(*target)),
                        Some((key, _)) => match HintKey::decode(key) {
                            Some(next) if next.target == *target => bits_min = next.bits,
                            Some(_) => break,
                            None => {}
                        },
                        None => break,
                    }
                }
            }
            Ok(Ok(hints))
        };
        match look_up() {
            Ok(Ok(hints)) => Ok(hints),
            Ok(Err(target)) => {
                self.shared.damaged(format!("a hint for {target} lies outside of the file"));
                Err(Unread::Corrupt)
            }
            Err(error) => match Trouble::of(&error) {
                Trouble::Damage => {
                    self.shared.damaged(format!("LMDB: {error}"));
                    Err(Unread::Corrupt)
                }
                Trouble::Full | Trouble::Other => Err(Unread::Failed(unreadable(&error))),
            },
        }
    }

    /// Visits hints in the order of their names, from one on, until told to stop.
    pub(super) fn walk(
        &self,
        from: &HintKey,
        visit: &mut dyn FnMut(HintKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let tables = &self.shared.tables;
        let pages = Pages::of(&tables.env, &tables.file).map_err(|error| unreadable(&error))?;
        let mut is_malformed = false;
        let walked = pages.table(HINTS).and_then(|tree| {
            pages.walk(&tree, Some(&from.encode()), &mut |key, hint| match HintKey::decode(key) {
                Some(key) => visit(key, hint),
                None => {
                    is_malformed = true;
                    ControlFlow::Break(())
                }
            })
        });
        let what = match walked {
            Ok(_) if !is_malformed => return Ok(()),
            Ok(_) => "a hint has a malformed name".to_owned(),
            Err(error) => error.to_string(),
        };
        self.shared.damaged(what);
        Err(damaged())
    }

    /// Has the writer look at hints that can't be verified: whatever is not delivered by such an order, it sets them aside. If
    /// it has no time now, the next reader finds them again.
    pub(super) fn set_aside(&self, names: Vec<HintKey>) {
        let order = |HintKey { target, bits, prefix, store_key }| HintSubmission {
            token: None,
            operation: HintOperation::Drop { target, view: View { prefix, bits, lo: 0, hi: 0 }, store_key, digest: 0 },
        };
        if !names.is_empty() {
            let _ = self.submit(&self.shared.nobody, names.into_iter().map(order).collect());
        }
    }
}

/// Why a key's hints can't be read.
enum Unread {
    Corrupt,
    Failed(Failure),
}

fn damaged() -> Failure {
    let message = "this node's hints are damaged: what it keeps for others can't be listed; nothing was done";
    Failure::new(ErrorCode::Corrupt, message)
}

fn unreadable(error: &heed::Error) -> Failure {
    let message = format!("this node's hints could not be read ({error}); nothing was done, try again later");
    Failure::with_message(ErrorCode::Unavailable, message)
}
