//! The mistakes in the bug bank that a book of hints can make, each caught by the same property that holds without them. A
//! program of its own, because a switched bug is on for the whole process.

#[path = "support/hints.rs"]
mod hints;

use dynamo::bug::{Bug, switch};
use hints::{World, step};
use proptest::{
    collection::vec,
    test_runner::{Config, TestError, TestRunner},
};

#[test]
fn every_bug_of_the_book_breaks_the_property_that_holds_without_it() {
    let run = |bug| {
        switch(bug);
        let config = Config { cases: 2_000, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let result = runner
            .run(&vec(step(), 1..40), |steps| World::run(&steps).map_err(proptest::test_runner::TestCaseError::fail));
        switch(None);
        result
    };
    run(None).expect("without a bug the property holds");
    for bug in [Bug::StandInKeepsActor, Bug::ReplaceHint, Bug::DropChangedHint, Bug::StandInForgetsItsHints] {
        match run(Some(bug)) {
            Err(TestError::Fail(why, steps)) => println!("{bug:?} caught: {why}\n  by {steps:?}"),
            other => panic!("{bug:?} was not caught: {other:?}"),
        }
    }
}
