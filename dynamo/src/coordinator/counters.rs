//! What a coordinator counts of its own work.

/// What happened so far, for monitors and for tests that must not pass vacuously.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Merged objects sent to owners that were behind.
    pub repairs: u64,
    /// Records asked for after the reply because only their digest was known.
    pub fetches: u64,
    /// Nodes asked for their record because another failed to give its own.
    pub upgrades: u64,
    /// Nodes asked for their record because others were slow.
    pub hedges: u64,
    /// Hedges that were due and not made, because too many had been.
    pub hedges_withheld: u64,
    /// Objects sent to stand-ins, to be kept for owners that failed.
    pub hints: u64,
    /// Hints that a stand-in refused, or that nobody knows of.
    pub hints_refused: u64,
    /// Times that a stand-in, this node included, was asked what it keeps.
    pub hints_read: u64,
    /// Operations that this node coordinated in the owners' place.
    pub stood_in: u64,
    /// Records that did not verify, here or at a peer.
    pub corrupt: u64,
    /// Answers that found nobody: late, doubled, or made up.
    pub unclaimed: u64,
    /// Operations handed to another node.
    pub forwarded: u64,
    /// Times that an operation started again because a replica knew a newer view.
    pub renewals: u64,
    /// Times that an operation began to wait for a layout.
    pub parked: u64,
    /// Operations that ended at their deadline.
    pub timeouts: u64,
    /// Operations refused because too many were waiting.
    pub overloads: u64,
    /// Operations that ended without waiting for late answers because too many did.
    pub unlingered: u64,
}
