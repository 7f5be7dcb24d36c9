//! Answers as they come over the wire, and what the client shows of them: receipts by the names of nodes, clocks of 64 bits,
//! hashes, the number of siblings.

use quorate_tests::golden;
use serde_json::{Value, json};

pub(crate) fn made() -> String {
    let cases = wires().into_iter().map(|(name, call, wire)| {
        let steps = steps(&wire, call);
        let shown = super::play(&json!({ "steps": steps }), 3).unwrap_or_else(|slip| panic!("{name}: {slip}"));
        json!({ "name": name, "do": call, "wire": wire, "result": shown })
    });
    golden::text(&json!({
        "about": "What nodes answer (wire: nodes by their position, contexts in base64url), and what the client shows. Numbers of 64 bits \
                  are strings.",
        "cases": cases.collect::<Vec<_>>(),
    }))
}

pub(crate) fn check(vectors: &Value) {
    for case in vectors["cases"].as_array().expect("there are cases") {
        let mut steps = steps(&case["wire"], case["do"].as_str().expect("a case names its call"));
        steps[1]["expect"] = case["result"].clone();
        super::play(&json!({ "steps": steps }), 3).unwrap_or_else(|slip| panic!("{}: {slip}", case["name"]));
    }
}

fn steps(wire: &Value, call: &str) -> Value {
    let mut step = json!({ "do": call, "key": "k" });
    if call == "put" {
        step["value"] = json!("v");
    }
    json!([{ "do": "world", "ask": { "do": "act", "node": "all", "then": { "answer": wire } } }, step])
}

fn wires() -> [(&'static str, &'static str, Value); 8] {
    let receipt = json!({
        "answered": [2, 0], "epoch": "1", "need": 2, "durable": 2, "stand_ins": 0, "repaired": false, "replicas": 3,
    });
    let late = json!({
        "answered": [1], "epoch": "18446744073709551615", "need": 1, "durable": 0, "stand_ins": 1, "repaired": true, "replicas": 255,
    });
    let one = json!([{ "value": "v", "clock": "117440512000000001" }]);
    let two = json!([{ "value": "x", "clock": "18446744073709551615" }, { "value": "yy", "clock": "65536" }]);
    [
        (
            "a write",
            "put",
            json!({ "stored": { "siblings": 1, "context": "AAECAw", "clock": "117440512000000001" }, "receipt": receipt }),
        ),
        (
            "a write beside others",
            "put",
            json!({ "stored": { "siblings": 65535, "context": null, "clock": "18446744073709551615" }, "receipt": late }),
        ),
        (
            "a delete",
            "delete",
            json!({ "stored": { "siblings": 0, "context": "_-8", "clock": "0" }, "receipt": receipt }),
        ),
        ("a value", "get", json!({ "found": { "siblings": one, "context": "AAECAw" }, "receipt": receipt })),
        ("siblings", "get", json!({ "found": { "siblings": two, "context": "_____w" }, "receipt": late })),
        (
            "siblings with their context",
            "lookup",
            json!({ "found": { "siblings": two, "context": "_____w" }, "receipt": receipt }),
        ),
        ("a tombstone", "lookup", json!({ "absent": { "context": "AAECAw" }, "receipt": receipt })),
        ("nothing", "lookup", json!({ "absent": { "context": "" }, "receipt": late })),
    ]
}
