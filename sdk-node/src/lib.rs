//! The Quorate client for Node: conversions and waking, nothing else. Every decision is the Rust client's.

use napi_derive::napi;

/// The version of the package.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
