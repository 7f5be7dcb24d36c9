//! The Quorate client for Node: conversions and waking, nothing else. Every decision is the Rust client's.
//!
//! Calls and answers cross the border as bytes: one request goes in with each call, and all answers that have gathered come out
//! together ([`request`], [`reply`]). Promises, signals and classes are TypeScript's, in `../src`.

mod client;
mod failure;
mod log;
mod reply;
mod request;
mod ring;
mod settings;

use napi::bindgen_prelude::{Buffer, Either};
use napi_derive::napi;
use quorate::Context;

use failure::Failure;

/// The version of the package.
#[napi(catch_unwind)]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Whether bytes may be those of a context: what is wrong with them, if they may not.
#[napi(catch_unwind)]
pub fn check_context(bytes: &[u8]) -> Option<Failure> {
    Context::from_bytes(bytes.to_vec()).err().map(Failure::from)
}

/// The bytes of a context whose text form this is.
#[napi(catch_unwind)]
pub fn parse_context(text: String) -> Either<Buffer, Failure> {
    match text.parse::<Context>() {
        Ok(context) => Either::A(context.as_bytes().into()),
        Err(error) => Either::B(error.into()),
    }
}
