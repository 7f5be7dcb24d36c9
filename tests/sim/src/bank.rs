//! The bug bank: every known mistake of [`dynamo::bug`] is made, one after the other, until the simulator notices. A check that cannot
//! fail is worth nothing; here each shows that it can. What a seed also shows without the mistake is not counted as noticed.

#[cfg(not(feature = "bugs"))]
use crate::{options::Options, runs::Run};

/// Makes the mistakes; `false` if one was not noticed.
#[cfg(not(feature = "bugs"))]
pub fn run(_name: Option<&str>, _options: &Options) -> bool {
    eprintln!("this binary can't make mistakes: build it with `--features bugs`");
    false
}

/// One seed with a mistake.
#[cfg(not(feature = "bugs"))]
pub fn one(_name: &str, _seed: u64, _options: &Options) -> Option<Run> {
    None
}

#[cfg(feature = "bugs")]
mod places;
#[cfg(feature = "bugs")]
mod searches;

#[cfg(feature = "bugs")]
pub use searches::{one, run};
