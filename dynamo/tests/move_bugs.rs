//! The mistakes in the bug bank that a replica can make while partitions move, each caught by the same property that holds without them. A
//! program of its own, because a switched bug is on for the whole process.

#[path = "support/moves.rs"]
mod moves;
#[path = "support/node.rs"]
mod node;

use dynamo::bug::{Bug, switch};
use moves::{World, step};
use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

const BUGS: [Bug; 5] =
    [Bug::AcceptOldView, Bug::AcceptOldLo, Bug::ViewWithoutBits, Bug::EarlyDeletion, Bug::MovedRowForgotten];

#[test]
fn every_bug_of_a_replica_that_moves_breaks_the_property_that_holds_without_it() {
    let run = |bug| {
        switch(bug);
        let config = Config { cases: 1_000, failure_persistence: None, max_shrink_iters: 1_000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let result = runner.run(&vec(step(), 1..60), |steps| World::run(&steps).map(drop).map_err(TestCaseError::fail));
        switch(None);
        result
    };
    run(None).expect("without a bug the property holds");
    for bug in BUGS {
        match run(Some(bug)) {
            Err(TestError::Fail(why, steps)) => println!("{bug:?} caught: {why}\n  by {steps:?}"),
            other => panic!("{bug:?} was not caught: {other:?}"),
        }
    }
}
