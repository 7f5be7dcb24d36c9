//! `tests/run` says how many tests passed and failed by what the runners say at their ends (`tests/tally`). Their words are copied here, so
//! that a test's own output is never counted and no runner's sum is overlooked.

use std::{fs, process::Command};

use quorate_tests::repository;

/// What `tests/tally` makes of a log: passed and failed.
fn tally(log: &[u8]) -> (u32, u32) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("log");
    fs::write(&path, log).expect("the log is written");
    let output = Command::new(repository::root().join("tests/tally")).arg(&path).output().expect("tests/tally runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).expect("tests/tally writes text");
    let mut counts = words.split_whitespace().map(|word| word.parse().expect("a count"));
    (counts.next().expect("passed"), counts.next().expect("failed"))
}

#[test]
fn sums_of_all_test_programs_are_added_up() {
    let log = b"running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
        test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n\
        running 3 tests\ntest c ... FAILED\n\n\
        test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
    assert_eq!(tally(log), (3, 2));
}

#[test]
fn pytest_and_node_are_understood() {
    assert_eq!(tally(b"....  [100%]\n134 passed in 167.20s (0:02:47)\n"), (134, 0));
    assert_eq!(tally(b"..F.  [100%]\n2 failed, 134 passed, 1 skipped in 3.20s\n"), (134, 2));
    assert_eq!(tally(b"1..77\n# tests 214\n# suites 14\n# pass 213\n# fail 1\n# cancelled 0\n"), (213, 1));
    assert_eq!(tally("ℹ tests 214\nℹ pass 214\nℹ fail 0\n".as_bytes()), (214, 0));
}

#[test]
fn words_of_tests_and_bytes_that_are_no_text_are_not_counted() {
    let log = b"60 cycles: 1 failed, 3 passed over\n# passing 7\nthe client saw 5 passed and 4 failed\n\xff\x00\xfe\n\
        test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\xff\x00";
    assert_eq!(tally(log), (1, 0));
}

#[test]
fn a_log_without_a_sum_counts_nothing() {
    assert_eq!(tally(b"....  [100%]\n"), (0, 0));
    assert_eq!(tally(b""), (0, 0));
}

#[test]
fn python_is_not_made_so_quiet_that_it_hides_its_sum() {
    // `-q` once leaves the last line; `tests/run` gives one, and a second one in the settings would take it away.
    let settings = repository::read("sdk-python/pyproject.toml");
    assert!(
        !settings.contains("addopts"),
        "sdk-python/pyproject.toml adds options to pytest: check that its sum is still printed"
    );
}
