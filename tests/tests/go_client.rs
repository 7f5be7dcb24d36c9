//! The Go client in `tests/clients/go`, which was written against the schema alone: its own tests against a real cluster, one node of which
//! they kill, and its generated code against what the compiler generates today. Where Go is missing, the summary says so.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use quorate_tests::{cluster::Cluster, not_run, repository};

#[test]
fn a_client_in_go_written_against_the_schema_alone_works_with_a_real_cluster() {
    if !has_go() {
        return;
    }
    let cluster = Cluster::start(3);
    let victim = cluster.process_id(2).expect("the node runs");
    let output = go()
        .args(["test", "-count=1", "-v", "./..."])
        .env("QUORATE_ENDPOINTS", cluster.endpoints())
        .env("QUORATE_KILL", victim.to_string())
        .output()
        .expect("go runs");
    let text = shown(&output);
    assert!(output.status.success(), "go test failed:\n{text}");
    assert!(
        text.contains("--- PASS: TestReadsAndWritesGoOnWhenANodeIsKilled"),
        "the test with a kill did not run:\n{text}"
    );
    assert!(!text.contains("--- SKIP"), "a test was left out:\n{text}");
}

#[test]
fn the_code_of_the_client_in_go_is_what_the_compiler_generates() {
    let has_compiler =
        Command::new("capnp").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !has_compiler {
        not_run("generated Go code not compared: no capnp on this machine");
        return;
    }
    if !has_go() {
        return;
    }
    let fresh = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(folder().join("generate")).arg(fresh.path()).output().expect("the script starts");
    assert!(output.status.success(), "tests/clients/go/generate failed:\n{}", shown(&output));
    for package in ["admin", "common", "kv", "node", "peer"] {
        let name = format!("{package}/{package}.capnp.go");
        let made = std::fs::read_to_string(fresh.path().join(&name)).expect("the script makes it");
        let checked_in = repository::read(Path::new("tests/clients/go/schema").join(&name));
        assert!(made == checked_in, "{name} is out of date: run tests/clients/go/generate");
    }
}

/// Whether Go and the modules that the client needs are here; says so where they are not.
fn has_go() -> bool {
    if go().arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        not_run("client in Go: no Go on this machine");
        return false;
    }
    let output = go().args(["mod", "download"]).output().expect("go runs");
    if !output.status.success() {
        let text = shown(&output);
        not_run(&format!("client in Go: its modules can't be fetched: {}", text.lines().next().unwrap_or_default()));
        return false;
    }
    true
}

/// Go in the client's folder, as it is installed: it fetches no other version of itself and changes no file.
fn go() -> Command {
    let mut command = Command::new("go");
    command.current_dir(folder()).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly").env("GOWORK", "off");
    command
}

fn folder() -> PathBuf {
    repository::root().join("tests/clients/go")
}

fn shown(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
