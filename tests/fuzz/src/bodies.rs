//! The bodies, by what the bytes are.

pub mod encodings;
pub mod frames;
#[cfg(feature = "node")]
pub mod node;
pub mod structs;
