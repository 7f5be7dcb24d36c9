//! `quorate dev`: shows a cluster working, keeps what it shall keep, and leaves no process and no folder behind.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use std::fs;

use command::{Dev, nodes_in, quorate, run_with, wait_until};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn the_demonstration_runs_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = quorate(&["dev", "--exit-after-demo"]);
    command.env("TMPDIR", folder.path());
    let ran = run_with(command, b"").expect(0);
    for part in [
        "get greeting = hello",
        "bread",
        "milk",
        "get cart = bread + milk",
        "33.3 %",
        "quorate kv put",
        "quorate::Client",
    ] {
        assert!(ran.text().contains(part), "{part} is missing in:\n{}", ran.text());
    }
    assert!(nodes_in(folder.path()).is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary folder is still there");
}

#[test]
fn more_nodes_are_possible_and_keep_their_directory() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("kept");
    let mut command = quorate(&["dev", "--nodes", "5", "--exit-after-demo", "--dir"]);
    command.arg(&directory);
    let ran = run_with(command, b"").expect(0);
    assert_eq!(ran.text().lines().filter(|line| line.starts_with('n') && line.contains('%')).count(), 5);
    assert!(directory.join("n5").is_dir());
    assert!(nodes_in(&directory).is_empty());
}

#[test]
fn the_data_of_a_directory_is_there_in_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("cluster");
    let mut dev = Dev::start_in(&directory, 3);
    assert_eq!(dev.nodes().len(), 3);
    dev.run(&["kv", "put", "key", "kept"]).expect(0);
    signal(dev.process.id(), Signal::TERM);
    assert_eq!(dev.process.wait().unwrap().code(), Some(0));
    assert!(dev.nodes().is_empty(), "a node outlived the command");

    let dev = Dev::start_in(&directory, 3);
    assert_eq!(dev.run(&["kv", "get", "key"]).expect(0).out, b"kept");
    drop(dev);
    let mut command = quorate(&["dev", "--nodes", "4", "--exit-after-demo", "--dir"]);
    command.arg(&directory);
    assert!(run_with(command, b"").expect(2).err.contains("3 nodes"));
}

#[test]
fn nodes_end_when_the_command_is_killed() {
    let mut dev = Dev::start(3);
    assert_eq!(dev.nodes().len(), 3);
    dev.process.kill().unwrap();
    dev.process.wait().unwrap();
    wait_until("the nodes have ended", || dev.nodes().is_empty());
}

#[test]
fn a_node_that_dies_ends_the_command_with_its_last_words() {
    let mut dev = Dev::start(2);
    signal(dev.nodes()[0], Signal::KILL);
    assert_eq!(dev.process.wait().unwrap().code(), Some(1));
    let said = fs::read_to_string(dev.directory.with_extension("err")).unwrap();
    assert!(said.contains("has ended (signal: 9") && said.contains(".log"), "{said}");
    wait_until("the other node has ended", || dev.nodes().is_empty());
}

#[test]
fn nodes_are_added_killed_started_and_replaced_from_another_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("cluster");
    let mut dev = Dev::start_in(&directory, 3);
    dev.run(&["kv", "put", "key", "kept", "--level", "all"]).expect(0);

    let added = dev.run(&["dev", "--add"]).expect(0);
    assert!(added.text().contains("n4 joins") && added.text().contains("epoch 2 is decided"), "{}", added.text());
    assert_eq!(dev.nodes().len(), 4);

    let before = dev.nodes();
    let killed = dev.run(&["dev", "--kill", "n2"]).expect(0);
    let process: u32 =
        killed.text().split("process ").nth(1).and_then(|rest| rest.split(')').next()).unwrap().parse().unwrap();
    assert!(before.contains(&process) && !dev.nodes().contains(&process), "{}", killed.text());
    assert!(killed.text().contains("dev --start n2") && killed.text().contains("dev --add --replace n2"));
    assert_eq!(dev.run(&["kv", "get", "key", "--level", "quorum"]).expect(0).out, b"kept");
    assert!(dev.run(&["dev", "--kill", "n2"]).expect(8).err.contains("n2 does not run"));
    dev.run(&["dev", "--kill", "n9"]).expect(8);

    dev.run(&["dev", "--start", "n2"]).expect(0);
    assert!(dev.run(&["dev", "--start", "n2"]).expect(8).err.contains("n2 runs"));
    wait_until("all owners answer", || dev.run(&["kv", "get", "key", "--level", "all"]).code == 0);
    dev.run(&["dev", "--kill", "n2"]).expect(0);
    // The directory names the cluster as well as an address does.
    let mut command = quorate(&["dev", "--add", "--replace", "n2", "--dir"]);
    command.arg(&directory);
    let replaced = run_with(command, b"").expect(0);
    assert!(replaced.text().contains("n5 takes the place of n2"), "{}", replaced.text());
    assert_eq!(dev.run(&["kv", "get", "key", "--level", "all"]).expect(0).out, b"kept");
    dev.run(&["status"]).expect(0);

    signal(dev.process.id(), Signal::TERM);
    assert_eq!(dev.process.wait().unwrap().code(), Some(0));
    assert!(dev.nodes().is_empty(), "a node outlived the command");
    // What was added belongs to the cluster from now on.
    let dev = Dev::start_in(&directory, 5);
    assert_eq!(dev.run(&["kv", "get", "key", "--level", "all"]).expect(0).out, b"kept");
}

#[test]
fn what_does_not_run_can_not_be_played_with() {
    let ran = quorate(&["dev", "--kill", "n1", "--endpoints", "127.0.0.1:1"]);
    assert!(run_with(ran, b"").expect(6).err.contains("no quorate dev of yours runs a node at 127.0.0.1:1"));
    let folder = tempfile::tempdir().unwrap();
    let mut command = quorate(&["dev", "--add", "--dir"]);
    command.arg(folder.path());
    run_with(command, b"").expect(2);
    run_with(quorate(&["dev", "--add", "--nodes", "4"]), b"").expect(2);
    run_with(quorate(&["dev", "--replace", "n1"]), b"").expect(2);
}
