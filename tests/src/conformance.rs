//! What each client's tests saw, for the table that compares them (`docs/parity.md`): the scenarios it passed and the methods it
//! has. The tests write it into the folder that `QUORATE_CONFORMANCE` names, and nowhere when it names none.

use std::{fs, path::PathBuf};

use serde_json::json;

/// The folder, if there is one.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("QUORATE_CONFORMANCE").map(PathBuf::from)
}

/// Writes down which scenarios a runner passed.
///
/// # Panics
/// When it can't be written.
pub fn record(runner: &str, passed: &[&str]) {
    if let Some(folder) = folder() {
        fs::create_dir_all(&folder).expect("the folder can be made");
        let text = json!({ "runner": runner, "passed": passed }).to_string();
        fs::write(folder.join(format!("{runner}.json")), text).expect("the results can be written");
    }
}
