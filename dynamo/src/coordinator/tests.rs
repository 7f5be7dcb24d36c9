//! Transcripts: what the coordinator asks, hears and answers, one paragraph of the paper or of the design at a time.

use alloc::{collections::BTreeMap, format, string::ToString, sync::Arc, vec, vec::Vec};

use bytes::Bytes;

use super::{CallId, Coordinator, CoordinatorConfig, Effect, Input, PeerCall, RequestId};
use crate::{
    ident::OpId,
    layout::{Layout, Level, Member, MemberState, NodeIndex},
    operation::{Action, Address, Basis, Consistency, ErrorCode, Failure, Operation, Outcome, Reply},
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{Minted, Write, WriteOperation, WriteOutcome},
    ring::Ring,
    tick::Tick,
    token::{self, TokenKey},
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};

mod admission;
mod fuzz;
mod given_up;
mod reads;
mod routes;
mod sloppy;
mod writes;

const TOKEN_KEY: TokenKey = TokenKey([7; 32]);
const WALL_MS: u64 = 1_700_000_000_000;
const BUDGET_MS: u64 = 5_000;

/// A layout of `nodes` nodes that all own everything, in one partition.
fn layout(nodes: u16, replicas: u8) -> Layout {
    let member = |index: u16| Member {
        id: crate::ident::NodeId(u128::from(index) + 100),
        name: format!("n{index}"),
        zone: "z".to_string(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 4,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members: (0..nodes).map(member).collect(),
        partition_bits: 0,
        replicas,
        slots: (0..u16::from(replicas)).map(|slot| if slot < nodes { slot } else { u16::MAX }).collect(),
        buckets: BTreeMap::new(),
        spans: crate::layout::spans::Spans::settled(4),
    }
}

fn ring_of(layout: Layout) -> Arc<Ring> {
    Arc::new(Ring::new(Arc::new(layout)))
}

fn address() -> Address {
    Address::new(Bytes::from_static(b"carts"), Bytes::from_static(b"alice"))
}

fn value(text: &str) -> Content {
    let bytes = Bytes::from(text.as_bytes().to_vec());
    let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
    Content::Value { bytes, hash }
}

fn version(actor: u64, seq: u64, content: Content) -> Version {
    let dot = Dot { actor: Actor(actor), seq };
    Version { dot, op_id: OpId { client: actor, sequence: seq }, clock: seq, expires: 0, content }
}

/// An object that was written once, by `actor`.
fn written(actor: u64, text: &str) -> Object {
    let mut object = Object::new();
    object.put(&Seen::default(), version(actor, 1, value(text)));
    object
}

/// `object` after a write that replaced everything in it.
fn overwritten(object: &Object, actor: u64, content: Content) -> Object {
    let mut after = object.clone();
    after.put(&object.seen(), version(actor, 2, content));
    after
}

fn record_of(object: &Object) -> Bytes {
    Bytes::from(record::encode(&address(), object))
}

fn digest_of(object: &Object) -> u128 {
    record::verify(&address().store_key, &record_of(object)).unwrap()
}

fn minted(object: &Object, is_sole: bool) -> Minted {
    let newest = object.versions.iter().max_by_key(|version| version.clock).unwrap();
    Minted {
        record: record_of(object),
        dot: Some(newest.dot),
        retried: false,
        clock: newest.clock,
        siblings: object.versions.len() as u16,
        seen: is_sole.then(|| object.seen()),
    }
}

/// A coordinator, node 0 unless said otherwise, and what it has asked for and not been answered yet.
struct Desk {
    coordinator: Coordinator,
    now: Tick,
    effects: Vec<Effect>,
    requests: u64,
}

impl Desk {
    fn new(nodes: u16, replicas: u8) -> Self {
        Self::with(nodes, replicas, |_| {})
    }

    fn with(nodes: u16, replicas: u8, change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let mut config = CoordinatorConfig::new(Some(NodeIndex(0)), ring_of(layout(nodes, replicas)), TOKEN_KEY);
        change(&mut config);
        Self { coordinator: Coordinator::new(config), now: Tick(1_000), effects: Vec::new(), requests: 0 }
    }

    fn step(&mut self, input: Input) {
        self.coordinator.step(self.now, input, &mut self.effects);
    }

    fn ask_with_hops(&mut self, hops: u8, consistency: Consistency, action: Action) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        let operation = Operation { address: address(), consistency, action };
        let deadline = self.now.after(BUDGET_MS);
        self.step(Input::Client { request, operation, hops, deadline, now_wall_ms: WALL_MS });
        request
    }

    fn ask(&mut self, level: Level, action: Action) -> RequestId {
        self.ask_with_hops(0, Consistency { level: Some(level), ..Consistency::default() }, action)
    }

    fn get(&mut self, level: Level) -> RequestId {
        self.ask(level, Action::Get { without_values: false })
    }

    fn put(&mut self, level: Level) -> RequestId {
        self.ask(level, put_of("v", Basis::Local))
    }

    fn delete(&mut self, level: Level, basis: Basis) -> RequestId {
        self.ask(level, Action::Delete { basis, op_id: OpId { client: 9, sequence: 9 }, seen_clock: 0 })
    }

    fn pass(&mut self, duration_ms: u64) {
        self.now = self.now.after(duration_ms);
        if self.coordinator.next_deadline().is_some_and(|due| due <= self.now) {
            self.step(Input::Deadline);
        }
    }

    fn take<T>(&mut self, wanted: impl Fn(&Effect) -> Option<T>) -> T {
        let at = self.effects.iter().position(|effect| wanted(effect).is_some());
        let at = at.unwrap_or_else(|| panic!("no such effect among {:#?}", self.effects));
        wanted(&self.effects.remove(at)).unwrap()
    }

    /// The one reply there is.
    fn reply(&mut self) -> Reply {
        self.take(|effect| match effect {
            Effect::Reply { reply, .. } => Some(reply.clone()),
            Effect::LocalRead { .. }
            | Effect::LocalWrite { .. }
            | Effect::LocalHint { .. }
            | Effect::Peer { .. }
            | Effect::Forward { .. }
            | Effect::WantLayout { .. } => None,
        })
    }

    fn failure(&mut self) -> Failure {
        match self.reply().outcome {
            Outcome::Failed(failure) => failure,
            other @ (Outcome::Found { .. } | Outcome::NotFound { .. } | Outcome::Stored { .. }) => panic!("{other:?}"),
        }
    }

    fn has_reply(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Reply { .. }))
    }

    /// Takes the local read there is.
    fn local_read(&mut self) -> CallId {
        self.take(|effect| match effect {
            Effect::LocalRead { call, .. } => Some(*call),
            Effect::Reply { .. }
            | Effect::LocalWrite { .. }
            | Effect::LocalHint { .. }
            | Effect::Peer { .. }
            | Effect::Forward { .. }
            | Effect::WantLayout { .. } => None,
        })
    }

    /// Takes the wish for a layout there is: its epoch.
    fn wanted_layout(&mut self) -> u64 {
        self.take(|effect| match effect {
            Effect::WantLayout { epoch } => Some(*epoch),
            _ => None,
        })
    }

    /// Takes the awaited local write there is.
    fn local_write(&mut self) -> (CallId, Write) {
        self.take(|effect| match effect {
            Effect::LocalWrite { call: Some(call), operation: WriteOperation::Mint { write, .. } } => {
                Some((*call, write.clone()))
            }
            _ => None,
        })
    }

    /// Takes the call to `node` there is.
    fn peer(&mut self, node: u16) -> (CallId, PeerOperation) {
        self.take(|effect| match effect {
            Effect::Peer { to, call: Some(call), operation } if *to == NodeIndex(node) => {
                Some((*call, operation.clone()))
            }
            _ => None,
        })
    }

    /// Takes the call to `node`, which must be a full read.
    fn read_at(&mut self, node: u16) -> CallId {
        let (call, operation) = self.peer(node);
        assert_eq!(operation.action, PeerAction::Read);
        call
    }

    fn digest_at(&mut self, node: u16) -> CallId {
        let (call, operation) = self.peer(node);
        assert_eq!(operation.action, PeerAction::Digest);
        call
    }

    fn merge_at(&mut self, node: u16) -> (CallId, Bytes) {
        match self.peer(node) {
            (call, PeerOperation { action: PeerAction::Merge(record), .. }) => (call, record),
            other => panic!("{other:?}"),
        }
    }

    /// Takes the repairs sent, by node; this node's own is under its own number.
    fn repairs(&mut self) -> Vec<(u16, Object)> {
        let object = |record: &Bytes| record::decode_of(&address(), record).unwrap();
        let mut repairs = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Peer { to, call: None, operation: PeerOperation { action: PeerAction::Merge(record), .. } } => {
                repairs.push((to.0, object(record)));
                false
            }
            Effect::LocalWrite { call: None, operation: WriteOperation::Merge { record, .. } } => {
                repairs.push((0, object(record)));
                false
            }
            _ => true,
        });
        repairs.sort_by_key(|(node, _)| *node);
        repairs
    }

    fn answer_local(&mut self, call: CallId, result: PeerResult) {
        self.step(Input::LocalRead { call, result });
    }

    fn answer(&mut self, call: CallId, result: PeerResult) {
        self.step(Input::Peer { call, result: PeerCall::Answered(result) });
    }

    fn lose(&mut self, call: CallId) {
        self.step(Input::Peer { call, result: PeerCall::Lost });
    }

    fn commit(&mut self, call: CallId, minted: Minted) {
        self.step(Input::LocalWrite { call, outcome: WriteOutcome::Minted(minted) });
    }

    fn cut_off(&mut self, node: u16) {
        self.step(Input::PeerState { node: NodeIndex(node), reachable: false });
    }

    /// Nothing is left to do, and nobody waits.
    fn is_done(&self) -> bool {
        self.effects.is_empty() && self.coordinator.in_flight() == 0
    }
}

fn put_of(text: &str, basis: Basis) -> Action {
    let value = Bytes::from(text.as_bytes().to_vec());
    Action::Put { value, hash: None, basis, op_id: OpId { client: 1, sequence: 1 }, seen_clock: 0, ttl_ms: 0 }
}

fn values(outcome: &Outcome) -> Vec<Bytes> {
    match outcome {
        Outcome::Found { siblings, .. } => siblings.iter().map(|sibling| sibling.value.clone()).collect(),
        Outcome::NotFound { .. } => Vec::new(),
        Outcome::Stored { .. } | Outcome::Failed(_) => panic!("{outcome:?}"),
    }
}

fn context_of(outcome: &Outcome) -> Seen {
    let context = match outcome {
        Outcome::Found { context, .. } | Outcome::NotFound { context } => context,
        Outcome::Stored { context: Some(context), .. } => context,
        Outcome::Stored { context: None, .. } | Outcome::Failed(_) => panic!("{outcome:?}"),
    };
    token::open(&TOKEN_KEY, &address().store_key, context).unwrap()
}
