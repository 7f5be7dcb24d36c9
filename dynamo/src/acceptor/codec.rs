//! The bytes of what an elector has promised and accepted, with a checksum: a promise that was read wrongly is worse than none.
//!
//! ```text
//! version u8 = 1, xxh3-128 of what follows
//! epoch u64, promised { round u64, proposer u128 }, forgetful u8, accepted u8
//! if accepted: { round u64, proposer u128 }, the layout's bytes up to the end
//! ```
//! Integers are big-endian.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{AcceptedLayout, Acceptor, Ballot};
use crate::{
    ident::NodeId,
    layout::codec::{DecodeError, Reader, Writer},
};

/// The format, as the first byte.
const ACCEPTOR_FORMAT: u8 = 1;

/// Where what is checksummed begins.
const BODY_AT: usize = 1 + 16;

/// Why bytes are no elector's state. The elector must not vote about the epoch at hand; it may about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The first byte names a format this program does not know.
    Format(u8),
    /// The bytes break the format, or their checksum is another.
    Damaged,
}

impl Acceptor {
    /// What has to be durable before an answer leaves the node.
    pub fn encode(&self) -> Vec<u8> {
        let accepted_bytes = self.accepted.as_ref().map_or(0, |accepted| accepted.layout.len());
        let mut writer = Writer(Vec::with_capacity(BODY_AT + 64 + accepted_bytes));
        writer.u8(ACCEPTOR_FORMAT);
        writer.bytes(&[0; BODY_AT - 1]);
        writer.bytes(&self.epoch.to_be_bytes());
        write_ballot(&mut writer, self.promised);
        writer.u8(u8::from(self.is_forgetful));
        writer.u8(u8::from(self.accepted.is_some()));
        if let Some(accepted) = &self.accepted {
            write_ballot(&mut writer, accepted.ballot);
            writer.bytes(&accepted.layout);
        }
        let mut bytes = writer.0;
        let checksum = xxh3_128(&bytes[BODY_AT..]);
        bytes[1..BODY_AT].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The state that `bytes` stand for. Total: any bytes give a state or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader(bytes);
        let format = reader.u8()?;
        if format != ACCEPTOR_FORMAT {
            return Err(StateError::Format(format));
        }
        let checksum = u128::from_be_bytes(reader.array()?);
        if checksum != xxh3_128(reader.0) {
            return Err(StateError::Damaged);
        }
        let epoch = u64::from_be_bytes(reader.array()?);
        let promised = read_ballot(&mut reader)?;
        let is_forgetful = read_flag(&mut reader)?;
        let accepted = if read_flag(&mut reader)? {
            let ballot = read_ballot(&mut reader)?;
            Some(AcceptedLayout { ballot, layout: Bytes::copy_from_slice(core::mem::take(&mut reader.0)) })
        } else {
            None
        };
        if reader.0.is_empty() {
            Ok(Self { epoch, promised, accepted, is_forgetful })
        } else {
            Err(StateError::Damaged)
        }
    }
}

fn write_ballot(writer: &mut Writer, ballot: Ballot) {
    writer.bytes(&ballot.round.to_be_bytes());
    writer.bytes(&ballot.proposer.0.to_be_bytes());
}

fn read_ballot(reader: &mut Reader<'_>) -> Result<Ballot, StateError> {
    let round = u64::from_be_bytes(reader.array()?);
    Ok(Ballot { round, proposer: NodeId(u128::from_be_bytes(reader.array()?)) })
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, StateError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(StateError::Damaged),
    }
}

impl From<DecodeError> for StateError {
    fn from(_: DecodeError) -> Self {
        Self::Damaged
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(
                formatter,
                "an elector's promises of format {format} are unknown (this program writes {ACCEPTOR_FORMAT}): the node does \
                 not vote about the next epoch"
            ),
            Self::Damaged => {
                formatter.write_str("the elector's promises are damaged: the node does not vote about the next epoch")
            }
        }
    }
}

impl core::error::Error for StateError {}
