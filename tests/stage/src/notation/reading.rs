//! From JSON: what a node shall do, and the layouts it shall tell. What is not understood is an error that names it: a scenario
//! with a slip of the pen must not pass.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex, SLOT_EMPTY},
    operation::{ErrorCode, Failure, Outcome, Receipt, Reply, Sibling, value_hash},
};
use serde_json::{Map, Value};

use super::showing::{CODES, code_name};
use crate::Act;

/// Why something was not understood.
type Slip = String;

/// What a node shall do: `"serve"`, `"hang"`, …, or an object with one field, `{"fail": {"code": "overloaded"}}`.
pub fn act(value: &Value) -> Result<Act, Slip> {
    if let Some(name) = value.as_str() {
        return match name {
            "serve" => Ok(Act::Serve),
            "hang" => Ok(Act::Hang),
            "hang_up" => Ok(Act::HangUp),
            "serve_and_hang_up" => Ok(Act::ServeAndHangUp),
            "damage" => Ok(Act::Damage),
            unknown => Err(format!("no act is called {unknown}")),
        };
    }
    let fields = fields(value, &["serve_after_ms", "fail", "refuse", "answer"])?;
    match fields.iter().next() {
        Some((name, value)) if name == "serve_after_ms" => Ok(Act::ServeAfter(Duration::from_millis(number(value)?))),
        Some((name, value)) if name == "fail" => Ok(Act::Fail(failure(value)?)),
        Some((name, value)) if name == "refuse" => Ok(Act::Refuse(failure(value)?)),
        Some((_, value)) => Ok(Act::Answer(Box::new(reply(value)?))),
        None => Err("an act without a name".to_owned()),
    }
}

/// A layout of nodes that listen at `addresses`: members, and the owners of each partition.
pub fn layout(value: &Value, addresses: &[String]) -> Result<Layout, Slip> {
    let fields = fields(value, &["name", "cluster", "epoch", "partition_bits", "replicas", "members", "slots"])?;
    let members = list(required(fields, "members")?)?;
    if members.len() > addresses.len() {
        return Err(format!("{} members, but only {} nodes are on stage", members.len(), addresses.len()));
    }
    let members: Result<Vec<Member>, Slip> =
        (0..).zip(members).zip(addresses).map(|((at, value), address)| member(at, value, address)).collect();
    let (bits, replicas) = (small(fields, "partition_bits", 0)?, small(fields, "replicas", 3)?);
    let rows = list(required(fields, "slots")?)?;
    let mut slots = Vec::new();
    for row in rows {
        let row = list(row)?;
        for at in 0..usize::from(replicas) {
            slots.push(row.get(at).map_or(Ok(SLOT_EMPTY), |slot| number(slot).map(|slot| slot as u16))?);
        }
    }
    if rows.len() != 1 << bits {
        return Err(format!("{} rows of owners for 2^{bits} partitions", rows.len()));
    }
    Ok(Layout {
        cluster: fields.get("cluster").map_or(Ok(77), number)?.into(),
        generation: 0,
        epoch: number(required(fields, "epoch")?)?,
        parent_hash: [0; 16],
        electors: vec![NodeIndex(0)],
        members: members?,
        partition_bits: bits,
        replicas,
        slots,
        buckets: Default::default(),
        spans: dynamo::layout::spans::Spans::settled(number(required(fields, "epoch")?)?),
    })
}

fn member(at: u16, value: &Value, address: &str) -> Result<Member, Slip> {
    let fields = fields(value, &["name", "zone", "weight"])?;
    Ok(Member {
        id: NodeId(u128::from(at) + 1),
        name: text(required(fields, "name")?)?,
        zone: text(required(fields, "zone")?)?,
        weight: fields.get("weight").map_or(Ok(1), number)? as u32,
        addresses: vec![address.to_owned()],
        state: MemberState::Active,
    })
}

fn failure(value: &Value) -> Result<Failure, Slip> {
    let known = ["code", "message", "retryable", "maybe_applied", "retry_after_ms", "need", "got"];
    let fields = fields(value, &known)?;
    let name = text(required(fields, "code")?)?;
    let code = CODES.iter().copied().find(|code| code_name(*code) == name);
    let code: ErrorCode = code.ok_or_else(|| format!("no code is called {name}"))?;
    let message = fields.get("message").map_or(Ok("told to fail".to_owned()), text)?;
    let mut failure = Failure::with_message(code, message);
    failure.retryable = fields.get("retryable").map_or(Ok(failure.retryable), truth)?;
    failure.maybe_applied = fields.get("maybe_applied").map_or(Ok(false), truth)?;
    failure.retry_after_ms = fields.get("retry_after_ms").map_or(Ok(0), number)? as u32;
    failure.need = small(fields, "need", 0)?;
    failure.got = small(fields, "got", 0)?;
    Ok(failure)
}

fn reply(value: &Value) -> Result<Reply, Slip> {
    let fields = fields(value, &["found", "absent", "stored", "receipt"])?;
    let receipt = fields.get("receipt").map_or(Ok(Receipt::default()), receipt)?;
    let outcome = match (fields.get("found"), fields.get("absent"), fields.get("stored")) {
        (Some(found), None, None) => found_outcome(found)?,
        (None, Some(absent), None) => Outcome::NotFound { context: context(absent.get("context"))? },
        (None, None, Some(stored)) => stored_outcome(stored)?,
        _ => return Err("an answer is one of found, absent and stored".to_owned()),
    };
    Ok(Reply { outcome, receipt })
}

fn found_outcome(value: &Value) -> Result<Outcome, Slip> {
    let fields = fields(value, &["siblings", "context"])?;
    let siblings: Result<Vec<Sibling>, Slip> = list(required(fields, "siblings")?)?.iter().map(sibling).collect();
    Ok(Outcome::Found { siblings: siblings?, context: context(fields.get("context"))? })
}

fn sibling(value: &Value) -> Result<Sibling, Slip> {
    let fields = fields(value, &["value", "clock"])?;
    let value = Bytes::from(text(required(fields, "value")?)?);
    let hash = value_hash(&value);
    Ok(Sibling { value_bytes: value.len() as u32, hash, value, clock: number(required(fields, "clock")?)? })
}

fn stored_outcome(value: &Value) -> Result<Outcome, Slip> {
    let fields = fields(value, &["siblings", "context", "clock"])?;
    let token = fields.get("context").filter(|context| !context.is_null());
    Ok(Outcome::Stored {
        context: token.map(|token| context(Some(token))).transpose()?,
        siblings: number(required(fields, "siblings")?)? as u16,
        clock: number(required(fields, "clock")?)?,
    })
}

fn receipt(value: &Value) -> Result<Receipt, Slip> {
    let known = ["answered", "epoch", "need", "durable", "stand_ins", "repaired", "replicas"];
    let fields = fields(value, &known)?;
    let answered: Result<Vec<NodeIndex>, Slip> = match fields.get("answered") {
        Some(answered) => list(answered)?.iter().map(|node| Ok(NodeIndex(number(node)? as u16))).collect(),
        None => Ok(Vec::new()),
    };
    Ok(Receipt {
        answered: answered?,
        epoch: fields.get("epoch").map_or(Ok(1), number)?,
        need: small(fields, "need", 0)?,
        durable: small(fields, "durable", 0)?,
        stand_ins: small(fields, "stand_ins", 0)?,
        repaired: fields.get("repaired").map_or(Ok(false), truth)?,
        replicas: small(fields, "replicas", 0)?,
    })
}

fn context(value: Option<&Value>) -> Result<Bytes, Slip> {
    let text = value.map_or(Ok(String::new()), text)?;
    URL_SAFE_NO_PAD.decode(&text).map(Bytes::from).map_err(|_| format!("{text} is not base64url"))
}

/// The fields of an object that has no others than `known`.
fn fields<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, Slip> {
    let fields = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("{unknown} is none of {known:?}")),
        None => Ok(fields),
    }
}

fn required<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Slip> {
    fields.get(name).ok_or_else(|| format!("{name} is missing"))
}

fn list(value: &Value) -> Result<&Vec<Value>, Slip> {
    value.as_array().ok_or_else(|| format!("{value} is no list"))
}

fn text(value: &Value) -> Result<String, Slip> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no text"))
}

fn truth(value: &Value) -> Result<bool, Slip> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

fn number(value: &Value) -> Result<u64, Slip> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| format!("{value} is no number"))
}

fn small(fields: &Map<String, Value>, name: &str, usual: u8) -> Result<u8, Slip> {
    let number = fields.get(name).map_or(Ok(usual.into()), number)?;
    u8::try_from(number).map_err(|_| format!("{name} is {number}, more than a byte holds"))
}
