//! What Quorate costs: a load generator, and the limits of the same machine beside it.
//!
//! A figure alone says nothing about a store: it may be the network's, the disk's or the load generator's own. So a run can
//! also measure, on the same machine and with the same batches, what the wire carries when nothing stands behind it
//! ([`limits`], echo) and what LMDB stores when nothing stands before it, and report the ratio.
//!
//! This crate measures and reports; starting nodes and printing tables is the business of the `quorate bench` command.
//!
//! Reading order: [`workload`] (what is asked), [`keys`] (of which keys), [`slots`] (how a thousand requests stay in flight
//! on one thread), [`load`] (closed and open loop), [`measure`] (what is counted), [`report`] (what comes out).

pub mod keys;
pub mod limits;
pub mod load;
pub mod measure;
pub mod processor;
pub mod report;
pub mod slots;
pub mod target;
pub mod workload;
