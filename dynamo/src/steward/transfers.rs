//! How far the partitions are that move to or from this node, for operators.

use alloc::string::String;

use crate::layout::{NodeIndex, View};

/// Most transfers that are listed.
pub const TRANSFERS_LISTED_MAX: usize = 256;

/// What is being done about a partition that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferState {
    /// Nothing at the moment: for its turn, for another node, or for another attempt.
    Waiting,
    /// Its records are copied here.
    Copying,
    /// The older owners are told of the newer configuration.
    Fencing,
    /// What was written meanwhile is merged here.
    Levelling,
    /// Everything is here; other owners are waited for.
    Full,
    /// Everybody is told that the older configurations are active no more.
    Retiring,
    /// What only this node may have is given to the new owners.
    HandingOver,
    /// It is deleted here.
    Deleting,
}

/// A partition that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which, and what this node's row knows of its configurations.
    pub view: View,
    /// What is being done.
    pub state: TransferState,
    /// The other node, if there is one.
    pub peer: Option<NodeIndex>,
    /// Records moved by the present attempt, those included that earlier ones had copied, as far as is known.
    pub records: u64,
    /// About how many there are; 0 while that is unknown.
    pub records_total: u64,
    /// Bytes of records received by the present attempt.
    pub bytes: u64,
    /// Why it does not go on, if it does not.
    pub trouble: Option<String>,
}

/// How far everything is together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferTotals {
    /// Partitions that this node must still get or fill up.
    pub coming: u32,
    /// Partitions it must still hand over and delete; hints of a node that owns nothing any more count as one.
    pub going: u32,
    /// Partitions here of which more than one configuration may be active, or that are to leave.
    pub unsettled: u32,
    /// Bytes of records received for moves since the start.
    pub bytes_in: u64,
    /// Lately, in a second.
    pub bytes_per_second: u64,
}

impl TransferState {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Copying => "copying",
            Self::Fencing => "fencing",
            Self::Levelling => "levelling",
            Self::Full => "full",
            Self::Retiring => "retiring",
            Self::HandingOver => "handing over",
            Self::Deleting => "deleting",
        }
    }
}
