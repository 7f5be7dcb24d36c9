//! The invariants by name (design, proof), and what it looks like when one is broken.

use std::fmt;

/// What must hold in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Every acknowledged write is visible, or covered by another.
    I1,
    /// Nothing is invented: what is read was written, and what was said not to be applied is nowhere.
    I2,
    /// Nothing that was deleted or overwritten comes back.
    I3,
    /// The siblings are exactly the oracle's.
    I4,
    /// A dot is minted once.
    I5,
    /// A context never claims what its holder was not shown.
    I6,
    /// A read at a quorum sees what was acknowledged at one before it began.
    I7,
    /// An acknowledgement means W distinct nodes have it on disk.
    I8,
    /// Replicas become equal, and then nothing is repaired any more.
    I9,
    /// Bytes that do not verify are never served, merged, or read as absence.
    I10,
    /// Quorums of all active configurations meet: one layout for an epoch, answers counted under one view, nothing retired or deleted
    /// before its time.
    I11,
    /// Every operation ends by its deadline, and no bound is exceeded.
    I12,
    /// The machines never panic.
    Panic,
}

impl Invariant {
    /// What it says.
    pub fn says(self) -> &'static str {
        match self {
            Self::I1 => "every acknowledged write is visible or covered",
            Self::I2 => "nothing is invented",
            Self::I3 => "nothing deleted comes back",
            Self::I4 => "the siblings are exactly the oracle's",
            Self::I5 => "a dot is minted once",
            Self::I6 => "a context never claims what was not seen",
            Self::I7 => "a quorum read sees what was acknowledged at a quorum",
            Self::I8 => "an acknowledgement means W distinct nodes have it on disk",
            Self::I9 => "replicas become equal, then nothing is repaired",
            Self::I10 => "damaged bytes are never served, merged, or read as absence",
            Self::I11 => "quorums meet across all active configurations",
            Self::I12 => "every operation ends by its deadline, no bound is exceeded",
            Self::Panic => "the machines never panic",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic => formatter.write_str("panic"),
            named => write!(formatter, "{named:?}"),
        }
    }
}

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What happened.
    pub what: String,
    /// When, in microseconds of simulated time.
    pub at_us: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, us) = (self.at_us / 1_000, self.at_us % 1_000);
        write!(formatter, "{} ({}) at {ms}.{us:03} ms: {}", self.invariant, self.invariant.says(), self.what)
    }
}
