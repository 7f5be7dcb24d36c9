//! What the tests about the whole share: the repository seen as files (`repository`), real clusters of real processes (`cluster`),
//! ports for them that nobody else takes (`ports`), the scenarios that every client must pass (`scenario`), and the processes
//! they are played in (`world`).

pub mod cluster;
pub mod conformance;
pub mod golden;
pub mod ports;
pub mod repository;
pub mod scenario;
pub mod world;

/// How much longer than usual the long tests shall be: `QUORATE_PROOF`, or 1.
pub fn times() -> f64 {
    std::env::var("QUORATE_PROOF").ok().and_then(|times| times.parse().ok()).unwrap_or(1.0)
}

/// Says that a test could not run on this machine, and why: printed, and handed to `tests/run` for its summary.
pub fn not_run(reason: &str) {
    println!("NOT RUN: {reason}");
    if let Ok(path) = std::env::var("QUORATE_NOT_RUN") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{reason}"));
        assert!(written.is_ok(), "{path} can't be written: {written:?}");
    }
}
