//! Bytes of our own formats: context tokens, records, rows and keys of hints, layouts, partition rows. What is accepted must
//! mean the same when it is written again.

use bytes::Bytes;
use dynamo::{
    acceptor::Acceptor,
    hint::{HintKey, HintUsage},
    ident::{NodeId, StoreKey},
    layout::Layout,
    operation::Address,
    record,
    replica::PartitionRow,
    staging::Staged,
    token::{self, TokenKey},
};
use schema::convert::{read_delta, write_delta};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use crate::seeds;

/// The key under which tokens are sealed here.
pub const TOKEN_KEY: TokenKey = TokenKey([7; 32]);

const TAG_BYTES: usize = 16;

/// The address of which tokens and records are.
pub fn address() -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::from_static(b"fuzz"))
}

/// A context token.
pub fn tokens(bytes: &[u8]) {
    let store_key = address().store_key;
    let _ = token::open(&TOKEN_KEY, &store_key, bytes);
    // The same with the tag it should have: the content is read now.
    let mut tagged = store_key.0.to_vec();
    tagged.extend_from_slice(bytes);
    let tag = blake3::keyed_hash(&TOKEN_KEY.0, &tagged);
    let sealed = [bytes, &tag.as_bytes()[..TAG_BYTES]].concat();
    let Ok(seen) = token::open(&TOKEN_KEY, &store_key, &sealed) else { return };
    let again = token::seal(&TOKEN_KEY, &store_key, &seen);
    assert_eq!(token::open(&TOKEN_KEY, &store_key, &again), Ok(seen), "a token changed its meaning");
    let other = StoreKey::of(b"default", b"another");
    assert!(token::open(&TOKEN_KEY, &other, &again).is_err(), "a token was taken for another key");
}

/// A record.
pub fn records(bytes: &[u8]) {
    let address = address();
    try_record(&address, bytes);
    if let Some(whole) = with_checksum(&address.store_key, bytes) {
        try_record(&address, &whole);
    }
}

fn try_record(address: &Address, bytes: &[u8]) {
    let _ = record::claimed_key(bytes);
    let verified = record::verify(&address.store_key, bytes);
    let shared = Bytes::copy_from_slice(bytes);
    let decoded = record::decode(&address.store_key, &shared);
    let summary = record::summary(&address.store_key, bytes);
    if let Ok(summary) = &summary {
        assert_eq!(verified, Ok(summary.digest));
    }
    if let Ok(object) = record::decode_of(address, &shared) {
        assert!(decoded.is_ok(), "a record of this key decodes only with its key");
        let again = record::encode(address, &object);
        assert_eq!(again, shared, "a record is canonical: what is accepted has these bytes and no others");
        let summary = summary.expect("what decodes can be summed up");
        assert_eq!(summary.live as usize, object.live().count());
    }
}

/// The bytes as a record of the key, with the checksum they should have; `None` if they are shorter than a record's head.
pub fn with_checksum(store_key: &StoreKey, bytes: &[u8]) -> Option<Vec<u8>> {
    const CHECKSUM: std::ops::Range<usize> = 2..18;
    let mut whole = bytes.to_vec();
    whole.get(..30)?;
    (whole[0], whole[1]) = (record::FORMAT, 0);
    let checksum = xxh3_128_with_seed(&whole[CHECKSUM.end..], store_key.seed());
    whole[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    Some(whole)
}

/// The key and the row of a hint.
pub fn hints(bytes: &[u8]) {
    if let Some(key) = HintKey::decode(bytes) {
        assert_eq!(key.encode(), *bytes, "a hint's key is written as it was read");
    }
    if let Ok(usage) = HintUsage::decode(NodeId(7), bytes) {
        assert_eq!(usage.encode(NodeId(7)), *bytes, "a hint row is written as it was read");
    }
    for (prefix, bits) in [(0, 0), (5, 6), (u32::MAX, 32)] {
        if let Ok(row) = PartitionRow::decode(prefix, bits, bytes) {
            assert_eq!(row.encode(), *bytes, "a partition's row is written as it was read");
        }
    }
}

/// What stands of the ring in a node's environment: a layout, what is staged, which other nodes send as well, and what an elector has
/// promised. And what other nodes send in a layout's place: its difference to one that is here.
pub fn layouts(bytes: &[u8]) {
    if let Ok(staged) = Staged::decode(bytes) {
        assert_eq!(staged.encode(), bytes, "staged changes have these bytes and no others");
    }
    for bytes in [bytes.to_vec(), with_sum(bytes)] {
        if let Ok(promises) = Acceptor::decode(&bytes) {
            assert_eq!(promises.encode(), bytes, "an elector's promises have these bytes and no others");
        }
    }
    if let Ok(delta) = read_delta(bytes) {
        if let Ok(later) = delta.apply(&seeds::layout()) {
            assert_eq!((later.epoch, later.hash()), (delta.epoch, delta.hash), "it leads where it says");
        }
        let written = write_delta(&delta).expect("what was told can be told again");
        assert_eq!(read_delta(&written), Ok(delta), "a difference means the same when it is written again");
    }
    let Ok(layout) = Layout::decode(bytes) else { return };
    assert_eq!(layout.encode(), bytes, "a layout has these bytes and no others");
    for partition in [0, layout.partitions() - 1] {
        layout
            .owners(partition)
            .for_each(|owner| assert!(layout.member(owner).is_some(), "an owner that is not there"));
    }
}

/// The bytes as an elector's promises, with the checksum they should have.
fn with_sum(bytes: &[u8]) -> Vec<u8> {
    const CHECKSUM: std::ops::Range<usize> = 1..17;
    let mut whole = bytes.to_vec();
    if whole.len() > CHECKSUM.end {
        let checksum = xxh3_128(&whole[CHECKSUM.end..]);
        whole[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
    whole
}
