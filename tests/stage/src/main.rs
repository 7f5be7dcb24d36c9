//! A stage as a process, for scenarios in any language: `quorate-stage [NODES]`, three unless said otherwise.
//!
//! Lines of JSON. It prints `{"ready": true, "endpoints": "…", "nodes": […]}`, then takes one command a line and answers each
//! under its `id`. It ends with its input. The commands stand in [`commands`].

mod commands;

use std::io::{BufRead, Write};

use serde_json::{Value, json};
use stage::Cluster;

/// Nodes on a stage that names no number: as many as a key has owners.
const NODES: u16 = 3;

fn main() {
    let nodes = std::env::args().nth(1).map_or(NODES, |count| count.parse().expect("quorate-stage [NODES]"));
    let cluster = Cluster::start(nodes);
    let names: Vec<Value> = (0..)
        .zip(&cluster.nodes)
        .map(|(at, node): (usize, _)| json!({ "name": format!("n{at}"), "address": node.address }))
        .collect();
    print(&json!({ "ready": true, "endpoints": cluster.endpoints(), "nodes": names }));
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let (id, answer) = match serde_json::from_str::<Value>(&line) {
            Ok(command) => (command["id"].clone(), commands::carry_out(&cluster, &command)),
            Err(error) => (Value::Null, Err(error.to_string())),
        };
        let mut answer = answer.unwrap_or_else(|slip| json!({ "error": slip }));
        answer["id"] = id;
        print(&answer);
    }
}

fn print(line: &Value) {
    let mut output = std::io::stdout().lock();
    // Whoever started the stage is gone when this fails, and then the input ends as well.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
