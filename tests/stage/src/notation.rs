//! The stage's words as JSON: acts, failures, replies and layouts as a scenario writes them, and what nodes saw as a scenario
//! reads it. Numbers of 64 bits are strings: not every language's JSON has room for them.

mod reading;
mod showing;

pub use reading::{act, layout};
pub use showing::{CODES, code_name, layout_as_json, seen};
