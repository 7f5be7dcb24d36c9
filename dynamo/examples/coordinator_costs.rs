//! What one operation costs inside the coordinator, in nanoseconds of one core: the whole way through `step`, from the
//! client's request to its reply, with the replicas' answers prepared beforehand. No I/O, no RPC, no store. Each figure is
//! the best of several rounds, because whatever else runs on the machine can only make a round slower.
//!
//!     cargo run --release -p quorate-dynamo --example coordinator_costs
//!
//! Rounds and operations may be given. One round of few operations is for counting instructions, which other work does not disturb:
//!
//!     valgrind --tool=callgrind target/release/examples/coordinator_costs 1 2560

use std::{hint::black_box, sync::Arc, time::Instant};

use bytes::Bytes;
use dynamo::{
    coordinator::{CallId, Coordinator, CoordinatorConfig, Effect, Input, PeerCall, RequestId},
    ident::{NodeId, OpId},
    layout::{Layout, Member, MemberState, NodeIndex},
    operation::{Action, Address, Basis, Consistency, Operation},
    peer::{PeerAction, PeerResult},
    record,
    replica::{Minted, WriteOutcome},
    ring::Ring,
    tick::Tick,
    token::TokenKey,
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};

const ROUNDS: usize = 10;
const OPERATIONS: usize = 100_000;
/// Operations that are in flight together, as batches of a busy worker are.
const BATCH: usize = 256;
const VALUE_BYTES: [usize; 2] = [100, 1_000];

fn main() {
    println!("{:<44} {:>10} {:>10}", "ns per operation, by value length in bytes", VALUE_BYTES[0], VALUE_BYTES[1]);
    for nodes in [1, 3] {
        let [get, put] = [get_ns as fn(u16, usize) -> f64, put_ns]
            .map(|measure| VALUE_BYTES.map(|bytes| best(&|| measure(nodes, bytes))));
        println!("{:<44} {:>10.0} {:>10.0}", format!("get, {nodes} owner(s), quorum, all agree"), get[0], get[1]);
        println!("{:<44} {:>10.0} {:>10.0}", format!("put, {nodes} owner(s), quorum"), put[0], put[1]);
    }
    let parts = VALUE_BYTES.map(parts_ns);
    for (at, name) in ["store key of bucket and key", "decode a record", "seal a context token"].into_iter().enumerate()
    {
        println!("{:<44} {:>10.0} {:>10.0}", format!("  of which: {name}"), parts[0][at], parts[1][at]);
    }
}

/// A number from the command line, by its place there.
fn argument(place: usize, default: usize) -> usize {
    std::env::args().nth(place).and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn best(measure: &dyn Fn() -> f64) -> f64 {
    (0..argument(1, ROUNDS)).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

fn layout(nodes: u16) -> Layout {
    let member = |index: u16| Member {
        id: NodeId(u128::from(index)),
        name: format!("n{index}"),
        zone: String::new(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members: (0..nodes).map(member).collect(),
        partition_bits: 8,
        replicas: nodes as u8,
        slots: (0..256).flat_map(|_| 0..nodes).collect(),
        buckets: Default::default(),
        spans: dynamo::layout::spans::Spans::settled(1),
    }
}

fn addresses() -> Vec<Address> {
    let bucket = Bytes::from_static(b"default");
    (0..BATCH).map(|at| Address::new(bucket.clone(), Bytes::from(format!("user:{at:08}")))).collect()
}

fn object(bytes: usize) -> Object {
    let value = Bytes::from(vec![7; bytes]);
    let hash = xxhash_rust::xxh3::xxh3_128(&value);
    let dot = Dot { actor: Actor(77), seq: 1 };
    let op_id = OpId { client: 1, sequence: 1 };
    let content = Content::Value { bytes: value, hash };
    let mut object = Object::new();
    object.put(&Seen::default(), Version { dot, op_id, clock: 1, expires: 0, content });
    object
}

fn coordinator(nodes: u16) -> Coordinator {
    Coordinator::new(CoordinatorConfig::new(
        Some(NodeIndex(0)),
        Arc::new(Ring::new(Arc::new(layout(nodes)))),
        TokenKey([7; 32]),
    ))
}

/// Runs operations in batches: all requests, then the answers to whatever was asked, until all have replies.
fn run(nodes: u16, action: impl Fn() -> Action, answer: impl Fn(&Effect, &mut Vec<(CallId, Answer)>)) -> f64 {
    let addresses = addresses();
    let mut coordinator = coordinator(nodes);
    let (mut effects, mut asked, mut replies) = (Vec::new(), Vec::new(), 0);
    let batches = argument(2, OPERATIONS).max(BATCH) / BATCH;
    let begin = Instant::now();
    for batch in 0..batches {
        let now = Tick(batch as u64);
        for (at, address) in addresses.iter().enumerate() {
            let operation =
                Operation { address: address.clone(), consistency: Consistency::default(), action: action() };
            let (request, deadline) = (RequestId(at as u64), now.after(5_000));
            let input = Input::Client { request, operation, hops: 0, deadline, now_wall_ms: 1_700_000_000_000 };
            coordinator.step(now, input, &mut effects);
        }
        while !effects.is_empty() {
            for effect in effects.drain(..) {
                replies += usize::from(matches!(effect, Effect::Reply { .. }));
                answer(&effect, &mut asked);
                black_box(effect);
            }
            for (call, answer) in asked.drain(..) {
                let input = match answer {
                    Answer::Local(result) => Input::LocalRead { call, result },
                    Answer::Peer(result) => Input::Peer { call, result: PeerCall::Answered(result) },
                    Answer::Minted(minted) => Input::Minted { call, minted },
                    Answer::Committed(minted) => Input::LocalWrite { call, outcome: WriteOutcome::Minted(minted) },
                };
                coordinator.step(now, input, &mut effects);
            }
        }
    }
    let elapsed = begin.elapsed();
    assert_eq!(replies, batches * BATCH, "every operation was answered");
    assert_eq!(coordinator.in_flight(), 0);
    elapsed.as_nanos() as f64 / replies as f64
}

enum Answer {
    Local(PeerResult),
    Peer(PeerResult),
    Minted(Minted),
    Committed(Minted),
}

fn get_ns(nodes: u16, bytes: usize) -> f64 {
    let object = object(bytes);
    let records: Vec<(Bytes, u128)> = addresses()
        .iter()
        .map(|address| {
            let record = Bytes::from(record::encode(address, &object));
            let digest = record::verify(&address.store_key, &record).unwrap();
            (record, digest)
        })
        .collect();
    let by_key: std::collections::HashMap<_, _> =
        addresses().iter().map(|address| address.store_key).zip(records).collect();
    let action = || Action::Get { without_values: false };
    run(nodes, action, |effect, asked| match effect {
        Effect::LocalRead { call, operation } => {
            let (record, _) = &by_key[&operation.store_key];
            asked.push((*call, Answer::Local(PeerResult::Record(record.clone()))));
        }
        Effect::Peer { call, operation, .. } => {
            let (record, digest) = &by_key[&operation.store_key];
            let result = match operation.action {
                PeerAction::Read => PeerResult::Record(record.clone()),
                PeerAction::Digest | PeerAction::Merge(_) | PeerAction::ReadHint | PeerAction::Hint { .. } => {
                    PeerResult::Digest(*digest)
                }
            };
            asked.extend(call.map(|call| (call, Answer::Peer(result))));
        }
        _ => {}
    })
}

fn put_ns(nodes: u16, bytes: usize) -> f64 {
    let object = object(bytes);
    let value = Bytes::from(vec![7; bytes]);
    let address = &addresses()[0];
    let minted = Minted {
        record: Bytes::from(record::encode(address, &object)),
        dot: Some(Dot { actor: Actor(77), seq: 1 }),
        retried: false,
        clock: 1,
        siblings: 1,
        seen: Some(object.seen()),
    };
    let action = || Action::Put {
        value: value.clone(),
        hash: None,
        basis: Basis::Local,
        op_id: OpId { client: 1, sequence: 1 },
        seen_clock: 0,
        ttl_ms: 0,
    };
    // With other owners, the early notice of the mint is what starts them; with one it would be of no use.
    run(nodes, action, |effect, asked| match effect {
        Effect::LocalWrite { call: Some(call), .. } if nodes == 1 => {
            asked.push((*call, Answer::Committed(minted.clone())))
        }
        Effect::LocalWrite { call: Some(call), .. } => {
            asked.push((*call, Answer::Minted(minted.clone())));
            asked.push((*call, Answer::Committed(minted.clone())));
        }
        Effect::Peer { call: Some(call), .. } => asked.push((*call, Answer::Peer(PeerResult::Stored))),
        _ => {}
    })
}

/// The parts that do real work on bytes, by themselves.
fn parts_ns(bytes: usize) -> [f64; 3] {
    let (address, object) = (addresses().remove(0), object(bytes));
    let (record, seen) = (Bytes::from(record::encode(&address, &object)), object.seen());
    let operations = argument(2, OPERATIONS);
    let time = |work: &dyn Fn()| {
        best(&|| {
            let begin = Instant::now();
            (0..operations).for_each(|_| work());
            begin.elapsed().as_nanos() as f64 / operations as f64
        })
    };
    let bucket = address.bucket.clone();
    [
        time(&|| drop(black_box(Address::new(bucket.clone(), address.key.clone())))),
        time(&|| drop(black_box(record::decode(&address.store_key, &record)))),
        time(&|| drop(black_box(dynamo::token::seal(&TokenKey([7; 32]), &address.store_key, &seen)))),
    ]
}
