//! What speaks against a reap, one objection at a time.

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId},
    layout::NodeIndex,
    version::{Actor, Content, Dot, Object, Version},
};

use super::{Agreement, Answer, Held, Holder, Holdings, Inspection};
use crate::cli::client::Hint;

const NOW: u64 = 1_000 << 16;

fn tombstone(seq: u64) -> Held {
    held(Version { content: Content::Tombstone, ..value(seq, 0) })
}

fn value(seq: u64, expires: u64) -> Version {
    let content = Content::Value { bytes: Bytes::from_static(b"v"), hash: 1 };
    Version { dot: Dot { actor: Actor(7), seq }, op_id: OpId::NONE, clock: seq, expires, content }
}

fn held(version: Version) -> Held {
    let mut object = Object::new();
    object.context.add(version.dot);
    let digest = u128::from(version.dot.seq);
    object.versions.push(version);
    Held::Object { object, digest }
}

fn holder(at: u16, held: Held) -> Holder {
    let inspection = Inspection { is_owner: at < 3, held, hints: Vec::new(), running: 0 };
    Holder { is_owner: at < 3, node: Answer { index: NodeIndex(at), name: format!("n{at}"), answer: Ok(inspection) } }
}

/// Three owners that hold the same tombstone, and a node that owns nothing, changed by `change`.
fn objections(change: impl FnOnce(&mut [Holder])) -> Vec<String> {
    let mut nodes: Vec<Holder> = (0..3).map(|at| holder(at, tombstone(1))).collect();
    nodes.push(holder(3, Held::Absent));
    change(&mut nodes);
    Holdings { nodes }.objections(NOW)
}

fn inspection(holder: &mut Holder) -> &mut Inspection {
    holder.node.answer.as_mut().expect("it answered")
}

#[track_caller]
fn assert_objects(objections: &[String], words: &[&str]) {
    assert!(
        objections.iter().any(|objection| words.iter().all(|word| objection.contains(word))),
        "{words:?} is not among {objections:?}"
    );
}

#[test]
fn a_tombstone_that_all_owners_hold_may_be_removed() {
    assert_eq!(objections(|_| {}), Vec::<String>::new());
}

#[test]
fn an_expired_value_is_no_objection_and_a_live_one_is() {
    let with = |expires| {
        objections(|nodes| nodes[..3].iter_mut().for_each(|node| inspection(node).held = held(value(1, expires))))
    };
    assert_eq!(with(NOW), Vec::<String>::new());
    assert_objects(&with(NOW + 1), &["n0", "1 live version"]);
    assert_objects(&with(0), &["n2", "1 live version"]);
}

#[test]
fn owners_that_differ_or_lack_the_record_object() {
    assert_objects(&objections(|nodes| inspection(&mut nodes[1]).held = tombstone(2)), &["do not hold the same", "n1"]);
    assert_objects(&objections(|nodes| inspection(&mut nodes[2]).held = Held::Absent), &["n2 holds nothing"]);
    assert_objects(&objections(|nodes| inspection(&mut nodes[0]).held = Held::Corrupt), &["n0", "can't be verified"]);
}

#[test]
fn nodes_that_do_not_answer_object_whether_they_are_owners_or_not() {
    let failure = || {
        crate::cli::client::Failure::from(dynamo::operation::Failure::new(
            dynamo::operation::ErrorCode::Unavailable,
            "gone",
        ))
    };
    assert_objects(&objections(|nodes| nodes[1].node.answer = Err(failure())), &["n1 does not answer", "gone"]);
    assert_objects(&objections(|nodes| nodes[3].node.answer = Err(failure())), &["n3 does not answer", "hint"]);
}

#[test]
fn hints_and_running_operations_object_wherever_they_are() {
    let hint = Hint { target: NodeId(9), held: Held::Corrupt };
    assert_objects(&objections(|nodes| inspection(&mut nodes[3]).hints.push(hint)), &["n3", "hint"]);
    assert_objects(&objections(|nodes| inspection(&mut nodes[3]).running = 2), &["2 operation(s)", "n3"]);
}

#[test]
fn where_nobody_holds_anything_there_is_nothing_to_remove() {
    let nothing = objections(|nodes| nodes[..3].iter_mut().for_each(|node| inspection(node).held = Held::Absent));
    assert_objects(&nothing, &["nothing to remove"]);
    let nodes = (0..3).map(|at| holder(at, Held::Absent)).collect();
    assert_eq!(Holdings { nodes }.agreement(), Agreement::Nothing);
}
