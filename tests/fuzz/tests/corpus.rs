//! The corpus that is checked in is the one that libFuzzer should begin with, and it has a binary for each target. In a process of its own: the body that talks to a node
//! takes any panic in its process for one of the node.

use std::{collections::BTreeSet, fs, path::Path};

use quorate_fuzz::TARGETS;

#[test]
fn seeds_are_accepted_and_stand_in_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a repository").join("fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        let seeds = (target.seeds)();
        if std::env::var_os("QUORATE_UPDATE").is_some() {
            fs::create_dir_all(&folder).expect("a folder");
            seeds.iter().for_each(|(name, input)| fs::write(folder.join(name), input).expect("a file"));
        }
        for (name, input) in &seeds {
            (target.body)(input);
            let checked_in = fs::read(folder.join(name)).unwrap_or_default();
            assert!(checked_in == *input, "{}/{name} is out of date: run with QUORATE_UPDATE=1", folder.display());
        }
    }
}

#[test]
fn every_target_has_a_binary_for_libfuzzer() {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a repository").join("fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("there is one");
    let binaries: BTreeSet<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    assert_eq!(binaries, TARGETS.iter().map(|target| target.name).collect());
}
