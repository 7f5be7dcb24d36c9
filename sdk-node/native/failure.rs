//! Errors as data, for those few functions that answer at once.

use napi_derive::napi;
use quorate::Error;

/// An error, of which TypeScript makes one of its classes.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// The kind's name in Rust, which is the class's.
    pub kind: &'static str,
    /// A stable name for programs, finer than the kind.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Whether a write may have been stored somewhere.
    pub maybe_applied: bool,
    /// From the call to the error, in milliseconds.
    pub elapsed_ms: f64,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.code(),
            message: error.to_string(),
            retryable: error.retryable(),
            maybe_applied: error.maybe_applied(),
            elapsed_ms: error.elapsed().as_secs_f64() * 1e3,
        }
    }
}
