//! Whatever arrives, decoding ends soon, with a failure that names the field, the limit and what came.

use bytes::Bytes;
use capnp::{
    message::{Builder, HeapAllocator, ReaderOptions},
    serialize,
};
use dynamo::{
    ident::OpId,
    operation::{Action, Address, Basis, Consistency, ErrorCode, Failure, Operation, Outcome, Receipt, Reply, Sibling},
};
use proptest::prelude::*;
use schema::{convert, kv_capnp, node_capnp, peer_capnp};

const VALUE_BYTES_MAX: usize = 1024 * 1024;

fn message() -> Builder<HeapAllocator> {
    Builder::new_default()
}

/// The failure of a single operation that `write` makes.
fn refused(write: impl FnOnce(kv_capnp::operation::Builder<'_>)) -> Failure {
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(1);
    write(list.reborrow().get(0));
    let list = list.into_reader();
    convert::decode_operations(list, VALUE_BYTES_MAX).unwrap().remove(0).unwrap_err()
}

fn assert_says(failure: &Failure, code: ErrorCode, words: &[&str]) {
    assert_eq!(failure.code, code, "{failure:?}");
    for word in words {
        assert!(failure.message.contains(word), "{:?} does not say {word:?}", failure.message);
    }
    assert!(!failure.maybe_applied && !failure.retryable, "{failure:?}");
}

#[test]
fn keys_have_1_to_1024_bytes() {
    let empty = refused(|wire| wire.init_get().set_key(b""));
    assert_says(&empty, ErrorCode::InvalidRequest, &["key", "0 bytes", "1024"]);
    let long = refused(|wire| wire.init_get().set_key(&[1; 1025]));
    assert_says(&long, ErrorCode::TooLarge, &["key", "1025", "1024"]);
}

#[test]
fn bucket_names_are_checked() {
    let odd = refused(|wire| wire.init_get().set_bucket("a/b"));
    assert_says(&odd, ErrorCode::InvalidRequest, &["bucket"]);
    let long = refused(|wire| wire.init_get().set_bucket("a".repeat(65)));
    assert_says(&long, ErrorCode::InvalidRequest, &["bucket", "64", "65"]);
    let no_text = refused(|wire| wire.init_get().set_bucket(capnp::text::Reader::from(&b"\xff\xfe"[..])));
    assert_says(&no_text, ErrorCode::InvalidRequest, &["bucket"]);
}

#[test]
fn values_and_contexts_have_limits() {
    let value = refused(|wire| {
        let mut put = wire.init_put();
        put.set_key(b"k");
        put.set_value(&vec![0; VALUE_BYTES_MAX + 1]);
    });
    assert_says(&value, ErrorCode::TooLarge, &["value", "1048577", "1048576"]);
    let context = refused(|wire| wire.init_delete().set_context(&[0; 9000]));
    assert_says(&context, ErrorCode::TooLarge, &["context", "9000", "8192"]);
}

#[test]
fn a_put_is_not_both_beside_and_in_place_of_others() {
    let both = refused(|wire| {
        let mut put = wire.init_put();
        put.set_key(b"k");
        put.set_context(b"c");
        put.set_beside(true);
    });
    assert_says(&both, ErrorCode::InvalidRequest, &["beside"]);
}

#[test]
fn a_batch_has_at_most_1024_operations() {
    let mut message = message();
    let list = message.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(1025).into_reader();
    let failure = convert::decode_operations(list, VALUE_BYTES_MAX).unwrap_err();
    assert_says(&failure, ErrorCode::TooLarge, &["operations", "1025", "1024"]);
}

#[test]
fn a_batch_has_at_most_4_mib() {
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(5);
    for at in 0..5 {
        let mut put = list.reborrow().get(at).init_put();
        put.set_key(b"k");
        put.set_value(&vec![0; VALUE_BYTES_MAX]);
    }
    let failure = convert::decode_operations(list.into_reader(), VALUE_BYTES_MAX).unwrap_err();
    assert_says(&failure, ErrorCode::TooLarge, &["operations", "4194304"]);
}

#[test]
fn a_value_larger_than_a_batch_may_travel_alone() {
    let value = Bytes::from(vec![7; 6 * 1024 * 1024]);
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(1);
    let mut put = list.reborrow().get(0).init_put();
    put.set_key(b"k");
    put.set_value(&value);
    let decoded = convert::decode_operations(list.into_reader(), 16 * 1024 * 1024).unwrap().remove(0).unwrap();
    assert!(matches!(decoded.action, Action::Put { value: got, .. } if got == value));
}

#[test]
fn one_bad_operation_leaves_the_others_alone() {
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(3);
    list.reborrow().get(0).init_get().set_key(b"first");
    list.reborrow().get(1).init_get();
    list.reborrow().get(2).init_get().set_key(b"third");
    let decoded = convert::decode_operations(list.into_reader(), VALUE_BYTES_MAX).unwrap();
    let keys: Vec<_> = decoded.iter().map(|operation| operation.as_ref().map(|it| &it.address.key[..]).ok()).collect();
    assert_eq!(keys, [Some(&b"first"[..]), None, Some(&b"third"[..])]);
}

/// Serializes a message, sets the 16 bits at `offset` of its first segment, and reads it again.
fn with_patch<T>(
    message: &Builder<HeapAllocator>,
    offset: usize,
    number: u16,
    read: impl FnOnce(&capnp::message::Reader<serialize::OwnedSegments>) -> T,
) -> T {
    let mut words = serialize::write_message_to_words(message);
    let body = 8 + offset;
    words[body..body + 2].copy_from_slice(&number.to_le_bytes());
    let message = serialize::read_message(&mut &words[..], ReaderOptions::new()).unwrap();
    read(&message)
}

/// Every 16-bit field of a small message, set to a number no enumerant and no union has, gives a failure or a reply, and
/// never a panic; at least one of them is the one that is looked for.
fn patch_everywhere(
    message: &Builder<HeapAllocator>,
    read: impl Fn(&capnp::message::Reader<serialize::OwnedSegments>) -> bool,
) {
    let length = message.get_segments_for_output().iter().map(|segment| segment.len()).sum::<usize>();
    let hits = (0..length / 2).filter(|at| with_patch(message, at * 2, 0x7777, &read)).count();
    assert!(hits > 0);
}

#[test]
fn unknown_kinds_and_levels_are_refused() {
    let mut message = message();
    let mut get = message.init_root::<kv_capnp::operation::Builder<'_>>().init_get();
    get.set_key(b"k");
    get.init_consistency().set_r(1);
    for word in ["kind 30583", "30583 is no level"] {
        patch_everywhere(&message, |message| {
            let Ok(operation) = message.get_root::<kv_capnp::operation::Reader<'_>>() else { return false };
            let mut copy = Builder::new_default();
            let mut list = copy.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(1);
            if list.set_with_caveats(0, operation).is_err() {
                return false;
            }
            let decoded = convert::decode_operations(list.into_reader(), VALUE_BYTES_MAX).unwrap().remove(0);
            matches!(decoded, Err(failure) if failure.message.contains(word))
        });
    }
}

#[test]
fn unknown_results_and_codes_are_internal_errors() {
    let mut message = message();
    let mut error = message.init_root::<kv_capnp::result::Builder<'_>>().init_error();
    error.set_code(schema::common_capnp::ErrorCode::Overloaded);
    error.set_message("busy");
    for maybe_applied in [false, true] {
        patch_everywhere(&message, |message| {
            let Ok(result) = message.get_root::<kv_capnp::result::Reader<'_>>() else { return false };
            let Outcome::Failed(failure) = convert::decode_reply(result).outcome else { return false };
            failure.code == ErrorCode::Internal && failure.maybe_applied == maybe_applied
        });
    }
}

#[test]
fn data_of_fixed_length_must_have_it() {
    for length in [0, 15, 17, 31, 33] {
        let mut message = message();
        let mut list = message.init_root::<peer_capnp::peer_request::Builder<'_>>().init_operations(1);
        list.reborrow().get(0).set_store_key(&vec![0; length]);
        let failure = convert::decode_peer_operations(list.into_reader(), 1000).unwrap().remove(0).unwrap_err();
        assert_says(&failure, ErrorCode::InvalidRequest, &["storeKey", &format!("{length} bytes"), "32"]);
    }
    let mut message = message();
    let mut hello = message.init_root::<node_capnp::hello_request::Builder<'_>>();
    hello.reborrow().init_peer().set_cluster(&[0; 15]);
    let failure = convert::HelloRequest::decode(hello.into_reader()).unwrap_err();
    assert_says(&failure, ErrorCode::InvalidRequest, &["peer.cluster", "15 bytes", "16"]);
}

#[test]
fn views_that_mean_nothing_are_refused() {
    for (prefix, bits, lo, hi) in [(256, 8, 1, 1), (1, 0, 1, 1), (0, 33, 1, 1), (0, 200, 1, 1), (0, 8, 2, 1)] {
        let mut message = message();
        let mut list = message.init_root::<peer_capnp::peer_request::Builder<'_>>().init_operations(1);
        let mut operation = list.reborrow().get(0);
        operation.set_store_key(&[0; 32]);
        let mut view = operation.init_view();
        view.set_prefix(prefix);
        view.set_bits(bits);
        view.set_lo(lo);
        view.set_hi(hi);
        let failure = convert::decode_peer_operations(list.into_reader(), 1000).unwrap().remove(0).unwrap_err();
        assert_says(&failure, ErrorCode::InvalidRequest, &["view"]);
    }
}

#[test]
fn records_that_are_too_large_are_refused() {
    let mut message = message();
    let mut list = message.init_root::<peer_capnp::peer_request::Builder<'_>>().init_operations(2);
    for at in 0..2 {
        let mut operation = list.reborrow().get(at);
        operation.set_store_key(&[0; 32]);
        operation.set_merge(&[0; 101]);
    }
    let decoded = convert::decode_peer_operations(list.into_reader(), 100).unwrap();
    assert_says(decoded[1].as_ref().unwrap_err(), ErrorCode::TooLarge, &["merge", "101", "100"]);
}

#[test]
fn the_number_of_results_must_be_the_number_of_operations() {
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_reply::Builder<'_>>().init_results(2);
    list.reborrow().get(0).init_not_found();
    let list = list.into_reader();
    assert!(convert::decode_replies(list, 3).unwrap_err().maybe_applied);
    assert!(convert::decode_replies(list, 2).is_ok());
}

#[test]
fn a_single_error_speaks_for_the_whole_batch() {
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_reply::Builder<'_>>().init_results(1);
    convert::encode_failure(list.reborrow().get(0).init_error(), &Failure::new(ErrorCode::Overloaded, "busy"));
    let failure = convert::decode_replies(list.into_reader(), 100).unwrap_err();
    assert_eq!((failure.code, failure.retryable), (ErrorCode::Overloaded, true));
}

#[test]
fn values_beyond_a_frame_stay_behind_and_can_be_asked_for_alone() {
    let found = |bytes: usize| {
        let sibling = Sibling { value: Bytes::from(vec![1; bytes]), value_bytes: bytes as u32, clock: 1, hash: 1 };
        Reply {
            outcome: Outcome::Found { siblings: vec![sibling], context: Bytes::new() },
            receipt: Receipt::default(),
        }
    };
    let replies = [found(5 << 20), found(1), found(0)];
    let mut message = message();
    let mut list = message.init_root::<kv_capnp::execute_reply::Builder<'_>>().init_results(3);
    convert::encode_replies(list.reborrow(), &replies);
    let decoded = convert::decode_replies(list.into_reader(), 3).unwrap();
    assert!(matches!(&decoded[0].outcome, Outcome::Found { siblings, .. } if siblings[0].value.len() == 5 << 20));
    assert!(matches!(&decoded[1].outcome, Outcome::Failed(it) if it.code == ErrorCode::TooLarge && it.retryable));
    assert!(matches!(decoded[2].outcome, Outcome::Found { .. }));
}

#[test]
fn a_list_of_empty_elements_costs_nothing() {
    // Elements of no size fit into two words, however many; whoever allocates for them is lost. So many pass the limit
    // that Cap'n Proto itself has for them.
    const CLAIMED: u64 = 1 << 22;
    let mut message = message();
    message.init_root::<kv_capnp::execute_reply::Builder<'_>>().init_results(1);
    let bytes = serialize::write_message_to_words(&message);
    let mut reached = 0;
    for at in (8..bytes.len() - 8).step_by(8) {
        let mut hostile = bytes.clone();
        // A list pointer to the next word: composite, of no words, whose tag claims four million elements.
        hostile[at..at + 8].copy_from_slice(&(1u64 | 7 << 32).to_le_bytes());
        hostile[at + 8..at + 16].copy_from_slice(&(CLAIMED << 2).to_le_bytes());
        if let Ok(message) = serialize::read_message(&mut &hostile[..], ReaderOptions::new())
            && let Ok(reply) = message.get_root::<kv_capnp::execute_reply::Reader<'_>>()
            && let Ok(results) = reply.get_results()
        {
            reached += usize::from(u64::from(results.len()) == CLAIMED);
            assert!(convert::decode_replies(results, 4).is_err());
        }
    }
    assert_eq!(reached, 1);
}

fn sample() -> (Vec<Operation>, Vec<Reply>) {
    let address = Address::new(Bytes::from_static(b"carts"), Bytes::from_static(b"ann"));
    let put = Action::Put {
        value: Bytes::from_static(b"some value"),
        hash: Some(5),
        basis: Basis::Context(Bytes::from_static(b"token")),
        op_id: OpId { client: 1, sequence: 2 },
        seen_clock: 3,
        ttl_ms: 0,
    };
    let operation = |action| Operation { address: address.clone(), consistency: Consistency::default(), action };
    let sibling = Sibling { value: Bytes::from_static(b"v"), value_bytes: 1, clock: 9, hash: 11 };
    let found = Outcome::Found { siblings: vec![sibling.clone(), sibling], context: Bytes::from_static(b"token") };
    let failed = Outcome::Failed(Failure::new(ErrorCode::Unavailable, "one of two nodes answered"));
    let reply = |outcome| Reply { outcome, receipt: Receipt::default() };
    (vec![operation(Action::Get { without_values: false }), operation(put)], vec![reply(found), reply(failed)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_messages_never_panic(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let (operations, replies) = sample();
        let mut message = message();
        convert::encode_operations(message.init_root::<kv_capnp::execute_request::Builder<'_>>().init_operations(2), &operations);
        let mut words = serialize::write_message_to_words(&message);
        damage.iter().for_each(|(at, byte)| { let at = at.index(words.len()); words[at] = *byte; });
        if let Ok(message) = serialize::read_message(&mut &words[..], ReaderOptions::new()) {
            if let Ok(Ok(list)) = message.get_root::<kv_capnp::execute_request::Reader<'_>>().map(|it| it.get_operations()) {
                let _ = convert::decode_operations(list, VALUE_BYTES_MAX);
            }
            if let Ok(ring) = message.get_root::<kv_capnp::ring::Reader<'_>>() {
                let _ = convert::PartialLayout::decode(ring);
            }
            if let Ok(hello) = message.get_root::<node_capnp::hello_request::Reader<'_>>() {
                let _ = convert::HelloRequest::decode(hello);
            }
        }
        let mut message = Builder::new_default();
        convert::encode_replies(message.init_root::<kv_capnp::execute_reply::Builder<'_>>().init_results(2), &replies);
        let mut words = serialize::write_message_to_words(&message);
        damage.iter().for_each(|(at, byte)| { let at = at.index(words.len()); words[at] = *byte; });
        if let Ok(message) = serialize::read_message(&mut &words[..], ReaderOptions::new()) {
            if let Ok(Ok(list)) = message.get_root::<kv_capnp::execute_reply::Reader<'_>>().map(|it| it.get_results()) {
                let _ = convert::decode_replies(list, 2);
            }
            if let Ok(Ok(list)) = message.get_root::<peer_capnp::peer_reply::Reader<'_>>().map(|it| it.get_results()) {
                let _ = convert::decode_peer_results(list, 2, 1000);
            }
            if let Ok(status) = message.get_root::<kv_capnp::status_reply::Reader<'_>>() {
                let _ = convert::decode_status(status);
            }
        }
    }
}
