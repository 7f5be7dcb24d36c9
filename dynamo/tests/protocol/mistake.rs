//! Mistakes that a protocol for moving partitions can make, each of which must be found: a check that cannot fail is worth nothing.

/// A known mistake of movers, coordinators and operators. Those of a replica are switched in its own code ([`dynamo::bug`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A newcomer reads the old owners without having told them that it is there.
    NoFence,
    /// The old owners are read before they are fenced.
    SyncBeforeFence,
    /// What one old owner held is taken for all.
    FullWithOne,
    /// The copy made before the fence is taken for all.
    CopyCountsAsFull,
    /// Older configurations are retired when one owner is FULL.
    RetireOnOneFull,
    /// Owners all along are never asked to be FULL, although their number changes.
    RetireWithoutAllWhenNChanges,
    /// Reads wait for the newest configuration alone.
    ReadNewestOnly,
    /// Writes wait for the newest configuration alone.
    WriteNewestOnly,
    /// Answers given under an earlier view count on.
    KeepAcksAcrossViews,
    /// A node deletes what it does not own under the newest configuration.
    EarlyDeletion,
    /// A node that lost its directory goes on under its old identity.
    WipedKeepsIdentity,
    /// A node that deleted a partition and owns it again has forgotten that it was moved.
    MovedRowForgotten,
}

impl Mistake {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::NoFence,
        Self::SyncBeforeFence,
        Self::FullWithOne,
        Self::CopyCountsAsFull,
        Self::RetireOnOneFull,
        Self::RetireWithoutAllWhenNChanges,
        Self::ReadNewestOnly,
        Self::WriteNewestOnly,
        Self::KeepAcksAcrossViews,
        Self::EarlyDeletion,
        Self::WipedKeepsIdentity,
        Self::MovedRowForgotten,
    ];
}
