//! One Quorate node: everything that touches a socket, a disk or a clock. The protocol itself stands in `dynamo`.

pub mod cli;
pub mod config;
mod counters;
pub mod gossip;
pub mod log;
mod node;
mod ring;
mod service;
mod steward;
pub mod store;
mod worker;

pub use node::{RunningNode, ServeError, run};
