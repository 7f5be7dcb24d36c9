//! Operations of clients: get, put, delete, alone and in batches.

use bytes::Bytes;
use dynamo::{
    ident::{BUCKET_DEFAULT, KEY_BYTES_MAX, OpId, is_bucket_name},
    operation::{Action, Address, Basis, Consistency, Failure, Operation},
};

use super::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, CONTEXT_BYTES_MAX,
    failure::{decode_consistency, encode_consistency},
    gather::{Gather, Gathered, Span},
    invalid, malformed, too_large,
};
use crate::kv_capnp as wire;

/// A guess at the bytes one operation brings along, so that a batch of gets needs one allocation.
const OPERATION_BYTES_EXPECTED: usize = 48;

/// Room for what an operation carries beside its value.
const OPERATION_BYTES_BESIDE_VALUE: usize = 16 * 1024;

/// Reads a batch. Every operation stands for itself: one that breaks the contract has its own failure. A batch that is too
/// large is refused as a whole, with nothing of it decoded.
pub fn decode_operations(
    operations: capnp::struct_list::Reader<'_, wire::operation::Owned>,
    value_bytes_max: usize,
) -> Result<Vec<Result<Operation, Failure>>, Failure> {
    let count = operations.len() as usize;
    if count > BATCH_OPERATIONS_MAX {
        return Err(too_large("operations", BATCH_OPERATIONS_MAX, count, "operations"));
    }
    let mut reading = Reading::new(count, value_bytes_max);
    let mut drafts = Vec::with_capacity(count);
    for operation in operations.iter() {
        match reading.operation(operation) {
            Err(Refusal::Batch { bytes, bytes_max }) => return Err(too_large("operations", bytes_max, bytes, "bytes")),
            Err(Refusal::Operation(failure)) => drafts.push(Err(failure)),
            Ok(draft) => drafts.push(Ok(draft)),
        }
    }
    let gathered = reading.gather.finish();
    Ok(drafts.into_iter().map(|draft| draft.map(|draft| draft.finish(&gathered))).collect())
}

/// Reads a get that came alone.
pub fn decode_get(get: wire::get::Reader<'_>) -> Result<Operation, Failure> {
    alone(0, |reading| reading.get(get))
}

/// Reads a put that came alone.
pub fn decode_put(put: wire::put::Reader<'_>, value_bytes_max: usize) -> Result<Operation, Failure> {
    alone(value_bytes_max, |reading| reading.put(put))
}

/// Reads a delete that came alone.
pub fn decode_delete(delete: wire::delete::Reader<'_>) -> Result<Operation, Failure> {
    alone(0, |reading| reading.delete(delete))
}

/// Writes a batch into a list of the same length.
pub fn encode_operations<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::operation::Owned>,
    operations: impl IntoIterator<Item = &'a Operation>,
) {
    for (at, operation) in (0..list.len()).zip(operations) {
        encode_operation(list.reborrow().get(at), operation);
    }
}

/// Writes one operation.
pub fn encode_operation(wire: wire::operation::Builder<'_>, operation: &Operation) {
    let (bucket, key) = (capnp::text::Reader::from(&*operation.address.bucket), &*operation.address.key);
    match &operation.action {
        Action::Get { without_values } => {
            let mut get = wire.init_get();
            if *bucket.as_bytes() != *BUCKET_DEFAULT.as_bytes() {
                get.set_bucket(bucket);
            }
            get.set_key(key);
            get.set_without_values(*without_values);
            if operation.consistency != Consistency::default() {
                encode_consistency(get.init_consistency(), &operation.consistency);
            }
        }
        Action::Put { value, hash, basis, op_id, seen_clock, ttl_ms } => {
            let mut put = wire.init_put();
            put.set_bucket(bucket);
            put.set_key(key);
            put.set_value(value);
            match basis {
                Basis::Local => {}
                Basis::Beside => put.set_beside(true),
                Basis::Context(context) => put.set_context(context),
            }
            put.set_op_client(op_id.client);
            put.set_op_sequence(op_id.sequence);
            put.set_seen_clock(*seen_clock);
            put.set_ttl_ms(*ttl_ms);
            let (high, low) = halves(hash.unwrap_or(0));
            put.set_value_hash_high(high);
            put.set_value_hash_low(low);
            encode_consistency(put.init_consistency(), &operation.consistency);
        }
        Action::Delete { basis, op_id, seen_clock } => {
            let mut delete = wire.init_delete();
            delete.set_bucket(bucket);
            delete.set_key(key);
            if let Basis::Context(context) = basis {
                delete.set_context(context);
            }
            delete.set_op_client(op_id.client);
            delete.set_op_sequence(op_id.sequence);
            delete.set_seen_clock(*seen_clock);
            encode_consistency(delete.init_consistency(), &operation.consistency);
        }
    }
}

/// What an operation counts towards [`BATCH_BYTES_MAX`], at most.
pub fn operation_bytes(operation: &Operation) -> usize {
    let address = operation.address.bucket.len() + operation.address.key.len();
    let (value, basis) = match &operation.action {
        Action::Get { .. } => (0, &Basis::Local),
        Action::Put { value, basis, .. } => (value.len(), basis),
        Action::Delete { basis, .. } => (0, basis),
    };
    let context = match basis {
        Basis::Local | Basis::Beside => 0,
        Basis::Context(context) => context.len(),
    };
    address + value + context
}

/// Why an operation could not be read.
enum Refusal {
    /// It is wrong by itself.
    Operation(Failure),
    /// With it, the batch is too large.
    Batch { bytes: usize, bytes_max: usize },
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Operation(failure)
    }
}

/// An operation whose byte strings still are places in the buffer.
struct Draft {
    bucket: Option<Span>,
    key: Span,
    consistency: Consistency,
    action: DraftAction,
}

enum DraftAction {
    Get { without_values: bool },
    Put { value: Span, hash: Option<u128>, basis: DraftBasis, op_id: OpId, seen_clock: u64, ttl_ms: u64 },
    Delete { basis: DraftBasis, op_id: OpId, seen_clock: u64 },
}

enum DraftBasis {
    Local,
    Beside,
    Context(Span),
}

impl Draft {
    fn finish(self, bytes: &Gathered) -> Operation {
        let bucket = match self.bucket {
            None => Bytes::from_static(BUCKET_DEFAULT.as_bytes()),
            Some(span) => bytes.slice(span),
        };
        let action = match self.action {
            DraftAction::Get { without_values } => Action::Get { without_values },
            DraftAction::Put { value, hash, basis, op_id, seen_clock, ttl_ms } => {
                let (value, basis) = (bytes.slice(value), basis.finish(bytes));
                Action::Put { value, hash, basis, op_id, seen_clock, ttl_ms }
            }
            DraftAction::Delete { basis, op_id, seen_clock } => {
                Action::Delete { basis: basis.finish(bytes), op_id, seen_clock }
            }
        };
        Operation { address: Address::new(bucket, bytes.slice(self.key)), consistency: self.consistency, action }
    }
}

impl DraftBasis {
    fn finish(self, bytes: &Gathered) -> Basis {
        match self {
            Self::Local => Basis::Local,
            Self::Beside => Basis::Beside,
            Self::Context(span) => Basis::Context(bytes.slice(span)),
        }
    }
}

/// The state of reading a batch.
struct Reading {
    gather: Gather,
    bytes_max: usize,
    value_bytes_max: usize,
    /// The last bucket that was named: most batches stay in one, and its name is copied once.
    bucket: Option<Span>,
}

impl Reading {
    fn new(count: usize, value_bytes_max: usize) -> Self {
        let bytes_max = match count {
            0 | 1 => value_bytes_max.saturating_add(OPERATION_BYTES_BESIDE_VALUE),
            _ => BATCH_BYTES_MAX,
        };
        let gather = Gather::new(bytes_max, count * OPERATION_BYTES_EXPECTED);
        Self { gather, bytes_max, value_bytes_max, bucket: None }
    }

    fn operation(&mut self, operation: wire::operation::Reader<'_>) -> Result<Draft, Refusal> {
        match operation.which() {
            Ok(wire::operation::Get(get)) => self.get(get.map_err(|error| malformed("get", error))?),
            Ok(wire::operation::Put(put)) => self.put(put.map_err(|error| malformed("put", error))?),
            Ok(wire::operation::Delete(delete)) => self.delete(delete.map_err(|error| malformed("delete", error))?),
            Err(unknown) => {
                Err(invalid("operation", format_args!("kind {} is unknown to this node", unknown.0)).into())
            }
        }
    }

    fn get(&mut self, get: wire::get::Reader<'_>) -> Result<Draft, Refusal> {
        Ok(Draft {
            bucket: self.bucket(get.get_bucket())?,
            key: self.key(get.get_key())?,
            consistency: decode_consistency(get.get_consistency())?,
            action: DraftAction::Get { without_values: get.get_without_values() },
        })
    }

    fn put(&mut self, put: wire::put::Reader<'_>) -> Result<Draft, Refusal> {
        let basis = match (self.context(put.get_context())?, put.get_beside()) {
            (None, false) => DraftBasis::Local,
            (None, true) => DraftBasis::Beside,
            (Some(context), false) => DraftBasis::Context(context),
            (Some(_), true) => {
                return Err(invalid("beside", "a put replaces what its context covers, or nothing, not both").into());
            }
        };
        let hash = whole(put.get_value_hash_high(), put.get_value_hash_low());
        Ok(Draft {
            bucket: self.bucket(put.get_bucket())?,
            key: self.key(put.get_key())?,
            consistency: decode_consistency(put.get_consistency())?,
            action: DraftAction::Put {
                value: self.bytes("value", put.get_value(), self.value_bytes_max)?,
                hash: (hash != 0).then_some(hash),
                basis,
                op_id: OpId { client: put.get_op_client(), sequence: put.get_op_sequence() },
                seen_clock: put.get_seen_clock(),
                ttl_ms: put.get_ttl_ms(),
            },
        })
    }

    fn delete(&mut self, delete: wire::delete::Reader<'_>) -> Result<Draft, Refusal> {
        let basis = self.context(delete.get_context())?.map_or(DraftBasis::Local, DraftBasis::Context);
        Ok(Draft {
            bucket: self.bucket(delete.get_bucket())?,
            key: self.key(delete.get_key())?,
            consistency: decode_consistency(delete.get_consistency())?,
            action: DraftAction::Delete {
                basis,
                op_id: OpId { client: delete.get_op_client(), sequence: delete.get_op_sequence() },
                seen_clock: delete.get_seen_clock(),
            },
        })
    }

    /// `None` is the default bucket.
    fn bucket(&mut self, name: capnp::Result<capnp::text::Reader<'_>>) -> Result<Option<Span>, Refusal> {
        let name = name.map_err(|error| malformed("bucket", error))?.as_bytes();
        if name.is_empty() || name == BUCKET_DEFAULT.as_bytes() {
            return Ok(None);
        }
        if let Some(last) = self.bucket
            && self.gather.get(last) == name
        {
            return Ok(Some(last));
        }
        if !is_bucket_name(name) {
            let problem = format_args!("a name has 1 to 64 bytes of [A-Za-z0-9._-], this one has {} bytes", name.len());
            return Err(invalid("bucket", problem).into());
        }
        self.bucket = Some(self.add(name)?);
        Ok(self.bucket)
    }

    fn key(&mut self, key: capnp::Result<&[u8]>) -> Result<Span, Refusal> {
        let key = key.map_err(|error| malformed("key", error))?;
        if key.is_empty() {
            return Err(invalid("key", "0 bytes, but a key has 1 to 1024").into());
        }
        self.bytes("key", Ok(key), KEY_BYTES_MAX)
    }

    fn context(&mut self, context: capnp::Result<&[u8]>) -> Result<Option<Span>, Refusal> {
        match context {
            Ok([]) => Ok(None),
            context => self.bytes("context", context, CONTEXT_BYTES_MAX).map(Some),
        }
    }

    fn bytes(&mut self, field: &'static str, data: capnp::Result<&[u8]>, limit: usize) -> Result<Span, Refusal> {
        let data = data.map_err(|error| malformed(field, error))?;
        if data.len() > limit {
            return Err(too_large(field, limit, data.len(), "bytes").into());
        }
        self.add(data)
    }

    fn add(&mut self, data: &[u8]) -> Result<Span, Refusal> {
        self.gather.add(data).map_err(|bytes| Refusal::Batch { bytes, bytes_max: self.bytes_max })
    }
}

fn alone(
    value_bytes_max: usize,
    read: impl FnOnce(&mut Reading) -> Result<Draft, Refusal>,
) -> Result<Operation, Failure> {
    let mut reading = Reading::new(1, value_bytes_max);
    match read(&mut reading) {
        Ok(draft) => Ok(draft.finish(&reading.gather.finish())),
        Err(Refusal::Operation(failure)) => Err(failure),
        Err(Refusal::Batch { bytes, bytes_max }) => Err(too_large("operation", bytes_max, bytes, "bytes")),
    }
}

/// The upper and lower half of a 128-bit number.
pub(super) fn halves(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

/// The 128-bit number of two halves.
pub(super) fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
