//! What a steward must be told before it begins.

use alloc::{sync::Arc, vec::Vec};

use crate::{layout::NodeIndex, peer::Standing, ring::Ring};

/// What a steward must know of its node's configuration.
#[derive(Clone, Debug)]
pub struct StewardConfig {
    /// This node, by its position in the ring; `None` while it has none.
    pub me: Option<NodeIndex>,
    /// The layouts that were agreed upon.
    pub ring: Arc<Ring>,
    /// Every row of this node.
    pub rows: Vec<Standing>,
    /// Any number: which owner is compared with next, and when first, is drawn from it.
    pub seed: u64,
    /// Whether this process follows one that did not end in order: then everything is compared at once.
    pub is_unclean: bool,
    /// Every partition is compared with one other owner so often, in milliseconds; 0 for only on request.
    pub exchange_every_ms: u64,
    /// How long a write may be on its way between owners without being taken for a difference.
    pub confirm_after_ms: u64,
    /// The same while a partition moves: what is on its way is merged twice at worst, and everybody waits for it.
    pub confirm_move_after_ms: u64,
    /// How often to look for whom hints are kept.
    pub hints_every_ms: u64,
    /// When a node comes back, everything shared with it is compared after so long, whether or not hints were kept for it or
    /// refused: hints are given the first chance.
    pub return_after_ms: u64,
    /// A round that is not answered after so long is given up.
    pub patience_ms: u64,
    /// The first and the longest wait before something that failed is tried again.
    pub retry_min_ms: u64,
    /// See `retry_min_ms`.
    pub retry_max_ms: u64,
    /// Most exchanges at once.
    pub exchanges_max: usize,
    /// Most rebuilds at once.
    pub rebuilds_max: usize,
    /// Most partitions that are copied here at once.
    pub copies_max: usize,
    /// Most units of work in a second at full speed; a unit is a look at a store or 4 KiB moved.
    pub work_per_second: u64,
}

impl StewardConfig {
    /// The settings of a server, to be adapted field by field.
    pub fn new(me: Option<NodeIndex>, ring: Arc<Ring>, rows: Vec<Standing>, seed: u64) -> Self {
        Self {
            me,
            ring,
            rows,
            seed,
            is_unclean: false,
            exchange_every_ms: 600_000,
            // Many times what a write needs from the first owner to the last, little enough not to hold up an exchange.
            confirm_after_ms: 250,
            confirm_move_after_ms: 20,
            hints_every_ms: 1_000,
            return_after_ms: 2_000,
            patience_ms: 10_000,
            retry_min_ms: 500,
            retry_max_ms: 30_000,
            // Most of them wait for a difference to be confirmed or for a peer to answer.
            exchanges_max: 16,
            rebuilds_max: 64,
            // Each holds two pages in memory and keeps one source reading; four hide the latency between them and keep a handful of
            // sources busy, and what is copied first can be taken over while the rest is still coming.
            copies_max: 4,
            // Ten thousand differences in some ten seconds, and no more than a few hundredths of what clients could have: measured
            // with three nodes on two cores (server/examples/repair_costs.rs).
            work_per_second: 10_000,
        }
    }
}
