//! The client's examples, run as their readers would run them: against a real cluster, by `QUORATE_ENDPOINTS`.

use std::process::Command;

use quorate::testing::LocalCluster;
use quorate_tests::cluster::binary;

#[test]
fn the_examples_of_the_client_work_against_a_real_cluster() {
    let cluster = LocalCluster::start(3).expect("a cluster");
    let folder = binary().parent().expect("the binary stands in a folder").join("examples");
    for name in ["quickstart", "conflicts", "bulk"] {
        let example = folder.join(name);
        assert!(example.exists(), "{} is missing: cargo build --workspace --examples", example.display());
        let output = Command::new(&example).env("QUORATE_ENDPOINTS", cluster.endpoints()).output().expect("it starts");
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} ended with {}:\n{text}\n{errors}", output.status);
        assert!(!text.trim().is_empty(), "{name} shows nothing");
    }
}
