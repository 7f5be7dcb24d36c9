//! Every body for a moment, without any tool; that a body which is wrong would be caught; and that the corpus which is
//! checked in is the one that libFuzzer should begin with.

use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

use quorate_fuzz::{TARGETS, Target, drive::drive};

/// Time for each body at scale 1.
const MOMENT: Duration = Duration::from_millis(1_500);

#[test]
fn no_body_panics_whatever_it_is_given() {
    let times: f64 = std::env::var("QUORATE_PROOF").ok().and_then(|times| times.parse().ok()).unwrap_or(1.0);
    thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(move || match drive(target, 1, MOMENT.mul_f64(times)) {
                Ok(tried) => {
                    println!("{}: {tried} inputs", target.name);
                    assert!(tried > 20, "{} tried only {tried} inputs", target.name);
                }
                Err(finding) => panic!("{}: input {} of bytes {:02x?}", target.name, finding.tried, finding.input),
            });
        }
    });
}

#[test]
fn a_body_that_is_wrong_is_found_out() {
    // It trusts a length that stands in the input, as one forgets to check it.
    fn trusting(bytes: &[u8]) {
        if let [b'l', length, rest @ ..] = bytes {
            assert!(rest.get(..usize::from(*length)).is_some(), "beyond the end");
        }
    }
    let target = Target { name: "trusting", body: trusting, seeds: || vec![("four", b"l\x04abcd".to_vec())] };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let finding = drive(&target, 1, Duration::from_secs(5));
    std::panic::set_hook(hook);
    assert!(finding.is_err(), "it was not found");
}

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
