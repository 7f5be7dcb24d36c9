//! Inputs to begin with, one or a few of each kind: from nothing one would never guess them. They are checked in under
//! `fuzz/corpus`, and a test says when they are out of date.

use bytes::Bytes;
use capnp::{
    message::{Builder, HeapAllocator},
    traits::{HasTypeId, Owned},
};
use capnp_rpc::rpc_capnp::{call, message};
use dynamo::{
    acceptor::{Acceptor, Ballot},
    hint::{HintKey, HintUsage},
    ident::{NodeId, OpId},
    layout::{Layout, Member, MemberState, View, delta::Delta},
    operation::{Action, Basis, Consistency, Operation},
    peer::{MoveAsk, MoveQuestion, PeerAction, PeerOperation, TreeAsk, TreePath, TreeQuestion},
    planner::{Desired, plan},
    record,
    replica::PartitionRow,
    settlement::Proven,
    staging::{Change, Staged},
    token,
    version::{Actor, CausalContext, Content, Dot, Object, Spent, Version, put::Seen},
};
use schema::{
    convert::{self, BallotRequest, HelloRequest, RequestHeader, Role},
    kv_capnp::{execute_request, kv, ring, ring_delta, ring_request},
    node_capnp::{PROTOCOL_VERSION, hello_request, node},
    peer_capnp::{accept_request, move_request, peer_request, tree_request},
};
use xxhash_rust::xxh3::xxh3_128;

use crate::bodies::encodings::{TOKEN_KEY, address};

type Seeds = Vec<(&'static str, Vec<u8>)>;

/// In front of a stream: in pieces of how many bytes it arrives.
const PIECE: u8 = 64;

/// In front of a message: where it is cut in two; 0 leaves it whole.
const WHOLE: u8 = 0;

/// Connections: an introduction, one with operations behind it that do not wait for the answer, a node's introduction.
pub fn frames() -> Seeds {
    let (bootstrap, client) = (bootstrap(), hello(Role::Client));
    let joined = |frames: &[&[u8]]| [&[PIECE], frames.concat().as_slice()].concat();
    vec![
        ("hello", joined(&[&bootstrap, &client])),
        ("operations", joined(&[&bootstrap, &client, &call(2, &operations()), &finish(1)])),
        ("peer", joined(&[&bootstrap, &hello(Role::Peer)])),
        ("half", joined(&[&bootstrap, &client[..40]])),
    ]
}

/// What a client sends first: it asks for the bootstrap object as question 0, and says hello as question 1.
pub fn introduction() -> Vec<u8> {
    [bootstrap(), hello(Role::Client)].concat()
}

/// A call of these operations, on the answer to the hello of [`introduction`].
pub fn call(question: u32, operations: &[Operation]) -> Vec<u8> {
    frame(|root| {
        let mut call = root.init_call();
        // The reply is the first pointer of the results, and `kv` the seventh of the reply.
        let content = to_bootstrap(&mut call, question, kv::Client::TYPE_ID, 3, &[0, 6]);
        execute_into(content.init_as::<kv::execute_params::Builder<'_>>().init_request(), operations);
    })
}

/// Says that the answer to a question is needed no more.
pub fn finish(question: u32) -> Vec<u8> {
    frame(|root| root.init_finish().set_question_id(question))
}

fn bootstrap() -> Vec<u8> {
    frame(|root| root.init_bootstrap().set_question_id(0))
}

fn hello(role: Role) -> Vec<u8> {
    let request = HelloRequest {
        protocol_min: PROTOCOL_VERSION,
        protocol_max: PROTOCOL_VERSION,
        client: "fuzz".into(),
        role,
        credentials: Bytes::new(),
        peer: None,
    };
    frame(|root| {
        let mut call = root.init_call();
        let content = to_bootstrap(&mut call, 1, node::Client::TYPE_ID, 0, &[]);
        request.encode(content.init_as::<node::hello_params::Builder<'_>>().init_request());
    })
}

fn frame(fill: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut message = Builder::new(HeapAllocator::new());
    fill(message.init_root());
    capnp::serialize::write_message_to_words(&message)
}

/// Addresses a call to the bootstrap object, or to a pointer in the answer to question 1; its parameters.
fn to_bootstrap<'c>(
    call: &'c mut call::Builder<'_>,
    question: u32,
    interface: u64,
    method: u16,
    path: &[u16],
) -> capnp::any_pointer::Builder<'c> {
    call.set_question_id(question);
    call.set_interface_id(interface);
    call.set_method_id(method);
    let mut answer = call.reborrow().init_target().init_promised_answer();
    answer.set_question_id(u32::from(!path.is_empty()));
    let mut steps = answer.init_transform(path.len() as u32);
    for (at, pointer) in (0..).zip(path) {
        steps.reborrow().get(at).set_get_pointer_field(*pointer);
    }
    call.reborrow().init_params().init_content()
}

fn execute_into(mut request: execute_request::Builder<'_>, operations: &[Operation]) {
    let header = RequestHeader { epoch: 1, budget_ms: 1000, traceparent: None, hops: 0 };
    header.encode(request.reborrow().init_header());
    convert::encode_operations(request.init_operations(operations.len() as u32), operations);
}

fn operations() -> [Operation; 4] {
    let action = |action| Operation { address: address(), consistency: Consistency::default(), action };
    let put = |basis| {
        let (value, op_id) = (Bytes::from_static(b"value"), OpId { client: 1, sequence: 2 });
        action(Action::Put { value, hash: None, basis, op_id, seen_clock: 0, ttl_ms: 0 })
    };
    let token = Bytes::from(tokens().remove(0).1);
    [action(Action::Get { without_values: false }), put(Basis::Local), put(Basis::Beside), put(Basis::Context(token))]
}

/// Messages by the struct they are of.
pub fn structs() -> Seeds {
    let view = View { prefix: 0, bits: 0, lo: 1, hi: 1 };
    let store_key = address().store_key;
    let record = Bytes::from(records().remove(0).1);
    vec![
        (
            "hello",
            words::<hello_request::Owned>(|mut wire| {
                wire.set_client("fuzz");
                let mut peer = wire.init_peer();
                peer.set_node(&[1; 16]);
                peer.set_layout_hash(&[2; 16]);
            }),
        ),
        ("operations", words::<execute_request::Owned>(|wire| execute_into(wire, &operations()))),
        (
            "ring",
            words::<ring::Owned>(|wire| {
                let mut all = Builder::new_default();
                let request = all.init_root::<ring_request::Builder<'_>>().into_reader();
                convert::encode_ring(wire, &layout(), &layout().hash(), request.get_pages());
            }),
        ),
        (
            "peer",
            words::<peer_request::Owned>(|wire| {
                let operation = |action| PeerOperation { view, store_key, action };
                let operations = [
                    operation(PeerAction::Read),
                    operation(PeerAction::Merge(record.clone())),
                    operation(PeerAction::Hint { target: NodeId(7), record }),
                ];
                convert::encode_peer_operations(wire.init_operations(3), &operations);
            }),
        ),
        (
            "tree",
            words::<tree_request::Owned>(|wire| {
                let ask = |ask| TreeQuestion { view, path: TreePath { prefix: 1 << 63, bits: 1 }, ask };
                convert::encode_tree_questions(wire.init_questions(2), &[ask(TreeAsk::Sum), ask(TreeAsk::Keys(9))]);
            }),
        ),
        (
            "move",
            words::<move_request::Owned>(|wire| {
                let asks = [MoveAsk::Adopt, MoveAsk::Range { after: Some(store_key), bytes_max: 9 }];
                let questions = asks.map(|ask| MoveQuestion { view, ask });
                convert::encode_move_questions(wire.init_questions(2), &questions);
            }),
        ),
        (
            "accept",
            words::<accept_request::Owned>(|wire| {
                let ballot = Ballot { round: 3, proposer: NodeId(2) };
                let request = BallotRequest { epoch: 2, ballot, layout: Some(layout().encode().into()) };
                request.encode_accept(&RequestHeader::default(), wire);
            }),
        ),
        (
            "delta",
            words::<ring_delta::Owned>(|wire| {
                convert::encode_delta(wire, &delta());
            }),
        ),
    ]
}

/// The first segment of a message, without the table before it.
fn words<T: Owned>(fill: impl FnOnce(T::Builder<'_>)) -> Vec<u8> {
    let mut message = Builder::new(HeapAllocator::new().first_segment_words(4096));
    fill(message.init_root::<T::Builder<'_>>());
    [&[WHOLE], message.get_segments_for_output()[0]].concat()
}

/// Context tokens, without the seal at their ends.
pub fn tokens() -> Seeds {
    let context = CausalContext::from_entries(vec![(Actor(3), 9), (Actor(5), 1)]).expect("they ascend");
    let seen = Seen { context, spent: vec![1, 2, 3] };
    let sealed = token::seal(&TOKEN_KEY, &address().store_key, &seen);
    vec![("two-actors", sealed[..sealed.len() - 16].to_vec()), ("sealed", sealed.to_vec())]
}

/// Records: a value, siblings with a tombstone and an expiry.
pub fn records() -> Seeds {
    let version = |actor, content, expires| Version {
        dot: Dot { actor: Actor(actor), seq: 2 },
        op_id: OpId { client: 9, sequence: actor },
        clock: 77 << 16,
        expires,
        content,
    };
    let value = |bytes: &'static [u8]| Content::Value { bytes: Bytes::from_static(bytes), hash: xxh3_128(bytes) };
    let object = |versions: Vec<Version>, spent| {
        let entries = versions.iter().map(|version| (version.dot.actor, 5)).collect();
        Object { context: CausalContext::from_entries(entries).expect("they ascend"), versions, spent }
    };
    let single = object(vec![version(1, value(b"one value"), 0)], Vec::new());
    let siblings = object(
        vec![version(1, value(b"one"), 1), version(2, Content::Tombstone, 0), version(3, value(b""), 0)],
        vec![Spent { clock: 9, hash: 8 }],
    );
    vec![("value", record::encode(&address(), &single)), ("siblings", record::encode(&address(), &siblings))]
}

/// What stands in the environment of hints, and a partition's row.
pub fn hints() -> Seeds {
    let view = View { prefix: 0, bits: 0, lo: 1, hi: 1 };
    let key = HintKey::new(NodeId(7), &view, address().store_key).expect("every key is in the only partition");
    let mut usage = HintUsage::default();
    usage.add(&key, 100);
    vec![
        ("key", key.encode().to_vec()),
        ("usage", usage.encode(NodeId(7)).to_vec()),
        ("partition", PartitionRow::new(view).encode().to_vec()),
    ]
}

/// A layout of three nodes, changes of it that are staged, what an elector has promised and accepted, and the difference to the next.
pub fn layouts() -> Seeds {
    let (layout, mut staged) = (layout(), Staged::default());
    let newcomer = Member { id: NodeId(4), name: "n4".to_owned(), ..layout.members[0].clone() };
    let changes = [
        Change::Join(newcomer),
        Change::Replace { old: NodeId(1), new: NodeId(4) },
        Change::Leave(NodeId(2)),
        Change::Reweight { node: NodeId(3), weight: 7 },
        Change::Replicas(2),
        Change::PartitionBits(5),
    ];
    for change in changes {
        let stamp = staged.next_stamp(0, NodeId(1));
        staged.stage(change, stamp).expect("few changes fit");
    }
    let (mut elector, ballot) = (Acceptor::new(layout.epoch), Ballot { round: 3, proposer: NodeId(2) });
    elector.prepare(NodeId(1), &layout, layout.epoch + 1, ballot);
    let delta = convert::write_delta(&delta()).expect("it has one kind of spans");
    vec![
        ("three-nodes", layout.encode()),
        ("staged", staged.encode()),
        ("promised", elector.encode()),
        ("delta", delta.to_vec()),
    ]
}

/// What changes when the first node gets another weight and takes over a partition.
fn delta() -> Delta {
    let (before, mut after) = (layout(), layout());
    after.epoch += 1;
    after.parent_hash = before.hash();
    after.members[0].weight = 2;
    after.slots.swap(0, 1);
    Delta::between(&before, &after).expect("they are alike")
}

/// A layout of three nodes.
pub(crate) fn layout() -> Layout {
    let member = |at: u8| Member {
        id: NodeId(u128::from(at)),
        name: format!("n{at}"),
        zone: format!("z{at}"),
        weight: 1,
        addresses: vec![format!("10.0.0.{at}:7601")],
        state: MemberState::Active,
    };
    let buckets = [("carts".to_owned(), Default::default())].into();
    let desired = Desired {
        cluster: 1,
        members: (1..=3).map(member).collect(),
        replicas: 3,
        partition_bits: Some(4),
        buckets,
        replacements: Default::default(),
        proven: Proven::Everything,
    };
    plan(None, &desired).expect("three nodes can be planned").layout
}

/// A file with every key, and one of a cluster.
#[cfg(feature = "node")]
pub fn configurations() -> Seeds {
    let cluster = "name = \"n1\"\nlisten = \"127.0.0.1:7601\"\n[cluster]\nname = \"c\"\nsecret = \"0123456789abcdef\"\n\
                   members = [{ name = \"n1\", address = \"a:1\", zone = \"z\", weight = 7 }]\n[buckets.b]\nlevel = \"quorum\"\n";
    vec![("default", server::config::default_file().into_bytes()), ("cluster", cluster.as_bytes().to_vec())]
}
