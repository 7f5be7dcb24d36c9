//! Makes a failing run smaller while it fails in the same way: leaves out faults, then operations, then clients. Every try is a whole
//! run of milliseconds, so nothing cleverer is needed.

use crate::{plan::Plan, runs, runs::Run};

/// Rounds over all that could be left out; the second finds what the first made superfluous.
const ROUNDS: usize = 2;

/// The smallest plan found that still breaks the same invariant.
pub fn shrink(plan: Plan, failed: &Run) -> Plan {
    let Some(broken) = failed.violation.as_ref().map(|violation| violation.invariant) else { return plan };
    let fails = |plan: &Plan| runs::run(plan.clone(), false).violation.is_some_and(|found| found.invariant == broken);
    let mut best = plan;
    for _ in 0..ROUNDS {
        for fault in best.clone().faults.on() {
            let mut smaller = best.clone();
            smaller.faults.set(fault, 0);
            best = if fails(&smaller) { smaller } else { best };
        }
        for share in [8, 4, 2] {
            let smaller = Plan { operations: best.operations / share, ..best.clone() };
            if fails(&smaller) {
                best = smaller;
                break;
            }
        }
        while best.clients > 1 {
            let smaller = Plan { clients: best.clients - 1, ..best.clone() };
            if !fails(&smaller) {
                break;
            }
            best = smaller;
        }
    }
    best
}
