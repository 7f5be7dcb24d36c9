//! `Kv`: what applications ask, and what other nodes forward.

use std::{rc::Rc, sync::Arc};

use capnp::Error;
use dynamo::{
    hlc,
    ident::StoreKey,
    operation::{ErrorCode, Failure, Operation, Reply},
    record,
    ring::Ring,
};
use schema::{
    common_capnp::request_header,
    convert::{
        RequestHeader, Scan, ScanKey, ScanPage, decode_delete, decode_get, decode_operations, decode_put, decode_scan,
        encode_delta, encode_failure, encode_replies, encode_reply, encode_ring, encode_scan_page, encode_status,
        operation_bytes,
    },
    kv_capnp::kv,
};
use wire::ConnectionHandle;

use super::{Arrival, list_length, status};
use crate::{
    store::Chunk,
    worker::{Driver, Results, Room, Share, Terms, refusal, wall_ms},
};

/// What Cap'n Proto counts sizes in.
const BYTES_PER_WORD: u64 = 8;

/// The `Kv` of one connection.
pub(super) struct Kv {
    driver: Rc<Driver>,
    share: Rc<Share>,
    connection: ConnectionHandle,
}

impl Kv {
    /// For a connection with this share of the room.
    pub(super) fn new(driver: Rc<Driver>, share: Rc<Share>, connection: ConnectionHandle) -> Self {
        Self { driver, share, connection }
    }

    fn room(&self) -> &Room {
        self.share.room()
    }

    /// Lets in `count` operations, has them decoded, and begins them. A failure refuses all of them, undone.
    fn begin(
        &self,
        arrival: &Arrival<'_>,
        header: capnp::Result<request_header::Reader<'_>>,
        count: usize,
        decode: impl FnOnce(usize) -> Result<Vec<Result<Operation, Failure>>, Failure>,
    ) -> Result<Results<Reply>, Failure> {
        let header = RequestHeader::decode(header)?;
        arrival.check_welcome()?;
        let terms = Terms { hops: header.hops, deadline: arrival.deadline(&header) };
        let mut admitted = self.share.admit(count)?;
        let operations = decode(self.driver.node.config.value_bytes_max as usize)?;
        admitted.grow(operations.iter().flatten().map(operation_bytes).sum());
        if terms.hops > 0 {
            self.driver.counters.forwarded_here.add(count as u64);
        }
        Ok(self.driver.execute(operations, terms, admitted))
    }

    /// Begins an operation that came alone.
    fn begin_one(
        &self,
        arrival: &Arrival<'_>,
        header: capnp::Result<request_header::Reader<'_>>,
        decode: impl FnOnce(usize) -> Result<Operation, Failure>,
    ) -> Result<Results<Reply>, Failure> {
        self.begin(arrival, header, 1, |value_bytes_max| Ok(vec![decode(value_bytes_max)]))
    }

    /// Waits for the replies of what was begun, and for room to send them.
    async fn replies(
        &self,
        arrival: &Arrival<'_>,
        begun: Result<Results<Reply>, Failure>,
    ) -> Result<Result<Vec<Reply>, Failure>, Error> {
        let mut replies = super::results(begun).await?;
        // Before the wait for a slow reader: that is not this node's slowness.
        self.driver.node.pulses[self.driver.number].note(arrival.at.elapsed());
        if let Ok(replies) = &mut replies {
            self.driver.node.backlog.make_room(&self.connection, replies).await;
        }
        Ok(replies)
    }

    fn scan_page(&self, epoch: u64, scan: &Scan) -> Result<ScanPage, Failure> {
        let known = self.driver.known();
        let layout = known.layout();
        check_numbering(&known.ring, epoch)?;
        if scan.partition >= layout.partitions() {
            return Err(Failure::with_message(
                ErrorCode::InvalidRequest,
                format!("partition: {} of {}; fetch the ring", scan.partition, layout.partitions()),
            ));
        }
        let owners: Vec<_> = layout.owners(scan.partition).collect();
        if !known.me.is_some_and(|me| owners.contains(&me)) {
            let message = "this node does not own the partition; ask one of the owners";
            return Err(Failure { owners, retryable: true, ..Failure::new(ErrorCode::StaleView, message) });
        }
        if !self.driver.node.is_complete(&known, scan.partition) {
            let message = "this node is still receiving the partition; ask another of its owners";
            let owners = owners.into_iter().filter(|owner| Some(*owner) != known.me).collect();
            return Err(Failure { owners, retryable: true, ..Failure::new(ErrorCode::Unavailable, message) });
        }
        let after =
            match scan.cursor.len() {
                0 => None,
                _ => Some(StoreKey(scan.cursor[..].try_into().map_err(|_| {
                    Failure::new(ErrorCode::InvalidRequest, "cursor: not one that this node gave out")
                })?)),
            };
        let chunk = self
            .driver
            .node
            .store
            .snapshot()
            .scan(scan.partition, layout.partition_bits, after)
            .map_err(|error| Failure::with_message(ErrorCode::Corrupt, error.to_string()))?;
        self.driver.counters.corrupt_records.add(chunk.unreadable.len() as u64);
        let mut page = ScanPage::default();
        let mut last = StoreKey([0; 32]);
        let now = hlc::clock_of(wall_ms());
        for (key, record) in &chunk.records {
            let Ok(summary) = record::summary(key, record) else { continue };
            let live = summary.live_at(now);
            let is_wanted = scan.bucket.as_ref().is_none_or(|bucket| *bucket.as_bytes() == *summary.bucket)
                && (scan.with_tombstones || live > 0);
            if !is_wanted {
                continue;
            }
            if page.keys.len() >= scan.limit as usize {
                page.unreadable = unreadable_until(&chunk, Some(last));
                return Ok(page);
            }
            last = *key;
            page.keys.push(ScanKey {
                bucket: record.slice_ref(summary.bucket),
                key: record.slice_ref(summary.key),
                siblings: u16::try_from(live).unwrap_or(u16::MAX),
                value_bytes: summary.value_bytes,
            });
            page.cursor = bytes::Bytes::copy_from_slice(&key.0);
        }
        page.unreadable = unreadable_until(&chunk, None);
        page.cursor = chunk.next.map_or_else(bytes::Bytes::new, |next| bytes::Bytes::copy_from_slice(&next.0));
        Ok(page)
    }
}

impl kv::Server for Kv {
    async fn execute(self: Rc<Self>, params: kv::ExecuteParams, mut wire: kv::ExecuteResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let request = params.get()?.get_request()?;
        let operations = request.get_operations()?;
        let decode = |value_bytes_max| decode_operations(operations, value_bytes_max);
        // A batch above the limit is refused by the decoder, with a message of its own.
        let begun = self.begin(&arrival, request.get_header(), operations.len() as usize, decode);
        // Everything was copied out of the message; its memory shall not wait for the replies.
        drop(params);
        let replies = self.replies(&arrival, begun).await?;
        let mut reply = wire.get().init_reply();
        arrival.reply_header(self.room()).encode(reply.reborrow().init_header());
        match replies {
            Ok(replies) => encode_replies(reply.init_results(list_length(replies.len())), &replies),
            Err(failure) => encode_failure(reply.init_results(1).get(0).init_error(), &failure),
        }
        Ok(())
    }

    async fn get(self: Rc<Self>, params: kv::GetParams, mut wire: kv::GetResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let request = params.get()?.get_request()?;
        let get = request.get_get()?;
        let begun = self.begin_one(&arrival, request.get_header(), |_| decode_get(get));
        drop(params);
        let reply = only(self.replies(&arrival, begun).await?);
        let mut wire = wire.get().init_reply();
        arrival.reply_header(self.room()).encode(wire.reborrow().init_header());
        encode_reply(wire.init_result(), &reply);
        Ok(())
    }

    async fn put(self: Rc<Self>, params: kv::PutParams, mut wire: kv::PutResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let request = params.get()?.get_request()?;
        let put = request.get_put()?;
        let begun = self.begin_one(&arrival, request.get_header(), |value_bytes_max| decode_put(put, value_bytes_max));
        drop(params);
        let reply = only(self.replies(&arrival, begun).await?);
        let mut wire = wire.get().init_reply();
        arrival.reply_header(self.room()).encode(wire.reborrow().init_header());
        encode_reply(wire.init_result(), &reply);
        Ok(())
    }

    async fn delete(self: Rc<Self>, params: kv::DeleteParams, mut wire: kv::DeleteResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let request = params.get()?.get_request()?;
        let delete = request.get_delete()?;
        let begun = self.begin_one(&arrival, request.get_header(), |_| decode_delete(delete));
        drop(params);
        let reply = only(self.replies(&arrival, begun).await?);
        let mut wire = wire.get().init_reply();
        arrival.reply_header(self.room()).encode(wire.reborrow().init_header());
        encode_reply(wire.init_result(), &reply);
        Ok(())
    }

    async fn ring(self: Rc<Self>, params: kv::RingParams, mut wire: kv::RingResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let request = params.get()?.get_request()?;
        let known = Arc::clone(&self.driver.known());
        let mut reply = wire.get().init_reply();
        arrival.reply_header(self.room()).encode(reply.reborrow().init_header());
        let is_current = request.get_have_epoch() == known.ring.epoch()
            && request.get_have_hash().is_ok_and(|hash| *hash == known.layout_hash);
        let asks_for_all = request.get_pages().is_ok_and(|pages| pages.is_empty());
        let counters = &self.driver.counters;
        counters.layouts_asked_for.one();
        if is_current && asks_for_all {
            reply.set_unchanged(());
        } else {
            counters.layouts_told.one();
            let delta = match request.get_have_hash() {
                Ok(hash) if request.get_deltas() && asks_for_all => known.delta_from(request.get_have_epoch(), hash),
                Ok(_) | Err(_) => None,
            };
            if delta.is_some_and(|delta| encode_delta(reply.reborrow().init_delta(), &delta)) {
                counters.layouts_told_as_deltas.one();
            } else {
                encode_ring(reply.reborrow().init_ring(), known.layout(), &known.layout_hash, request.get_pages());
            }
        }
        counters.layouts_told_bytes.add(reply.into_reader().total_size()?.word_count * BYTES_PER_WORD);
        Ok(())
    }

    async fn scan(self: Rc<Self>, params: kv::ScanParams, mut wire: kv::ScanResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let request = params.get()?.get_request()?;
        let (header, scan) = (RequestHeader::decode(request.get_header()), decode_scan(request));
        let page = arrival.check_welcome().and(header).and_then(|header| self.scan_page(header.epoch, &scan?));
        let mut reply = wire.get().init_reply();
        arrival.reply_header(self.room()).encode(reply.reborrow().init_header());
        encode_scan_page(reply, &page);
        Ok(())
    }

    async fn status(self: Rc<Self>, _: kv::StatusParams, mut wire: kv::StatusResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let status = status::status(&self.driver.node, arrival.reply_header(self.room()));
        encode_status(wire.get().init_reply(), &status);
        Ok(())
    }
}

/// Whether the partitions have the numbers that somebody knows them by who routes by the layout of this epoch; 0 says nothing of it.
/// Under other numbers a scan would miss a part of the keys without a word.
fn check_numbering(ring: &Ring, epoch: u64) -> Result<(), Failure> {
    let bits = ring.layout(epoch).map(|layout| layout.partition_bits);
    if epoch == 0 || epoch == ring.epoch() || bits == Some(ring.newest().partition_bits) {
        return Ok(());
    }
    let message =
        format!("partitions may have other numbers in epoch {} than in {epoch}; fetch the ring", ring.epoch());
    Err(Failure { retryable: true, ..Failure::with_message(ErrorCode::StaleView, message) })
}

/// How many keys of a chunk, up to one or all of them, are left out because their records can't be verified. Whose bucket they
/// are in can't be known either, so they count for every bucket.
fn unreadable_until(chunk: &Chunk, last: Option<StoreKey>) -> u32 {
    let unreadable = chunk.unreadable.iter().filter(|key| last.is_none_or(|last| **key <= last));
    u32::try_from(unreadable.count()).unwrap_or(u32::MAX)
}

/// The reply of an operation that came alone.
fn only(replies: Result<Vec<Reply>, Failure>) -> Reply {
    let unanswered = || Failure {
        maybe_applied: true,
        ..Failure::new(ErrorCode::Internal, "an operation has no reply; please report this")
    };
    match replies {
        Ok(mut replies) => replies.pop().unwrap_or_else(|| refusal(unanswered())),
        Err(failure) => refusal(failure),
    }
}
