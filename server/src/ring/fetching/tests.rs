//! Honest and lying nodes, asked for the next layout.

use std::cell::Cell;

use dynamo::{
    ident::NodeId,
    layout::{
        BucketProperties, Layout, Member, MemberState, NodeIndex,
        delta::Delta,
        spans::{Span, Spans},
    },
    operation::{ErrorCode, Failure},
    ring::Ring,
};
use schema::convert::{LAYOUT_PIECE_BYTES, LayoutPiece, LayoutRequest, read_delta, write_delta};

use super::{Fetches, Source};
use crate::ring::Tellings;

/// How many nodes the layouts have.
const NODES: u16 = 6;

/// The first layout of a ring with so many partition bits.
pub(in crate::ring) fn founded(partition_bits: u8) -> Layout {
    let member = |number: u16| Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: format!("z{number}"),
        weight: 100,
        addresses: vec![format!("10.0.0.{number}:1")],
        state: MemberState::Active,
    };
    let row = |partition: u32| (0..3).map(move |slot| ((partition + slot) % u32::from(NODES)) as u16);
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: vec![NodeIndex(0)],
        members: (0..NODES).map(member).collect(),
        partition_bits,
        replicas: 3,
        slots: (0..1 << partition_bits).flat_map(row).collect(),
        buckets: Default::default(),
        spans: Spans::settled(1),
    }
}

/// The next layout, in which nothing but a bucket is new.
pub(in crate::ring) fn with_bucket(before: &Layout, name: &str, properties: BucketProperties) -> Layout {
    let mut buckets = before.buckets.clone();
    buckets.insert(name.to_owned(), properties);
    Layout { epoch: before.epoch + 1, parent_hash: before.hash(), buckets, ..before.clone() }
}

/// A layout, and the next.
fn pair() -> (Layout, Layout) {
    let old = founded(8);
    let new = with_bucket(&old, "carts", BucketProperties::default());
    (old, new)
}

/// What a node that has these layouts and changes its answers like this makes of the question for the layout after one.
fn next(old: &Layout, new: &Layout, lie: impl Fn(u64, &mut LayoutPiece)) -> (Result<Layout, Failure>, Fetches) {
    let (tellings, fetches) = (Tellings::default(), Fetches::default());
    let mut ring = Ring::new(old.clone().into());
    ring.push(new.clone().into()).unwrap();
    let ask = async |question: LayoutRequest| {
        let mut piece = tellings.piece(&ring, &question)?;
        lie(question.offset, &mut piece);
        Ok(piece)
    };
    let told = at_once(Source { name: "n5", ask, fetches: &fetches }.next(old));
    (told, fetches)
}

fn at_once<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// How many layouts came whole, how many as differences, and how many differences were of no use.
fn counted(fetches: &Fetches) -> (u64, u64, u64) {
    (fetches.whole.read(), fetches.deltas.read(), fetches.unfit.read())
}

#[test]
fn a_small_change_comes_as_what_has_changed() {
    let (old, new) = pair();
    let (told, fetches) = next(&old, &new, |_, _| ());
    assert_eq!((told.unwrap(), counted(&fetches)), (new.clone(), (0, 1, 0)));
    assert!(fetches.bytes.read() * 4 < new.encode().len() as u64, "{fetches:?}");
}

#[test]
fn a_large_change_comes_in_pieces() {
    const CHANGED: usize = 110_000;
    let old = founded(20);
    let mut slots = old.slots.clone();
    slots[..3 * CHANGED].iter_mut().for_each(|slot| *slot = (*slot + 3) % NODES);
    let span = |partition| Span { since: if partition < CHANGED { 2 } else { 1 }, oldest: 1 };
    let spans = Spans::from_partitions((0..1 << 20).map(span));
    let new = Layout { epoch: 2, parent_hash: old.hash(), slots, spans, ..old.clone() };
    let pieces = Cell::new(0);
    let (told, fetches) = next(&old, &new, |_, _| pieces.set(pieces.get() + 1));
    assert!(told.unwrap() == new);
    assert_eq!((counted(&fetches), pieces.get()), ((0, 1, 0), 2));
    assert!(fetches.bytes.read() > LAYOUT_PIECE_BYTES as u64);
}

/// Puts another difference in the place of the one that would be told.
fn forged(piece: &mut LayoutPiece, forge: impl FnOnce(&mut Delta)) {
    let mut delta = read_delta(&piece.bytes).unwrap();
    forge(&mut delta);
    piece.bytes = write_delta(&delta).unwrap();
    piece.total = piece.bytes.len() as u64;
}

/// Lies about what has changed.
const FORGERIES: [fn(&mut Delta); 8] = [
    |delta| delta.hash = [9; 16],
    |delta| delta.from_hash = [9; 16],
    |delta| delta.from_epoch = 7,
    |delta| delta.epoch = 3,
    |delta| delta.parent_hash = [9; 16],
    |delta| delta.member_count = 60_000,
    |delta| delta.partitions.push(u32::MAX),
    |delta| delta.buckets = None,
];

/// What is made of an answer, by the offset that was asked for.
type Lie = fn(u64, &mut LayoutPiece);

/// Lies about the bytes of any answer, and what is said of them when the whole was asked for.
const LIES: [(&str, Lie); 8] = [
    ("at most 67108864 are taken", |_, piece| piece.total = u64::MAX),
    ("a piece of it has no bytes", |_, piece| piece.bytes = Default::default()),
    ("more bytes than it should have", |_, piece| piece.total = 1),
    ("it is of epoch 9", |_, piece| piece.epoch = 9),
    ("its pieces are not of one answer", |offset, piece| {
        piece.bytes.truncate(50);
        piece.total += offset;
    }),
    ("the bytes end before the layout does", |_, piece| {
        piece.bytes.truncate(50);
        piece.total = 50;
    }),
    ("layout format 255 is unknown", |_, piece| piece.bytes = vec![0xff; piece.bytes.len()].into()),
    ("it is the layout of epoch 1", |_, piece| {
        piece.is_delta = false;
        piece.bytes = founded(8).encode().into();
        piece.total = piece.bytes.len() as u64;
    }),
];

#[test]
fn a_difference_that_is_a_lie_is_replaced_by_the_whole_layout() {
    let (old, new) = pair();
    let is_replaced = |lie: &dyn Fn(u64, &mut LayoutPiece)| {
        let (told, fetches) = next(&old, &new, |offset, piece| {
            if piece.is_delta {
                lie(offset, piece);
            }
        });
        assert_eq!((told.unwrap(), counted(&fetches)), (new.clone(), (1, 0, 1)));
    };
    FORGERIES.iter().for_each(|forge| is_replaced(&|_, piece| forged(piece, forge)));
    // These are what they say they are, and not what was asked for.
    for other in [Layout { parent_hash: [9; 16], ..new.clone() }, Layout { epoch: 3, ..new.clone() }] {
        is_replaced(&|_, piece| forged(piece, |delta| *delta = Delta::between(&old, &other).unwrap()));
    }
    LIES.iter().for_each(|(_, lie)| is_replaced(lie));
    is_replaced(&|offset, piece| {
        piece.is_delta = offset == 0;
        piece.bytes.truncate(50);
    });
}

#[test]
fn of_one_who_only_lies_nothing_is_taken_and_it_is_said_why() {
    let (old, new) = pair();
    for (why, lie) in LIES {
        let (told, fetches) = next(&old, &new, lie);
        let message = told.unwrap_err().message;
        let expected = "what node n5 tells of layout 2 can't be used: ";
        assert!(message.starts_with(expected) && message.contains(why), "{message}");
        assert!(message.ends_with("nothing was taken in, and others are asked"), "{message}");
        assert_eq!(counted(&fetches), (0, 0, 1));
    }
}

#[test]
fn the_whole_is_told_to_those_who_ask_for_it_and_a_difference_to_them_is_refused() {
    let (old, new) = pair();
    let (tellings, fetches) = (Tellings::default(), Fetches::default());
    let mut ring = Ring::new(old.clone().into());
    ring.push(new.clone().into()).unwrap();
    let ask = async |question: LayoutRequest| tellings.piece(&ring, &question);
    assert_eq!(at_once(Source { name: "n5", ask, fetches: &fetches }.whole(2)), Ok(new));
    let ask = async |question: LayoutRequest| {
        tellings.piece(&ring, &LayoutRequest { parent_hash: Some(old.hash()), ..question })
    };
    let refused = at_once(Source { name: "n5", ask, fetches: &fetches }.whole(2)).unwrap_err();
    assert!(refused.message.contains("the whole was asked for"), "{}", refused.message);
    assert_eq!(counted(&fetches), (1, 0, 0));
}

#[test]
fn one_that_can_not_be_reached_or_has_no_such_layout_is_asked_once() {
    for code in [ErrorCode::Unavailable, ErrorCode::StaleView] {
        let (asked, fetches) = (Cell::new(0), Fetches::default());
        let ask = async |_: LayoutRequest| {
            asked.set(asked.get() + 1);
            Err(Failure::new(code, "no"))
        };
        let told = at_once(Source { name: "n5", ask, fetches: &fetches }.next(&founded(4)));
        assert_eq!((told.unwrap_err().code, asked.get(), counted(&fetches)), (code, 1, (0, 0, 0)));
    }
}
