//! From bytes to a record. Total: any bytes give a record or an error, memory is taken only for what the bytes can hold,
//! and what is accepted encodes to the very same bytes again.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    BODY_AT, CHECKSUM_AT, COUNTS_AT, ENTRY_BYTES, EXPIRES_BYTES, FLAGS, FORMAT, KIND_EXPIRES, KIND_VALUE, Record,
    RecordError, SPENT_BYTES, Summary, VALUE_HEAD_BYTES, VERSION_BYTES, checksum,
};
use crate::{
    ident::{OpId, StoreKey},
    operation::Address,
    version::{Actor, CausalContext, Content, Dot, Object, SPENT_RECENT_MAX, Spent, Version},
};

/// Checks that `bytes` are an undamaged record of this store key; its digest. Does not look inside.
pub fn verify(store_key: &StoreKey, bytes: &[u8]) -> Result<u128, RecordError> {
    match bytes.first() {
        Some(&FORMAT) if bytes.len() >= BODY_AT && bytes[1] == FLAGS => {}
        Some(&format) if format != FORMAT => return Err(RecordError::UnknownFormat(format)),
        Some(_) | None => return Err(RecordError::Damaged),
    }
    let stored = u128::from_le_bytes(chunk(&bytes[CHECKSUM_AT..COUNTS_AT]));
    if stored == checksum(store_key, bytes) { Ok(stored) } else { Err(RecordError::Damaged) }
}

/// Verifies and reads a record. The result shares the memory of `bytes`.
pub fn decode(store_key: &StoreKey, bytes: &Bytes) -> Result<Record, RecordError> {
    let digest = verify(store_key, bytes)?;
    let parts = Parts::of(bytes).ok_or(RecordError::Malformed)?;
    let object = read_object(&parts, bytes).ok_or(RecordError::Malformed)?;
    Ok(Record { bucket: bytes.slice_ref(parts.bucket), key: bytes.slice_ref(parts.key), object, digest })
}

/// Verifies and reads the record of `address`: the object and the digest, without slices of the names it compared.
pub(crate) fn read(address: &Address, bytes: &Bytes) -> Result<(Object, u128), RecordError> {
    let digest = verify(&address.store_key, bytes)?;
    let parts = Parts::of(bytes).ok_or(RecordError::Malformed)?;
    let object = read_object(&parts, bytes).ok_or(RecordError::Malformed)?;
    let is_of_address = parts.bucket == address.bucket && parts.key == address.key;
    if is_of_address { Ok((object, digest)) } else { Err(RecordError::OtherKey) }
}

/// Verifies a record and tells what a scan wants to know, without taking memory.
pub fn summary<'r>(store_key: &StoreKey, bytes: &'r [u8]) -> Result<Summary<'r>, RecordError> {
    let digest = verify(store_key, bytes)?;
    let parts = Parts::of(bytes).ok_or(RecordError::Malformed)?;
    let (mut live, mut value_bytes, mut expires, mut rest) = (0, 0, 0, parts.versions);
    let mut is_for_ever = false;
    for _ in 0..parts.version_count {
        let version = take_version(&mut rest).ok_or(RecordError::Malformed)?;
        if let Some((value, _)) = version.value {
            live += 1;
            value_bytes += value.len() as u64;
            expires = version.expires.max(expires);
            is_for_ever |= version.expires == 0;
        }
    }
    let expires = if is_for_ever { 0 } else { expires };
    Ok(Summary { bucket: parts.bucket, key: parts.key, live, value_bytes, expires, digest })
}

/// The digest a record claims to have, and whether it has no live version. Touches no value and verifies nothing: this is for those who
/// look at very many records and know what their digests add up to. `None` if its counts promise more than there is.
pub fn outline(bytes: &[u8]) -> Option<(u128, bool)> {
    let parts = Parts::of(bytes.get(..BODY_AT).and(Some(bytes))?)?;
    let (mut is_deleted, mut rest) = (true, parts.versions);
    for _ in 0..parts.version_count {
        is_deleted &= take_version(&mut rest)?.value.is_none();
    }
    Some((u128::from_le_bytes(chunk(&bytes[CHECKSUM_AT..COUNTS_AT])), is_deleted))
}

/// The store key of the names that a record claims to have. Nothing is verified: this only helps to tell a record that was
/// damaged from one that stands under a damaged key.
pub fn claimed_key(bytes: &[u8]) -> Option<StoreKey> {
    let parts = Parts::of(bytes.get(..BODY_AT).and(Some(bytes))?)?;
    Some(StoreKey::of(parts.bucket, parts.key))
}

/// The pieces of a record, cut by its counts.
struct Parts<'r> {
    entries: &'r [[u8; ENTRY_BYTES]],
    spent: &'r [[u8; SPENT_BYTES]],
    version_count: usize,
    versions: &'r [u8],
    bucket: &'r [u8],
    key: &'r [u8],
}

impl<'r> Parts<'r> {
    /// Cuts a record at least as long as its head; `None` if the counts promise more than there is.
    fn of(bytes: &'r [u8]) -> Option<Self> {
        let (head, body) = bytes.split_at(BODY_AT);
        let count = |at: usize| u32::from_le_bytes(chunk(&head[at..at + 4])) as usize;
        let (entry_count, version_count, spent_count) = (count(18), count(22), usize::from(head[26]));
        let (bucket_bytes, key_bytes) = (usize::from(head[27]), usize::from(u16::from_le_bytes([head[28], head[29]])));
        let (entries, body) = body.split_at_checked(entry_count.checked_mul(ENTRY_BYTES)?)?;
        let (spent, body) = body.split_at_checked(spent_count * SPENT_BYTES)?;
        let (body, key) = body.split_at_checked(body.len().checked_sub(key_bytes)?)?;
        let (versions, bucket) = body.split_at_checked(body.len().checked_sub(bucket_bytes)?)?;
        if version_count.checked_mul(VERSION_BYTES)? > versions.len() || spent_count > SPENT_RECENT_MAX {
            return None;
        }
        let (entries, spent) = (entries.as_chunks().0, spent.as_chunks().0);
        Some(Self { entries, spent, version_count, versions, bucket, key })
    }
}

/// A version as it stands in a record.
struct RawVersion<'r> {
    actor: usize,
    seq: u64,
    op_id: OpId,
    clock: u64,
    expires: u64,
    value: Option<(&'r [u8], u128)>,
}

fn read_object(parts: &Parts<'_>, record: &Bytes) -> Option<Object> {
    let entries = parts.entries.iter().map(pair).map(|(actor, seq)| (Actor(actor), seq)).collect::<Vec<_>>();
    let context = CausalContext::from_entries(entries)?;
    let mut versions: Vec<Version> = Vec::with_capacity(parts.version_count);
    let mut rest = parts.versions;
    for _ in 0..parts.version_count {
        let raw = take_version(&mut rest)?;
        let (actor, known) = context.entry(raw.actor)?;
        let dot = Dot { actor, seq: raw.seq };
        if raw.seq == 0 || raw.seq > known || versions.last().is_some_and(|last| last.dot >= dot) {
            return None;
        }
        let content = match raw.value {
            Some((value, hash)) => Content::Value { bytes: record.slice_ref(value), hash },
            None => Content::Tombstone,
        };
        versions.push(Version { dot, op_id: raw.op_id, clock: raw.clock, expires: raw.expires, content });
    }
    if !rest.is_empty() {
        return None;
    }
    Some(Object { versions, context, spent: read_spent(parts.spent)? })
}

fn read_spent(chunks: &[[u8; SPENT_BYTES]]) -> Option<Vec<Spent>> {
    let mut spent: Vec<Spent> = Vec::with_capacity(chunks.len());
    for (clock, hash) in chunks.iter().map(pair) {
        let entry = Spent { clock, hash };
        if spent.last().is_some_and(|last| *last <= entry) || spent.iter().any(|known| known.hash == hash) {
            return None;
        }
        spent.push(entry);
    }
    Some(spent)
}

/// Takes one version from the front of `rest`.
fn take_version<'r>(rest: &mut &'r [u8]) -> Option<RawVersion<'r>> {
    let head: &[u8; VERSION_BYTES] = take(rest)?;
    let word = |at: usize| u64::from_le_bytes(chunk(&head[at..at + 8]));
    let kind = head[36];
    if kind & !(KIND_VALUE | KIND_EXPIRES) != 0 {
        return None;
    }
    let mut expires = 0;
    if kind & KIND_EXPIRES != 0 {
        expires = u64::from_le_bytes(*take::<EXPIRES_BYTES>(rest)?);
        if expires == 0 {
            return None;
        }
    }
    let mut value = None;
    if kind & KIND_VALUE != 0 {
        let head: &[u8; VALUE_HEAD_BYTES] = take(rest)?;
        let length = u32::from_le_bytes(chunk(&head[..4])) as usize;
        let (bytes, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        value = Some((bytes, u128::from_le_bytes(chunk(&head[4..]))));
    }
    Some(RawVersion {
        actor: u32::from_le_bytes(chunk(&head[..4])) as usize,
        seq: word(4),
        op_id: OpId { client: word(12), sequence: word(20) },
        clock: word(28),
        expires,
        value,
    })
}

/// Takes a fixed number of bytes from the front of `rest`.
fn take<'r, const SIZE: usize>(rest: &mut &'r [u8]) -> Option<&'r [u8; SIZE]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(taken)
}

/// A slice as an array, where its length is right by construction.
fn chunk<const SIZE: usize>(bytes: &[u8]) -> [u8; SIZE] {
    let mut chunk = [0; SIZE];
    chunk.copy_from_slice(bytes);
    chunk
}

fn pair(bytes: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*bytes);
    (both as u64, (both >> 64) as u64)
}
