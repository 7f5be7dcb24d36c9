//! The golden vectors of `tests/vectors/`: what keys, contexts, errors and receipts are, for every client. They are made here, by the
//! Rust client and the protocol's own code; `QUORATE_UPDATE=1` writes them, and without it they must be what stands there. Each
//! client's tests read them and compare what it shows through its own public surface.

mod vectors {
    use super::play;

    pub(crate) mod contexts;
    pub(crate) mod errors;
    pub(crate) mod receipts;
    pub(crate) mod ring;
}

use std::sync::{Arc, Mutex};

use quorate_tests::{golden, scenario::Scenario, world::World};
use serde_json::Value;

/// Plays steps on a stage; what the last one came to.
fn play(scenario: &Value, nodes: u64) -> Result<Value, String> {
    let world = Arc::new(Mutex::new(World::stage(nodes)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Scenario::run(scenario, "default", &world))
}

#[test]
fn keys_have_their_places_and_owners() {
    golden::check("tests/vectors/ring.json", &vectors::ring::made());
    vectors::ring::check(&golden::json("tests/vectors/ring.json"));
}

#[test]
fn contexts_have_their_texts() {
    golden::check("tests/vectors/contexts.json", &vectors::contexts::made());
    vectors::contexts::check(&golden::json("tests/vectors/contexts.json"));
}

#[test]
fn errors_have_their_kinds_in_every_language() {
    golden::check("tests/vectors/errors.json", &vectors::errors::made());
    vectors::errors::check(&golden::json("tests/vectors/errors.json"));
}

#[test]
fn receipts_say_what_came_over_the_wire() {
    golden::check("tests/vectors/receipts.json", &vectors::receipts::made());
    vectors::receipts::check(&golden::json("tests/vectors/receipts.json"));
}
