//! Tier 0 of the proof: a whole cluster in one thread. The real machines of `dynamo` and the real machine of the client run against a
//! simulated network, simulated disks and simulated clocks, under faults that a seed determines; an oracle judges every mint, commit
//! and reply by named invariants. The same seed is the same run, to the last event.
//!
//! It is not the server: what the server adds to the machines (sockets, threads, LMDB) is proved by real processes, and that the
//! simulated disk behaves as LMDB does, by a refinement test.

pub mod bank;
pub mod campaign;
pub mod figures;
pub mod invariant;
pub mod options;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod report;
pub mod runs;
pub mod shrink;
pub mod trace;
pub mod world;
