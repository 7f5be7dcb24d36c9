//! What a run, and many runs together, came to: operations, faults, time, and the interesting branches that were taken. A branch that
//! hardly any run takes is a branch that nothing tests, so each must be met by one run in a hundred.

use std::ops::AddAssign;

use dynamo::{coordinator::Counters, operation::Reply, steward};
use quorate::Error;

use crate::{oracle::Oracle, plan::Fault};

/// Defines the branches: the field, and what it says.
macro_rules! sometimes {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// How often each interesting branch was taken.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sometimes {
            $($(#[doc = $what])+ pub $name: u64,)+
        }

        impl Sometimes {
            /// Each branch by name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }

        impl AddAssign for Sometimes {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

sometimes! {
    /// Reads that showed several values.
    siblings,
    /// Reads that had to show something that was acknowledged before.
    bound_reads,
    /// Reads of deleted keys.
    deleted,
    /// Reads that hid an expired value.
    expired,
    /// Operations minted twice.
    twins,
    /// Retries that were recognised.
    recognised,
    /// Acknowledgements without the coordinator's own disk.
    without_own_disk,
    /// Writes asked for again under the same id.
    asked_again,
    /// Crashes while a commit was under way.
    crash_in_commit,
    /// Transactions that a crash dropped.
    lost_in_crash,
    /// Commits that failed.
    failed_commits,
    /// Transactions refused for want of space.
    full,
    /// Reads of a record that can't be read.
    unreadable,
    /// Read repairs.
    repairs,
    /// Records fetched after the reply.
    fetches,
    /// Owners asked because another failed.
    upgrades,
    /// Slow reads hedged.
    hedges,
    /// Records that did not verify.
    corrupt,
    /// Answers that found nobody.
    unclaimed,
    /// Operations handed to another node.
    forwarded,
    /// Operations that ended at their deadline.
    timeouts,
    /// Operations refused because too many waited.
    overloads,
    /// Layouts that were decided.
    layouts_decided,
    /// Layouts that a node learned.
    layouts_learned,
    /// Layouts that clients learned.
    clients_refreshed,
    /// Administrators who were told that another change was first.
    conflicts,
    /// Changes that could not be planned, mostly because too much moves already.
    plans_refused,
    /// Administrators who were not told whether their change was decided.
    undecided,
    /// Runs at whose end the ring stays as it is: most electors are destroyed, or the last copy of a record is damaged.
    unchangeable,
    /// Nodes that were given up for lost.
    given_up,
    /// Of those, nodes that ran at that moment.
    given_up_alive,
    /// Plans that were not gone through with, because what was written at a quorum might have been lost by them.
    losses_refused,
    /// Layouts that left so few owners of a key that they were no majority.
    bereft,
    /// Acknowledged writes that reads are not held to any more, because all who were left had no copy.
    forsaken,
    /// Writes of which no copy was left on any disk but those given up.
    abandoned,
    /// Questions that waited until a row had caught up with their view.
    caught_up,
    /// Questions that waited for a layout.
    held,
    /// Reads that ended without waiting for late answers.
    unlingered,
    /// Acknowledgements with a stand-in among the copies.
    stand_ins,
    /// Mints by a stand-in in the owners' place.
    minted_by_stand_in,
    /// Hints written.
    hints_kept,
    /// Hints deleted after their delivery.
    hints_delivered,
    /// Hints refused for want of room.
    hints_overflowed,
    /// Objects that exchanges brought level.
    exchanged,
    /// Keys removed for good by the operator.
    reaped,
    /// Records rebuilt.
    rebuilt,
    /// Unreadable records that a scrub found.
    scrubbed,
    /// Damaged hints.
    rotten_hints,
    /// Attempts that clients made again.
    retries,
}

impl Sometimes {
    /// Adds what a coordinator counted.
    pub(crate) fn count(&mut self, counters: &Counters) {
        self.repairs += counters.repairs;
        self.fetches += counters.fetches;
        self.upgrades += counters.upgrades;
        self.hedges += counters.hedges;
        self.corrupt += counters.corrupt;
        self.unclaimed += counters.unclaimed;
        self.forwarded += counters.forwarded;
        self.timeouts += counters.timeouts;
        self.overloads += counters.overloads;
        self.unlingered += counters.unlingered;
    }

    /// Adds what a steward did.
    pub(crate) fn count_steward(&mut self, status: &steward::Status) {
        self.exchanged += status.exchange.repaired;
    }
}

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Operations that clients were told about.
    pub operations: u64,
    /// Of these, successes.
    pub succeeded: u64,
    /// Of these, failures that may have been applied.
    pub unclear: u64,
    /// Writes that a coordinator acknowledged.
    pub acknowledged: u64,
    /// Faults that struck, without those of single messages.
    pub faults: u64,
    /// By kind.
    pub struck: [u64; Fault::ALL.len()],
    /// Messages dropped by cuts.
    pub messages_cut: u64,
    /// Messages lost.
    pub messages_lost: u64,
    /// Messages doubled.
    pub messages_doubled: u64,
    /// Records damaged on their way.
    pub messages_damaged: u64,
    /// Events.
    pub events: u64,
    /// Simulated time.
    pub simulated_us: u64,
    /// Records and replies that the oracle judged.
    pub judged: u64,
    /// Branches taken.
    pub sometimes: Sometimes,
}

impl Figures {
    pub(crate) fn count_result(&mut self, result: &Result<Reply, Error>) {
        self.operations += 1;
        match result {
            Ok(_) => self.succeeded += 1,
            Err(error) => self.unclear += u64::from(error.maybe_applied()),
        }
    }

    pub(crate) fn end(&mut self, now_us: u64, events: u64, retries: u64, oracle: &Oracle) {
        self.simulated_us = now_us;
        self.events = events;
        self.acknowledged = oracle.acknowledged();
        self.judged = oracle.seen.records + oracle.seen.replies;
        let seen = &oracle.seen;
        let sometimes = &mut self.sometimes;
        sometimes.siblings = seen.siblings;
        sometimes.bound_reads = seen.bound_reads;
        sometimes.deleted = seen.deleted;
        sometimes.expired = seen.expired;
        sometimes.twins = seen.twins;
        sometimes.recognised = seen.recognised;
        sometimes.without_own_disk = seen.without_own;
        sometimes.bereft = seen.bereft;
        (sometimes.forsaken, sometimes.abandoned) = (seen.forsaken, seen.abandoned);
        sometimes.stand_ins = seen.stand_ins;
        sometimes.retries = retries;
    }
}
