//! Objects against an oracle of plain sets of dots.
//!
//! The oracle keeps every dot it ever knew in a set and knows no contexts, no sorted lists and no shortcuts. A random
//! history of writes and meetings runs on real objects and on oracles side by side; then the laws are checked on the states
//! that occurred.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    Actor, CausalContext, Content, Dot, Object, SPENT_MAX, SPENT_RECENT_MAX, SPENT_RECENT_MS, Spent, Version, put::Seen,
};
use crate::{hlc, ident::OpId, layout::ConflictRule};

const REPLICAS: usize = 3;

/// Time between two steps: what was overwritten a dozen steps ago is no longer recent.
const STEP_MS: u64 = SPENT_RECENT_MS / 12;

/// What an object is, said as simply as possible.
#[derive(Clone, Debug, Default, PartialEq)]
struct Oracle {
    standing: BTreeMap<Dot, Version>,
    known: BTreeSet<Dot>,
    spent: BTreeMap<u64, u64>,
}

impl Oracle {
    fn merge(&self, other: &Self) -> Self {
        let stays = |dot: &Dot, other: &Self| other.standing.contains_key(dot) || !other.known.contains(dot);
        let ours = self.standing.iter().filter(|(dot, _)| stays(dot, other));
        let theirs = other.standing.iter().filter(|(dot, _)| stays(dot, self));
        let standing = ours.chain(theirs).map(|(dot, version)| (*dot, version.clone())).collect();
        let mut spent = self.spent.clone();
        for (hash, clock) in &other.spent {
            let known = spent.entry(*hash).or_default();
            *known = (*known).max(*clock);
        }
        let mut merged = Self { standing, known: &self.known | &other.known, spent };
        merged.settle();
        merged.keep_latest();
        merged
    }

    fn settle(&mut self) {
        let spent = self.spent.clone();
        self.standing.retain(|_, version| version.fingerprint().is_none_or(|hash| !spent.contains_key(&hash)));
    }

    fn put(&mut self, seen: &Self, version: Version) {
        let latest = self.spent.values().max().map_or(0, |clock| clock + 1);
        let overwritten = self.standing.values().filter(|standing| seen.known.contains(&standing.dot));
        let hashes: Vec<u64> = overwritten.chain(seen.standing.values()).filter_map(Version::fingerprint).collect();
        self.standing.retain(|dot, _| !seen.known.contains(dot));
        let clock = version.clock.max(latest);
        let others = hashes.into_iter().filter(|hash| Some(*hash) != version.fingerprint());
        self.spent.extend(others.map(|hash| (hash, clock)));
        self.settle();
        self.known.extend(&seen.known);
        self.known.insert(version.dot);
        self.standing.insert(version.dot, version);
        self.keep_latest();
    }

    fn keep_latest(&mut self) {
        let mut all: Vec<(u64, u64)> = self.spent.iter().map(|(hash, clock)| (*clock, *hash)).collect();
        all.sort_unstable();
        all.reverse();
        let latest = all.first().map_or(0, |(clock, _)| hlc::wall_ms_of(*clock));
        let stays = |at: usize, clock: u64| {
            let is_recent = hlc::wall_ms_of(clock) + SPENT_RECENT_MS >= latest;
            at < SPENT_MAX || (at < SPENT_RECENT_MAX && is_recent)
        };
        let kept = all.iter().enumerate().filter(|(at, (clock, _))| stays(*at, *clock));
        self.spent = kept.map(|(_, (clock, hash))| (*hash, *clock)).collect();
    }
}

/// Whether an object and an oracle are the same, given every dot that was ever minted.
fn same(object: &Object, oracle: &Oracle, minted: &BTreeSet<Dot>) -> bool {
    let standing: BTreeMap<Dot, Version> =
        object.versions.iter().map(|version| (version.dot, version.clone())).collect();
    let known: BTreeSet<Dot> = minted.iter().copied().filter(|dot| object.context.covers(*dot)).collect();
    let spent: BTreeMap<u64, u64> = object.spent.iter().map(|spent| (spent.hash, spent.clock)).collect();
    standing == oracle.standing && known == oracle.known && spent == oracle.spent
}

fn assert_well_formed(object: &Object) {
    assert!(object.versions.windows(2).all(|pair| pair[0].dot < pair[1].dot));
    assert!(object.versions.iter().all(|version| object.context.covers(version.dot)));
    assert!(object.spent.windows(2).all(|pair| pair[0] > pair[1]));
    assert!(object.spent.len() <= SPENT_RECENT_MAX);
}

/// A step of a history. Replicas and reads are chosen modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Put at a replica what it holds replaced, or beside, or under an earlier read; under an operation of a few.
    Put { at: usize, basis: u8, read: usize, op: u64, deletes: bool },
    /// One replica receives another's object.
    Meet { from: usize, to: usize },
    /// A client reads two replicas.
    Read { first: usize, second: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..REPLICAS, 0..4u8, any::<usize>(), 0..40u64, prop::bool::weighted(0.2))
            .prop_map(|(at, basis, read, op, deletes)| Step::Put { at, basis, read, op, deletes }),
        3 => (0..REPLICAS, 0..REPLICAS).prop_map(|(from, to)| Step::Meet { from, to }),
        2 => (0..REPLICAS, 0..REPLICAS).prop_map(|(first, second)| Step::Read { first, second }),
    ]
}

/// Objects and oracles that went through the same history.
#[derive(Default)]
struct History {
    replicas: Vec<(Object, Oracle)>,
    reads: Vec<(Seen, Oracle)>,
    minted: BTreeSet<Dot>,
    occurred: Vec<(Object, Oracle)>,
}

impl History {
    fn of(steps: &[Step]) -> Self {
        let mut history = Self::default();
        history.replicas.resize_with(REPLICAS, Default::default);
        history.reads.push(Default::default());
        for (time, step) in steps.iter().enumerate() {
            history.step(time as u64 + 1, *step);
        }
        history
    }

    fn step(&mut self, time: u64, step: Step) {
        let at = match step {
            Step::Put { at, basis, read, op, deletes } => {
                let (object, oracle) = &mut self.replicas[at];
                let (seen, known) = match basis {
                    0 => (object.seen(), oracle.clone()),
                    1 => Default::default(),
                    _ => self.reads[read % self.reads.len()].clone(),
                };
                let clock = hlc::clock_of(time * STEP_MS);
                let version = version(Dot { actor: Actor(at as u64 + 1), seq: time }, op, clock, deletes);
                let recognised = object.recognise(&version.op_id, &version.content);
                if recognised != super::put::Recognition::New {
                    return;
                }
                self.minted.insert(version.dot);
                object.put(&seen, version.clone());
                oracle.put(&known, version);
                at
            }
            Step::Meet { from, to } => {
                let (object, oracle) = self.replicas[from].clone();
                self.replicas[to].0.merge(&object);
                self.replicas[to].1 = self.replicas[to].1.merge(&oracle);
                to
            }
            Step::Read { first, second } => {
                let mut object = self.replicas[first].0.clone();
                object.merge(&self.replicas[second].0);
                let oracle = self.replicas[first].1.merge(&self.replicas[second].1);
                self.reads.push((object.seen(), oracle));
                return;
            }
        };
        self.occurred.push(self.replicas[at].clone());
    }
}

fn version(dot: Dot, op: u64, clock: u64, deletes: bool) -> Version {
    let bytes = Bytes::copy_from_slice(&op.to_le_bytes());
    let content = if deletes { Content::Tombstone } else { Content::Value { bytes, hash: u128::from(op) } };
    // Operation 0 is one without an id; a tombstone and a value never share one.
    let op_id = if op == 0 { OpId::NONE } else { OpId { client: 1 + u64::from(deletes), sequence: op } };
    Version { dot, op_id, clock, expires: 0, content }
}

/// Any object that keeps its own rules, reachable or not; equal dots are equal versions.
fn any_object() -> impl Strategy<Value = Object> {
    let dots = vec((1..4u64, 1..7u64), 0..8);
    let known = vec((1..5u64, 1..9u64), 0..5);
    let spent = vec((1..30u64, 3..25u64), 0..14);
    (dots, known, spent).prop_map(|(dots, known, spent)| {
        let dot = |(actor, seq)| Dot { actor: Actor(actor), seq };
        let dots: BTreeSet<Dot> = dots.into_iter().map(dot).collect();
        let context: CausalContext = known.into_iter().map(dot).chain(dots.iter().copied()).collect();
        let versions = dots.iter().map(|dot| version(*dot, dot.actor.0 * 3 + dot.seq % 5, dot.seq, false)).collect();
        let mut object = Object { versions, context, spent: Vec::new() };
        let hash = |op| version(Dot { actor: Actor(1), seq: 1 }, op, 1, false).fingerprint().unwrap();
        let spend = |(time, op)| Spent { clock: hlc::clock_of(time * STEP_MS), hash: hash(op) };
        remember(&mut object, spent.into_iter().map(spend));
        object.settle();
        object
    })
}

fn remember(object: &mut Object, spent: impl IntoIterator<Item = Spent>) {
    object.recall(&spent.into_iter().collect::<Vec<_>>());
    object.forget_spent();
}

fn joined(left: &Object, right: &Object) -> Object {
    let mut object = left.clone();
    object.join(right);
    object
}

fn merged(left: &Object, right: &Object) -> Object {
    let mut object = left.clone();
    object.merge(right);
    object
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Versions, contexts and memory are exactly the oracle's after every step: nothing uncovered is dropped, nothing
    /// covered stays, and a context claims nothing that was not known.
    #[test]
    fn every_state_of_a_history_is_the_oracles(steps in vec(step(), 1..60)) {
        let history = History::of(&steps);
        for (object, oracle) in &history.occurred {
            assert_well_formed(object);
            prop_assert!(same(object, oracle, &history.minted), "{object:?}\n{oracle:?}");
        }
    }

    #[test]
    fn join_is_commutative_associative_and_idempotent_for_any_objects(
        x in any_object(), y in any_object(), z in any_object(),
    ) {
        prop_assert_eq!(joined(&x, &y), joined(&y, &x));
        prop_assert_eq!(joined(&joined(&x, &y), &z), joined(&x, &joined(&y, &z)));
        prop_assert_eq!(joined(&x, &x), x.clone());
        // A least upper bound absorbs what it is made of.
        prop_assert_eq!(joined(&joined(&x, &y), &x), joined(&x, &y));
        assert_well_formed(&joined(&x, &y));
    }

    #[test]
    fn merge_is_commutative_idempotent_and_grows(x in any_object(), y in any_object()) {
        let both = merged(&x, &y);
        prop_assert_eq!(&both, &merged(&y, &x));
        prop_assert_eq!(&merged(&both, &both), &both);
        prop_assert_eq!(&merged(&both, &x), &both);
        prop_assert_eq!(&merged(&both, &y), &both);
    }

    /// The one law that the bounded memory limits: see the head of merge.rs.
    #[test]
    fn merge_is_associative_until_memory_is_evicted_and_confluent_beyond(
        x in any_object(), y in any_object(), z in any_object(),
    ) {
        let (left, right) = (merged(&merged(&x, &y), &z), merged(&x, &merged(&y, &z)));
        let hashes: BTreeSet<u64> = [&x, &y, &z].iter().flat_map(|object| &object.spent).map(|spent| spent.hash).collect();
        if hashes.len() <= SPENT_MAX {
            prop_assert_eq!(&left, &right);
        }
        prop_assert_eq!(&left.context, &right.context);
        prop_assert_eq!(&left.spent, &right.spent);
        for version in left.versions.iter().chain(&right.versions) {
            let in_both = left.versions.contains(version) && right.versions.contains(version);
            prop_assert!(in_both || version.fingerprint().is_some_and(|hash| hashes.contains(&hash)));
        }
        prop_assert_eq!(merged(&left, &right), merged(&right, &left));
        prop_assert_eq!(merged(&merged(&left, &right), &left), merged(&left, &right));
    }

    /// However objects meet, once all have met all and nothing changes any more, all are the same.
    #[test]
    fn replicas_end_equal_when_all_have_merged_all(
        steps in vec(step(), 1..60),
        order in vec((0..REPLICAS, 0..REPLICAS), 0..12),
    ) {
        let history = History::of(&steps);
        let mut objects: Vec<Object> = history.replicas.into_iter().map(|(object, _)| object).collect();
        for (from, to) in order {
            objects[to] = merged(&objects[to], &objects[from]);
        }
        let mut rounds = 0;
        while objects[0] != objects[1] || objects[1] != objects[2] {
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                objects[to] = merged(&objects[to], &objects[from]);
            }
            rounds += 1;
            prop_assert!(rounds <= 3, "two rounds carry everything everywhere, a third what they dropped");
        }
    }

    #[test]
    fn a_context_joined_with_another_covers_what_either_covers(
        left in vec((0..6u64, 1..9u64), 0..8), right in vec((0..6u64, 1..9u64), 0..8),
    ) {
        let context = |dots: &[(u64, u64)]| -> CausalContext {
            dots.iter().map(|&(actor, seq)| Dot { actor: Actor(actor), seq }).collect()
        };
        let (left, right) = (context(&left), context(&right));
        let mut both = left.clone();
        both.join(&right);
        for actor in 0..6 {
            for seq in 1..9 {
                let dot = Dot { actor: Actor(actor), seq };
                prop_assert_eq!(both.covers(dot), left.covers(dot) || right.covers(dot));
            }
        }
        prop_assert!(both.includes(&left) && both.includes(&right));
        prop_assert_eq!(CausalContext::from_entries(both.iter().collect()), Some(both));
    }
}

#[test]
fn beyond_eight_overwrites_and_a_minute_a_late_twin_may_be_shown_but_meetings_end_the_same() {
    // The price of a bounded memory, pinned: y knows that operation 9 is spent, z has overwritten eight things a minute later.
    let mut x = Object::new();
    x.put(&Seen::default(), version(Dot { actor: Actor(1), seq: 1 }, 9, 1, false));
    let hash = x.versions[0].fingerprint().unwrap();
    let mut y = Object::new();
    remember(&mut y, [Spent { clock: 1, hash }]);
    let mut z = Object::new();
    let later = hlc::clock_of(SPENT_RECENT_MS + 1);
    remember(&mut z, (0..8).map(|at| Spent { clock: later, hash: at }));
    let (left, right) = (merged(&merged(&x, &y), &z), merged(&x, &merged(&y, &z)));
    assert!(left.versions.is_empty());
    assert_eq!(right.versions.len(), 1);
    assert_eq!(merged(&right, &left), left);
}

#[test]
fn a_twin_that_arrives_within_a_minute_stays_away_after_dozens_of_overwrites() {
    // Its coordinator died; it lies with a node that parts with the partition, and comes when that hands over what it has.
    let mut leaver = Object::new();
    leaver.put(&Seen::default(), version(Dot { actor: Actor(1), seq: 1 }, 1, hlc::clock_of(1_000), false));
    let mut owner = Object::new();
    for write in 1..=50 {
        let clock = hlc::clock_of(1_000 + 200 * write);
        owner.put(&owner.seen(), version(Dot { actor: Actor(2), seq: write }, write, clock, false));
    }
    let both = merged(&owner, &leaver);
    assert_eq!(both.versions, owner.versions);
    // What is remembered of a key that is written without a pause has a bound as well.
    for write in 51..=500 {
        let clock = hlc::clock_of(11_000 + write);
        owner.put(&owner.seen(), version(Dot { actor: Actor(2), seq: write }, write, clock, false));
    }
    assert_eq!(owner.spent.len(), SPENT_RECENT_MAX);
}

#[test]
fn a_twin_is_shown_once_and_an_id_used_twice_shows_both_values() {
    let mut object = Object::new();
    let beside = Seen::default();
    object.put(&beside, version(Dot { actor: Actor(1), seq: 1 }, 5, 1, false));
    object.put(&beside, version(Dot { actor: Actor(2), seq: 1 }, 5, 1, false));
    assert_eq!(object.versions.len(), 2);
    assert_eq!(object.present(ConflictRule::Siblings, 0).count(), 1);
    let mut misused = version(Dot { actor: Actor(3), seq: 1 }, 6, 1, false);
    misused.op_id = object.versions[0].op_id;
    object.put(&beside, misused);
    assert_eq!(object.present(ConflictRule::Siblings, 0).count(), 2);
}

#[test]
fn where_the_last_writer_wins_a_tombstone_or_an_expired_value_can_win() {
    let beside = Seen::default();
    let mut object = Object::new();
    object.put(&beside, version(Dot { actor: Actor(1), seq: 1 }, 1, hlc::clock_of(5), false));
    object.put(&beside, version(Dot { actor: Actor(2), seq: 1 }, 2, hlc::clock_of(7), false));
    let show = |object: &Object, now| -> Vec<u64> {
        object.present(ConflictRule::LastWriterWins, now).map(|version| version.op_id.sequence).collect()
    };
    assert_eq!(show(&object, 0), [2]);
    object.versions[1].expires = hlc::clock_of(9);
    assert_eq!(show(&object, hlc::clock_of(8)), [2]);
    assert_eq!(show(&object, hlc::clock_of(9)), [] as [u64; 0], "a loser does not come back when the winner expires");
    object.put(&beside, version(Dot { actor: Actor(3), seq: 1 }, 3, hlc::clock_of(8), true));
    assert_eq!(show(&object, 0), [] as [u64; 0]);
    assert_eq!(object.present(ConflictRule::Siblings, 0).count(), 2);
}

#[test]
fn what_a_long_context_shows_a_client_still_replaces_all_that_stands() {
    let mut object = Object::new();
    for actor in 1..=300 {
        object.put(&object.seen(), version(Dot { actor: Actor(actor), seq: 1 }, actor, actor, false));
    }
    object.put(&Seen::default(), version(Dot { actor: Actor(7), seq: 2 }, 1_000, 301, false));
    let seen = object.seen();
    assert_eq!(seen.context.len(), 2);
    assert!(object.versions.iter().all(|version| seen.context.covers(version.dot)));
    object.put(&seen, version(Dot { actor: Actor(400), seq: 1 }, 1_001, 302, false));
    assert_eq!(object.versions.len(), 1);
}
