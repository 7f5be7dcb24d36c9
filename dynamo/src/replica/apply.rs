//! One operation on one replica, from view check to stored record.
//!
//! Obligations, in this order: the view is compared in the write's own transaction; a record that can't be verified ends
//! the operation and the partition's actor; any sign that dots of the current actor were forgotten ends that actor before
//! it mints again; only then is anything written, and record and row change together.

use alloc::{borrow::Cow, collections::BTreeSet};

use bytes::Bytes;

use super::{
    Limits, MintBasis, Minted, OBJECT_BYTES_MAX, PartitionRow, Place, Refusal, Replica, Rows, Write, WriteOperation,
    WriteOutcome, read::check_view,
};
use crate::{
    hlc,
    ident::{KEY_BYTES_MAX, StoreKey, is_bucket_name},
    layout::{ConflictRule, View},
    operation::{Address, ErrorCode, Failure},
    record::{self, Record, RecordError},
    version::{
        CausalContext, Content, Object, SIBLINGS_MAX, Version,
        put::{Recognition, Seen},
    },
};

/// What stands under a key before an operation.
struct Local {
    bytes: Option<Bytes>,
    record: Option<Record>,
}

impl Replica {
    pub(super) fn apply<R: Rows>(
        &mut self,
        rows: &mut R,
        operation: WriteOperation,
        changed: &mut BTreeSet<Place>,
    ) -> Result<WriteOutcome, R::Error> {
        let (view, store_key) = match &operation {
            WriteOperation::Merge { view, store_key, .. } => (*view, *store_key),
            WriteOperation::Mint { view, address, .. } => (*view, address.store_key),
        };
        if let Err(refusal) = self.admit(rows, &view, &store_key)? {
            return Ok(refusal.into());
        }
        let bytes = rows.record(&store_key)?;
        let Ok(record) = bytes.as_ref().map(|bytes| record::decode(&store_key, bytes)).transpose() else {
            // Whatever this record held is forgotten here, dots of the current actor among it.
            self.actors.retire(place(&view));
            return Ok(WriteOutcome::Corrupt);
        };
        let local = Local { bytes, record };
        match operation {
            WriteOperation::Merge { record, .. } => self.merge(rows, changed, &view, &store_key, local, &record),
            WriteOperation::Mint { address, write, .. } => self.mint(rows, changed, &view, &address, local, write),
        }
    }

    /// Compares the operation's view with the partition's row.
    fn admit<R: Rows>(
        &mut self,
        rows: &mut R,
        view: &View,
        store_key: &StoreKey,
    ) -> Result<Result<(), Refusal>, R::Error> {
        if !self.partitions.contains_key(&place(view))
            && let Some(row) = rows.partition(view.prefix, view.bits)?
        {
            self.partitions.insert(place(view), row);
        }
        Ok(check_view(self.partitions.get(&place(view)), store_key, view))
    }

    fn merge<R: Rows>(
        &mut self,
        rows: &mut R,
        changed: &mut BTreeSet<Place>,
        view: &View,
        store_key: &StoreKey,
        local: Local,
        bytes: &Bytes,
    ) -> Result<WriteOutcome, R::Error> {
        if local.bytes.as_ref() == Some(bytes) {
            return Ok(WriteOutcome::Stored);
        }
        let incoming = match record::decode(store_key, bytes) {
            Ok(incoming) => incoming,
            Err(error) => return Ok(WriteOutcome::Refused(refuse_sent_record(error))),
        };
        let address = Address { store_key: *store_key, bucket: incoming.bucket.clone(), key: incoming.key.clone() };
        if let Err(error) = check_names(&address, local.record.as_ref()) {
            return Ok(WriteOutcome::Refused(error));
        }
        let before = local.record;
        let mut object = before.as_ref().map(|record| record.object.clone()).unwrap_or_default();
        self.notice_amnesia(view, &object, &incoming.object.context);
        object.merge(&incoming.object);
        let encoded = record::encode(&address, &object);
        self.store(rows, changed, view, store_key, before.as_ref(), &object, &encoded)?;
        Ok(WriteOutcome::Stored)
    }

    fn mint<R: Rows>(
        &mut self,
        rows: &mut R,
        changed: &mut BTreeSet<Place>,
        view: &View,
        address: &Address,
        local: Local,
        write: Write,
    ) -> Result<WriteOutcome, R::Error> {
        if local.record.as_ref().is_some_and(|record| !record.is_of(address)) {
            return Ok(WriteOutcome::Refused(RecordError::OtherKey.failure()));
        }
        let before = local.record;
        let mut object = before.as_ref().map(|record| record.object.clone()).unwrap_or_default();
        let now = hlc::clock_of(write.wall_ms);
        match (object.recognise(&write.op_id, &write.content), local.bytes) {
            (Recognition::New, _) => {}
            (Recognition::Standing(at), Some(bytes)) => {
                return Ok(WriteOutcome::Minted(retried(&object, Some(at), bytes, now)));
            }
            (Recognition::Spent, Some(bytes)) => return Ok(WriteOutcome::Minted(retried(&object, None, bytes, now))),
            (Recognition::Contradicted, _) => {
                return Ok(WriteOutcome::Refused(Failure::new(
                    ErrorCode::InvalidRequest,
                    "this operation id was used for another write of this key; nothing was done, take a new id",
                )));
            }
            (Recognition::Standing(_) | Recognition::Spent, None) => {
                unreachable!("an object that knows operations was read from a record")
            }
        }
        let known = object.versions.iter().map(|version| version.clock).chain([write.seen_clock]);
        let clock = hlc::next(write.wall_ms, known);
        let seen = match write.basis {
            MintBasis::Local => object.seen(),
            MintBasis::Beside => Seen::default(),
            MintBasis::Context(seen) => seen,
        };
        self.notice_amnesia(view, &object, &seen.context);
        object.overwrite(&seen, clock);
        if let Err(failure) = check_growth(&self.limits, before.as_ref(), &object, &write.content) {
            return Ok(WriteOutcome::Refused(failure));
        }
        let dot = self.actors.mint(place(view));
        // Even before the row changes: should anything fail from here on, this actor must not count on.
        changed.insert(place(view));
        let Write { content, op_id, expires, .. } = write;
        object.add(Version { dot, op_id, clock, expires, content });
        let encoded = Bytes::from(record::encode(address, &object));
        if let Some(row) = self.partitions.get_mut(&place(view)) {
            row.last = Some(dot);
        }
        self.store(rows, changed, view, &address.store_key, before.as_ref(), &object, &encoded)?;
        let at = object.versions.iter().position(|version| version.dot == dot);
        Ok(WriteOutcome::Minted(Minted { retried: false, ..retried(&object, at, encoded, now) }))
    }

    /// The current actor's own dots on a key are all in this replica's object, unless it has forgotten some. A context from
    /// elsewhere that knows more of them proves that it has: minting under that actor stops at once.
    fn notice_amnesia(&mut self, view: &View, local: &Object, elsewhere: &CausalContext) {
        let Some(last) = self.actors.last(place(view)) else {
            return;
        };
        let ours = local.context.seen(last.actor);
        if elsewhere.seen(last.actor) > ours || ours > last.seq {
            self.actors.retire(place(view));
        }
    }

    /// Stores a record and brings the partition's row in line with it; does neither if the record stands there already.
    #[allow(clippy::too_many_arguments)]
    fn store<R: Rows>(
        &mut self,
        rows: &mut R,
        changed: &mut BTreeSet<Place>,
        view: &View,
        store_key: &StoreKey,
        before: Option<&Record>,
        object: &Object,
        encoded: &[u8],
    ) -> Result<(), R::Error> {
        let digest = record::digest(encoded);
        if before.is_some_and(|before| before.digest == digest) {
            return Ok(());
        }
        changed.insert(place(view));
        if let Some(row) = self.partitions.get_mut(&place(view)) {
            account(row, before, object, digest);
        }
        rows.put_record(store_key, encoded)
    }
}

fn account(row: &mut PartitionRow, before: Option<&Record>, object: &Object, digest: u128) {
    let is_deleted = |object: &Object| u64::from(object.live().next().is_none());
    if let Some(before) = before {
        row.sum = row.sum.wrapping_sub(before.digest);
        row.deleted = row.deleted.saturating_sub(is_deleted(&before.object));
    } else {
        row.records = row.records.saturating_add(1);
    }
    row.sum = row.sum.wrapping_add(digest);
    row.deleted = row.deleted.saturating_add(is_deleted(object));
}

/// What a coordinator needs of an object in which its operation's version is the one at `at`, or was overwritten.
fn retried(object: &Object, at: Option<usize>, record: Bytes, now: u64) -> Minted {
    let version = at.and_then(|at| object.versions.get(at));
    let shown = object.present(ConflictRule::Siblings, now);
    let is_ours = |shown: &&Version| {
        version.is_some_and(|ours| {
            shown.dot == ours.dot || ours.fingerprint().is_some_and(|ours| shown.fingerprint() == Some(ours))
        })
    };
    let is_sole = version.is_some() && shown.iter().all(is_ours);
    let highest = object.versions.iter().map(|version| version.clock).max().unwrap_or(0);
    Minted {
        record,
        dot: version.map(|version| version.dot),
        retried: true,
        clock: version.map_or(highest, |version| version.clock),
        siblings: u16::try_from(shown.len()).unwrap_or(u16::MAX),
        seen: is_sole.then(|| object.seen()),
    }
}

/// Whether a version with `content` may be added to what `after` still holds.
fn check_growth(limits: &Limits, before: Option<&Record>, after: &Object, content: &Content) -> Result<(), Failure> {
    let length = content.len();
    if length > limits.value_bytes_max {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            "the value is longer than this node accepts; nothing was done, keep large data elsewhere and store a link",
        ));
    }
    let (versions_before, bytes_before) =
        before.map_or((0, 0), |record| (record.object.versions.len(), record.object.value_bytes()));
    let versions = after.versions.len() + 1;
    let bytes = after.value_bytes() + length;
    // A write that replaces something may always go on, or a key above a limit could never be brought below it.
    let too_many = versions > SIBLINGS_MAX && versions > versions_before;
    let too_long = bytes > OBJECT_BYTES_MAX.max(limits.value_bytes_max) && bytes > bytes_before;
    if too_many || too_long {
        return Err(Failure::new(
            ErrorCode::TooManySiblings,
            "the key holds as many concurrent versions as it may; nothing was done, get it, merge, and put with its context",
        ));
    }
    Ok(())
}

/// Whether a record sent for a store key may be merged there, by the full names inside it.
fn check_names(address: &Address, local: Option<&Record>) -> Result<(), Failure> {
    let belongs = match local {
        Some(local) if local.is_of(address) => return Ok(()),
        Some(_) => return Err(RecordError::OtherKey.failure()),
        None => StoreKey::of(&address.bucket, &address.key) == address.store_key,
    };
    if !belongs || !is_bucket_name(&address.bucket) || !(1..=KEY_BYTES_MAX).contains(&address.key.len()) {
        return Err(refuse_sent_record(RecordError::Malformed));
    }
    Ok(())
}

fn refuse_sent_record(error: RecordError) -> Failure {
    let message = match error {
        RecordError::OtherKey => return error.failure(),
        RecordError::UnknownFormat(_) => {
            "the record to be merged has a format this node does not know; nothing was done"
        }
        RecordError::Damaged => "the record to be merged was damaged on its way; nothing was done, send it again",
        RecordError::Malformed => "the record to be merged breaks the rules of records; nothing was done",
    };
    Failure::new(ErrorCode::InvalidRequest, Cow::Borrowed(message))
}

pub(super) fn place(view: &View) -> Place {
    (view.bits, view.prefix)
}
