//! How much may be kept. A node that stands in must not fill its own disk with what belongs to others, nor let one dead node
//! take the room of all; what it can't keep it refuses, and a refusal counts for nothing.

use super::HintUsage;
use crate::operation::{ErrorCode, Failure};

/// Bytes kept for one node: some millions of small records, minutes of a busy node's writes. A node that stays away for longer
/// is brought level by anti-entropy faster than by single hints.
pub const TARGET_BYTES_MAX: u64 = 1 << 30;

/// The share of the disk that may hold hints, in percent: beside data that is kept for good, what is only passing through.
pub const DISK_PERCENT_MAX: u64 = 10;

/// A full book is not emptied before the nodes it keeps for are back, which takes seconds at best.
const FULL_RETRY_MS: u32 = 1_000;

/// The bounds of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintBounds {
    /// Bytes for one target.
    pub target_bytes_max: u64,
    /// Bytes for all targets together.
    pub total_bytes_max: u64,
}

impl HintBounds {
    /// The bounds of a node that may use so many bytes of disk.
    pub fn of_disk(disk_bytes: u64) -> Self {
        let total_bytes_max = disk_bytes / 100 * DISK_PERCENT_MAX;
        Self { target_bytes_max: TARGET_BYTES_MAX, total_bytes_max }
    }
}

/// Whether a target's usage may go from `old` to `new`, while all targets together use `total`. What makes it smaller always
/// may.
pub(super) fn check(bounds: &HintBounds, old: &HintUsage, new: &HintUsage, total: &HintUsage) -> Result<(), Failure> {
    if new.bytes <= old.bytes {
        return Ok(());
    }
    if new.bytes > bounds.target_bytes_max {
        return Err(full("this node keeps as many hints for that node as it may (bound of one target)"));
    }
    if total.bytes.saturating_sub(old.bytes).saturating_add(new.bytes) > bounds.total_bytes_max {
        return Err(full("this node keeps as many hints as it may (bound of all targets, a share of the disk)"));
    }
    Ok(())
}

fn full(what: &str) -> Failure {
    let message = alloc::format!("{what}; nothing was done, another node may stand in");
    Failure { retry_after_ms: FULL_RETRY_MS, ..Failure::with_message(ErrorCode::StorageFull, message) }
}
