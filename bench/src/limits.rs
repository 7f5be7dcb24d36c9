//! The limits of this machine, measured beside a load: what its wire and its disk would allow if Quorate cost nothing.
//!
//! A limit is measured with the shape of the load (batch sizes, value size, number of stores), right after it and never
//! during it: both want the same cores and the same disk.

pub mod echo;
pub mod lmdb;
