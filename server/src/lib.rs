//! One Quorate node: everything that touches a socket, a disk or a clock. The protocol itself stands in `dynamo`.

pub mod cli;
pub mod config;
pub mod store;
