//! From an object to its record.

use alloc::vec::Vec;

use super::{BODY_AT, CHECKSUM_AT, COUNTS_AT, FLAGS, FORMAT, KIND_EXPIRES, KIND_VALUE, VERSION_BYTES, checksum, room};
use crate::{
    operation::Address,
    version::{Content, Object, Version},
};

/// The record of an object under `address`.
///
/// # Panics
/// If the object breaks its own rules (a version its context does not cover) or a name is longer than names may be: both
/// are bugs of this program, and bytes made of them would be unreadable.
pub fn encode(address: &Address, object: &Object) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(room(object) + address.bucket.len() + address.key.len());
    bytes.extend_from_slice(&[0; BODY_AT]);
    bytes[0] = FORMAT;
    bytes[1] = FLAGS;
    put_counts(&mut bytes, address, object);
    for (actor, seq) in object.context.iter() {
        bytes.extend_from_slice(&pair(actor.0, seq));
    }
    for spent in &object.spent {
        bytes.extend_from_slice(&pair(spent.clock, spent.hash));
    }
    for version in &object.versions {
        put_version(&mut bytes, object, version);
    }
    bytes.extend_from_slice(&address.bucket);
    bytes.extend_from_slice(&address.key);
    let checksum = checksum(&address.store_key, &bytes);
    bytes[CHECKSUM_AT..COUNTS_AT].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn put_counts(bytes: &mut [u8], address: &Address, object: &Object) {
    let count = |length: usize| u32::try_from(length).expect("an object fits into memory").to_le_bytes();
    bytes[18..22].copy_from_slice(&count(object.context.len()));
    bytes[22..26].copy_from_slice(&count(object.versions.len()));
    bytes[26] = u8::try_from(object.spent.len()).expect("the memory of overwritten operations is bounded");
    bytes[27] = u8::try_from(address.bucket.len()).expect("bucket names are short");
    bytes[28..30].copy_from_slice(&u16::try_from(address.key.len()).expect("keys are short").to_le_bytes());
}

fn put_version(bytes: &mut Vec<u8>, object: &Object, version: &Version) {
    let actor = object.context.position(version.dot.actor).expect("the context covers every version");
    let expires = if version.expires == 0 { 0 } else { KIND_EXPIRES };
    let mut head = [0; VERSION_BYTES];
    head[..4].copy_from_slice(&(actor as u32).to_le_bytes());
    head[4..12].copy_from_slice(&version.dot.seq.to_le_bytes());
    head[12..20].copy_from_slice(&version.op_id.client.to_le_bytes());
    head[20..28].copy_from_slice(&version.op_id.sequence.to_le_bytes());
    head[28..36].copy_from_slice(&version.clock.to_le_bytes());
    head[36] = expires
        | match version.content {
            Content::Value { .. } => KIND_VALUE,
            Content::Tombstone => 0,
        };
    bytes.extend_from_slice(&head);
    if version.expires != 0 {
        bytes.extend_from_slice(&version.expires.to_le_bytes());
    }
    if let Content::Value { bytes: value, hash } = &version.content {
        let length = u32::try_from(value.len()).expect("values are far shorter than 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&hash.to_le_bytes());
        bytes.extend_from_slice(value);
    }
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(second) << 64 | u128::from(first)).to_le_bytes()
}
