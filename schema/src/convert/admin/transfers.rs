//! The partitions that move to or from a node, and draining it.

use dynamo::operation::Failure;

use super::super::{ReplyHeader, decode_optional_failure, encode_failure, lenient_text, list_length, malformed};
use crate::admin_capnp as wire;

/// Most transfers that are read, and that a node tells of.
pub const TRANSFERS_MAX: usize = 256;

/// How a node stands with the partitions that move to or from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfers {
    /// The epoch of its newest layout.
    pub epoch: u64,
    /// Partitions that it must still get or fill up.
    pub coming: u32,
    /// Partitions it must still hand over and delete.
    pub going: u32,
    /// Partitions here, coming and going included, of which more than one configuration may be active.
    pub unsettled: u32,
    /// Bytes of records received for moves since the node started.
    pub bytes_in: u64,
    /// How many per second, lately.
    pub bytes_per_second: u64,
    /// Those at work now, at most [`TRANSFERS_MAX`].
    pub transfers: Vec<Transfer>,
    /// The share of its full speed that background work has now, 0.02 to 1.
    pub throttle: f32,
}

/// A partition that moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Which one.
    pub partition: u32,
    /// Of 2^`bits` partitions.
    pub bits: u8,
    /// "waiting", "copying", "fencing", "levelling", "full", "retiring"; or "handing over" and "deleting" where it leaves.
    pub state: String,
    /// The name of the node on the other side; empty for none.
    pub peer: String,
    /// Records that have arrived.
    pub records: u64,
    /// About how many there are; 0 while that is unknown.
    pub records_total: u64,
    /// Bytes that have arrived.
    pub bytes: u64,
    /// The oldest configuration that is active, as the node knows.
    pub lo: u64,
    /// The newest.
    pub hi: u64,
    /// Why it does not go on; empty if it does.
    pub trouble: String,
}

impl Transfers {
    /// Writes it, with its header.
    pub fn encode(&self, header: &ReplyHeader, mut wire: wire::transfers_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_epoch(self.epoch);
        wire.set_coming(self.coming);
        wire.set_going(self.going);
        wire.set_unsettled(self.unsettled);
        wire.set_bytes_in(self.bytes_in);
        wire.set_bytes_per_second(self.bytes_per_second);
        wire.set_throttle(self.throttle);
        let told = &self.transfers[..self.transfers.len().min(TRANSFERS_MAX)];
        let mut list = wire.init_transfers(list_length(told.len()));
        for (at, transfer) in (0..).zip(told) {
            let mut entry = list.reborrow().get(at);
            entry.set_partition(transfer.partition);
            entry.set_bits(transfer.bits);
            entry.set_state(&transfer.state);
            entry.set_peer(&transfer.peer);
            entry.set_records(transfer.records);
            entry.set_records_total(transfer.records_total);
            entry.set_bytes(transfer.bytes);
            entry.set_lo(transfer.lo);
            entry.set_hi(transfer.hi);
            entry.set_trouble(&transfer.trouble);
        }
    }

    /// Writes why there is none.
    pub fn encode_failure(header: &ReplyHeader, failure: &Failure, mut wire: wire::transfers_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        encode_failure(wire.init_error(), failure);
    }

    /// Reads it.
    pub fn decode(wire: wire::transfers_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        let list = wire.get_transfers().map_err(|error| malformed("transfers", error))?;
        let transfer = |entry: wire::transfer::Reader<'_>| Transfer {
            partition: entry.get_partition(),
            bits: entry.get_bits(),
            state: lenient_text(entry.get_state()),
            peer: lenient_text(entry.get_peer()),
            records: entry.get_records(),
            records_total: entry.get_records_total(),
            bytes: entry.get_bytes(),
            lo: entry.get_lo(),
            hi: entry.get_hi(),
            trouble: lenient_text(entry.get_trouble()),
        };
        let throttle = wire.get_throttle();
        Ok(Self {
            epoch: wire.get_epoch(),
            coming: wire.get_coming(),
            going: wire.get_going(),
            unsettled: wire.get_unsettled(),
            bytes_in: wire.get_bytes_in(),
            bytes_per_second: wire.get_bytes_per_second(),
            transfers: list.iter().take(TRANSFERS_MAX).map(transfer).collect(),
            throttle: if throttle.is_finite() { throttle.clamp(0.0, 1.0) } else { 0.0 },
        })
    }
}

/// Writes how many operations have not ended yet at a node that drains, or why it does not, with the header.
pub fn encode_drained(
    in_flight: &Result<u64, Failure>,
    header: &ReplyHeader,
    mut wire: wire::drain_reply::Builder<'_>,
) {
    header.encode(wire.reborrow().init_header());
    match in_flight {
        Ok(in_flight) => wire.set_in_flight(*in_flight),
        Err(failure) => encode_failure(wire.init_error(), failure),
    }
}

/// Reads how many operations have not ended yet.
pub fn decode_drained(wire: wire::drain_reply::Reader<'_>) -> Result<u64, Failure> {
    decode_optional_failure(wire.has_error(), wire.get_error())?;
    Ok(wire.get_in_flight())
}
