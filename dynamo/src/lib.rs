//! The protocol of Amazon's Dynamo (SOSP 2007) as pure state machines.
//!
//! Every file is one idea of the paper: identifiers and partitions (4.2), the partition map and its planner (4.2, 6.2),
//! versions (4.4), quorums (4.5), the coordinator and the replica that carry them out, hints and their handoff (4.6), hash
//! trees and their exchange (4.7), and the steward that schedules repair. Nothing in this crate performs
//! input or output, reads a clock, or makes random numbers: time comes in as a [`tick::Tick`], entropy as arguments, and
//! whatever shall happen goes out as effects. The server, the simulator and the tests drive the same machines.
//!
//! Imports run one way:
//! `tick error ident hash <- layout <- ring settlement staging <- planner acceptor <- proposer`, and
//! `layout version record context hlc <- quorum <- replica hint <- coordinator
//! round <- exchange handoff rebuild <- steward`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acceptor;
pub mod bug;
pub mod coordinator;
pub mod exchange;
pub mod handoff;
pub mod hint;
pub mod hlc;
pub mod holdings;
pub mod ident;
pub mod layout;
pub mod merkle;
pub mod operation;
pub mod peer;
pub mod planner;
pub mod proposer;
pub mod quorum;
pub mod rebuild;
pub mod record;
pub mod relocation;
pub mod replica;
pub mod ring;
pub mod round;
pub mod settlement;
pub mod staging;
pub mod steward;
pub mod tick;
pub mod token;
pub mod version;
