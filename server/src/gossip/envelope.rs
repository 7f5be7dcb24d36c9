//! What every gossip packet carries around the message itself: who sends, its running number, and the sender's news: under
//! which layout it works and how far its store has come. The news ride along and cause no packets of their own.

use bytes::{Buf, BufMut};

use super::{
    codec::{IDENTITY_BYTES_MAX, Malformed, put_identity, read, read_identity},
    identity::Identity,
};

/// Most shards of a store, so most positions (the configuration allows no more).
const POSITIONS_MAX: usize = 16;

/// Most bytes an envelope adds.
pub(super) const ENVELOPE_BYTES_MAX: usize = IDENTITY_BYTES_MAX + 8 + 16 + 8 + 16 + 1 + 8 * POSITIONS_MAX;

/// What a node says about itself in every packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Which of its processes it is.
    pub process: u128,
    /// The epoch of its layout.
    pub epoch: u64,
    /// The hash of that layout.
    pub layout_hash: [u8; 16],
    /// How many changes each shard of its store has made durable, ever.
    pub positions: Vec<u64>,
}

/// A packet that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) sender: Identity,
    /// Grows from packet to packet within a life of the sender.
    pub(super) number: u64,
    pub(super) news: News,
}

impl Envelope {
    /// Writes it, for the message to follow.
    pub(super) fn put(&self, buffer: &mut Vec<u8>) {
        put_identity(&self.sender, buffer);
        buffer.put_u64(self.number);
        buffer.put_u128(self.news.process);
        buffer.put_u64(self.news.epoch);
        buffer.put_slice(&self.news.layout_hash);
        let positions = &self.news.positions[..self.news.positions.len().min(POSITIONS_MAX)];
        buffer.put_u8(positions.len() as u8);
        positions.iter().for_each(|&position| buffer.put_u64(position));
    }

    /// Reads it; what is left of `buffer` is the message.
    pub(super) fn read(buffer: &mut &[u8]) -> Result<Self, Malformed> {
        let sender = read_identity(buffer)?;
        let (number, process) = (read(buffer, Buf::try_get_u64)?, read(buffer, Buf::try_get_u128)?);
        let epoch = read(buffer, Buf::try_get_u64)?;
        let (layout_hash, rest) = buffer.split_first_chunk().ok_or(Malformed)?;
        *buffer = rest;
        let count = usize::from(read(buffer, Buf::try_get_u8)?);
        if count > POSITIONS_MAX {
            return Err(Malformed);
        }
        let positions = (0..count).map(|_| read(buffer, Buf::try_get_u64)).collect::<Result<_, _>>()?;
        let news = News { process, epoch, layout_hash: *layout_hash, positions };
        Ok(Self { sender, number, news })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use dynamo::ident::NodeId;
    use proptest::prelude::{any, prop::collection::vec, prop_assert_eq, proptest};

    use super::{ENVELOPE_BYTES_MAX, Envelope, Identity, News, POSITIONS_MAX};

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_the_message_is_left(
            node: u128, bump: u64, ip: [u8; 16], port: u16, number: u64, process: u128, epoch: u64,
            layout_hash: [u8; 16], positions in vec(any::<u64>(), 0..=POSITIONS_MAX), message: Vec<u8>,
        ) {
            let sender = Identity::new(NodeId(node), SocketAddr::from((ip, port)), bump);
            let envelope = Envelope { sender, number, news: News { process, epoch, layout_hash, positions } };
            let mut bytes = Vec::new();
            envelope.put(&mut bytes);
            assert!(bytes.len() <= ENVELOPE_BYTES_MAX);
            bytes.extend_from_slice(&message);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Envelope::read(&mut rest).unwrap(), envelope);
            prop_assert_eq!(rest, message);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Envelope::read(&mut bytes.as_slice());
        }
    }
}
