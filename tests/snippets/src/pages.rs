//! Which pages have code that runs. Used by the build script too, so it knows nothing but the file system.

use std::path::{Path, PathBuf};

/// Pages whose code in Rust, Python and JavaScript runs, relative to the repository's root.
pub const RUNNABLE: &[&str] = &[
    "README.md",
    "docs/rust.md",
    "docs/python.md",
    "docs/node.md",
    "docs/cookbook.md",
    "docs/testing.md",
    "sdk-python/README.md",
    "sdk-node/README.md",
];

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate stands two folders deep").to_path_buf()
}
