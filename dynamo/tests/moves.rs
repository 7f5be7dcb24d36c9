//! A replica whose partitions move: random layouts, views, drops, splits and aborted transactions against an oracle of lists
//! (design, ring, "Moving a partition"), and the rules one by one.

#[path = "support/moves.rs"]
mod moves;
#[path = "support/node.rs"]
mod node;

use dynamo::{
    layout::View,
    operation::ErrorCode,
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{MoveOperation, PartitionRow, Refusal, WriteOperation, WriteOutcome, answer_read, check_read, find_row},
};
use moves::{World, step, under};
use node::{BITS, Node, address, merge, put, view};
use proptest::{collection::vec, prelude::ProptestConfig, proptest, test_runner::TestCaseError};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_acknowledged_under_another_view_and_what_is_counted_is_what_is_there(steps in vec(step(), 1..60)) {
        World::run(&steps).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn the_random_steps_try_everything_they_should() {
    use proptest::{
        strategy::{Strategy, ValueTree},
        test_runner::TestRunner,
    };
    let mut runner = TestRunner::deterministic();
    let mut all = moves::Seen::default();
    for _ in 0..200 {
        let steps = vec(step(), 40..60).new_tree(&mut runner).unwrap().current();
        let seen = World::run(&steps).unwrap();
        all.splits += seen.splits;
        all.moved += seen.moved;
        all.returned += seen.returned;
        all.stale += seen.stale;
        all.adopted_by_writes += seen.adopted_by_writes;
        all.acknowledged += seen.acknowledged;
        all.aborted += seen.aborted;
        all.dropped += seen.dropped;
    }
    println!("{all:?}");
    let least = [all.splits, all.moved, all.returned, all.stale, all.adopted_by_writes, all.acknowledged, all.dropped];
    assert!(least.iter().all(|count| *count > 50) && all.aborted > 50, "{all:?}");
}

fn step_of(operation: MoveOperation) -> WriteOperation {
    WriteOperation::Move(operation)
}

#[test]
fn a_write_under_a_newer_view_is_done_and_the_view_is_known_from_then_on() {
    let address = address("k");
    for (lo, hi) in [(1, 2), (2, 2), (2, 5)] {
        let newer = View { lo, hi, ..view(&address) };
        for operation in [put(&address, "v"), merge(&address, &Node::new(9).mint(put(&address, "m")).record)] {
            let mut node = Node::new(1);
            let outcome = node.apply(under(newer, operation));
            assert!(matches!(outcome, WriteOutcome::Minted(_) | WriteOutcome::Stored), "{outcome:?}");
            assert_eq!(node.row(&address).view, newer);
            assert_eq!(node.apply(put(&address, "old")), WriteOutcome::Stale(newer));
        }
    }
    // Newer at one end and older at the other: what is new is learned, and the write is refused.
    let mut node = Node::new(1);
    node.fence(&address, 1, 5);
    let mixed = View { lo: 3, hi: 3, ..view(&address) };
    let joined = View { lo: 3, hi: 5, ..view(&address) };
    assert_eq!(node.apply(under(mixed, put(&address, "v"))), WriteOutcome::Stale(joined));
    assert_eq!(node.row(&address).view, joined);
    assert_eq!(node.record(&address), None);
}

#[test]
fn a_read_under_a_newer_view_is_told_apart_and_answered_once_the_view_was_adopted() {
    let address = address("k");
    let mut node = Node::new(1);
    let record = node.mint(put(&address, "v")).record;
    let newer = View { hi: 2, ..view(&address) };
    let mine = node.row(&address);
    assert_eq!(check_read(Some(&mine), &address.store_key, &newer), Err(Refusal::Behind(mine.view)));
    let read = PeerOperation { view: newer, store_key: address.store_key, action: PeerAction::Read };
    match answer_read(&read, Some(&record), Some(&mine)) {
        PeerResult::Failed(failure) => assert_eq!(failure.code, ErrorCode::StaleView),
        other => panic!("{other:?}"),
    }
    node.apply(step_of(MoveOperation::Adopt { view: newer }));
    assert_eq!(answer_read(&read, Some(&record), Some(&node.row(&address))), PeerResult::Record(record));
}

#[test]
fn a_view_of_other_bits_is_stale_when_it_has_fewer_and_this_node_behind_when_it_has_more() {
    let address = address("k");
    let mut node = Node::new(1);
    let mine = node.row(&address);
    let of_bits = |bits| View { bits, prefix: address.store_key.id().prefix(bits), ..mine.view };
    let found = find_row(&address.store_key, BITS + 3, |bits, prefix| {
        (bits == BITS && prefix == mine.view.prefix).then_some(mine)
    });
    assert_eq!(found, Some(mine));
    for (lo, hi) in [(1, 1), (1, 9), (9, 9)] {
        let (parent, child) = (View { lo, hi, ..of_bits(BITS - 1) }, View { lo, hi, ..of_bits(BITS + 1) });
        assert_eq!(check_read(Some(&mine), &address.store_key, &parent), Err(Refusal::Stale(mine.view)));
        assert_eq!(check_read(Some(&mine), &address.store_key, &child), Err(Refusal::Behind(mine.view)));
        assert_eq!(node.apply(under(parent, put(&address, "v"))), WriteOutcome::Stale(mine.view));
        assert!(matches!(node.apply(under(child, put(&address, "v"))), WriteOutcome::Refused(_)));
        assert!(matches!(node.apply(step_of(MoveOperation::Adopt { view: child })), WriteOutcome::Refused(_)));
        let WriteOutcome::Stale(first) = node.apply(step_of(MoveOperation::Adopt { view: parent })) else {
            panic!("a parent's view was adopted by a child")
        };
        assert_eq!((first.bits, first.lo, first.hi), (BITS, 1, 1));
    }
    assert_eq!(node.row(&address), mine, "a view of other bits teaches nothing");
}

#[test]
fn a_moved_partition_answers_every_write_and_read_with_its_view() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "v"));
    let away = View { lo: 4, hi: 4, ..view(&address) };
    node.apply(step_of(MoveOperation::Adopt { view: away }));
    let drop = step_of(MoveOperation::Drop { view: away, records_max: 10 });
    assert!(matches!(node.apply(drop.clone()), WriteOutcome::Moved { standing, more: false } if standing.is_moved));
    // A repetition finds it done.
    assert!(matches!(node.apply(drop), WriteOutcome::Moved { standing, more: false } if standing.is_moved));
    let row = node.row(&address);
    assert_eq!((row.records, row.sum, row.is_moved), (0, 0, true));
    for sent in [view(&address), away] {
        assert_eq!(node.apply(under(sent, put(&address, "v"))), WriteOutcome::Stale(away));
        assert_eq!(check_read(Some(&row), &address.store_key, &sent), Err(Refusal::Stale(away)));
        assert_eq!(node.apply(step_of(MoveOperation::Fill { view: sent })), WriteOutcome::Stale(away));
    }
    let later = View { lo: 4, hi: 6, ..away };
    assert_eq!(node.apply(under(later, put(&address, "v"))), WriteOutcome::Stale(later));
    assert!(node.disk.records.is_empty());
}

#[test]
fn a_partition_is_dropped_only_under_the_view_it_was_handed_over_with_and_past_every_configuration_of_this_node() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "v"));
    let drop = |view| step_of(MoveOperation::Drop { view, records_max: 10 });
    assert!(matches!(node.apply(drop(view(&address))), WriteOutcome::Refused(_)), "it is this node's own");
    let fenced = View { hi: 4, ..view(&address) };
    node.apply(step_of(MoveOperation::Adopt { view: fenced }));
    assert!(matches!(node.apply(drop(fenced)), WriteOutcome::Refused(_)), "what this node is in is active as yet");
    let away = View { lo: 4, hi: 4, ..fenced };
    assert_eq!(node.apply(drop(away)), WriteOutcome::Stale(fenced), "the row does not know it");
    node.apply(step_of(MoveOperation::Adopt { view: away }));
    node.apply(step_of(MoveOperation::Adopt { view: View { hi: 5, ..away } }));
    assert_eq!(node.apply(drop(away)), WriteOutcome::Stale(View { hi: 5, ..away }), "it changed meanwhile");
    assert!(node.record(&address).is_some());
}

#[test]
fn a_drop_comes_to_an_end_in_pieces_and_records_that_can_not_be_read_go_too() {
    let mut node = Node::new(1);
    let first = address("k");
    let keys: Vec<_> = (0..)
        .map(|number| address(&format!("k {number}")))
        .filter(|address| view(address) == view(&first))
        .take(5)
        .collect();
    keys.iter().for_each(|key| drop(node.mint(put(key, "v"))));
    let damaged = bytes::Bytes::from_static(b"no record at all, and long enough for one");
    node.disk.records.insert(keys[2].store_key, damaged);
    let away = View { lo: 3, hi: 3, ..view(&first) };
    node.apply(step_of(MoveOperation::Adopt { view: away }));
    for left in [3, 1, 0] {
        let operation = MoveOperation::Drop { view: away, records_max: 2 };
        let WriteOutcome::Moved { standing, more } = node.apply(step_of(operation)) else { panic!("not dropped") };
        assert_eq!((standing.records, more, standing.is_moved), (left, left > 0, left == 0));
        assert_eq!(node.disk.records.len() as u64, left);
        assert_eq!(node.disk.totals().values().map(|sum| sum.count).sum::<u64>(), left);
    }
    let moved = PartitionRow { is_moved: true, owned: 1, last: node.row(&first).last, ..PartitionRow::new(away) };
    assert_eq!(node.row(&first), moved);
}
