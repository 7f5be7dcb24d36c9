//! Records: canonical, verified, total on hostile bytes.

use alloc::vec::Vec;
use std::vec;

use bytes::Bytes;
use proptest::{collection::vec as many, prelude::*};

use super::{
    BODY_AT, CHECKSUM_AT, COUNTS_AT, FORMAT, RecordError, checksum, decode, decode_of, encode, summary, verify,
};
use crate::{
    ident::{OpId, StoreKey},
    operation::Address,
    version::{Actor, CausalContext, Content, Dot, Object, Spent, Version, put::Seen},
};

fn address() -> Address {
    Address::new(Bytes::from_static(b"carts"), Bytes::from_static(b"key/1"))
}

fn version(dot: Dot, value: Option<Vec<u8>>, expires: u64) -> Version {
    let content = match value {
        Some(value) => Content::Value { hash: value.len() as u128 + 7, bytes: Bytes::from(value) },
        None => Content::Tombstone,
    };
    Version { dot, op_id: OpId { client: dot.seq, sequence: 9 }, clock: dot.seq << 20, expires, content }
}

fn any_object() -> impl Strategy<Value = Object> {
    let versions = many((1..5u64, 1..99u64, prop::option::weighted(0.8, many(any::<u8>(), 0..40)), 0..3u64), 0..5);
    let known = many((1..9u64, 1..99u64), 0..6);
    let spent = many((0..50u64, any::<u64>()), 0..8);
    (versions, known, spent).prop_map(|(versions, known, spent)| {
        let mut object = Object::new();
        for (actor, seq, value, expires) in versions {
            let dot = Dot { actor: Actor(actor), seq };
            if !object.context.covers(dot) {
                object.put(&Seen::default(), version(dot, value, expires));
            }
        }
        let known: CausalContext = known.into_iter().map(|(actor, seq)| Dot { actor: Actor(actor), seq }).collect();
        object.context.join(&known);
        object.spent = spent.into_iter().map(|(clock, hash)| Spent { clock, hash }).collect();
        object.spent.sort_unstable_by(|left, right| right.cmp(left));
        object.spent.dedup_by_key(|spent| spent.hash);
        object
    })
}

/// The same bytes under a checksum that matches: what a peer with a bug could send.
fn resealed(store_key: &StoreKey, mut bytes: Vec<u8>) -> Bytes {
    let checksum = checksum(store_key, &bytes);
    bytes[CHECKSUM_AT..COUNTS_AT].copy_from_slice(&checksum.to_le_bytes());
    Bytes::from(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn what_was_encoded_is_decoded(object in any_object()) {
        let address = address();
        let bytes = Bytes::from(encode(&address, &object));
        let record = decode(&address.store_key, &bytes).unwrap();
        prop_assert!(record.is_of(&address));
        prop_assert_eq!(verify(&address.store_key, &bytes), Ok(record.digest));
        let told = summary(&address.store_key, &bytes).unwrap();
        prop_assert_eq!((told.bucket, told.key), (&b"carts"[..], &b"key/1"[..]));
        prop_assert_eq!(told.live as usize, object.live().count());
        prop_assert_eq!(told.value_bytes, object.value_bytes());
        for now in object.versions.iter().flat_map(|version| [version.expires, version.expires.saturating_sub(1), 7]) {
            let is_shown = object.live().any(|version| !version.is_expired(now));
            prop_assert_eq!(told.live_at(now) as usize, if is_shown { object.live().count() } else { 0 });
        }
        prop_assert_eq!(record.object, object);
    }

    #[test]
    fn any_flipped_bit_is_noticed(object in any_object(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let address = address();
        let mut bytes = encode(&address, &object);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&address.store_key, &Bytes::from(bytes)).is_err());
    }

    #[test]
    fn any_cut_is_noticed(object in any_object(), at in any::<prop::sample::Index>()) {
        let address = address();
        let bytes = encode(&address, &object);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(verify(&address.store_key, cut), Err(RecordError::Damaged));
    }

    /// Hostile bytes under a matching checksum: an error, or an object that is exactly these bytes.
    #[test]
    fn what_is_accepted_encodes_to_the_same_bytes(
        object in any_object(),
        changes in many((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let address = address();
        let mut bytes = encode(&address, &object);
        for (at, byte) in changes {
            let at = COUNTS_AT + at.index(bytes.len() - COUNTS_AT);
            bytes[at] = byte;
        }
        let bytes = resealed(&address.store_key, bytes);
        let told = summary(&address.store_key, &bytes).map(|told| told.live);
        if let Ok(record) = decode(&address.store_key, &bytes) {
            let named = Address { store_key: address.store_key, bucket: record.bucket, key: record.key };
            prop_assert_eq!(told.unwrap() as usize, record.object.live().count());
            prop_assert_eq!(encode(&named, &record.object), bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in many(any::<u8>(), 0..200)) {
        let address = address();
        prop_assert!(decode(&address.store_key, &Bytes::from(bytes.clone())).is_err());
        if bytes.len() >= BODY_AT {
            let mut bytes = bytes;
            (bytes[0], bytes[1]) = (FORMAT, 0);
            let _ = decode(&address.store_key, &resealed(&address.store_key, bytes));
        }
    }
}

#[test]
fn counts_that_promise_more_than_there_is_take_no_memory() {
    let address = address();
    for at in [18, 22] {
        let mut bytes = encode(&address, &Object::new());
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let bytes = resealed(&address.store_key, bytes);
        assert_eq!(decode(&address.store_key, &bytes), Err(RecordError::Malformed));
        assert_eq!(summary(&address.store_key, &bytes), Err(RecordError::Malformed));
    }
}

#[test]
fn bytes_that_break_a_rule_under_a_matching_checksum_are_malformed() {
    let address = address();
    let mut object = Object::new();
    for seq in [3, 4] {
        object.put(&Seen::default(), version(Dot { actor: Actor(1), seq }, None, 0));
    }
    object.spent = vec![Spent { clock: 2, hash: 1 }, Spent { clock: 1, hash: 2 }];
    let sound = encode(&address, &object);
    let (spent_at, versions_at) = (BODY_AT + 16, BODY_AT + 16 + 32);
    let breaks: [(&str, usize, Vec<u8>); 9] = [
        ("a count of zero in the context", BODY_AT + 8, vec![0; 8]),
        ("a memory out of order", spent_at, vec![0; 8]),
        ("a memory twice", spent_at + 24, vec![1]),
        ("an actor that the context does not name", versions_at, vec![1]),
        ("a dot of count zero", versions_at + 4, vec![0]),
        ("dots out of order", versions_at + 4, vec![4]),
        ("a dot that the context does not cover", versions_at + 37 + 4, vec![5]),
        ("an unknown kind", versions_at + 36, vec![4]),
        ("more bytes than the counts explain", 27, vec![0]),
    ];
    assert!(decode(&address.store_key, &resealed(&address.store_key, sound.clone())).is_ok());
    for (what, at, new) in breaks {
        let mut bytes = sound.clone();
        bytes[at..at + new.len()].copy_from_slice(&new);
        let bytes = resealed(&address.store_key, bytes);
        assert_eq!(decode(&address.store_key, &bytes), Err(RecordError::Malformed), "{what}");
    }
}

#[test]
fn a_record_copied_to_another_key_does_not_verify_there() {
    let address = address();
    let bytes = Bytes::from(encode(&address, &Object::new()));
    let other = StoreKey::of(b"carts", b"key/2");
    assert_eq!(decode(&other, &bytes), Err(RecordError::Damaged));
}

#[test]
fn another_key_with_the_same_hashes_is_a_clear_error_and_never_a_value() {
    // Nobody has an MD5 and XXH3 collision at hand, so two names are put under one store key by force.
    let ours = address();
    let theirs = Address { key: Bytes::from_static(b"other"), ..ours.clone() };
    let mut object = Object::new();
    object.put(&Seen::default(), version(Dot { actor: Actor(1), seq: 1 }, Some(vec![1]), 0));
    let bytes = Bytes::from(encode(&theirs, &object));
    assert_eq!(decode_of(&ours, &bytes), Err(RecordError::OtherKey));
    assert_eq!(decode_of(&theirs, &bytes), Ok(object));
}

#[test]
fn an_unknown_format_is_named_and_not_guessed_at() {
    let address = address();
    let mut bytes = encode(&address, &Object::new());
    bytes[0] = 2;
    assert_eq!(verify(&address.store_key, &bytes), Err(RecordError::UnknownFormat(2)));
}

#[test]
fn the_bytes_of_a_record_are_these() {
    // A golden record: whoever changes the format must change its number, or stored data becomes unreadable.
    let address = address();
    let mut object = Object::new();
    object.put(&Seen::default(), version(Dot { actor: Actor(0x0102), seq: 3 }, Some(b"hi".to_vec()), 5));
    object.spent = vec![Spent { clock: 8, hash: 0xfe }];
    let bytes = encode(&address, &object);
    let mut expected: Vec<u8> = vec![1, 0];
    expected.extend_from_slice(&bytes[CHECKSUM_AT..COUNTS_AT]);
    expected.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 1, 5, 5, 0]);
    expected.extend_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0, 0, 0x30, 0, 0, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']);
    expected.extend_from_slice(b"cartskey/1");
    assert_eq!(bytes, expected);
    // Computed by another implementation of the hash from the layout in record.rs.
    assert_eq!(verify(&address.store_key, &bytes), Ok(0xb30a_f150_4995_52e9_185e_f084_79b9_e10f));
}
