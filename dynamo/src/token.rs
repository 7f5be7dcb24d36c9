//! Context tokens: what a client has read, sealed so that it can hand it back with the write that replaces it.
//!
//! A token is bound to its key: it ends in a keyed BLAKE3 tag over the store key and its content. On another key the
//! same context would cover writes that are still on their way, because counts run over all keys of a partition; so would
//! one that a client made up. A token is not secret and not encrypted; it is opaque only by contract.
//!
//! Bytes, integers little end first: `version u8 = 1 | entries u16 | (actor u64, seq u64)… | spent u16 | hash u64… | tag 16`.

use alloc::{borrow::Cow, vec::Vec};
use core::fmt;

use bytes::{Buf, Bytes};

use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    operation::{ErrorCode, Failure},
    version::{
        Actor, CausalContext, Object,
        put::{SEEN_ENTRIES_MAX, Seen},
    },
};

const FORMAT: u8 = 1;
const TAG_BYTES: usize = 16;
const STORE_KEY_BYTES: usize = 32;

/// The cluster's key for tokens. Every node has the same, so that any coordinator opens what another sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey(pub [u8; 32]);

/// Why a token can't be used. Nothing was applied; a fresh `get` of the key gives a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It was sealed for another key, by another cluster, or was damaged or made up: the tag does not match.
    NotOurs,
    /// It bears our tag but not our format: it comes from a node of another version.
    UnknownFormat,
    /// It claims more than [`SEEN_ENTRIES_MAX`] entries.
    TooManyEntries,
}

/// Seals what was seen of a key into a token.
///
/// Entries beyond [`SEEN_ENTRIES_MAX`] are left out: a context that claims less replaces less, and loses nothing.
pub fn seal(key: &TokenKey, store_key: &StoreKey, seen: &Seen) -> Bytes {
    seal_parts(key, store_key, &seen.context, seen.spent.len(), seen.spent.iter().copied())
}

/// Seals all that an object holds, as [`Object::seen`] says it, without copying it first: every read ends here.
pub fn seal_object(key: &TokenKey, store_key: &StoreKey, object: &Object) -> Bytes {
    if object.context.len() > SEEN_ENTRIES_MAX {
        return seal(key, store_key, &object.seen());
    }
    seal_parts(key, store_key, &object.context, object.versions.len(), object.fingerprints())
}

/// `spent` has at most `spent_max` items, and nearly always as many.
fn seal_parts(
    key: &TokenKey,
    store_key: &StoreKey,
    context: &CausalContext,
    spent_max: usize,
    spent: impl Iterator<Item = u64>,
) -> Bytes {
    let entries = context.len().min(SEEN_ENTRIES_MAX);
    let spent_max = spent_max.min(SEEN_ENTRIES_MAX);
    // The store key stands before the content while the tag is made, so that one contiguous run of bytes is hashed.
    let mut bytes = Vec::with_capacity(STORE_KEY_BYTES + 5 + 16 * entries + 8 * spent_max + TAG_BYTES);
    bytes.extend_from_slice(&store_key.0);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&(entries as u16).to_le_bytes());
    for (actor, seq) in context.iter().take(entries) {
        bytes.extend_from_slice(&actor.0.to_le_bytes());
        bytes.extend_from_slice(&seq.to_le_bytes());
    }
    let count_at = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    let mut count = 0_u16;
    for hash in spent.take(spent_max) {
        bytes.extend_from_slice(&hash.to_le_bytes());
        count += 1;
    }
    bytes[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
    let tag = tag(key, &bytes);
    bytes.extend_from_slice(&tag);
    let mut sealed = Bytes::from(bytes);
    sealed.advance(STORE_KEY_BYTES);
    sealed
}

/// Opens a token that was sealed for this key.
pub fn open(key: &TokenKey, store_key: &StoreKey, token: &[u8]) -> Result<Seen, TokenError> {
    let longest = 5 + 24 * SEEN_ENTRIES_MAX + TAG_BYTES;
    if token.len() > longest {
        return Err(TokenError::TooManyEntries);
    }
    let (content, found) = token.split_last_chunk::<TAG_BYTES>().ok_or(TokenError::NotOurs)?;
    let mut tagged = Vec::with_capacity(STORE_KEY_BYTES + content.len());
    tagged.extend_from_slice(&store_key.0);
    tagged.extend_from_slice(content);
    if !equal_in_constant_time(&tag(key, &tagged), found) && !bug::is_on(Bug::AcceptForeignContext) {
        return Err(TokenError::NotOurs);
    }
    parse(content)
}

fn parse(content: &[u8]) -> Result<Seen, TokenError> {
    let rest = content.strip_prefix(&[FORMAT]).ok_or(TokenError::UnknownFormat)?;
    let (entries, rest) = counted::<16>(rest)?;
    let (spent, rest) = counted::<8>(rest)?;
    if !rest.is_empty() {
        return Err(TokenError::UnknownFormat);
    }
    let entry = |bytes: &[u8; 16]| {
        let both = u128::from_le_bytes(*bytes);
        (Actor(both as u64), (both >> 64) as u64)
    };
    let context = CausalContext::from_entries(entries.iter().map(entry).collect()).ok_or(TokenError::UnknownFormat)?;
    Ok(Seen { context, spent: spent.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect() })
}

/// Takes a count and so many chunks from the front of `bytes`.
fn counted<const SIZE: usize>(bytes: &[u8]) -> Result<(&[[u8; SIZE]], &[u8]), TokenError> {
    let (count, rest) = bytes.split_first_chunk::<2>().ok_or(TokenError::UnknownFormat)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if count > SEEN_ENTRIES_MAX {
        return Err(TokenError::TooManyEntries);
    }
    let (chunks, rest) = rest.split_at_checked(count * SIZE).ok_or(TokenError::UnknownFormat)?;
    Ok((chunks.as_chunks::<SIZE>().0, rest))
}

fn tag(key: &TokenKey, bytes: &[u8]) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&blake3::keyed_hash(&key.0, bytes).as_bytes()[..TAG_BYTES]);
    tag
}

/// Compares without stopping at the first difference, so that a forger learns nothing from the time it takes.
fn equal_in_constant_time(left: &[u8; TAG_BYTES], right: &[u8; TAG_BYTES]) -> bool {
    u128::from_le_bytes(*left) ^ u128::from_le_bytes(*right) == 0
}

impl TokenError {
    /// What the client is told.
    pub fn failure(self) -> Failure {
        let message = match self {
            Self::NotOurs => {
                "the context is not one this cluster gave out for this key; nothing was written, get the key again"
            }
            Self::UnknownFormat => {
                "the context has a format this node does not know; nothing was written, get the key again"
            }
            Self::TooManyEntries => "the context has more entries than any this cluster gives out; nothing was written",
        };
        Failure::new(ErrorCode::InvalidRequest, Cow::Borrowed(message))
    }
}

impl fmt::Debug for TokenKey {
    /// The key is a secret of the cluster and never printed.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::{collection::vec, prelude::*};

    use super::{SEEN_ENTRIES_MAX, Seen, TAG_BYTES, TokenError, TokenKey, open, seal};
    use crate::{
        ident::StoreKey,
        version::{Actor, CausalContext, Dot},
    };

    const KEY: TokenKey = TokenKey([7; 32]);

    fn store_key() -> StoreKey {
        StoreKey::of(b"b", b"k")
    }

    fn seen(entries: u64, spent: u64) -> Seen {
        let context: CausalContext = (1..=entries).map(|at| Dot { actor: Actor(at * 3), seq: at }).collect();
        Seen { context, spent: (0..spent).collect() }
    }

    #[test]
    fn what_was_sealed_is_opened_for_its_key_alone() {
        for seen in [seen(0, 0), seen(1, 1), seen(2, 0), seen(256, 256)] {
            let token = seal(&KEY, &store_key(), &seen);
            assert_eq!(open(&KEY, &store_key(), &token), Ok(seen));
            assert_eq!(open(&KEY, &StoreKey::of(b"b", b"l"), &token), Err(TokenError::NotOurs));
            assert_eq!(open(&TokenKey([8; 32]), &store_key(), &token), Err(TokenError::NotOurs));
        }
    }

    #[test]
    fn a_longer_context_is_cut_and_a_longer_token_refused() {
        let token = seal(&KEY, &store_key(), &seen(300, 300));
        let opened = open(&KEY, &store_key(), &token).unwrap();
        assert_eq!((opened.context.len(), opened.spent.len()), (SEEN_ENTRIES_MAX, SEEN_ENTRIES_MAX));
        assert_eq!(open(&KEY, &store_key(), &[0; 10_000]), Err(TokenError::TooManyEntries));
        // Even under the right tag, as if a node had made it.
        let mut content = std::vec![1, 0x01, 0x01];
        content.extend_from_slice(&[1; 257 * 16]);
        content.extend_from_slice(&[0, 0]);
        let tag = super::tag(&KEY, &[&store_key().0[..], &content].concat());
        content.extend_from_slice(&tag);
        assert_eq!(open(&KEY, &store_key(), &content), Err(TokenError::TooManyEntries));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn a_damaged_or_made_up_token_is_refused(
            at in any::<prop::sample::Index>(), bit in 0..8u8, made_up in vec(any::<u8>(), 0..80),
        ) {
            let mut token: Vec<u8> = seal(&KEY, &store_key(), &seen(2, 1)).to_vec();
            let at = at.index(token.len());
            prop_assert!(open(&KEY, &store_key(), &token[..at]).is_err());
            token[at] ^= 1 << bit;
            prop_assert_eq!(open(&KEY, &store_key(), &token), Err(TokenError::NotOurs));
            prop_assert!(open(&KEY, &store_key(), &made_up).is_err());
        }

        /// Content that only a node of this cluster can have tagged is still parsed with care.
        #[test]
        fn any_content_under_the_right_tag_is_parsed_or_refused(content in vec(any::<u8>(), 0..120)) {
            let tagged = [&store_key().0[..], &content].concat();
            let mut token = content;
            token.extend_from_slice(&super::tag(&KEY, &tagged));
            prop_assert!(token.len() >= TAG_BYTES);
            if let Ok(seen) = open(&KEY, &store_key(), &token) {
                prop_assert_eq!(seal(&KEY, &store_key(), &seen), token);
            }
        }
    }
}
