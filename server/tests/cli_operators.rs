//! What operators see and do with single keys on a cluster of real nodes: inspecting, expiry, and reaping with its guards.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use command::{Dev, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What `kv inspect` says about a key.
fn inspect(dev: &Dev, key: &str) -> Value {
    dev.run(&["kv", "inspect", key, "--output", "json"]).json()
}

/// Waits until the owners hold the same under a key.
fn settle(dev: &Dev, key: &str) {
    wait_until("the owners agree", || inspect(dev, key)["agree"] == true);
}

#[test]
fn a_key_is_shown_as_every_node_holds_it() {
    let dev = Dev::start(4);
    dev.run(&["kv", "inspect", "cart"]).expect(3);
    dev.run(&["kv", "put", "cart", "one", "--level", "all"]).expect(0);
    dev.run(&["kv", "put", "cart", "two", "--beside", "--level", "all"]).expect(0);
    let shown = dev.run(&["kv", "inspect", "cart", "--output", "json"]).expect(0).json();
    let owners = shown["owners"].as_array().unwrap();
    assert_eq!(owners.len(), 3, "{shown}");
    let nodes = shown["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 4);
    for node in nodes.iter().filter(|node| node["owner"] == true) {
        let versions = node["held"]["versions"].as_array().unwrap();
        let mut values: Vec<_> = versions.iter().map(|version| version["value"].as_str().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, ["one", "two"], "{node}");
        assert!(versions.iter().all(|version| version["kind"] == "value" && version["expires"].is_null()));
        assert!(!node["held"]["context"].as_array().unwrap().is_empty());
    }
    assert!(nodes.iter().filter(|node| node["owner"] == false).all(|node| node["held"].is_null()));
    let table = dev.run(&["kv", "inspect", "cart"]).expect(0);
    assert!(table.text().contains("the owners hold the same") && table.text().contains("2 live version"), "{table:?}");
}

#[test]
fn values_expire_at_reads_and_stay_until_they_are_reaped() {
    let dev = Dev::start(3);
    dev.run(&["kv", "put", "session", "open", "--ttl", "300ms", "--level", "all"]).expect(0);
    dev.run(&["kv", "put", "other", "stays", "--ttl", "1h", "--level", "all"]).expect(0);
    wait_until("the value has expired", || dev.run(&["kv", "get", "session"]).code == 3);
    dev.run(&["kv", "get", "other"]).expect(0);
    settle(&dev, "session");
    let shown = inspect(&dev, "session");
    assert_eq!(shown["nodes"][0]["held"]["versions"][0]["kind"], "expired", "{shown}");
    for level in ["one", "quorum"] {
        let listed = dev.run(&["kv", "scan", "--bucket", "default", "--level", level, "--output", "json"]).expect(0);
        assert_eq!(listed.text().lines().count(), 1, "{listed:?}");
    }
    dev.run(&["reap", "session", "--yes"]).expect(0);
    dev.run(&["kv", "inspect", "session"]).expect(3);
    dev.run(&["reap", "session", "--yes"]).expect(3);
}

#[test]
fn nothing_is_reaped_unless_every_guard_is_satisfied() {
    let dev = Dev::start(4);
    for key in ["a", "b", "c"] {
        dev.run(&["kv", "put", key, "value", "--level", "all"]).expect(0);
    }
    let live = dev.run(&["reap", "a", "--yes"]).expect(5);
    assert!(live.text().contains("live version"), "{live:?}");
    for key in ["a", "b"] {
        dev.run(&["kv", "delete", key, "--level", "all"]).expect(0);
    }
    let shown = dev.run(&["reap", "--bucket", "default"]).expect(0);
    assert_eq!(shown.text().matches("could be removed: ").count(), 2, "{shown:?}");
    assert!(shown.err.contains("next: quorate reap --bucket default --yes"), "{shown:?}");
    dev.run(&["kv", "inspect", "a"]).expect(0);

    // A node that is silent might keep a hint, owner or not.
    let process = Pid::from_raw(dev.nodes()[0] as i32).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let silent = dev.run(&["reap", "a", "--yes", "--timeout", "1s"]);
    kill_process(process, Signal::CONT).unwrap();
    let silent = silent.expect(5);
    assert!(silent.text().contains("does not answer"), "{silent:?}");
    assert!(inspect(&dev, "a")["nodes"].as_array().unwrap().iter().any(|node| !node["held"].is_null()));

    wait_until("the tombstones are removed", || dev.run(&["reap", "--bucket", "default", "--yes"]).code == 0);
    dev.run(&["kv", "inspect", "a"]).expect(3);
    dev.run(&["kv", "inspect", "b"]).expect(3);
    assert_eq!(dev.run(&["kv", "get", "c"]).expect(0).out, b"value");
}

#[test]
fn a_write_is_taken_while_owners_are_gone_and_kept_for_them_and_not_reaped() {
    let dev = Dev::start(5);
    dev.run(&["kv", "put", "cart", "one", "--level", "all"]).expect(0);
    let owners: Vec<String> = inspect(&dev, "cart")["owners"].as_array().unwrap().iter().map(name).collect();
    let gone: Vec<Pid> = owners[..2].iter().map(|owner| process(&dev, owner)).collect();
    gone.iter().for_each(|process| kill_process(*process, Signal::STOP).unwrap());
    // Two of three owners are silent: a majority of owners is not to be had, two nodes are.
    dev.run(&["kv", "put", "cart", "two", "--level", "quorum", "--timeout", "1s"]).expect_any(&[6, 7]);
    let stored = dev.run(&["kv", "put", "cart", "three", "--output", "json", "--timeout", "20s"]).expect(0).json();
    assert!(stored["receipt"]["durable"].as_u64().unwrap() >= 2, "{stored}");
    assert!(stored["receipt"]["stand_ins"].as_u64().unwrap() >= 1, "{stored}");
    let shown = dev.run(&["kv", "inspect", "cart", "--output", "json"]).expect(6).json();
    let hints: Vec<&Value> =
        shown["nodes"].as_array().unwrap().iter().filter_map(|node| node["hints"].as_array()).flatten().collect();
    assert!(hints.iter().any(|hint| owners[..2].contains(&name(&hint["for"]))), "{shown}");
    let status = dev.run(&["status", "--output", "json"]).expect(6).json();
    let kept: u64 = status
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node["peers"].as_array())
        .flatten()
        .filter_map(|peer| peer["hints"].as_u64())
        .sum();
    assert!(kept >= 1, "{status}");
    let refused = dev.run(&["reap", "cart", "--yes"]).expect(5);
    assert!(refused.text().contains("hint") && refused.text().contains("does not answer"), "{refused:?}");
    gone.iter().for_each(|process| kill_process(*process, Signal::CONT).unwrap());
}

fn name(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The process of a node by its name.
fn process(dev: &Dev, name: &str) -> Pid {
    let is_of_node = |id: &u32| {
        let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let file = format!("{name}.toml");
        arguments.windows(file.len()).any(|part| part == file.as_bytes())
    };
    Pid::from_raw(dev.nodes().into_iter().find(is_of_node).unwrap() as i32).unwrap()
}
