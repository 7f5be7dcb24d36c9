//! Errors: the kinds with their classes in every language, and cases: what happens, as steps of a scenario, and what the client says
//! then. The cases have every code that a node can answer with, with and without an effect, and those that are the client's own.

use dynamo::operation::ErrorCode;
use quorate_tests::golden;
use serde_json::{Value, json};

/// Each kind, with what it is in Python's standard library besides.
const KINDS: &[(&str, Option<&str>)] = &[
    ("Timeout", Some("TimeoutError")),
    ("Unavailable", None),
    ("QuorumTimeout", Some("TimeoutError")),
    ("Overloaded", None),
    ("TooManySiblings", None),
    ("Siblings", Some("ValueError")),
    ("TooLarge", Some("ValueError")),
    ("InvalidRequest", Some("ValueError")),
    ("Unauthenticated", Some("PermissionError")),
    ("Forbidden", Some("PermissionError")),
    ("Connection", Some("ConnectionError")),
    ("ClientClosed", None),
    ("Corrupt", None),
    ("Internal", None),
];

pub(crate) fn made() -> String {
    let kind = |(kind, base): &(&str, Option<&str>)| {
        let class = format!("{kind}Error");
        json!({ "kind": kind, "rust": format!("Error::{kind}"), "python": class, "python_base": base, "node": class })
    };
    let cases = cases().into_iter().map(|(name, steps)| {
        let said = super::play(&json!({ "steps": steps }), 3).unwrap_or_else(|slip| panic!("{name}: {slip}"));
        json!({ "name": name, "steps": steps, "error": without_node(said) })
    });
    golden::text(&json!({
        "about": "The last step of a case ends with the error. python_base is the class of Python's standard library that it is besides.",
        "kinds": KINDS.iter().map(kind).collect::<Vec<_>>(),
        "cases": cases.collect::<Vec<_>>(),
    }))
}

pub(crate) fn check(vectors: &Value) {
    let cases = vectors["cases"].as_array().expect("there are cases");
    for case in cases {
        let mut steps = case["steps"].clone();
        *steps.as_array_mut().and_then(|steps| steps.last_mut()).expect("a case has steps") =
            with_expectation(steps[steps.as_array().map_or(0, Vec::len) - 1].clone(), &case["error"]);
        super::play(&json!({ "steps": steps }), 3).unwrap_or_else(|slip| panic!("{}: {slip}", case["name"]));
    }
    for (kind, _) in KINDS {
        // Nothing can be made to be foreseen by nobody but a node that says so.
        assert!(cases.iter().any(|case| case["error"]["kind"] == *kind), "no case ends with {kind}");
    }
}

fn with_expectation(mut step: Value, error: &Value) -> Value {
    step["expect"] = error.clone();
    step
}

/// Which of the nodes was last is chance.
fn without_node(mut error: Value) -> Value {
    error.as_object_mut().expect("an error is an object").remove("node");
    error
}

fn cases() -> Vec<(String, Value)> {
    let act = |act: Value| json!({ "do": "world", "ask": { "do": "act", "node": "all", "then": act } });
    let last = |step: Value| with_expectation(step, &json!({ "is": "error" }));
    let put = || json!({ "do": "put", "key": "k", "value": "v", "timeout_ms": 4000 });
    let mut cases = Vec::new();
    for code in ALL {
        let name = stage::notation::code_name(code);
        for applied in [false, true] {
            let fail = json!({ "fail": { "code": name, "maybe_applied": applied, "need": 3, "got": 1 } });
            let how = if applied { "; the write may have been applied" } else { "" };
            cases.push((format!("nodes answer {name}{how}"), json!([act(fail), last(put())])));
        }
    }
    let two =
        json!({ "siblings": [{ "value": "x", "clock": "1" }, { "value": "y", "clock": "2" }], "context": "AAAA" });
    let short = |step: Value| {
        let mut step = last(step);
        step["timeout_ms"] = json!(200);
        step
    };
    let get = || json!({ "do": "get", "key": "k" });
    // A call may be on its way before the client sees that its connection is gone.
    let mut gone = with_expectation(put(), &json!({ "is": "error", "kind": "Connection" }));
    gone["timeout_ms"] = json!(500);
    gone["until"] = json!(true);
    let own: [(&str, Value); 9] = [
        ("a write that nobody answers", json!([act(json!("hang")), short(put())])),
        ("a read that nobody answers", json!([act(json!("hang")), short(get())])),
        ("a write whose connections break", json!([act(json!("hang_up")), last(put())])),
        ("a read whose answers are damaged", json!([put(), act(json!("damage")), last(get())])),
        (
            "one value where there are two",
            json!([
                act(json!({ "answer": { "found": two } })),
                last(json!({ "do": "get", "key": "k", "single": true }))
            ]),
        ),
        ("a key that is too long", json!([last(json!({ "do": "get", "key": { "bytes": 1025 } }))])),
        ("a key without a byte", json!([last(json!({ "do": "get", "key": "" }))])),
        ("a client that was closed", json!([put(), { "do": "close" }, last(get())])),
        ("nodes that are gone", json!([put(), { "do": "world", "ask": { "do": "kill", "node": "all" } }, gone])),
    ];
    cases.extend(own.map(|(name, steps)| (name.to_owned(), steps)));
    cases
}

const ALL: [ErrorCode; 15] = stage::notation::CODES;
