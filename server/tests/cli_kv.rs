//! Single keys and whole files of them, against a cluster of real nodes: what is printed, how it ends, what is resumed.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use command::{Dev, Ran, run_with, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// `arguments`, with a path at the end.
fn run_on(dev: &Dev, arguments: &[&str], path: &Path) -> Ran {
    let mut command = dev.command(arguments);
    command.arg(path);
    run_with(command, b"")
}

fn records(folder: &Path, count: usize) -> PathBuf {
    let path = folder.join("records.jsonl");
    let mut file = std::io::BufWriter::new(File::create(&path).unwrap());
    for number in 0..count {
        writeln!(file, "{}", json!({"key": format!("key-{number}"), "value": format!("value {number} äöü\n\u{0}")}))
            .unwrap();
    }
    path
}

#[test]
fn single_keys_are_put_got_and_deleted() {
    let dev = Dev::start(3);
    let stored = dev.run(&["kv", "put", "greeting", "hello"]).expect(0);
    assert!(stored.text().starts_with("stored: on disk at"), "{stored:?}");
    assert_eq!(dev.run(&["kv", "get", "greeting"]).expect(0).out, b"hello");
    assert_eq!(dev.run(&["kv", "get", "greeting", "--bucket", "other"]).expect(3).out, b"");

    let bytes: Vec<u8> = (0..=255).chain(*b"\r\n\0").collect();
    run_with(dev.command(&["kv", "put", "--key-hex", "00ff", "-"]), &bytes).expect(0);
    assert_eq!(dev.run(&["kv", "get", "--base64", "AP8="]).expect(0).text().len(), bytes.len().div_ceil(3) * 4 + 1);
    assert_eq!(dev.run(&["kv", "get", "--key-hex", "00ff", "-r", "3"]).expect(0).out, bytes);

    dev.run(&["kv", "delete", "greeting", "--level", "all"]).expect(0);
    let gone = dev.run(&["kv", "get", "greeting"]).expect(3);
    assert!(gone.out.is_empty() && gone.err.contains("no value"), "{gone:?}");
    dev.run(&["kv", "delete", "never-there"]).expect(0);
}

#[test]
fn siblings_are_shown_with_the_context_that_replaces_them() {
    let dev = Dev::start(3);
    for value in ["one", "two"] {
        dev.run(&["kv", "put", "cart", value, "--beside"]).expect(0);
    }
    let table = dev.run(&["kv", "get", "cart"]).expect(4);
    assert!(["one", "two", "context "].iter().all(|part| table.text().contains(part)), "{table:?}");
    let found = dev.run(&["kv", "get", "cart", "--output", "json"]).expect(4).json();
    let mut values: Vec<_> =
        found["siblings"].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["one", "two"]);
    let context = found["context"].as_str().unwrap();
    let stored = dev.run(&["kv", "put", "cart", "both", "--context", context, "--output", "json"]).expect(0).json();
    assert_eq!((&stored["stored"], &stored["siblings"]), (&json!(true), &json!(1)));
    assert_eq!(dev.run(&["kv", "get", "cart"]).expect(0).out, b"both");
    // The context is spent: what it covers is gone, so a put under it stands beside what came after.
    dev.run(&["kv", "put", "cart", "late", "--context", context]).expect(0);
    dev.run(&["kv", "get", "cart"]).expect(4);
    // And it means nothing for another key.
    let refused = dev.run(&["kv", "put", "other", "x", "--context", context]).expect(8);
    assert!(refused.err.contains("next: "), "{refused:?}");
}

#[test]
fn refusals_and_missing_nodes_have_exit_codes_of_their_own() {
    let dev = Dev::start(3);
    dev.run(&["kv", "put", "key", "value", "-w", "4"]).expect(8);
    let large = vec![b'x'; (1 << 20) + 1];
    run_with(dev.command(&["kv", "put", "key", "-"]), &large).expect(8);
    dev.run(&["status"]).expect(0);

    let node = dev.nodes()[0];
    kill_process(Pid::from_raw(node as i32).unwrap(), Signal::STOP).unwrap();
    // A node that does not answer: everything needs all three of them, a majority does not.
    let all = dev.run(&["kv", "put", "key", "value", "--level", "all"]);
    assert!([6, 7].contains(&all.code) && all.err.contains("next: "), "{all:?}");
    dev.run(&["kv", "put", "key", "value", "--timeout", "10s"]).expect(0);
    let status = dev.run(&["status", "--output", "json"]).expect(6).json();
    let states: Vec<&Value> = status.as_array().unwrap().iter().map(|node| &node["state"]).collect();
    assert_eq!(states.iter().filter(|state| **state == "unreachable").count(), 1, "{status}");
    kill_process(Pid::from_raw(node as i32).unwrap(), Signal::CONT).unwrap();
}

#[test]
fn the_ring_and_the_nodes_are_shown() {
    let dev = Dev::start(3);
    let ring = dev.run(&["ring", "show", "--output", "json"]).expect(0).json();
    assert_eq!((&ring["replicas"], ring["nodes"].as_array().unwrap().len()), (&json!(3), 3));
    assert!(dev.run(&["ring", "show"]).expect(0).text().contains("33.3 %"));
    let owners = dev.run(&["ring", "owners", "hello", "--output", "json"]).expect(0).json();
    // printf 'default\0hello' | md5sum
    assert_eq!(owners["id"], "22517ac7d8e1f8b52590947cac022917");
    assert_eq!((&owners["partition"], owners["owners"].as_array().unwrap().len()), (&json!(0x22), 3));
    let live = dev.run(&["ring", "plan", "--live", "--add", "n4", "--output", "json"]).expect(0).json();
    assert_eq!((&live["moved"], &live["epoch"]), (&json!(192), &json!(2)));
    let status = dev.run(&["status"]).expect(0);
    assert_eq!(status.text().matches("serving").count(), 3);
    assert!(dev.run(&["status", "--counters"]).expect(0).text().contains("store_commits"));
}

#[test]
fn what_is_loaded_verifies_and_what_is_dumped_loads_again() {
    let (dev, folder) = (Dev::start(3), tempfile::tempdir().unwrap());
    let path = records(folder.path(), 3_000);
    let mut file = File::options().append(true).open(&path).unwrap();
    writeln!(file, r#"{{"bucket":"carts","key_base64":"AP8=","value_base64":"/wD/"}}"#).unwrap();
    writeln!(file, r#"{{"key":"siblings","values":["one","two","three"]}}"#).unwrap();
    writeln!(file, r#"{{"key":"key-7","value":"the last line of a key wins"}}"#).unwrap();
    let loaded = run_on(&dev, &["kv", "load", "--output", "json"], &path).expect(0).json();
    assert_eq!((&loaded["loaded"], &loaded["refused"]), (&json!(3_003), &json!(0)));
    assert!(!path.with_extension("jsonl.load-state").exists(), "a complete load leaves no state");
    // Line 8 is not what was written last.
    let verified = run_on(&dev, &["kv", "verify", "-r", "2", "--output", "json"], &path).expect(5).json();
    assert_eq!((&verified["equal"], &verified["different"]), (&json!(3_002), &json!(1)));
    assert_eq!(dev.run(&["kv", "get", "key-7"]).expect(0).out, b"the last line of a key wins");
    dev.run(&["kv", "get", "siblings"]).expect(4);

    let dump = folder.path().join("dump.jsonl");
    run_on(&dev, &["kv", "dump", "--to"], &dump).expect(0);
    run_on(&dev, &["kv", "verify", "--level", "all"], &dump).expect(0);
    let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")).count();
    assert_eq!(
        lines(&fs::read(&dump).unwrap()),
        3_004,
        "with the two keys that the demonstration leaves: greeting, cart"
    );
    let scanned = dev.run(&["kv", "scan", "--output", "json"]).expect(0);
    assert_eq!(lines(&scanned.out), 3_004);
    assert_eq!(lines(&dev.run(&["kv", "scan", "--bucket", "carts", "--output", "json"]).expect(0).out), 1);
    assert_eq!(dev.run(&["kv", "scan", "--limit", "10"]).expect(0).text().lines().count(), 10);

    let other = Dev::start(3);
    let ran = run_with(other.command(&["kv", "load", "-"]), &fs::read(&dump).unwrap()).expect(0);
    assert!(ran.text().contains("3,004 records"), "{ran:?}");
    run_on(&other, &["kv", "verify", "--level", "all"], &dump).expect(0);
}

#[test]
fn refused_lines_are_reported_with_number_and_reason_and_the_rest_is_loaded() {
    let (dev, folder) = (Dev::start(1), tempfile::tempdir().unwrap());
    let path = folder.path().join("bad.jsonl");
    let large = "x".repeat((1 << 20) + 1);
    let lines = [
        r#"{"key":"a","value":"1"}"#,
        "nonsense",
        "",
        &format!(r#"{{"key":"b","value":"{large}"}}"#),
        r#"{"key":"c","value":"3"}"#,
        r#"{"key":"d"}"#,
    ];
    fs::write(&path, lines.join("\n")).unwrap();
    let rejects = folder.path().join("rejects.jsonl");
    let mut command = dev.command(&["kv", "load", "--output", "json", "--rejects"]);
    command.args([&rejects, &path]);
    let ran = run_with(command, b"").expect(5);
    let loaded = ran.json();
    assert_eq!((&loaded["loaded"], &loaded["refused"], &loaded["complete"]), (&json!(2), &json!(3), &json!(true)));
    let mut refused: Vec<(u64, String)> = fs::read_to_string(&rejects)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["line"].as_u64().unwrap(), line["reason"].as_str().unwrap().to_owned()))
        .collect();
    refused.sort();
    assert_eq!(refused.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 6]);
    assert!(refused[0].1.contains("not a record") && refused[1].1.contains("too_large"), "{refused:?}");
    assert!(ran.err.contains("line 6: there is no value"), "{}", ran.err);
    assert_eq!(dev.run(&["kv", "get", "c"]).expect(0).out, b"3");
}

#[test]
fn verification_finds_every_difference() {
    let (dev, folder) = (Dev::start(1), tempfile::tempdir().unwrap());
    let path = records(folder.path(), 50);
    run_on(&dev, &["kv", "load"], &path).expect(0);
    run_on(&dev, &["kv", "verify"], &path).expect(0);
    dev.run(&["kv", "put", "key-3", "changed"]).expect(0);
    dev.run(&["kv", "delete", "key-4"]).expect(0);
    dev.run(&["kv", "put", "key-5", "more", "--beside"]).expect(0);
    let ran = run_on(&dev, &["kv", "verify", "--output", "json"], &path).expect(5);
    let found = ran.json();
    assert_eq!(found["equal"], 47);
    assert_eq!((&found["different"], &found["missing"], &found["siblings"]), (&json!(1), &json!(1), &json!(1)));
    assert!(["line 4:", "line 5:", "line 6:"].iter().all(|line| ran.err.contains(line)), "{}", ran.err);
}

#[test]
fn a_load_that_was_killed_or_interrupted_goes_on_where_it_was() {
    let (dev, folder) = (Dev::start(1), tempfile::tempdir().unwrap());
    let path = records(folder.path(), 60_000);
    let state = folder.path().join("records.jsonl.load-state");
    let spawn = |resume: bool| {
        let mut command = dev.command(&["kv", "load", "--in-flight", "16"]);
        command.args(resume.then_some("--resume")).arg(&path);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let reached = || {
        let state: Option<Value> = fs::read(&state).ok().and_then(|text| serde_json::from_slice(&text).ok());
        state.map_or(0, |state| state["line"].as_u64().unwrap())
    };
    let mut killed = spawn(false);
    wait_until("a state is saved", || reached() > 0);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let after_kill = reached();
    assert!(after_kill < 60_000, "the load was too quick to be cut off");

    let interrupted = spawn(true);
    wait_until("the load has gone on", || reached() > after_kill);
    kill_process(Pid::from_raw(interrupted.id() as i32).unwrap(), Signal::INT).unwrap();
    let output = interrupted.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("next: quorate kv load") && said.contains("--resume"), "{said}");
    let after_interrupt = reached();
    assert!(after_interrupt > after_kill && after_interrupt < 60_000);

    let ran = run_on(&dev, &["kv", "load", "--resume", "--output", "json"], &path).expect(0).json();
    assert_eq!(ran["loaded"].as_u64().unwrap(), 60_000 - after_interrupt);
    assert!(!state.exists());
    run_on(&dev, &["kv", "verify"], &path).expect(0);

    // A state of another file is not followed.
    fs::write(&state, json!({"offset": 10, "line": 1, "fingerprint": "0", "refused": 0}).to_string()).unwrap();
    run_on(&dev, &["kv", "load", "--resume"], &path).expect(2);
}

#[test]
fn a_dump_that_was_cut_off_goes_on_where_it_was() {
    let (dev, folder) = (Dev::start(1), tempfile::tempdir().unwrap());
    run_on(&dev, &["kv", "load"], &records(folder.path(), 2_000)).expect(0);
    let dump = folder.path().join("dump.jsonl");
    run_on(&dev, &["kv", "dump", "--to"], &dump).expect(0);
    let whole = fs::read(&dump).unwrap();

    // As a kill would leave it: a state from the middle, and half a line behind the place it names.
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let written: usize = lines[..700].iter().map(|line| line.len()).sum();
    let last: Value = serde_json::from_slice(lines[699]).unwrap();
    let last = dynamo::ident::StoreKey::of(b"default", last["key"].as_str().unwrap().as_bytes());
    let state = json!({"last": format!("{last:?}"), "bytes": written, "records": 700});
    fs::write(folder.path().join("dump.jsonl.dump-state"), state.to_string()).unwrap();
    fs::write(&dump, &whole[..written + 5]).unwrap();
    let ran = run_on(&dev, &["kv", "dump", "--resume", "--to"], &dump).expect(0);
    assert!(ran.err.contains("2,002 keys"), "{}", ran.err);
    assert_eq!(fs::read(&dump).unwrap(), whole);
    assert!(!folder.path().join("dump.jsonl.dump-state").exists());
}

#[test]
fn a_bench_reports_figures_and_their_ratio_to_the_limits() {
    let ran = command::run(&[
        "bench",
        "--start",
        "1",
        "--reads",
        "50",
        "--keys",
        "500",
        "--in-flight",
        "64",
        "--seconds",
        "1s",
        "--warm-up",
        "200ms",
        "--output",
        "json",
        "--timeout",
        "20s",
    ])
    .expect(0);
    let report = ran.json();
    let measured = &report["measured"];
    assert!(measured["operations"].as_u64().unwrap() > 100, "{measured}");
    assert!(measured["reads"]["p99_9_us"].as_f64().unwrap() >= measured["reads"]["p50_us"].as_f64().unwrap());
    assert!(measured["errors"].as_object().unwrap().is_empty() && measured["wrong"].as_object().unwrap().is_empty());
    assert!(report["batches"]["operations_per_call"].as_f64().unwrap() >= 1.0);
    assert!(report["batches"]["writes_per_commit"].as_f64().unwrap() >= 1.0);
    for ratio in ["reads_to_echo", "writes_to_echo", "reads_to_lmdb", "writes_to_lmdb"] {
        assert!(report["limits"][ratio].as_f64().unwrap() > 0.0, "{ratio}: {report}");
    }
    let folder = ran.err.lines().find_map(|line| line.split("serve in ").nth(1)).unwrap();
    assert!(!Path::new(folder).exists(), "{folder} is still there");
}
