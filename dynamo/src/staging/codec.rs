//! The bytes of staged changes, as they stand on a disk and travel between nodes.
//!
//! ```text
//! version u8 = 1
//! cleared   present u8, then { clock u64, node u128 }
//! words     count u32, { key, clock u64, node u128, present u8, then the change }, ascending by key
//! key       tag u8, then u128 for a node, text for a bucket, nothing for the whole ring
//! change    tag u8, then its fields as in a layout's bytes (layout/codec.rs)
//! ```

use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;

use super::{Change, Key, Staged, Stamp, WORDS_MAX, Word};
use crate::{
    ident::NodeId,
    layout::codec::{DecodeError, Reader, Writer},
};

/// The format, as the first byte.
const STAGED_FORMAT: u8 = 1;

/// The fewest bytes of a word: a key without a name, a stamp, and no change.
const WORD_BYTES_MIN: usize = 1 + 8 + 16 + 1;

/// Why bytes are no staged changes. Nothing was changed. Bytes from a disk: whatever other nodes know of staged changes comes
/// back with the next exchange; what only this node knew has to be staged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedDecodeError {
    /// The first byte names a format this program does not know; a newer one may.
    Format(u8),
    /// The bytes break the format.
    Damaged,
    /// There are more words than [`WORDS_MAX`].
    TooMany(usize),
}

impl Staged {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(32 + self.words.len() * 96));
        writer.u8(STAGED_FORMAT);
        writer.u8(u8::from(self.cleared.is_some()));
        if let Some(cleared) = self.cleared {
            write_stamp(&mut writer, cleared);
        }
        writer.count(self.words.len());
        for (key, word) in &self.words {
            write_key(&mut writer, key);
            write_stamp(&mut writer, word.stamp);
            writer.u8(u8::from(word.change.is_some()));
            if let Some(change) = &word.change {
                write_change(&mut writer, change);
            }
        }
        writer.0
    }

    /// The changes that `bytes` stand for. Total: any bytes give changes or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, StagedDecodeError> {
        let mut reader = Reader(bytes);
        let format = reader.u8()?;
        if format != STAGED_FORMAT {
            return Err(StagedDecodeError::Format(format));
        }
        let cleared = if read_flag(&mut reader)? { Some(read_stamp(&mut reader)?) } else { None };
        let count = reader.count(WORD_BYTES_MIN)?;
        if count > WORDS_MAX {
            return Err(StagedDecodeError::TooMany(count));
        }
        let mut words = BTreeMap::new();
        for _ in 0..count {
            let key = read_key(&mut reader)?;
            let stamp = read_stamp(&mut reader)?;
            let change = if read_flag(&mut reader)? { Some(read_change(&mut reader)?) } else { None };
            let is_ordered = words.last_key_value().is_none_or(|(last, _)| *last < key);
            if !is_ordered || !fits(&key, change.as_ref()) || Some(stamp) <= cleared {
                return Err(StagedDecodeError::Damaged);
            }
            words.insert(key, Word { stamp, change });
        }
        if reader.0.is_empty() { Ok(Self { words, cleared }) } else { Err(StagedDecodeError::Damaged) }
    }
}

/// The bytes of a change, nothing for none: what orders two words with one stamp.
pub(super) fn change_bytes(change: Option<&Change>) -> Vec<u8> {
    let mut writer = Writer(Vec::new());
    if let Some(change) = change {
        write_change(&mut writer, change);
    }
    writer.0
}

/// Whether a word about `key` may say this.
fn fits(key: &Key, change: Option<&Change>) -> bool {
    let Some(change) = change else { return true };
    let is_theirs = match change {
        Change::Join(member) => *key == Key::Membership(member.id),
        Change::Leave(node) => *key == Key::Membership(*node),
        Change::Replace { new, .. } => *key == Key::Replaces(*new),
        Change::Lost(node) => *key == Key::Loss(*node),
        Change::Reweight { node, .. } => *key == Key::Weight(*node),
        Change::Zone { node, .. } => *key == Key::Zone(*node),
        Change::Addresses { node, .. } => *key == Key::Addresses(*node),
        Change::Bucket { name, .. } => matches!(key, Key::Bucket(bucket) if bucket == name),
        Change::Replicas(_) => *key == Key::Replicas,
        Change::PartitionBits(_) => *key == Key::PartitionBits,
        Change::Undo(_) => false,
    };
    is_theirs && change.check().is_ok()
}

fn write_stamp(writer: &mut Writer, stamp: Stamp) {
    writer.bytes(&stamp.clock.to_be_bytes());
    writer.bytes(&stamp.node.0.to_be_bytes());
}

fn read_stamp(reader: &mut Reader<'_>) -> Result<Stamp, StagedDecodeError> {
    Ok(Stamp { clock: u64::from_be_bytes(reader.array()?), node: read_node(reader)? })
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeId, StagedDecodeError> {
    Ok(NodeId(u128::from_be_bytes(reader.array()?)))
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, StagedDecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(StagedDecodeError::Damaged),
    }
}

fn write_key(writer: &mut Writer, key: &Key) {
    let (tag, node) = match key {
        Key::Membership(node) => (0, Some(node)),
        Key::Replaces(node) => (1, Some(node)),
        Key::Loss(node) => (2, Some(node)),
        Key::Weight(node) => (3, Some(node)),
        Key::Zone(node) => (4, Some(node)),
        Key::Addresses(node) => (5, Some(node)),
        Key::Bucket(_) => (6, None),
        Key::Replicas => (7, None),
        Key::PartitionBits => (8, None),
    };
    writer.u8(tag);
    if let Some(node) = node {
        writer.bytes(&node.0.to_be_bytes());
    }
    if let Key::Bucket(name) = key {
        writer.text(name);
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<Key, StagedDecodeError> {
    Ok(match reader.u8()? {
        0 => Key::Membership(read_node(reader)?),
        1 => Key::Replaces(read_node(reader)?),
        2 => Key::Loss(read_node(reader)?),
        3 => Key::Weight(read_node(reader)?),
        4 => Key::Zone(read_node(reader)?),
        5 => Key::Addresses(read_node(reader)?),
        6 => Key::Bucket(reader.text()?),
        7 => Key::Replicas,
        8 => Key::PartitionBits,
        _ => return Err(StagedDecodeError::Damaged),
    })
}

fn write_change(writer: &mut Writer, change: &Change) {
    match change {
        Change::Join(member) => {
            writer.u8(0);
            writer.member(member);
        }
        Change::Leave(node) => {
            writer.u8(1);
            writer.bytes(&node.0.to_be_bytes());
        }
        Change::Replace { old, new } => {
            writer.u8(2);
            writer.bytes(&old.0.to_be_bytes());
            writer.bytes(&new.0.to_be_bytes());
        }
        Change::Lost(node) => {
            writer.u8(3);
            writer.bytes(&node.0.to_be_bytes());
        }
        Change::Reweight { node, weight } => {
            writer.u8(4);
            writer.bytes(&node.0.to_be_bytes());
            writer.bytes(&weight.to_be_bytes());
        }
        Change::Zone { node, zone } => {
            writer.u8(5);
            writer.bytes(&node.0.to_be_bytes());
            writer.text(zone);
        }
        Change::Addresses { node, addresses } => {
            writer.u8(6);
            writer.bytes(&node.0.to_be_bytes());
            writer.texts(addresses);
        }
        Change::Bucket { name, properties } => {
            writer.u8(7);
            writer.bucket(name, properties);
        }
        Change::Replicas(replicas) => {
            writer.u8(8);
            writer.u8(*replicas);
        }
        Change::PartitionBits(bits) => {
            writer.u8(9);
            writer.u8(*bits);
        }
        // Undoing is the absence of a change, never a word of its own.
        Change::Undo(_) => writer.u8(u8::MAX),
    }
}

fn read_change(reader: &mut Reader<'_>) -> Result<Change, StagedDecodeError> {
    Ok(match reader.u8()? {
        0 => Change::Join(reader.member()?),
        1 => Change::Leave(read_node(reader)?),
        2 => Change::Replace { old: read_node(reader)?, new: read_node(reader)? },
        3 => Change::Lost(read_node(reader)?),
        4 => Change::Reweight { node: read_node(reader)?, weight: u32::from_be_bytes(reader.array()?) },
        5 => Change::Zone { node: read_node(reader)?, zone: reader.text()? },
        6 => Change::Addresses { node: read_node(reader)?, addresses: reader.texts()? },
        7 => Change::Bucket { name: reader.text()?, properties: reader.bucket_properties()? },
        8 => Change::Replicas(reader.u8()?),
        9 => Change::PartitionBits(reader.u8()?),
        _ => return Err(StagedDecodeError::Damaged),
    })
}

impl From<DecodeError> for StagedDecodeError {
    fn from(_: DecodeError) -> Self {
        Self::Damaged
    }
}

impl fmt::Display for StagedDecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(
                formatter,
                "staged changes of format {format} are unknown (this program writes {STAGED_FORMAT}): a newer program may read them"
            ),
            Self::Damaged => {
                formatter.write_str("the staged changes are damaged: fetch them again, or stage them again")
            }
            Self::TooMany(count) => write!(
                formatter,
                "{count} staged changes are more than {WORDS_MAX}: commit or clear some, then stage the rest"
            ),
        }
    }
}

impl core::error::Error for StagedDecodeError {}
