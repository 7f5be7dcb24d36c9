//! Where the server's binary is: named by the environment, built in this source tree before or now, or installed.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use super::LocalClusterError;

/// Finds the server's binary: `QUORATE_BINARY`, else the newest one built beside the running test or in the source tree this
/// crate stands in, else one that cargo builds there now, else the one on `PATH`.
pub fn binary() -> Result<PathBuf, LocalClusterError> {
    if let Some(named) = env::var_os("QUORATE_BINARY").map(PathBuf::from) {
        let missing = || LocalClusterError(format!("QUORATE_BINARY names {}, which is not there", named.display()));
        return if named.is_file() { Ok(named) } else { Err(missing()) };
    }
    let tree = source_tree();
    let target = tree.map(|tree| env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree.join("target"), PathBuf::from));
    let built = newest(beside_this().into_iter().chain(target.iter().flat_map(|target| profiles(target))));
    let found = built.or_else(|| build(tree?, target.as_deref()?)).or_else(on_path);
    found.ok_or_else(|| {
        let tree = tree.map_or("there is no source tree".to_owned(), |tree| format!("it did not in {}", tree.display()));
        LocalClusterError(format!(
            "there is no quorate binary to run nodes with: set QUORATE_BINARY to one; or use this crate from a source tree \
             in which `cargo build -p quorate-server` works ({tree}); or put one on PATH"
        ))
    })
}

/// The repository, if this crate was not taken out of it.
fn source_tree() -> Option<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|tree| tree.join("server/Cargo.toml").is_file())
}

/// Where the binary is if it was built together with the running test, which stands in the folder `deps` or `examples`.
fn beside_this() -> Vec<PathBuf> {
    let this = env::current_exe().unwrap_or_default();
    this.ancestors().skip(1).take(2).map(|folder| folder.join("quorate")).collect()
}

fn profiles(target: &Path) -> [PathBuf; 2] {
    ["debug", "release"].map(|profile| target.join(profile).join("quorate"))
}

fn newest(candidates: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let built = |path: &PathBuf| path.metadata().ok().filter(|found| found.is_file())?.modified().ok();
    let dated = candidates.filter_map(|path| Some((built(&path)?, path)));
    dated.max_by_key(|(time, _): &(SystemTime, PathBuf)| *time).map(|(_, path)| path)
}

fn build(tree: &Path, target: &Path) -> Option<PathBuf> {
    eprintln!("building the quorate binary in {}, once", tree.display());
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--package", "quorate-server", "--bin", "quorate"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .status();
    built.is_ok_and(|status| status.success()).then(|| target.join("debug/quorate"))
}

fn on_path() -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).map(|folder| folder.join("quorate")).find(|path| path.is_file())
}
