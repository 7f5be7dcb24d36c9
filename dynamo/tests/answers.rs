//! The counter-examples that shaped the rules of versions (design, answers), each told twice: with the rule kept, through
//! the real code, and with the rule taken away, through the nearest wrong program. The first telling must end well, so the
//! test fails when somebody takes the rule out of the code; the second must end badly, so the story is known to be one in
//! which the rule matters.
//!
//! Rows of that table which are not told here, because what they are about does not exist yet or lives elsewhere:
//! * unreadable record, rebuilding from N − W + 1 others: nothing is rebuilt yet; told here is what holds already, that the
//!   record answers `Corrupt` and the actor ends.
//! * wiped owner, its new identity in the ring: the ring can't change yet; told here is that a new process counts anew and
//!   that a directory without rows serves nothing.
//! * tombstones reaped under node clocks: nothing is reaped; told here is why.
//! * shard by low bits, store copied before journal, overlay handle, next journal key: the store's.
//! * N shrinks: the planner's and the steward's.
//!
//! Riak's own tests of the same family (research, reliability, section 2.2) and where each is told here:
//! * kv679_dataloss, _fb, _fb2, a clock that starts again after the coordinator forgot: `a_process_start_takes_new_actors`,
//!   `an_aborted_transaction_ends_the_actors_it_minted_under`, `an_unreadable_record_is_corrupt_and_ends_the_actor`,
//!   `a_wiped_owner_counts_anew_and_serves_nothing_it_was_not_given`, `an_old_copy_put_back_counts_anew`, and for a fallback
//!   `a_stand_in_whose_hints_were_delivered_takes_a_new_actor`. That such nodes are refused as owners at all is told with real
//!   processes: `tests/tests/amnesia.rs` (old copies) and `failures.rs` (an emptied directory).
//! * kv679_tombstone, tombstone2: `tombstones_are_counted_and_not_reaped`.
//! * kv679_uid, one identity twice: actors are drawn at random at each process start; two processes on copies of one
//!   directory are noticed and refused, `server/src/node/acquaintances.rs` and `tests/tests/amnesia.rs`.
//! * sibling_explosion: `replica.rs`, `a_put_beyond_128_siblings_is_refused_and_one_that_replaces_is_not`.
//! * verify_aae: `background.rs`, and with real nodes the steward's tests.
//! * expiry against anti-entropy: `expiry_is_decided_at_read_only`.

#[path = "support/hints.rs"]
mod hints;
#[path = "support/node.rs"]
mod node;

use dynamo::{
    ident::{NodeId, OpId},
    layout::{ConflictRule, View},
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{MintBasis, Minted, Write, WriteOutcome, answer_read},
    token::{self, TokenError, TokenKey},
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};
use node::{Node, Transaction, address, merge, mint, named, put, put_beside, put_over, shown, value, view, write};

/// Whether a story is told with its rule or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Kept,
    Removed,
}

/// Tells a story twice. It returns the values a reader is shown at the end.
#[track_caller]
fn both_ways(story: impl Fn(Rule) -> Vec<String>, with_rule: &[&str], without: &[&str]) {
    assert_eq!(story(Rule::Kept), with_rule, "the rule is in force");
    assert_eq!(story(Rule::Removed), without, "the story shows what the rule is for");
}

fn seen_in(minted: &Minted, address: &Address) -> Seen {
    record::decode_of(address, &minted.record).unwrap().seen()
}

/// Client one's "a" stands at a replica. Client two, who never read, adds "b" and then puts "c" with what it was given.
#[test]
fn a_puts_reply_has_a_context_only_for_a_sole_live_version() {
    let story = |rule| {
        let address = address("k");
        let mut node = Node::new(1);
        node.mint(put(&address, "a"));
        let reply = node.mint(put_beside(&address, "b"));
        assert_eq!(reply.siblings, 2);
        let given = match rule {
            Rule::Kept => reply.seen,
            Rule::Removed => Some(seen_in(&reply, &address)),
        };
        let next = match given {
            Some(seen) => put_over(&address, "c", &seen),
            // Without one it must read first, and merges what it finds.
            None => put_over(&address, &format!("c after {}", shown(&node.object(&address)).join("+")), &{
                node.object(&address).seen()
            }),
        };
        node.mint(next);
        shown(&node.object(&address))
    };
    both_ways(story, &["c after a+b"], &["c"]);
}

/// The coordinator sends "x" to its peers, which acknowledge, and crashes before its own commit. It starts again and
/// coordinates "y".
#[test]
fn a_process_start_takes_new_actors() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        let shown_early = node.mint_and_abort(put(&address, "x"));
        assert_eq!(peer.merge(&address, &shown_early.record), WriteOutcome::Stored);
        node.restart(match rule {
            Rule::Kept => 3,
            Rule::Removed => 1,
        });
        let y = node.mint(put(&address, "y"));
        assert_eq!(y.dot == shown_early.dot, rule == Rule::Removed, "a dot comes twice only without the rule");
        peer.merge(&address, &y.record);
        node.merge(&address, &peer.record(&address).unwrap());
        shown(&node.object(&address))
    };
    both_ways(story, &["x", "y"], &["y"]);
}

/// The same without a crash: the commit fails, the peers have acknowledged, and the process goes on to coordinate "y". The
/// wrong program forgets to tell the replica that the transaction is gone.
#[test]
fn an_aborted_transaction_ends_the_actors_it_minted_under() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        let shown_early = match rule {
            Rule::Kept => node.mint_and_abort(put(&address, "x")),
            Rule::Removed => {
                let mut transaction = Transaction::begin(&mut node.disk);
                let mut batch = node.replica.begin();
                let Ok(minted) = batch.apply(&mut transaction, put(&address, "x"));
                let minted = minted.unwrap().clone();
                let Ok(staged) = batch.stage(&mut transaction);
                staged.committed();
                minted
            }
        };
        peer.merge(&address, &shown_early.record);
        let y = node.mint(put(&address, "y"));
        peer.merge(&address, &y.record);
        shown(&peer.object(&address))
    };
    both_ways(story, &["x", "y"], &["y"]);
}

/// No owner can be reached, and a stand-in coordinates "x". It delivers its hint, deletes it, and, the owners being gone again,
/// coordinates "y" on nothing. The wrong program deletes the hint without telling the book.
#[test]
fn a_stand_in_whose_hints_were_delivered_takes_a_new_actor() {
    let story = |rule| {
        let (address, target) = (hints::address("k"), NodeId(1));
        let mut stand_in = hints::StandIn::new(1, hints::WIDE);
        let mut owner = Node::new(2);
        let x = stand_in.mint(hints::put(target, &address, "x", MintBasis::Local)).record;
        owner.merge(&address, &x);
        match rule {
            Rule::Kept => drop(stand_in.apply(hints::delivered(target, &address, &x))),
            Rule::Removed => drop(stand_in.disk.hints.remove(&hints::name(target, &address))),
        }
        assert!(stand_in.disk.hints.is_empty());
        let y = stand_in.mint(hints::put(target, &address, "y", MintBasis::Local)).record;
        owner.merge(&address, &y);
        shown(&owner.object(&address))
    };
    both_ways(story, &["x", "y"], &["y"]);
}

/// "x" is on the owner and on one peer. The owner's record rots; the other peer never had it. The owner takes the first
/// peer's answer, "nothing", for the truth and coordinates "y".
#[test]
fn an_unreadable_record_is_corrupt_and_ends_the_actor() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        peer.merge(&address, &node.mint(put(&address, "x")).record);
        match rule {
            Rule::Kept => {
                let mut rotten = node.record(&address).unwrap().to_vec();
                rotten[30] ^= 4;
                node.disk.records.insert(address.store_key, rotten.into());
                assert_eq!(node.apply(put(&address, "y")), WriteOutcome::Corrupt, "neither absent nor overwritten");
            }
            Rule::Removed => {}
        }
        node.disk.records.remove(&address.store_key);
        let y = node.mint(put(&address, "y"));
        peer.merge(&address, &y.record);
        shown(&peer.object(&address))
    };
    both_ways(story, &["x", "y"], &["y"]);
}

/// "x" is on its way to a peer. A client read another key of the partition later, and uses that context here.
#[test]
fn a_context_is_bound_to_its_key() {
    let story = |rule| {
        let here = address("k");
        let other = (0..).map(|at| address(&format!("{at}"))).find(|other| view(other) == view(&here)).unwrap();
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        let on_its_way = node.mint(put(&here, "x")).record;
        let read = seen_in(&node.mint(put(&other, "o")), &other);
        let key = TokenKey([1; 32]);
        let token = token::seal(&key, &other.store_key, &read);
        let opened = match rule {
            Rule::Kept => token::open(&key, &here.store_key, &token),
            Rule::Removed => token::open(&key, &other.store_key, &token),
        };
        match opened {
            Ok(seen) => drop(peer.mint(put_over(&here, "y", &seen))),
            Err(error) => assert_eq!(error, TokenError::NotOurs),
        }
        peer.merge(&here, &on_its_way);
        shown(&peer.object(&here))
    };
    both_ways(story, &["x"], &["y"]);
}

/// An owner loses its directory and comes back as if nothing had happened, then coordinates "y".
#[test]
fn a_wiped_owner_counts_anew_and_serves_nothing_it_was_not_given() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        peer.merge(&address, &node.mint(put(&address, "x")).record);
        let blank = Node::new(match rule {
            Rule::Kept => 3,
            Rule::Removed => 1,
        });
        node = Node { disk: Default::default(), ..blank };
        assert!(matches!(node.apply(put(&address, "y")), WriteOutcome::Refused(_)), "no rows, no service");
        node.disk = Node::new(4).disk;
        peer.merge(&address, &node.mint(put(&address, "y")).record);
        shown(&peer.object(&address))
    };
    both_ways(story, &["x", "y"], &["y"]);
}

/// "x" is acknowledged by an owner and its peer. The owner's directory is replaced by a copy from before "x", and it coordinates
/// "y". That it is an old copy is noticed between processes; until then it must at least not count over what it forgot.
#[test]
fn an_old_copy_put_back_counts_anew() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        let copy = node.disk.clone();
        let x = node.mint(put(&address, "x"));
        peer.merge(&address, &x.record);
        node.restart(match rule {
            Rule::Kept => 3,
            Rule::Removed => 1,
        });
        node.disk = copy;
        let y = node.mint(put(&address, "y"));
        assert_eq!(y.dot == x.dot, rule == Rule::Removed, "a dot comes twice only without the rule");
        peer.merge(&address, &y.record);
        shown(&peer.object(&address))
    };
    both_ways(story, &["x", "y"], &["y"]);
}

/// A write passes a check of its view, waits in the writer's queue while the partition is fenced, and is applied. The
/// wrong program trusts the first check: it hands the writer the view that the row has by then.
#[test]
fn the_view_is_checked_in_the_writers_transaction() {
    let story = |rule| {
        let address = address("k");
        let mut node = Node::new(1);
        let queued_under = view(&address);
        assert_eq!(dynamo::replica::check_read(Some(&node.row(&address)), &address.store_key, &queued_under), Ok(()));
        node.fence(&address, 1, 2);
        let carried = match rule {
            Rule::Kept => queued_under,
            Rule::Removed => node.row(&address).view,
        };
        let dynamo::replica::WriteOperation::Mint { address, write, .. } = put(&address, "v") else {
            unreachable!("a put is minted")
        };
        node.apply(dynamo::replica::WriteOperation::Mint { view: carried, address: address.clone(), write });
        // What is here now was acknowledged to a coordinator that asks only the owners of epoch 1.
        shown(&node.object(&address))
    };
    both_ways(story, &[], &["v"]);
}

/// While a reader is at work the partition is handed to other owners and its data dropped here.
#[test]
fn a_read_fetches_the_data_first_and_the_view_after() {
    let story = |rule| {
        let address = address("k");
        let mut node = Node::new(1);
        node.mint(put(&address, "v"));
        let hand_over = |node: &mut Node| {
            node.disk.records.clear();
            node.fence(&address, 2, 2);
        };
        let (record, row) = match rule {
            Rule::Kept => {
                hand_over(&mut node);
                let record = node.record(&address);
                (record, node.row(&address))
            }
            Rule::Removed => {
                let row = node.row(&address);
                hand_over(&mut node);
                (node.record(&address), row)
            }
        };
        let read = PeerOperation { view: view(&address), store_key: address.store_key, action: PeerAction::Read };
        match answer_read(&read, record.as_ref(), Some(&row)) {
            PeerResult::Stale(View { lo: 2, hi: 2, .. }) => vec!["stale".into()],
            PeerResult::Absent => vec!["a written key is absent".into()],
            other => panic!("{other:?}"),
        }
    };
    both_ways(story, &["stale"], &["a written key is absent"]);
}

/// A put is retried on a second, cut-off coordinator, which mints a twin. The client reads the first and deletes. Then the
/// link heals.
#[test]
fn the_twin_of_a_deleted_version_does_not_come_back() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut cut_off) = (Node::new(1), Node::new(2));
        let first = node.mint(named(put(&address, "a"), 1));
        let twin = cut_off.mint(named(put(&address, "a"), 1));
        let basis = MintBasis::Context(first.seen.unwrap());
        node.mint(named(mint(&address, write(Content::Tombstone, basis)), 2));
        match rule {
            Rule::Kept => {
                node.merge(&address, &twin.record);
                cut_off.merge(&address, &node.record(&address).unwrap());
                assert_eq!(node.record(&address), cut_off.record(&address));
                shown(&node.object(&address))
            }
            Rule::Removed => {
                let mut object = node.object(&address);
                object.join(&cut_off.object(&address));
                shown(&object)
            }
        }
    };
    both_ways(story, &[], &["a"]);
}

/// Collapsing twins *in merge* instead: three replicas, and the order of meetings decides what is left.
#[test]
fn twins_are_not_collapsed_in_merge() {
    let twin = |actor| version(Dot { actor: Actor(actor), seq: 1 }, 1, 10, "a");
    let overwrite = |object: &Object| {
        let mut object = object.clone();
        // Without the memory of overwritten operations, which is the other rule's.
        object.put(&object.seen(), version(Dot { actor: Actor(9), seq: 1 }, 2, 20, "b"));
        object.spent.clear();
        object
    };
    let mut x = Object::new();
    x.put(&Seen::default(), twin(1));
    let mut y = Object::new();
    y.put(&Seen::default(), twin(2));
    let z = overwrite(&x);
    let collapse = |left: &Object, right: &Object| {
        let mut object = left.clone();
        object.join(right);
        let first = object.versions.iter().map(|version| version.op_id).collect::<Vec<_>>();
        let mut at = 0;
        object.versions.retain(|version| {
            at += 1;
            !first[..at - 1].contains(&version.op_id)
        });
        object
    };
    let join = |left: &Object, right: &Object| {
        let mut object = left.clone();
        object.join(right);
        object
    };
    assert_eq!(join(&join(&x, &y), &z), join(&x, &join(&y, &z)));
    assert_ne!(collapse(&collapse(&x, &y), &z), collapse(&x, &collapse(&y, &z)));
}

/// Where the last writer wins: "w" overwrites "v", whose writer's clock ran ahead, while "u" is concurrent to both.
#[test]
fn losers_are_hidden_at_read_and_not_dropped_in_merge() {
    let mut v = Object::new();
    v.put(&Seen::default(), version(Dot { actor: Actor(2), seq: 1 }, 2, 20, "v"));
    let mut w = Object::new();
    w.put(&v.seen(), version(Dot { actor: Actor(3), seq: 1 }, 3, 5, "w"));
    let mut u = Object::new();
    u.put(&Seen::default(), version(Dot { actor: Actor(1), seq: 1 }, 1, 10, "u"));
    let story = |rule| {
        let merged = |left: &Object, right: &Object| {
            let mut object = left.clone();
            object.merge(right);
            if rule == Rule::Removed {
                let winner = object.versions.iter().map(|version| (version.clock, version.dot)).max();
                object.versions.retain(|version| Some((version.clock, version.dot)) == winner);
            }
            object
        };
        let one_order = merged(&merged(&u, &v), &w);
        let other_order = merged(&merged(&u, &w), &v);
        let met = merged(&one_order, &other_order);
        let texts = met.present(ConflictRule::LastWriterWins, 0).filter_map(|won| won.content.bytes());
        texts.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    };
    both_ways(story, &["u"], &[]);
}

/// One node's clock is a year ahead while it merges a value that expires tomorrow.
#[test]
fn expiry_is_decided_at_read_only() {
    let (now, tomorrow, next_year) = (1_000 << 16, 90_000_000 << 16, 40_000_000_000 << 16);
    let story = |rule| {
        let address = address("k");
        let (mut node, mut wrong) = (Node::new(1), Node::new(2));
        let expiring = Write { expires: tomorrow, ..write(value("v"), MintBasis::Local) };
        let record = node.mint(mint(&address, expiring)).record;
        wrong.merge(&address, &record);
        let mut theirs = wrong.object(&address);
        if rule == Rule::Removed {
            theirs.versions.retain(|version| !version.is_expired(next_year));
        }
        assert!(theirs.present(ConflictRule::Siblings, next_year).next().is_none(), "it does not show it either way");
        node.apply(merge(&address, &record::encode(&address, &theirs).into()));
        let object = node.object(&address);
        object.present(ConflictRule::Siblings, now).map(|version| format!("{}", version.content.len())).collect()
    };
    both_ways(story, &["1"], &[]);
}

/// A key is deleted at all owners. A former owner that was away comes back with the old value.
#[test]
fn tombstones_are_counted_and_not_reaped() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut away) = (Node::new(1), Node::new(2));
        away.merge(&address, &node.mint(put(&address, "v")).record);
        node.mint(mint(&address, write(Content::Tombstone, MintBasis::Local)));
        assert_eq!((node.row(&address).records, node.row(&address).deleted), (1, 1));
        if rule == Rule::Removed {
            node.disk.records.clear();
        }
        node.merge(&address, &away.record(&address).unwrap());
        shown(&node.object(&address))
    };
    both_ways(story, &[], &["v"]);
}

/// Replicating a part of an object under the context of the whole.
#[test]
fn objects_travel_whole() {
    let story = |rule| {
        let address = address("k");
        let (mut node, mut peer) = (Node::new(1), Node::new(2));
        peer.merge(&address, &node.mint(put(&address, "a")).record);
        let newest = node.mint(put_beside(&address, "b"));
        let mut sent = record::decode_of(&address, &newest.record).unwrap();
        if rule == Rule::Removed {
            sent.versions.retain(|version| Some(version.dot) == newest.dot);
        }
        peer.merge(&address, &record::encode(&address, &sent).into());
        shown(&peer.object(&address))
    };
    both_ways(story, &["a", "b"], &["b"]);
}

fn version(dot: Dot, operation: u64, clock: u64, text: &str) -> Version {
    Version { dot, op_id: OpId { client: 1, sequence: operation }, clock, expires: 0, content: value(text) }
}
