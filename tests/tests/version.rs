//! One version number everywhere: crates, packages of other languages, the binary, and what clients call themselves. `tests/version` sets it;
//! this looks at what is built and written.

use std::{fs, path::Path, process::Command};

use quorate_tests::{cluster::binary, repository};

/// What cargo compiled this test as is the workspace's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn every_file_says_the_same_version() {
    assert_eq!(run(&repository::root(), &[]), Ok(VERSION.to_owned()));
}

#[test]
fn every_crate_of_the_workspace_has_the_version() {
    let mut seen = 0;
    for package in repository::packages() {
        // Packages without a source are those of this repository.
        if package["source"].is_null() {
            assert_eq!(package["version"], VERSION, "{}", package["name"]);
            seen += 1;
        }
    }
    assert!(seen > 10, "the workspace has more crates than {seen}");
}

#[test]
fn the_binary_says_the_version() {
    let output = Command::new(binary()).arg("--version").output().expect("the binary starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("quorate {VERSION}"));
}

#[test]
fn the_python_package_takes_its_version_from_the_crate() {
    let project = repository::read("sdk-python/pyproject.toml");
    assert!(
        project.contains("dynamic = [\"version\"]") && !project.contains("\nversion ="),
        "pyproject.toml has its own version"
    );
}

#[test]
fn one_command_sets_the_version_in_all_files() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let files = [
        "tests/version",
        "Cargo.toml",
        "Cargo.lock",
        "fuzz/Cargo.lock",
        "sdk-node/package.json",
        "sdk-node/package-lock.json",
    ];
    for file in files {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().expect("it stands in a folder")).expect("a folder");
        fs::copy(repository::root().join(file), to).expect("a copy");
    }
    assert_eq!(run(copy.path(), &["47.11.0"]), Ok("47.11.0".to_owned()));
    assert_eq!(run(copy.path(), &[]), Ok("47.11.0".to_owned()));
    for file in &files[1..] {
        let (before, after) =
            (repository::read(file), fs::read_to_string(copy.path().join(file)).expect("it is there"));
        assert_eq!(after.replace("47.11.0", VERSION), before, "{file}: more than the version has changed");
        assert!(after.contains("47.11.0"), "{file} was left alone");
    }
    let manifest = copy.path().join("sdk-node/package.json");
    fs::write(&manifest, fs::read_to_string(&manifest).expect("it is there").replace("47.11.0", "47.11.1"))
        .expect("it can be written");
    let refused = run(copy.path(), &[]).expect_err("the files differ");
    assert!(refused.contains("sdk-node/package.json says 47.11.1"), "{refused}");
    assert!(run(copy.path(), &["soon"]).is_err(), "that is no version");
}

/// What `tests/version` of a tree prints, or its complaint.
fn run(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(root.join("tests/version")).args(arguments).output().expect("python3 is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
