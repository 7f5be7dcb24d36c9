//! The code in the documents as programs: where it stands (`markdown`), and the pages that are read (`pages`). The Rust blocks are compiled into the
//! program `quorate-snippet`, which runs one of them; `tests/` runs the blocks of all languages and compares what they print with what
//! stands beside them.

pub mod markdown;
pub mod pages;
