//! How a proposal ended, and what to do about it.

use alloc::sync::Arc;
use core::fmt;

use crate::{acceptor::BallotError, layout::Layout};

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proposed layout is the next one.
    Decided(Arc<Layout>),
    /// Another layout is the next one; nothing of the proposed one was done.
    Conflict(Arc<Layout>),
    /// Time was up after electors had been asked to accept the proposed layout: it may be decided, now or by somebody who
    /// finishes the attempt. Proposing the same again finds out.
    Unknown,
    /// Time was up before that: nothing of the proposed layout was done.
    Undecided {
        /// How many electors answered at all.
        heard: u32,
        /// How many have to agree.
        majority: u32,
        /// The last reason one gave for not voting.
        trouble: Option<BallotError>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(layout) => write!(formatter, "epoch {} is decided as planned", layout.epoch),
            Self::Conflict(layout) => write!(
                formatter,
                "conflict: another change was decided as epoch {} first, and nothing of this one was done: plan again",
                layout.epoch
            ),
            Self::Unknown => formatter.write_str(
                "it is not known whether the change was decided, for the electors stopped answering: commit the same plan again, \
                 which does no harm, or look at the history",
            ),
            Self::Undecided { heard, majority, trouble } => {
                write!(
                    formatter,
                    "nothing was decided or done: {heard} electors answered and {majority} must agree; see that they run and \
                     can be reached, then commit again"
                )?;
                match trouble {
                    Some(trouble) => write!(formatter, " ({trouble})"),
                    None => Ok(()),
                }
            }
        }
    }
}
