//! What a seed draws before its run begins: how large the cluster is, what its clients like to do, which faults happen and how often,
//! and how tight the limits are. Each run has its own mix (swarm testing): a fault that is always on hides what happens without it.

use crate::random::Random;

mod faults;

pub use faults::{Fault, Faults};

/// What clients do, as weights.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Read.
    pub get: u32,
    /// Put over what the coordinator holds.
    pub put: u32,
    /// Put beside what there is.
    pub beside: u32,
    /// Put over what was read last.
    pub over: u32,
    /// Put over what was read some time ago.
    pub stale: u32,
    /// Put under a context of another key, or a damaged one: must be refused.
    pub foreign: u32,
    /// Delete what a read at the delete's level finds.
    pub delete: u32,
    /// Delete what was read.
    pub delete_over: u32,
}

/// How operations choose their quorums, as weights.
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// Level `one`.
    pub one: u32,
    /// Level `available`.
    pub available: u32,
    /// Level `quorum`.
    pub quorum: u32,
    /// Level `all`.
    pub all: u32,
    /// Explicit r, w and n.
    pub explicit: u32,
}

/// Bounds of the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations a coordinator holds.
    pub operations_max: usize,
    /// Answered operations that wait for late answers.
    pub lingering_max: usize,
    /// When a read is hedged; 0 for never.
    pub hedge_after_ms: u64,
    /// Longest value.
    pub value_bytes_max: u64,
    /// How long a call to a peer may take.
    pub call_timeout_ms: u64,
    /// Writes of one transaction.
    pub group_writes_max: usize,
    /// Bytes of hints for one node.
    pub hint_bytes_max: u64,
}

/// How nodes repair.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// How often a partition is compared with another owner.
    pub exchange_every_ms: u64,
    /// How often nodes look for hints to deliver.
    pub hints_every_ms: u64,
    /// How often all records are read.
    pub scrub_every_ms: u64,
}

/// All that a seed determines before the first event.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many nodes there are, those included that wait outside the ring.
    pub nodes: usize,
    /// How many of them the ring begins with.
    pub founders: usize,
    /// N.
    pub replicas: u8,
    /// How many zones the nodes stand in.
    pub zones: usize,
    /// There are 2^bits partitions.
    pub partition_bits: u8,
    /// How many keys are used.
    pub keys: usize,
    /// How many clients there are.
    pub clients: usize,
    /// Operations of all clients together.
    pub operations: u32,
    /// A client's mean pause between two operations.
    pub think_ms: u64,
    /// How long an operation may take.
    pub timeout_ms: u64,
    /// How many of a thousand puts expire.
    pub expiring: u32,
    /// What clients do.
    pub mix: Mix,
    /// With which quorums.
    pub levels: Levels,
    /// The nodes' bounds.
    pub limits: Limits,
    /// How they repair.
    pub repair: Repair,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether the operators go through with a plan that gives up so many copies that what was written at a quorum may be lost.
    pub accepts_loss: bool,
}

/// Client operations of one run: enough for dozens of overwrites of each key, few enough that a failing run can be read.
pub const OPERATIONS: u32 = 560;

/// Most nodes that wait outside the ring: enough for a join and a replacement or two of most runs.
const SPARES_MAX: u64 = 6;

/// Tells the draws about nodes that are given up from all others of a seed.
const LOSSES: u64 = 0x1057;

impl Plan {
    /// The plan of a seed whose ring stays as it is.
    pub fn new(seed: u64) -> Self {
        Self::draw(seed, false)
    }

    /// The plan of a seed whose ring changes while it serves.
    pub fn changing(seed: u64) -> Self {
        let (mut plan, mut random) = (Self::draw(seed, true), Random::new(seed ^ LOSSES));
        plan.faults.draw_losses(&mut random);
        plan.accepts_loss = random.chance(500);
        plan
    }

    fn draw(seed: u64, changes_ring: bool) -> Self {
        let mut random = Random::new(seed);
        let founders = random.between(3, 7) as usize;
        let replicas = match random.below(20) {
            0 => 1,
            1 | 2 => 2,
            3..6 if founders >= 5 => 5,
            _ => 3,
        };
        let is_tiny = random.chance(500);
        let mut plan = Self {
            seed,
            nodes: founders,
            founders,
            replicas,
            zones: random.between(1, 3) as usize,
            partition_bits: random.between(1, 4) as u8,
            keys: match random.below(1_000) {
                0..150 => 1,
                // Few writes of each: then nobody forgets what was overwritten.
                150..300 => random.between(30, 80) as usize,
                _ => random.between(2, 9) as usize,
            },
            clients: random.between(2, 6) as usize,
            operations: OPERATIONS,
            think_ms: random.between(150, 900),
            timeout_ms: random.between(400, 3_000),
            expiring: if random.chance(400) { 200 } else { 0 },
            mix: Mix::draw(&mut random),
            levels: Levels::draw(&mut random),
            limits: Limits::draw(&mut random, is_tiny),
            repair: Repair {
                exchange_every_ms: random.between(4_000, 40_000),
                hints_every_ms: random.between(200, 2_000),
                scrub_every_ms: random.between(3_000, 30_000),
            },
            faults: Faults::draw(&mut random, changes_ring),
            accepts_loss: false,
        };
        if plan.faults.change_ring() {
            plan.nodes += random.between(2, SPARES_MAX) as usize;
        }
        plan
    }
}

impl Mix {
    fn draw(random: &mut Random) -> Self {
        let mut weight = |usual: u64| if random.chance(750) { random.between(1, 2 * usual) as u32 } else { 0 };
        Self {
            get: 20 + weight(20),
            put: 5 + weight(20),
            beside: weight(5),
            over: weight(20),
            stale: weight(6),
            foreign: weight(2),
            delete: weight(5),
            delete_over: weight(5),
        }
    }
}

impl Levels {
    fn draw(random: &mut Random) -> Self {
        let mut weight = |usual: u64| if random.chance(650) { random.between(1, 2 * usual) as u32 } else { 0 };
        Self { one: weight(4), available: weight(20), quorum: 2 + weight(20), all: weight(3), explicit: weight(6) }
    }
}

impl Limits {
    fn draw(random: &mut Random, is_tiny: bool) -> Self {
        let call_timeout_ms = random.between(100, 600);
        let hedge_after_ms = if random.chance(300) { 0 } else { random.between(2, 60) };
        if is_tiny {
            Self {
                operations_max: random.between(2, 6) as usize,
                lingering_max: random.below(3) as usize,
                hedge_after_ms,
                value_bytes_max: random.between(40, 120),
                call_timeout_ms,
                group_writes_max: random.between(1, 3) as usize,
                hint_bytes_max: random.between(200, 4_000),
            }
        } else {
            Self {
                operations_max: 1_000,
                lingering_max: 1_000,
                hedge_after_ms,
                value_bytes_max: 1 << 20,
                call_timeout_ms,
                group_writes_max: 4_096,
                hint_bytes_max: 1 << 30,
            }
        }
    }
}
