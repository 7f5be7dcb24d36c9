//! What a stage can be told.
//!
//! | command | fields | what it does |
//! |---|---|---|
//! | `act` | `node`, `first` (acts), `then` (an act) | the first calls that come are met with the first acts, all others with `then`: `serve` unless said |
//! | `publish` | `layout`, or `epoch` and `rotate` | every node tells this layout, or its present one with the owners moved on by so many nodes |
//! | `scans_fail` | `node`, `fail` | it refuses to tell keys, or no longer |
//! | `kill`, `restart` | `node` | its port refuses and its connections break; it listens again |
//! | `seen` | | what came, in order; under how many operation ids; how many writes were applied |
//! | `forget` | | what came so far, and the counts of calls |
//!
//! `node` is a number, `"all"`, or `{"owner": 0, "bucket": …, "key": …}`: the first owner of that key.

use serde_json::{Map, Value, json};
use stage::{Act, Cluster, Node, notation};

/// Carries out one command. The error says what was not understood; nothing was done then.
pub(crate) fn carry_out(cluster: &Cluster, command: &Value) -> Result<Value, String> {
    let fields = command.as_object().ok_or("a command is an object")?;
    let name = fields.get("do").and_then(Value::as_str).ok_or("a command has a do")?;
    match name {
        "act" => {
            only(fields, &["node", "first", "then"])?;
            act(cluster, fields)
        }
        "publish" => {
            only(fields, &["layout", "epoch", "rotate"])?;
            publish(cluster, fields)
        }
        "scans_fail" => {
            only(fields, &["node", "fail"])?;
            let fail = fields.get("fail").and_then(Value::as_bool).ok_or("fail is true or false")?;
            for node in nodes(cluster, fields)? {
                *node.control.scan_fails.lock().unwrap() = fail;
            }
            Ok(json!({ "ok": true }))
        }
        "kill" => {
            only(fields, &["node"])?;
            nodes(cluster, fields)?.into_iter().for_each(Node::kill);
            Ok(json!({ "ok": true }))
        }
        "restart" => {
            only(fields, &["node"])?;
            nodes(cluster, fields)?.into_iter().for_each(Node::restart);
            Ok(json!({ "ok": true }))
        }
        "seen" => {
            only(fields, &[])?;
            Ok(notation::seen(cluster))
        }
        "forget" => {
            only(fields, &[])?;
            for node in &cluster.nodes {
                node.control.seen.lock().unwrap().clear();
                *node.control.ring_calls.lock().unwrap() = 0;
                *node.control.scan_calls.lock().unwrap() = 0;
            }
            Ok(json!({ "ok": true }))
        }
        unknown => Err(format!("no command is called {unknown}")),
    }
}

fn act(cluster: &Cluster, fields: &Map<String, Value>) -> Result<Value, String> {
    let first = fields.get("first").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let first: Result<Vec<Act>, String> = first.iter().map(notation::act).collect();
    let (first, then) = (first?, fields.get("then").map_or(Ok(Act::Serve), notation::act)?);
    for node in nodes(cluster, fields)? {
        let (mut first, then) = (first.clone().into_iter(), then.clone());
        node.script(move |_| first.next().unwrap_or_else(|| then.clone()));
    }
    Ok(json!({ "ok": true }))
}

fn publish(cluster: &Cluster, fields: &Map<String, Value>) -> Result<Value, String> {
    let layout = match fields.get("layout") {
        Some(layout) => {
            let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
            notation::layout(layout, &addresses)?
        }
        None => {
            let epoch = fields.get("epoch").and_then(Value::as_u64).ok_or("epoch is a number")?;
            let rotate = fields.get("rotate").and_then(Value::as_u64).unwrap_or(0) as u16;
            let mut layout = cluster.node(0).control.layout.lock().unwrap().clone();
            let count = layout.members.len() as u16;
            layout.slots.iter_mut().for_each(|slot| *slot = (*slot + rotate) % count);
            layout.epoch = epoch;
            layout
        }
    };
    cluster.publish(&layout);
    Ok(json!({ "ok": true }))
}

/// The nodes that a command is for.
fn nodes<'a>(cluster: &'a Cluster, fields: &Map<String, Value>) -> Result<Vec<&'a Node>, String> {
    let node = fields.get("node").ok_or("node is missing")?;
    if node == "all" {
        return Ok(cluster.nodes.iter().collect());
    }
    let at = match (node.as_u64(), node["owner"].as_u64(), node["key"].as_str()) {
        (Some(at), _, _) => Some(at as usize),
        (None, Some(place), Some(key)) => {
            let bucket = node["bucket"].as_str().unwrap_or("default");
            cluster.owners_of(bucket, key).get(place as usize).copied()
        }
        _ => None,
    };
    let found = at.and_then(|at| cluster.nodes.get(at));
    found.map(|node| vec![node]).ok_or_else(|| format!("{node} is no node of this stage"))
}

fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| !["id", "do"].contains(&name.as_str()) && !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("{unknown} is none of {known:?}")),
        None => Ok(()),
    }
}
