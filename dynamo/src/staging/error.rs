//! What is wrong with a change by itself, and why staged changes make no layout.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use super::Change;
use crate::{
    ident::{NodeId, is_bucket_name},
    layout::{
        Member, MemberState, PARTITION_BITS_MAX, REPLICAS_MAX,
        check::{LayoutError, check_member},
    },
};

/// Why a change can't be staged, or the staged changes can't be done. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StagingError {
    /// The change could be part of no layout.
    Unsound(LayoutError),
    /// A node that has left, or whose copies were given up, can't come back: what it holds is out of date in ways that can't be seen.
    Departed(NodeId),
    /// Two nodes are to replace the same one.
    TwoReplacements {
        /// Who is to be replaced.
        old: NodeId,
    },
    /// A node that is to replace another does not join.
    ReplacementMissing {
        /// Who is to be replaced.
        old: NodeId,
        /// Who is to replace it.
        new: NodeId,
    },
    /// There is nobody to replace: it is no member, or has begun to leave already.
    NothingToReplace {
        /// Who was to be replaced.
        old: NodeId,
    },
}

impl Change {
    /// Whether it could be part of a layout.
    pub fn check(&self) -> Result<(), StagingError> {
        let unsound = |error| Err(StagingError::Unsound(error));
        match self {
            Self::Join(member) => check_joining(member).map_err(StagingError::Unsound),
            Self::Reweight { node, weight: 0 } => unsound(LayoutError::WeightZero(node.to_string())),
            Self::Zone { zone, .. } => check_member(&stand_in(zone.clone(), Vec::new())).map_err(StagingError::Unsound),
            Self::Addresses { addresses, .. } => {
                check_member(&stand_in(ANY_NAME.to_owned(), addresses.clone())).map_err(StagingError::Unsound)
            }
            Self::Bucket { name, .. } if !is_bucket_name(name.as_bytes()) => {
                unsound(LayoutError::BucketName(name.clone()))
            }
            Self::Replicas(replicas) if !(1..=REPLICAS_MAX).contains(replicas) => {
                unsound(LayoutError::Replicas(*replicas))
            }
            Self::PartitionBits(bits) if *bits > PARTITION_BITS_MAX => unsound(LayoutError::PartitionBits(*bits)),
            Self::Leave(_)
            | Self::Replace { .. }
            | Self::Lost(_)
            | Self::Reweight { .. }
            | Self::Bucket { .. }
            | Self::Replicas(_)
            | Self::PartitionBits(_)
            | Self::Undo(_) => Ok(()),
        }
    }
}

/// A name and a zone that every rule allows, in the place of those that are not known.
const ANY_NAME: &str = "any";

/// A member in which only some properties are to be checked.
fn stand_in(zone: String, addresses: Vec<String>) -> Member {
    Member { id: NodeId(0), name: ANY_NAME.to_owned(), zone, weight: 1, addresses, state: MemberState::Active }
}

/// As every member; but zone and weight may be left to the node that it replaces.
fn check_joining(member: &Member) -> Result<(), LayoutError> {
    let zone = if member.zone.is_empty() { ANY_NAME.to_owned() } else { member.zone.clone() };
    check_member(&Member { zone, weight: member.weight.max(1), ..member.clone() })
}

impl fmt::Display for StagingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsound(error) => write!(formatter, "the change can't be: {error}"),
            Self::Departed(node) => write!(
                formatter,
                "node {node} has left for good, and what it holds is out of date: start it with an empty data directory, \
                 which gives it a new identity, or undo its change"
            ),
            Self::TwoReplacements { old } => {
                write!(formatter, "two nodes are to replace node {old}: undo one of them, or let it join by itself")
            }
            Self::ReplacementMissing { old, new } => {
                write!(formatter, "node {new} is to replace node {old} and does not join: stage its join, or undo it")
            }
            Self::NothingToReplace { old } => write!(
                formatter,
                "node {old} can't be replaced, for it is no member or is leaving already: let the new node join by itself"
            ),
        }
    }
}

impl core::error::Error for StagingError {}
