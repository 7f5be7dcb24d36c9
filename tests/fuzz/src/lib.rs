//! What is tried with bytes that nobody meant: one *body* for each place where bytes come in from outside or from a disk. A body
//! takes any bytes and panics if something does what it must not; so libFuzzer can drive it (`fuzz/`, in the layout of
//! cargo-fuzz), and so can a plain test without any tool ([`drive`]).
//!
//! Checksums and seals would stop nearly every input at the door. So the bodies that have them try each input twice: as it
//! is, and with the right checksum put in, as someone would who has the key.

pub mod bodies;
pub mod drive;
pub mod seeds;

/// A place where bytes come in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its libFuzzer binary and of its corpus.
    pub name: &'static str,
    /// What is tried.
    pub body: fn(&[u8]),
    /// Inputs to begin with, by name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// Every place, those that need a whole node last.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", body: bodies::frames::frames, seeds: seeds::frames },
    Target { name: "structs", body: bodies::structs::structs, seeds: seeds::structs },
    Target { name: "tokens", body: bodies::encodings::tokens, seeds: seeds::tokens },
    Target { name: "records", body: bodies::encodings::records, seeds: seeds::records },
    Target { name: "hints", body: bodies::encodings::hints, seeds: seeds::hints },
    Target { name: "layouts", body: bodies::encodings::layouts, seeds: seeds::layouts },
    #[cfg(feature = "node")]
    Target { name: "sessions", body: bodies::node::sessions, seeds: seeds::frames },
    #[cfg(feature = "node")]
    Target { name: "configurations", body: bodies::node::configurations, seeds: seeds::configurations },
];

/// Tries bytes as the target of this name.
///
/// # Panics
/// When something does what it must not, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the binaries and the targets are the same");
    (target.body)(bytes);
}
