//! The machine under a clock of its own: gathering, late answers, breakers; and random histories, after which every operation has
//! ended once and in time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId},
    layout::{Layout, Member, MemberState, NodeIndex},
    operation::{Action, Address, Basis, Consistency, ErrorCode, Failure, Operation, Outcome, Receipt, Reply},
};
use proptest::prelude::*;
use schema::convert::{NodeLimits, ReplyHeader};

use super::{Effect, Engine, Settings, Submission, link::LinkId};
use crate::{Completer, Error, random::Random};

/// Notes every result by token.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<u64, Vec<Result<Reply, Error>>>>);

impl Completer for Notes {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        self.0.lock().unwrap().entry(token).or_default().push(result);
    }
}

impl Notes {
    fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    fn only(&self, token: u64) -> Result<Reply, Error> {
        let notes = self.0.lock().unwrap();
        assert_eq!(notes[&token].len(), 1);
        notes[&token][0].clone()
    }
}

/// A machine under a clock of its own.
struct Bench {
    engine: Engine,
    now: Instant,
    notes: Arc<Notes>,
    submitted: u64,
    /// Calls that were made and not answered.
    calls: Vec<(u64, LinkId)>,
    connects: Vec<LinkId>,
    disconnects: Vec<LinkId>,
    refreshes: usize,
    /// Whether connections come up at once.
    up: bool,
    /// Every call with the operations that were in it.
    sent: Vec<(LinkId, Vec<Operation>)>,
}

fn layout(nodes: u16) -> Layout {
    let member = |at: u16| Member {
        id: NodeId(u128::from(at) + 1),
        name: format!("n{at}"),
        zone: format!("z{at}"),
        weight: 1,
        addresses: vec![format!("10.0.0.{at}:1")],
        state: MemberState::Active,
    };
    let replicas = nodes.min(3);
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: vec![NodeIndex(0)],
        members: (0..nodes).map(member).collect(),
        partition_bits: 4,
        replicas: replicas as u8,
        slots: (0..16 * replicas).map(|at| (at / replicas + at % replicas) % nodes).collect(),
        buckets: Default::default(),
        spans: dynamo::layout::spans::Spans::settled(1),
    }
}

fn stored() -> Reply {
    Reply { outcome: Outcome::Stored { context: None, siblings: 1, clock: 1 }, receipt: Receipt::default() }
}

fn failed(code: ErrorCode) -> Reply {
    Reply { outcome: Outcome::Failed(Failure::new(code, "refused")), receipt: Receipt::default() }
}

impl Bench {
    fn new(nodes: u16, in_flight_max: usize) -> Self {
        let settings =
            Settings { attempt_timeout: Duration::from_millis(500), attempts_max: 3, in_flight_max, zone: None };
        let now = Instant::now();
        Self {
            engine: Engine::new(settings, Arc::new(layout(nodes)), Random::new(5), now),
            now,
            notes: Arc::default(),
            submitted: 0,
            calls: Vec::new(),
            connects: Vec::new(),
            disconnects: Vec::new(),
            refreshes: 0,
            up: true,
            sent: Vec::new(),
        }
    }

    fn put(&mut self, key: &str, timeout_ms: u64) -> u64 {
        let action = Action::Put {
            value: Bytes::from_static(b"v"),
            hash: Some(1),
            basis: Basis::Local,
            op_id: OpId { client: 9, sequence: self.submitted + 1 },
            seen_clock: 0,
            ttl_ms: 0,
        };
        self.submit(key, action, timeout_ms)
    }

    fn get(&mut self, key: &str, timeout_ms: u64) -> u64 {
        self.submit(key, Action::Get { without_values: true }, timeout_ms)
    }

    fn submit(&mut self, key: &str, action: Action, timeout_ms: u64) -> u64 {
        self.submitted += 1;
        let address = Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()));
        let submission = Submission {
            operation: Operation { address, consistency: Consistency::default(), action },
            sequence: self.submitted,
            started: self.now,
            deadline: self.now + Duration::from_millis(timeout_ms),
            token: self.submitted,
            completer: self.notes.clone(),
        };
        self.engine.submit(self.now, submission);
        self.submitted
    }

    /// Performs what the machine wants.
    fn settle(&mut self) {
        loop {
            self.engine.pump(self.now);
            let effects = std::mem::take(&mut self.engine.effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Connect(link) if self.up => {
                        let limits = NodeLimits { calls_in_flight_max: 256, ..NodeLimits::default() };
                        self.engine.connected(self.now, link, &limits);
                        self.connects.push(link);
                    }
                    Effect::Connect(link) => self.connects.push(link),
                    Effect::Disconnect(link) => {
                        self.calls.retain(|(_, other)| *other != link);
                        self.disconnects.push(link);
                    }
                    Effect::Send { call, link, budget } => {
                        assert!(budget > Duration::ZERO && budget <= Duration::from_millis(500 + 1056));
                        self.sent.push((link, self.engine.operations(call).cloned().collect()));
                        self.calls.push((call, link));
                    }
                    Effect::Complete { completer, token, result } => completer.complete(token, result),
                    Effect::Refresh { .. } => self.refreshes += 1,
                    Effect::Health { .. } => {}
                }
            }
        }
    }

    fn pass(&mut self, duration_ms: u64) {
        let end = self.now + Duration::from_millis(duration_ms);
        while let Some(at) = self.engine.next_event().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.engine.sweep(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn answer(&mut self, at: usize, reply: &Reply) {
        let (call, _) = self.calls.remove(at);
        let count = self.engine.operations(call).count();
        let header = ReplyHeader { epoch: 1, ..ReplyHeader::default() };
        self.engine.answered(self.now, call, &header, vec![reply.clone(); count]);
        self.settle();
    }
}

mod ring;

#[test]
fn the_first_operation_waits_only_for_its_connection() {
    let mut bench = Bench::new(3, 1024);
    bench.put("k", 1000);
    bench.settle();
    assert_eq!((bench.connects.len(), bench.calls.len()), (1, 1));
    bench.answer(0, &stored());
    assert!(bench.notes.only(1).is_ok());
    assert!(bench.engine.is_idle());
}

#[test]
fn while_a_call_is_under_way_operations_gather_for_a_millisecond_at_most() {
    let mut bench = Bench::new(1, 1024);
    bench.put("first", 1000);
    bench.settle();
    for at in 0..50 {
        bench.put(&format!("{at}"), 1000);
    }
    bench.settle();
    assert_eq!(bench.calls.len(), 1, "they gather");
    bench.pass(1);
    assert_eq!(bench.sent.iter().map(|(_, operations)| operations.len()).collect::<Vec<_>>(), [1, 50]);
}

#[test]
fn operations_that_are_enough_for_a_call_do_not_wait() {
    let mut bench = Bench::new(1, 1024);
    bench.put("first", 1000);
    bench.settle();
    for at in 0..200 {
        bench.put(&format!("{at}"), 1000);
        bench.settle();
    }
    assert_eq!(bench.sent[1].1.len(), 128);
}

#[test]
fn large_values_take_turns_and_small_ones_go_between_them() {
    let mut bench = Bench::new(1, 1024);
    for at in 0..6 {
        let value = Bytes::from(vec![0; 1 << 20]);
        let action =
            Action::Put { value, hash: Some(1), basis: Basis::Local, op_id: OpId::NONE, seen_clock: 0, ttl_ms: 0 };
        bench.submit(&format!("{at}"), action, 5000);
    }
    bench.settle();
    let under_way =
        |bench: &Bench| bench.sent.iter().rev().take(bench.calls.len()).map(|(_, sent)| sent.len()).sum::<usize>();
    assert_eq!(under_way(&bench), 2, "more would not fit into the time of an attempt");
    bench.pass(600);
    assert_eq!(under_way(&bench), 2, "and have that time by their size");
    while bench.sent.iter().map(|(_, sent)| sent.len()).sum::<usize>() < 6 {
        bench.answer(0, &stored());
        assert!(under_way(&bench) <= 2);
    }
    let before = bench.calls.len();
    bench.put("small", 1000);
    bench.pass(1);
    assert_eq!(bench.calls.len(), before + 1, "a small one does not wait for large ones");
    (0..=before).for_each(|_| bench.answer(0, &stored()));
    assert!(bench.engine.is_idle());
}

#[test]
fn a_late_answer_still_counts_and_the_retry_is_forgotten() {
    let mut bench = Bench::new(3, 1024);
    bench.get("k", 2000);
    bench.settle();
    bench.pass(510);
    assert_eq!(bench.sent.len(), 2, "it went elsewhere");
    assert_ne!(bench.sent[0].0, bench.sent[1].0);
    let found = Reply { outcome: Outcome::NotFound { context: Bytes::new() }, receipt: Receipt::default() };
    bench.answer(0, &found);
    assert!(bench.notes.only(1).is_ok());
    bench.answer(0, &failed(ErrorCode::Internal));
    assert_eq!(bench.notes.count(), 1);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_late_failure_of_an_attempt_that_was_given_up_does_not_disturb_the_next() {
    let mut bench = Bench::new(3, 1024);
    bench.get("k", 2000);
    bench.settle();
    bench.pass(510);
    bench.answer(0, &failed(ErrorCode::InvalidRequest));
    assert_eq!(bench.notes.count(), 0);
    let found = Reply { outcome: Outcome::NotFound { context: Bytes::new() }, receipt: Receipt::default() };
    bench.answer(0, &found);
    assert!(bench.notes.only(1).is_ok());
}

#[test]
fn a_failure_that_comes_while_the_retry_pauses_is_only_noted() {
    let mut bench = Bench::new(1, 1024);
    bench.put("k", 1600);
    bench.settle();
    bench.pass(500);
    // The attempt was given up and the next one pauses; now its answer comes after all.
    assert_eq!(bench.sent.len(), 1);
    let retries = bench.engine.counts.retries;
    let failure = Failure { maybe_applied: true, ..Failure::new(ErrorCode::InvalidRequest, "no") };
    bench.answer(0, &Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() });
    assert_eq!((bench.notes.count(), bench.engine.counts.retries), (0, retries));
    bench.pass(20);
    assert_eq!(bench.sent.len(), 2);
    bench.answer(0, &failed(ErrorCode::InvalidRequest));
    assert!(bench.notes.only(1).unwrap_err().maybe_applied());
}

#[test]
fn what_waited_too_long_for_a_connection_is_not_sent_when_it_comes() {
    let mut bench = Bench::new(2, 1024);
    bench.up = false;
    bench.put("k", 2000);
    bench.settle();
    bench.pass(501);
    assert_eq!(bench.connects.len(), 2, "it waits for the other node now");
    bench.pass(501);
    // Both have been tried: it pauses. Now the connections come, late.
    let limits = NodeLimits { calls_in_flight_max: 256, ..NodeLimits::default() };
    for link in bench.connects.clone() {
        bench.engine.connected(bench.now, link, &limits);
    }
    bench.settle();
    assert!(bench.sent.is_empty(), "the operation is between two attempts");
    bench.pass(20);
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn quick_failures_do_not_make_a_node_look_quick() {
    let mut bench = Bench::new(1, 1024);
    bench.get("k", 2000);
    bench.settle();
    bench.now += Duration::from_millis(10);
    let found = Reply { outcome: Outcome::NotFound { context: Bytes::new() }, receipt: Receipt::default() };
    bench.answer(0, &found);
    let latency = |bench: &Bench| bench.engine.members().next().unwrap().2.latency_micros;
    let before = latency(&bench);
    assert!((9_900.0..10_100.0).contains(&before), "{before}");
    bench.get("k", 2000);
    bench.settle();
    bench.now += Duration::from_micros(10);
    bench.answer(0, &failed(ErrorCode::InvalidRequest));
    assert_eq!(latency(&bench), before);
}

#[test]
fn five_lost_calls_break_a_link_which_is_then_tried_in_the_background() {
    let mut bench = Bench::new(1, 1024);
    for at in 0..5 {
        bench.get(&format!("{at}"), 400);
        bench.settle();
        bench.pass(401);
    }
    assert_eq!(bench.disconnects, [LinkId(0)]);
    assert!(!bench.engine.members().next().unwrap().2.usable);
    assert!(bench.engine.is_idle());
    let connects = bench.connects.len();
    bench.pass(1100);
    assert_eq!(bench.connects.len(), connects + 1);
    assert!(bench.engine.members().next().unwrap().2.usable);
}

#[test]
fn an_overloaded_node_is_given_the_time_it_asks_for() {
    let mut bench = Bench::new(1, 1024);
    bench.put("k", 2000);
    bench.settle();
    let failure = Failure { retry_after_ms: 300, ..Failure::new(ErrorCode::Overloaded, "busy") };
    bench.answer(0, &Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() });
    bench.pass(299);
    assert_eq!(bench.sent.len(), 1);
    bench.pass(400);
    assert_eq!(bench.sent.len(), 2);
}

/// What may happen to a machine.
#[derive(Clone, Debug)]
enum Event {
    Put(u8),
    Get(u8),
    Answer(usize, Option<ErrorCode>),
    Lost(usize),
    Disconnect(usize),
    Unreachable(usize),
    Cancel(u64),
    Pass(u64),
    NewLayout(u16, u8),
    Connections(bool),
    Connected(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let code = prop::sample::select(vec![
        ErrorCode::Unavailable,
        ErrorCode::Overloaded,
        ErrorCode::QuorumTimeout,
        ErrorCode::InvalidRequest,
        ErrorCode::StaleView,
        ErrorCode::ShuttingDown,
    ]);
    prop_oneof![
        4 => any::<u8>().prop_map(Event::Put),
        4 => any::<u8>().prop_map(Event::Get),
        6 => (any::<usize>(), proptest::option::weighted(0.4, code)).prop_map(|(at, code)| Event::Answer(at, code)),
        1 => any::<usize>().prop_map(Event::Lost),
        1 => (0..4usize).prop_map(Event::Disconnect),
        1 => (0..4usize).prop_map(Event::Unreachable),
        1 => (1..60u64).prop_map(Event::Cancel),
        3 => (0..700u64).prop_map(Event::Pass),
        1 => (1..5u16, any::<u8>()).prop_map(|(nodes, changed)| Event::NewLayout(nodes, changed)),
        1 => any::<bool>().prop_map(Event::Connections),
        1 => (0..4usize).prop_map(Event::Connected),
    ]
}

proptest! {
    /// Whatever happens: every operation that was not cancelled ends exactly once and not after its deadline, no write is
    /// ever sent under two ids, and nothing is left behind.
    #[test]
    fn every_operation_ends_once_and_in_time(events in proptest::collection::vec(event(), 1..120)) {
        let mut bench = Bench::new(3, 8);
        let mut draining = 0;
        let mut cancelled = std::collections::BTreeSet::new();
        for event in events {
            match event {
                Event::Put(key) => _ = bench.put(&key.to_string(), 1500),
                Event::Get(key) => _ = bench.get(&key.to_string(), 1500),
                Event::Answer(at, code) if !bench.calls.is_empty() => {
                    let at = at % bench.calls.len();
                    draining += usize::from(code == Some(ErrorCode::ShuttingDown));
                    bench.answer(at, &code.map_or_else(stored, failed));
                }
                Event::Lost(at) if !bench.calls.is_empty() => {
                    let (call, _) = bench.calls.remove(at % bench.calls.len());
                    bench.engine.lost(bench.now, call);
                }
                Event::Disconnect(at) if at < bench.engine.links.len() => {
                    bench.calls.retain(|(_, link)| *link != LinkId(at));
                    bench.engine.disconnected(bench.now, LinkId(at));
                }
                Event::Unreachable(at) if at < bench.engine.links.len() && !bench.engine.links[at].is_up() => {
                    bench.engine.unreachable(bench.now, LinkId(at));
                }
                Event::Cancel(sequence) => {
                    if !bench.notes.0.lock().unwrap().contains_key(&sequence) && sequence <= bench.submitted {
                        cancelled.insert(sequence);
                    }
                    bench.engine.cancel(bench.now, &mut [sequence]);
                }
                Event::Pass(duration_ms) => bench.pass(duration_ms),
                Event::NewLayout(nodes, changed) => bench.change_ring(nodes, changed),
                Event::Connections(up) => bench.up = up,
                Event::Connected(at) if bench.engine.links.get(at).is_some_and(|link| {
                    matches!(link.state, super::link::LinkState::Connecting { .. })
                }) => {
                    let limits = NodeLimits { calls_in_flight_max: 256, ..NodeLimits::default() };
                    bench.engine.connected(bench.now, LinkId(at), &limits);
                }
                Event::Connected(_) | Event::Answer(..) | Event::Lost(_) | Event::Disconnect(_) | Event::Unreachable(_) => {}
            }
            bench.settle();
        }
        bench.pass(1500);
        prop_assert!(bench.engine.is_idle());
        let notes = bench.notes.0.lock().unwrap();
        for token in 1..=bench.submitted {
            let ended = notes.get(&token).map_or(0, Vec::len);
            prop_assert_eq!(ended, usize::from(!cancelled.contains(&token)), "operation {}", token);
        }
        for error in notes.values().flatten().filter_map(|result| result.as_ref().err()) {
            prop_assert!(error.elapsed() <= Duration::from_millis(1500));
            prop_assert!(error.attempts() <= 3);
        }
        prop_assert_eq!(bench.engine.load(), (0, 0));
        prop_assert!(bench.engine.members().all(|(_, _, health)| health.in_flight == 0));
        let ids: Vec<OpId> = bench.sent.iter().flat_map(|(_, operations)| operations).filter_map(|operation| {
            match operation.action {
                Action::Put { op_id, .. } | Action::Delete { op_id, .. } => Some(op_id),
                Action::Get { .. } => None,
            }
        }).collect();
        for id in &ids {
            prop_assert!(ids.iter().filter(|other| *other == id).count() <= 3 + draining);
        }
        prop_assert_eq!(bench.engine.take_released() as u64, bench.submitted);
    }
}
