//! Differences of layouts over the wire: what was sent arrives, whatever was changed; and hostile bytes lead to nothing but an error.

use capnp::{
    message::{Builder, HeapAllocator, ReaderOptions},
    serialize,
};
use dynamo::{
    ident::NodeId,
    layout::{
        BucketProperties, Layout, Member, MemberState, NodeIndex, SLOT_EMPTY,
        delta::Delta,
        spans::{Span, SpanRun, Spans},
    },
    planner::{Desired, plan},
    settlement::Proven,
};
use proptest::{collection::vec, prelude::*};
use schema::{
    convert::{LAYOUT_PIECE_BYTES, LayoutPiece, LayoutRequest, decode_delta, encode_delta, read_delta, write_delta},
    kv_capnp::ring_delta,
    peer_capnp::{layout_reply, layout_request},
};

fn member(number: u16) -> Member {
    Member {
        id: NodeId(7 + u128::from(number)),
        name: format!("node-{number}"),
        zone: format!("zone-{}", number % 4),
        weight: u32::from(number) + 1,
        addresses: vec![format!("127.0.0.1:{}", 7601 + u32::from(number))],
        state: match number % 4 {
            0 => MemberState::Active,
            1 => MemberState::Leaving,
            2 => MemberState::Lost,
            _ => MemberState::Gone,
        },
    }
}

fn message(delta: &Delta) -> Builder<HeapAllocator> {
    let mut message = Builder::new_default();
    assert!(encode_delta(message.init_root::<ring_delta::Builder<'_>>(), delta));
    message
}

fn arrived(words: &[u8]) -> Option<Delta> {
    let message = serialize::read_message(&mut &words[..], ReaderOptions::new()).ok()?;
    decode_delta(message.get_root::<ring_delta::Reader<'_>>().ok()?).ok()
}

prop_compose! {
    fn delta()(
        epochs in any::<(u64, u64)>(),
        hashes in any::<([u8; 16], [u8; 16], [u8; 16])>(),
        members in vec(0..200u16, 0..8),
        electors in vec(any::<u16>(), 0..8),
        buckets in proptest::option::of(proptest::collection::btree_map("[a-z]{1,9}", Just(BucketProperties::default()), 0..4)),
        rows in vec((any::<u32>(), prop_oneof![Just(SLOT_EMPTY), any::<u16>()]), 0..40),
        spans in vec((1..9u64, 1..9u64), 0..40),
        member_count in 0..60_000usize,
    ) -> Delta {
        let runs = (0..).zip(spans).map(|(first, (since, oldest))| SpanRun { first: first * 3, span: Span { since, oldest } });
        Delta {
            from_epoch: epochs.0,
            from_hash: hashes.0,
            epoch: epochs.1,
            hash: hashes.1,
            parent_hash: hashes.2,
            member_count,
            members: members.into_iter().map(|number| (NodeIndex(number), member(number))).collect(),
            electors: electors.into_iter().map(NodeIndex).collect(),
            buckets,
            partitions: rows.iter().map(|(partition, _)| *partition).collect(),
            slots: rows.iter().map(|(_, slot)| *slot).collect(),
            spans: Spans::from_runs(runs),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_was_sent_arrives(delta in delta()) {
        let words = serialize::write_message_to_words(&message(&delta));
        prop_assert_eq!(arrived(&words), Some(delta.clone()));
        prop_assert_eq!(read_delta(&write_delta(&delta).unwrap()), Ok(delta));
    }

    #[test]
    fn of_a_delta_that_is_a_message_of_its_own_damage_leads_nowhere(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (old, new) = pair();
        let delta = Delta::between(&old, &new).unwrap();
        let mut bytes = write_delta(&delta).unwrap().to_vec();
        damage.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte; });
        if is_cut {
            bytes.truncate(length.index(bytes.len()));
        }
        match read_delta(&bytes) {
            Ok(arrived) if arrived != delta => prop_assert!(arrived.apply(&old).is_err()),
            Ok(_) => {}
            Err(failure) => prop_assert!(failure.message.contains("nothing was done"), "{}", failure.message),
        }
    }

    #[test]
    fn a_damaged_delta_is_an_error_or_leads_nowhere(damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let (old, new) = pair();
        let delta = Delta::between(&old, &new).unwrap();
        let mut words = serialize::write_message_to_words(&message(&delta));
        damage.iter().for_each(|(at, byte)| { let at = at.index(words.len()); words[at] = *byte; });
        if let Some(arrived) = arrived(&words) && arrived != delta {
            // What is right in the end was right before; padding and unused bytes say nothing.
            prop_assert!(arrived.apply(&old).is_err());
        }
    }
}

fn pair() -> (Layout, Layout) {
    let members = |count| (0..count).map(|number| Member { state: MemberState::Active, ..member(number) }).collect();
    let desired = |count| Desired {
        cluster: 1,
        members: members(count),
        replicas: 3,
        partition_bits: Some(8),
        buckets: [("carts".to_owned(), BucketProperties::default())].into(),
        replacements: Default::default(),
        proven: Proven::Everything,
    };
    let old = plan(None, &desired(9)).unwrap().layout;
    let new = plan(Some(&old), &desired(10)).unwrap().layout;
    (old, new)
}

#[test]
fn lists_that_contradict_each_other_are_refused() {
    let (old, new) = pair();
    let delta = Delta::between(&old, &new).unwrap();
    let refused = |change: &dyn Fn(ring_delta::Builder<'_>)| {
        let mut message = message(&delta);
        change(message.get_root().unwrap());
        let words = serialize::write_message_to_words(&message);
        arrived(&words).is_none_or(|delta| delta.apply(&old).is_err())
    };
    assert!(refused(&|mut wire| wire.set_hash(&[1; 15])));
    assert!(refused(&|mut wire| wire.set_from_hash(&[])));
    assert!(refused(&|mut wire| wire.set_node_count(u32::MAX)));
    assert!(refused(&|wire| _ = wire.init_nodes(70_000)));
    assert!(refused(&|wire| _ = wire.init_electors(70_000)));
    assert!(refused(&|wire| _ = wire.init_span_firsts(3)));
    assert!(refused(&|wire| _ = wire.init_spans(0)));
    assert!(refused(&|wire| _ = wire.init_partitions(2)));
    assert!(refused(&|wire| wire.init_partitions(1).set(0, u32::MAX)));
    assert!(refused(&|mut wire| wire.set_buckets_changed(true)));
    assert!(!refused(&|_| {}));
}

#[test]
fn a_delta_with_too_many_kinds_of_spans_is_not_sent() {
    let (old, new) = pair();
    let runs = (0..70_000).map(|first| SpanRun { first, span: Span { since: u64::from(first) + 1, oldest: 1 } });
    let delta = Delta { spans: Spans::from_runs(runs), ..Delta::between(&old, &new).unwrap() };
    let mut message = Builder::new_default();
    assert!(!encode_delta(message.init_root::<ring_delta::Builder<'_>>(), &delta));
}

#[test]
fn a_delta_that_would_become_large_by_being_read_is_refused() {
    /// Which of the pointers of `RingDelta` leads to its kinds of spans.
    const SPANS: usize = 10;
    let (old, new) = pair();
    let mut bytes = write_delta(&Delta::between(&old, &new).unwrap()).unwrap().to_vec();
    // Behind the table of segments the first word says how many words of data stand between it and the pointers.
    let data = usize::from(u16::from_le_bytes([bytes[12], bytes[13]]));
    let at = 8 + 8 * (1 + data + SPANS);
    // A list of 60,000 elements of no size.
    bytes[at..at + 8].copy_from_slice(&(1 | 60_000_u64 << 35).to_le_bytes());
    assert!(arrived(&bytes).is_some_and(|delta| delta.apply(&old).is_err()), "where more may be read, it is read");
    let refused = read_delta(&bytes).unwrap_err();
    assert!(refused.message.contains("limit"), "{}", refused.message);
}

#[test]
fn questions_for_a_layout_and_its_pieces_arrive_as_they_were_sent() {
    for parent_hash in [None, Some([7; 16])] {
        let request = LayoutRequest { epoch: 5, offset: 9, parent_hash };
        let mut message = Builder::new_default();
        request.encode(&Default::default(), message.init_root::<layout_request::Builder<'_>>());
        let wire = message.get_root_as_reader::<layout_request::Reader<'_>>().unwrap();
        assert_eq!(LayoutRequest::decode(wire).unwrap().1, request);
    }
    let mut message = Builder::new_default();
    message.init_root::<layout_request::Builder<'_>>().set_parent_hash(&[7; 15]);
    let wire = message.get_root_as_reader::<layout_request::Reader<'_>>().unwrap();
    assert!(LayoutRequest::decode(wire).unwrap_err().message.contains("parentHash"));
    for is_delta in [false, true] {
        let whole = bytes::Bytes::from(vec![3; LAYOUT_PIECE_BYTES + 9]);
        let total = whole.len() as u64;
        for (offset, length) in
            [(0, LAYOUT_PIECE_BYTES), (9, LAYOUT_PIECE_BYTES), (total - 9, 9), (total, 0), (u64::MAX, 0)]
        {
            let bytes = LayoutPiece::cut(&whole, offset);
            assert_eq!(bytes.len(), length);
            let piece = LayoutPiece { epoch: 5, newest: 6, total, is_delta, bytes };
            let mut message = Builder::new_default();
            let wire = message.init_root::<layout_reply::Builder<'_>>();
            LayoutPiece::encode(&Ok(piece.clone()), &Default::default(), wire);
            let wire = message.get_root_as_reader::<layout_reply::Reader<'_>>().unwrap();
            assert_eq!(LayoutPiece::decode(wire), Ok(piece));
        }
    }
}
