//! What is written into a message and read back is what it was, for every type that crosses the wire.

use bytes::Bytes;
use capnp::message::{Builder, HeapAllocator};
use dynamo::{
    ident::{NodeId, OpId, StoreKey},
    layout::{BucketProperties, ConflictRule, Layout, Level, Member, MemberState, NodeIndex, View},
    operation::{Action, Address, Basis, Consistency, ErrorCode, Failure, Operation, Outcome, Receipt, Reply, Sibling},
    peer::{PeerAction, PeerOperation, PeerResult},
};
use proptest::{collection::vec, option, prelude::*};
use schema::{
    convert::{self, PartialLayout, ReplyHeader, RequestHeader, Scan, ScanKey, ScanPage},
    kv_capnp, peer_capnp,
};

const VALUE_BYTES_MAX: usize = 4096;

fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn level() -> impl Strategy<Value = Option<Level>> {
    option::of(prop_oneof![Just(Level::One), Just(Level::Available), Just(Level::Quorum), Just(Level::All)])
}

fn consistency() -> impl Strategy<Value = Consistency> {
    (level(), 0..8u8, 0..8u8, 0..8u8).prop_map(|(level, r, w, n)| Consistency { level, r, w, n })
}

fn op_id() -> impl Strategy<Value = OpId> {
    (any::<u64>(), any::<u64>()).prop_map(|(client, sequence)| OpId { client, sequence })
}

fn context() -> impl Strategy<Value = Basis> {
    bytes(1..60).prop_map(Basis::Context)
}

fn action() -> impl Strategy<Value = Action> {
    let hash = option::of(1..u128::MAX);
    prop_oneof![
        any::<bool>().prop_map(|without_values| Action::Get { without_values }),
        (
            bytes(0..VALUE_BYTES_MAX),
            hash,
            prop_oneof![Just(Basis::Local), Just(Basis::Beside), context()],
            op_id(),
            any::<(u64, u64)>()
        )
            .prop_map(|(value, hash, basis, op_id, (seen_clock, ttl_ms))| Action::Put {
                value,
                hash,
                basis,
                op_id,
                seen_clock,
                ttl_ms
            }),
        (prop_oneof![Just(Basis::Local), context()], op_id(), any::<u64>())
            .prop_map(|(basis, op_id, seen_clock)| Action::Delete { basis, op_id, seen_clock }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    ("(default|[A-Za-z0-9._-]{1,64})", bytes(1..100), consistency(), action()).prop_map(
        |(bucket, key, consistency, action)| Operation {
            address: Address::new(Bytes::from(bucket), key),
            consistency,
            action,
        },
    )
}

fn nodes() -> impl Strategy<Value = Vec<NodeIndex>> {
    vec(any::<u16>().prop_map(NodeIndex), 0..7)
}

fn receipt() -> impl Strategy<Value = Receipt> {
    (nodes(), any::<u64>(), any::<(u8, u8, u8, bool, u8)>()).prop_map(
        |(answered, epoch, (need, durable, stand_ins, repaired, replicas))| Receipt {
            answered,
            epoch,
            need,
            durable,
            stand_ins,
            repaired,
            replicas,
        },
    )
}

fn error_code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(vec![
        ErrorCode::Internal,
        ErrorCode::InvalidRequest,
        ErrorCode::TooLarge,
        ErrorCode::TooManySiblings,
        ErrorCode::Unavailable,
        ErrorCode::QuorumTimeout,
        ErrorCode::Overloaded,
        ErrorCode::Unsupported,
        ErrorCode::Unauthenticated,
        ErrorCode::Forbidden,
        ErrorCode::Corrupt,
        ErrorCode::StaleView,
        ErrorCode::StorageFull,
        ErrorCode::ShuttingDown,
        ErrorCode::WrongCluster,
    ])
}

fn failure() -> impl Strategy<Value = Failure> {
    (error_code(), ".{0,40}", any::<(bool, bool, u32, u8, u8)>(), nodes()).prop_map(
        |(code, message, (retryable, maybe_applied, retry_after_ms, need, got), owners)| Failure {
            code,
            message: message.into(),
            retryable,
            maybe_applied,
            retry_after_ms,
            need,
            got,
            owners,
        },
    )
}

fn sibling() -> impl Strategy<Value = Sibling> {
    (bytes(0..200), any::<u32>(), any::<u64>(), any::<u128>()).prop_map(|(value, value_bytes, clock, hash)| Sibling {
        value,
        value_bytes,
        clock,
        hash,
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let outcome =
        prop_oneof![
            (vec(sibling(), 1..5), bytes(0..60)).prop_map(|(siblings, context)| Outcome::Found { siblings, context }),
            bytes(0..60).prop_map(|context| Outcome::NotFound { context }),
            (option::of(bytes(0..60)), any::<u16>(), any::<u64>())
                .prop_map(|(context, siblings, clock)| Outcome::Stored { context, siblings, clock }),
            failure().prop_map(Outcome::Failed),
        ];
    (outcome, receipt()).prop_map(|(outcome, receipt)| Reply { outcome, receipt })
}

fn view() -> impl Strategy<Value = View> {
    (0..=20u8, any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(bits, prefix, lo, more)| View {
        bits,
        prefix: prefix & ((1 << bits) - 1),
        lo: lo.into(),
        hi: u64::from(lo) + u64::from(more),
    })
}

fn peer_operation() -> impl Strategy<Value = PeerOperation> {
    let hint = (any::<u128>(), bytes(1..300));
    let action = prop_oneof![
        Just(PeerAction::Read),
        Just(PeerAction::Digest),
        bytes(1..300).prop_map(PeerAction::Merge),
        Just(PeerAction::ReadHint),
        hint.prop_map(|(target, record)| PeerAction::Hint { target: NodeId(target), record }),
    ];
    (view(), any::<[u8; 32]>(), action).prop_map(|(view, store_key, action)| PeerOperation {
        view,
        store_key: StoreKey(store_key),
        action,
    })
}

fn peer_result() -> impl Strategy<Value = PeerResult> {
    prop_oneof![
        bytes(0..300).prop_map(PeerResult::Record),
        any::<u128>().prop_map(PeerResult::Digest),
        Just(PeerResult::Absent),
        Just(PeerResult::Stored),
        view().prop_map(PeerResult::Stale),
        Just(PeerResult::Corrupt),
        failure().prop_map(PeerResult::Failed),
    ]
}

fn message() -> Builder<HeapAllocator> {
    Builder::new_default()
}

proptest! {
    #[test]
    fn operations_survive_the_wire(operations in vec(operation(), 0..40)) {
        let mut message = message();
        let mut request: kv_capnp::execute_request::Builder<'_> = message.init_root();
        convert::encode_operations(request.reborrow().init_operations(operations.len() as u32), &operations);
        let list = request.into_reader().get_operations().unwrap();
        let decoded = convert::decode_operations(list, VALUE_BYTES_MAX).unwrap();
        let expected: Vec<_> = operations.into_iter().map(Ok).collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn an_operation_alone_reads_as_in_a_batch(operation in operation()) {
        let mut message = message();
        let mut wire: kv_capnp::operation::Builder<'_> = message.init_root();
        convert::encode_operation(wire.reborrow(), &operation);
        let decoded = match wire.into_reader().which().unwrap() {
            kv_capnp::operation::Get(get) => convert::decode_get(get.unwrap()),
            kv_capnp::operation::Put(put) => convert::decode_put(put.unwrap(), VALUE_BYTES_MAX),
            kv_capnp::operation::Delete(delete) => convert::decode_delete(delete.unwrap()),
        };
        prop_assert_eq!(decoded, Ok(operation));
    }

    #[test]
    fn replies_survive_the_wire(replies in vec(reply(), 0..20)) {
        let mut message = message();
        let mut wire: kv_capnp::execute_reply::Builder<'_> = message.init_root();
        convert::encode_replies(wire.reborrow().init_results(replies.len() as u32), &replies);
        let decoded = convert::decode_replies(wire.into_reader().get_results().unwrap(), replies.len());
        prop_assert_eq!(decoded, Ok(replies));
    }

    #[test]
    fn peer_operations_survive_the_wire(operations in vec(peer_operation(), 0..40)) {
        let mut message = message();
        let mut request: peer_capnp::peer_request::Builder<'_> = message.init_root();
        convert::encode_peer_operations(request.reborrow().init_operations(operations.len() as u32), &operations);
        let decoded = convert::decode_peer_operations(request.into_reader().get_operations().unwrap(), 300).unwrap();
        let expected: Vec<_> = operations.into_iter().map(Ok).collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn peer_results_survive_the_wire(results in vec(peer_result(), 0..40)) {
        let mut message = message();
        let mut wire: peer_capnp::peer_reply::Builder<'_> = message.init_root();
        convert::encode_peer_results(wire.reborrow().init_results(results.len() as u32), &results);
        let decoded = convert::decode_peer_results(wire.into_reader().get_results().unwrap(), results.len(), 300);
        prop_assert_eq!(decoded, Ok(results));
    }

    #[test]
    fn headers_survive_the_wire(
        (epoch, budget_ms, hops) in any::<(u64, u32, u8)>(),
        traceparent in option::of("[0-9a-f-]{1,60}"),
        (load, server_micros) in any::<(u8, u32)>(),
        coordinator in option::of(0..u16::MAX),
    ) {
        let mut message = message();
        let header = RequestHeader { epoch, budget_ms, traceparent, hops };
        let mut wire: schema::common_capnp::request_header::Builder<'_> = message.init_root();
        header.encode(wire.reborrow());
        prop_assert_eq!(RequestHeader::decode(Ok(wire.into_reader())), Ok(header));
        let header = ReplyHeader { epoch, coordinator: coordinator.map(NodeIndex), load, server_micros };
        let mut wire: schema::common_capnp::reply_header::Builder<'_> = message.init_root();
        header.encode(wire.reborrow());
        prop_assert_eq!(ReplyHeader::decode(Ok(wire.into_reader())), header);
    }

    #[test]
    fn scans_survive_the_wire(
        bucket in option::of("[a-z]{1,64}"),
        (partition, with_tombstones) in any::<(u32, bool)>(),
        limit in 1..=convert::SCAN_LIMIT_MAX,
        cursor in bytes(0..40),
        keys in vec(("[a-z]{1,64}", bytes(1..100), any::<(u16, u64)>()), 0..20),
        unreadable in any::<u32>(),
    ) {
        let mut message = message();
        let scan = Scan { bucket, partition, cursor: cursor.clone(), limit, with_tombstones };
        let mut wire: kv_capnp::scan_request::Builder<'_> = message.init_root();
        convert::encode_scan(wire.reborrow(), &scan);
        prop_assert_eq!(convert::decode_scan(wire.into_reader()), Ok(scan));
        let key = |(bucket, key, (siblings, value_bytes))| ScanKey { bucket: Bytes::from(bucket), key, siblings, value_bytes };
        let page = Ok(ScanPage { keys: keys.into_iter().map(key).collect(), cursor, unreadable });
        let mut wire: kv_capnp::scan_reply::Builder<'_> = message.init_root();
        convert::encode_scan_page(wire.reborrow(), &page);
        prop_assert_eq!(convert::decode_scan_page(wire.into_reader()), page);
    }
}

/// Five nodes, each in its own zone, and 2^`partition_bits` partitions laid out in turn.
fn layout(partition_bits: u8, replicas: u8) -> Layout {
    let member = |at: u16| Member {
        id: NodeId(u128::from(at) + 7),
        name: format!("node-{at}"),
        zone: format!("zone-{at}"),
        weight: u32::from(at) + 1,
        addresses: vec![format!("127.0.0.1:{}", 7601 + at)],
        state: if at == 4 { MemberState::Leaving } else { MemberState::Active },
    };
    let slot = |at: u32| {
        let (partition, place) = (at / u32::from(replicas), at % u32::from(replicas));
        ((partition + place) % 4) as u16
    };
    let properties = BucketProperties { level: Level::All, r: 1, w: 1, conflict_rule: ConflictRule::LastWriterWins };
    Layout {
        cluster: 99,
        generation: 3,
        epoch: 12,
        parent_hash: [5; 16],
        electors: vec![NodeIndex(0), NodeIndex(1), NodeIndex(2)],
        members: (0..5).map(member).collect(),
        partition_bits,
        replicas,
        slots: (0..u32::from(replicas) << partition_bits).map(slot).collect(),
        buckets: [("carts".to_owned(), properties)].into(),
        spans: dynamo::layout::spans::Spans::settled(12),
    }
}

fn with_pages<T>(layout: &Layout, pages: &[u32], read: impl FnOnce(kv_capnp::ring::Reader<'_>) -> T) -> T {
    let (mut question, mut answer) = (message(), message());
    let mut request: kv_capnp::ring_request::Builder<'_> = question.init_root();
    request.set_pages(pages).unwrap();
    let mut ring: kv_capnp::ring::Builder<'_> = answer.init_root();
    convert::encode_ring(ring.reborrow(), layout, &layout.hash(), request.into_reader().get_pages());
    read(ring.into_reader())
}

#[test]
fn a_small_layout_travels_in_one_piece() {
    for (partition_bits, replicas) in [(0, 1), (8, 3), (12, 3), (13, 3)] {
        let layout = layout(partition_bits, replicas);
        let partial = with_pages(&layout, &[], PartialLayout::decode).unwrap();
        assert!(partial.complete() == Ok(layout), "2^{partition_bits} partitions of {replicas} replicas");
    }
}

#[test]
fn a_large_layout_travels_page_by_page() {
    let layout = layout(18, 3);
    let mut partial = with_pages(&layout, &[], PartialLayout::decode).unwrap();
    let at_first = partial.missing().len();
    assert!((1..64).contains(&at_first), "{at_first} of 64 pages are missing after the first reply");
    assert!(partial.clone().complete().is_err());
    while !partial.missing().is_empty() {
        let missing = partial.missing();
        with_pages(&layout, &missing, |ring| partial.add_pages(ring)).unwrap();
        assert!(partial.missing().len() < missing.len(), "every reply brings at least one page");
    }
    assert!(partial.complete() == Ok(layout));
}

#[test]
fn only_the_pages_asked_for_are_sent() {
    let layout = layout(14, 3);
    let partial = with_pages(&layout, &[2, 2, 900], PartialLayout::decode).unwrap();
    assert_eq!(partial.missing(), [0, 1, 3]);
}

#[test]
fn pages_of_another_layout_are_refused() {
    let mut partial = with_pages(&layout(13, 3), &[0], PartialLayout::decode).unwrap();
    let newer = Layout { epoch: 13, ..layout(13, 3) };
    assert!(with_pages(&newer, &[1], |ring| partial.add_pages(ring)).is_err());
}
