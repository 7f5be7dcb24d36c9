//! The bug bank (design, proof): mistakes that stores of this kind have made, each behind a switch at the place where it would be
//! made, so that the simulator can show that it catches every one. A check that cannot fail is worth nothing.
//!
//! Without the feature `bug-bank`, which nothing but the simulator turns on, every switch is the constant `false` and costs nothing.

/// Defines the bugs, one line each: its name in code, what goes wrong.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A known mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        /// All of them, with their names and what goes wrong.
        pub const ALL: &[(Bug, &str, &str)] = &[$((Bug::$name, stringify!($name), concat!($($what),+)),)+];
    };
}

bugs! {
    /// A replica goes on counting under its actor after it forgot a record.
    ReuseDotAfterForgetting,
    /// A write is acknowledged before it is durable at its coordinator.
    AcknowledgeBeforeDurable,
    /// Two answers of one node count as two.
    CountOneNodeTwice,
    /// A hint that was refused counts towards W.
    CountRefusedHint,
    /// A hint is deleted when it is sent, not when it is acknowledged.
    DropHintOnSend,
    /// A hint is deleted on acknowledgement although it was changed since it was sent.
    DropChangedHint,
    /// A second hint for a key replaces the first instead of being merged with it.
    ReplaceHint,
    /// A stand-in goes on counting under its actor after its hints were delivered.
    StandInKeepsActor,
    /// A stand-in that coordinates mints as if it kept nothing of the key.
    StandInForgetsItsHints,
    /// A stand-in's copy counts for a strict quorum.
    StandInCountsForQuorum,
    /// One bucket of a hash tree is never compared.
    SkipTreeBucket,
    /// A write does not reach the hash tree.
    TreeMissesWrite,
    /// The rebuilding of an unreadable record does not reach the hash tree.
    TreeMissesRebuild,
    /// A tree is compared by its keys alone, not by what is stored under them.
    TreeIgnoresVersions,
    /// An exchange pulls what it lacks and never pushes what the other lacks.
    ExchangeOnlyPulls,
    /// Ranges of two hash trees are compared by how many keys they have.
    CompareCounts,
    /// A hint is deleted after its delivery was tried, whatever the target answered.
    DropHintOnAnyAnswer,
    /// A target that failed once is sent no more hints.
    HandoffGivesUp,
    /// In a rebuild, an owner that can't be reached counts as one that holds nothing.
    RebuildCountsFailures,
    /// Merging keeps only the version with the largest dot.
    MergeKeepsLargestDot,
    /// Merging forgets to join the contexts.
    MergeForgetsContext,
    /// Merging drops versions that have expired by a clock.
    ExpiryInMerge,
    /// Merging drops what loses by last writer wins.
    MergeDropsLosers,
    /// Operation ids that were overwritten are forgotten, so a twin returns.
    ForgetSpent,
    /// A retry mints a second version beside the first.
    RetryMakesSibling,
    /// A put's reply has the object's context although siblings stand beside it.
    PutReturnsWholeContext,
    /// A context is accepted for another key than the one it was made for.
    AcceptForeignContext,
    /// A record that can't be verified is read as absent.
    CorruptReadAsAbsent,
    /// A record that can't be verified is overwritten by the next merge, and that counts.
    CorruptOverwrittenByMerge,
    /// An unreadable record is rebuilt from the first other owner that answers.
    RebuildFromOne,
    /// An unreadable record is rebuilt and the partition's actor is kept.
    RebuildKeepsActor,
    /// A tombstone is reaped while an owner is away.
    ReapWithOwnerAway,
    /// A tombstone is reaped while a former owner has not handed over yet what it covers.
    ReapBesideFormerOwner,
    /// A record is reaped although it was changed since it was looked at.
    ReapChanged,
    /// A read at quorum is answered after one record.
    ReadQuorumOfOne,
    /// Read repair sends the record that came first instead of the merge.
    RepairWithFirst,
    /// Answers given under another view count.
    CountOtherView,
    /// A replica serves a sender whose view is old.
    AcceptOldView,
    /// A replica serves a sender who does not know yet that configurations were retired.
    AcceptOldLo,
    /// Views are compared without the number of their bits, so that a parent's passes for a child's after Q was doubled.
    ViewWithoutBits,
    /// A partition is deleted although a configuration that this node belongs to may be active.
    EarlyDeletion,
    /// A partition that was moved away and deleted leaves no row.
    MovedRowForgotten,
    /// An error of a replica is read as absence.
    ErrorReadAsAbsent,
    /// A wiped directory goes on under its old identity.
    WipedKeepsIdentity,
    /// A replica replies with a blind context: everything its actor ever counted, not what it counted for this key.
    ContextOfWholePartition,
    /// A blind delete writes its tombstone beside what it saw.
    DeleteCoversNothing,
    /// A write ends at its deadline with success although too few replicas have it.
    SucceedAtDeadline,
    /// An answer is taken by whichever operation now stands where the one that asked stood.
    TakeOthersAnswer,
    /// The failure of a write says that nothing was applied although a replica has it.
    DenyPartialWrite,
    /// While two configurations are active, a read asks for its quorum in the newest alone.
    ReadNewestOnly,
    /// While two configurations are active, a write asks for its quorum in the newest alone.
    WriteNewestOnly,
    /// What replicas acknowledged under an old view counts after an operation started again under a newer one.
    KeepAcksAcrossViews,
    /// r = 1 and w = 1 stay 1 while two configurations are active.
    NoRaiseWhileJoint,
    /// A proposer ignores what electors have accepted already.
    TwoLayoutsForOneEpoch,
    /// An elector that restarts has forgotten what it promised, and votes again.
    ElectorForgets,
    /// An elector accepts what is below the ballot it promised.
    AcceptBelowPromise,
    /// A new owner becomes FULL without telling the older ones of the newer configuration.
    NoFence,
    /// A new owner is FULL after it has merged one of the older owners.
    FullWithOne,
    /// The older configurations are retired when one of the new owners is FULL.
    RetireOnOneFull,
    /// A new owner merges the older ones first and fences them after it.
    SyncBeforeFence,
    /// Owners that were members all along count as FULL although the number of owners changes.
    RetireWithoutAllWhenNChanges,
    /// A node deletes what it does not own any more without handing over what only it has.
    LeaverDeletesBeforeHandover,
    /// A new owner is FULL when its first copy is complete.
    CopyCountsAsFull,
    /// A majority of the owners that were not given up is one of them alone, whatever there was before.
    MajorityOfTheRest,
    /// Owners that were given up for lost are asked and counted like the others.
    CountLostOwner,
    /// Owners that were given up for lost count as merged.
    LostCountsAsMerged,
    /// A node that was given up for lost and comes back hands over what it has.
    LostHandsOver,
    /// A configuration of which no majority is left is retired without merging what is left of it.
    BereftCountsAsRetired,
}

/// Whether this mistake is to be made now.
#[cfg(not(feature = "bug-bank"))]
#[inline(always)]
pub const fn is_on(_: Bug) -> bool {
    false
}

#[cfg(feature = "bug-bank")]
pub use bank::{is_on, switch};

#[cfg(feature = "bug-bank")]
mod bank {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    /// No bug.
    const NONE: u8 = u8::MAX;

    /// At most one at a time: a run with two would not say which was caught.
    static ON: AtomicU8 = AtomicU8::new(NONE);

    /// Whether this mistake is to be made now.
    pub fn is_on(bug: Bug) -> bool {
        ON.load(Ordering::Relaxed) == bug as u8
    }

    /// Makes this mistake from now on, in the whole process, or none.
    pub fn switch(bug: Option<Bug>) {
        ON.store(bug.map_or(NONE, |bug| bug as u8), Ordering::Relaxed);
    }
}
