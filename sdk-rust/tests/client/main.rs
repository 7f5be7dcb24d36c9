//! The client against nodes that are made to fail: real connections, real frames, and a map in memory where a store would be.

mod batching;
mod bridge;
mod close;
mod operations;
mod retries;
mod ring;
mod scan;
mod support;
mod waking;
