//! Why there is no plan, and what to do about it.

use core::fmt;

use crate::{layout::check::LayoutError, staging::StagingError};

/// Why there is no plan. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The old layout breaks a rule.
    OldLayout(LayoutError),
    /// What is desired breaks a rule.
    Desired(LayoutError),
    /// The old layout is one of another cluster.
    OtherCluster {
        /// The old layout's cluster.
        old: u128,
        /// The desired one.
        desired: u128,
    },
    /// Fewer partitions are desired than there are.
    PartitionBits {
        /// The old layout's partition bits.
        old: u8,
        /// The desired ones.
        desired: u8,
    },
    /// What is staged makes no layout.
    Staging(StagingError),
    /// Nothing is staged that the layout does not have already.
    NothingStaged,
    /// A partition that is still moving would have to be moved again, and has too many owners to ask already. Nodes whose copies are
    /// given up ([`crate::staging::Change::Lost`]) need not be asked: that is always planned.
    StillMoving {
        /// One such partition, under the old layout.
        partition: u32,
        /// How many such partitions there are.
        partitions: u32,
    },
    /// The old layout's epoch is the last number there is.
    LastEpoch,
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing was planned: ")?;
        match self {
            Self::OldLayout(error) => write!(formatter, "the present layout is wrong, fetch it again: {error}"),
            Self::Desired(error) => write!(formatter, "what is desired can't be: {error}"),
            Self::OtherCluster { old, desired } => {
                write!(formatter, "the present layout is of cluster {old:032x}, not {desired:032x}")
            }
            Self::PartitionBits { old, desired } => write!(
                formatter,
                "there are 2^{old} partitions, and they can be divided but not joined to 2^{desired}: ask for {old} or more"
            ),
            Self::Staging(error) => error.fmt(formatter),
            Self::NothingStaged => {
                formatter.write_str("nothing is staged that is not done already: stage a change first")
            }
            Self::StillMoving { partition, partitions } => write!(
                formatter,
                "{partitions} partitions, {partition} among them, have been moved so often that the nodes they came from \
                 must be done with first: wait until `quorate ring transfers` is empty, then plan again; a node it waits for \
                 that will not come back can be given up with `quorate ring stage lost NODE`, which is never refused"
            ),
            Self::LastEpoch => formatter.write_str("the present layout has the last epoch there can be"),
        }
    }
}

impl core::error::Error for PlanError {}
