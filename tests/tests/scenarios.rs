//! The scenarios of `tests/scenarios/`, played by the Rust client: against real nodes, and on a stage of fake ones.
//!
//! `QUORATE_SCENARIO=words` plays only those whose names contain the words, or whose world is called so.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_tests::{conformance, repository, scenario::Scenario, world::World};
use serde_json::Value;

/// How long one scenario may take: several times what the slowest needs on a busy machine.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(120);

/// Real nodes that scenarios share, and fake ones on a stage.
const NODES: u64 = 3;

fn file() -> Value {
    serde_json::from_str(&repository::read("tests/scenarios/scenarios.json")).expect("the scenarios are JSON")
}

fn shared_world(world: World) -> Arc<Mutex<World>> {
    Arc::new(Mutex::new(world))
}

fn play(scenario: &Value, bucket: &str, world: &Arc<Mutex<World>>) -> Result<Value, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let played = async { tokio::time::timeout(SCENARIO_TIMEOUT, Scenario::run(scenario, bucket, world)).await };
    runtime.block_on(played).unwrap_or_else(|_| Err(format!("not over after {SCENARIO_TIMEOUT:?}")))
}

#[test]
fn the_rust_client_does_what_the_scenarios_say() {
    let only = std::env::var("QUORATE_SCENARIO").unwrap_or_default();
    let (file, mut shared) = (file(), None);
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    let scenarios = file["scenarios"].as_array().expect("there are scenarios");
    for (at, scenario) in scenarios.iter().enumerate() {
        let name = scenario["name"].as_str().expect("a scenario has a name");
        if !name.contains(&only) && scenario["world"] != only {
            continue;
        }
        let bucket = format!("rust-{at}");
        let played = match scenario["world"].as_str() {
            Some("nodes") => play(scenario, &bucket, shared.get_or_insert_with(|| shared_world(World::testkit(NODES)))),
            Some("own nodes") => play(scenario, &bucket, &shared_world(World::testkit(NODES))),
            Some("stage") => play(scenario, &bucket, &shared_world(World::stage(NODES))),
            unknown => Err(format!("no world is called {unknown:?}")),
        };
        match played {
            Ok(_) => passed.push(name),
            Err(slip) => failed.push(format!("{name}: {slip}")),
        }
    }
    assert!(failed.is_empty(), "{} of {} scenarios failed:\n{}", failed.len(), scenarios.len(), failed.join("\n"));
    assert!(!passed.is_empty(), "no scenario is called {only}");
    if only.is_empty() {
        conformance::record("rust", &passed);
    }
}

#[test]
fn a_scenario_that_expects_something_else_fails_and_says_why() {
    for wrong in file()["wrong"].as_array().expect("there are wrong scenarios") {
        let why = wrong["fails_with"].as_str().expect("it says why it fails");
        let slip = play(wrong, "wrong", &shared_world(World::stage(NODES))).expect_err(why);
        assert!(slip.contains(why), "{}: expected {why}, was {slip}", wrong["name"]);
    }
}
