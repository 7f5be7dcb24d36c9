//! The repository as files: where it is, which sources it has, what its manifests say. Used by the rules in `tests/tidy.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate stands in the repository").to_path_buf()
}

/// The text of a file below the root.
///
/// # Panics
/// When it can't be read: the rule that wanted it would otherwise pass without looking.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file that git tracks or would track, relative to the root, sorted.
pub fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut files: Vec<String> =
        String::from_utf8(output.stdout).expect("names are UTF-8").lines().map(Into::into).collect();
    files.retain(|file| root().join(file).is_file());
    files.sort();
    assert!(files.len() > 20, "the list of files is implausibly short");
    files
}

/// The Rust sources written by hand, relative to the root.
pub fn sources() -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(".rs") && !file.contains("/generated/")).collect()
}

/// What `cargo metadata` says about every package in the lock file.
pub fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    metadata["packages"].as_array().expect("it lists packages").clone()
}
