//! What needs no cluster: usage errors, help, completions, plans, and how it ends when nobody can be reached.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use command::{quorate, run, run_with};

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [
        &["nonsense"][..],
        &["kv", "get"],
        &["kv", "put", "key"],
        &["kv", "put", "key", "value", "--value-file", "x"],
        &["kv", "put", "key", "value", "--beside", "--context", "AA"],
        &["kv", "get", "key", "--level", "most"],
        &["kv", "get", "key", "-r", "8"],
        &["kv", "get", "key", "--timeout", "soon"],
        &["kv", "get", "key", "--bucket", "a/b"],
        &["kv", "get", "abc", "--key-hex"],
        &["kv", "get", "*", "--base64"],
        &["kv", "get", ""],
        &["kv", "get", "key", "--endpoints", ""],
        &["ring", "plan", "--node", "a", "--node", "a"],
        &["ring", "plan", "--node", "a,colour=red"],
        &["bench", "--distribution", "normal"],
        &["bench", "--reads", "101"],
        &["dev", "--nodes", "0"],
        &["completions", "tcl"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn help_names_every_command_and_every_exit_code() {
    let help = run(&["help"]).expect(0);
    for command in ["serve", "config", "dev", "kv", "ring", "status", "bench", "completions"] {
        assert!(help.text().lines().any(|line| line.trim().starts_with(command)), "{command} is missing");
    }
    for code in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "130"] {
        assert!(help.text().lines().any(|line| line.trim().starts_with(&format!("{code}  "))), "{code} is missing");
    }
    for command in ["get", "put", "delete", "scan", "load", "dump", "verify"] {
        let help = run(&["kv", command, "--help"]).expect(0);
        assert!(help.text().contains("Examples:"), "{command} has no example");
    }
}

#[test]
fn completions_are_scripts_of_their_shells() {
    assert!(run(&["completions", "bash"]).expect(0).text().contains("complete -F _quorate"));
    assert!(run(&["completions", "zsh"]).expect(0).text().starts_with("#compdef quorate"));
    assert!(run(&["completions", "fish"]).expect(0).text().contains("complete -c quorate"));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let mut command = quorate(&["completions", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn without_a_node_commands_end_with_unavailable_and_name_the_next_step() {
    for arguments in [
        &["kv", "get", "key"][..],
        &["kv", "scan"],
        &["ring", "show"],
        &["status"],
        &["bench", "--seconds", "1s"],
        &["ring", "plan", "--live"],
    ] {
        let ran = run(&[arguments, &["--endpoints", "127.0.0.1:1"]].concat()).expect(6);
        assert!(ran.err.contains("next: ") && ran.err.contains("quorate dev"), "{ran:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_a_failure_that_names_it() {
    for arguments in [
        &["kv", "load", "/nowhere.jsonl"][..],
        &["kv", "verify", "/nowhere.jsonl"],
        &["ring", "plan", "--config", "/nowhere.toml"],
    ] {
        let ran = run(arguments);
        assert!([1, 2].contains(&ran.code) && ran.err.contains("/nowhere."), "{ran:?}");
    }
}

#[test]
fn a_plan_for_a_list_of_nodes_divides_by_weight() {
    let plan = run(&[
        "ring",
        "plan",
        "--output",
        "json",
        "--node",
        "n1,zone=a",
        "--node",
        "n2,zone=a",
        "--node",
        "n3,zone=b,weight=200",
        "--node",
        "n4,zone=c",
        "--node",
        "count=1,zone=c",
    ])
    .expect(0)
    .json();
    let nodes = plan["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 5);
    let partitions: Vec<u64> = nodes.iter().map(|node| node["partitions"].as_u64().unwrap()).collect();
    let all = plan["partitions"].as_u64().unwrap();
    assert_eq!(partitions.iter().sum::<u64>(), 3 * all);
    // Three zones and three replicas: each zone holds everything once.
    assert_eq!(partitions[2], all);
    assert_eq!(partitions[0] + partitions[1], all);
    assert!(plan["balance"]["max"].as_f64().unwrap() < 1.02);
    let table = run(&["ring", "plan", "--node", "count=3"]).expect(0);
    assert!(table.text().contains("33.3 %") && table.text().contains("balance"), "{}", table.text());
}

#[test]
fn a_plan_with_changes_says_what_moves_and_what_is_in_danger() {
    let grown = run(&["ring", "plan", "--node", "count=3", "--add", "n4", "--output", "json"]).expect(0).json();
    assert_eq!(grown["moved"], grown["moved_lower_bound"]);
    assert_eq!(grown["moved"], 192);
    let broken = ["ring", "plan", "--node", "count=4", "--remove", "n1", "--remove", "n2", "--remove", "n3"];
    assert!(run(&broken).expect(0).text().contains("DANGER"));
}

#[test]
fn a_plan_reads_the_nodes_of_a_configuration() {
    let default = run(&["config", "default"]).expect(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, &default.out).unwrap();
    let mut command = quorate(&["ring", "plan", "--output", "json", "--config"]);
    command.arg(&file);
    let plan = run_with(command, b"").expect(0).json();
    assert_eq!(plan["nodes"][0]["name"], "n1");
}
