//! One run of one plan, with its verdict.

use std::panic::{self, AssertUnwindSafe};

use crate::{
    figures::Figures,
    invariant::{Invariant, Violation},
    plan::Plan,
    world::World,
};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// The hash of all that happened.
    pub hash: u64,
    /// What was counted.
    pub figures: Figures,
    /// What was broken, if anything.
    pub violation: Option<Violation>,
}

/// Runs a plan to its end or to the first broken invariant. A panic of a machine is a broken invariant too.
pub fn run(plan: Plan, is_shown: bool) -> Run {
    let attempt = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan, is_shown);
        world.run();
        Run { hash: world.hash(), figures: world.figures().clone(), violation: world.violation().cloned() }
    }));
    attempt.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = text.unwrap_or_else(|| "no message".to_owned());
        let violation = Violation { invariant: Invariant::Panic, what, at_us: 0 };
        Run { hash: 0, figures: Figures::default(), violation: Some(violation) }
    })
}
