//! Contexts: bytes and their base64url text, and what is refused. What the bytes mean only nodes know.

use quorate::Context;
use quorate_tests::{
    golden,
    scenario::{pattern, results},
};
use serde_json::{Value, json};

/// Bytes of contexts; of the last ones one is as long as any may be, and one longer.
fn bytes() -> Vec<Value> {
    let short = ["", "00", "fffe", "00fffe", "fbefbe", "6162636465666768"].map(|hex| json!({ "hex": hex }));
    let lengths = [100, 8192, 8193, 65_537].map(|length| json!({ "bytes": length }));
    short.into_iter().chain(lengths).collect()
}

/// The text of longer ones would fill pages.
const TEXT_BYTES_MAX: usize = 100;

const TEXTS: &[&str] = &[
    "",
    "AA",
    "__4",
    "AP_-",
    "AP_-==",
    "--__",
    "YWJj",
    "+/+/",
    "AP/+",
    "A",
    "AB",
    "with spaces",
    "YWJj\n",
    "ünï",
    "YW=Jj",
    "====",
];

pub(crate) fn made() -> String {
    let from_bytes = bytes().into_iter().map(|bytes| {
        let context = Context::from_bytes(pattern::bytes(&bytes).expect("these are bytes"));
        json!({ "bytes": bytes, "result": result(context) })
    });
    let from_text = TEXTS.iter().map(|text| json!({ "text": text, "result": result(text.parse()) }));
    golden::text(&json!({
        "about": "A context's text is the base64url of its bytes, without padding; padding is read.",
        "from_bytes": from_bytes.collect::<Vec<_>>(),
        "from_text": from_text.collect::<Vec<_>>(),
    }))
}

pub(crate) fn check(vectors: &Value) {
    for how in ["from_bytes", "from_text"] {
        let step = |vector: &Value| {
            let name = if how == "from_bytes" { "bytes" } else { "text" };
            json!({ "do": "context", name: vector[name], "expect": vector["result"] })
        };
        let steps: Vec<Value> = vectors[how].as_array().expect("there are vectors").iter().map(step).collect();
        super::play(&json!({ "steps": steps }), 1).unwrap_or_else(|slip| panic!("{how}: {slip}"));
    }
}

fn result(context: Result<Context, quorate::Error>) -> Value {
    match context {
        Ok(context) if context.as_bytes().len() > TEXT_BYTES_MAX => {
            json!({ "is": "context", "bytes": pattern::show(context.as_bytes()), "seen_nothing": false })
        }
        Ok(context) => results::context(&context),
        Err(error) => {
            let error = results::error(&error);
            json!({ "is": "error", "kind": error["kind"], "code": error["code"], "retryable": error["retryable"] })
        }
    }
}
