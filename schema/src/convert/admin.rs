//! What operators ask of one node: how its repairs stand, what it holds under a key, and to reap a tombstone. What they do with the
//! ring stands in the files below.
//!
//! Names and states of tasks travel as text for people; nothing decides by them, so an unknown one is shown, not refused.

mod change;
mod commit;
mod plan;
mod transfers;

use bytes::Bytes;
use dynamo::{
    ident::{KEY_BYTES_MAX, NodeId, is_bucket_name},
    layout::NodeIndex,
    operation::{Address, Failure},
};

use super::{
    ReplyHeader, decode_optional_failure, encode_failure,
    gather::{Gather, Span},
    invalid, lenient_text, list_length, malformed,
    operation::{halves, whole},
    sixteen, strict_text, too_large,
};
use crate::admin_capnp as wire;

pub use change::{decode_changes, encode_changes};
pub use commit::{Commit, Decision, HistoryEntry, decode_history, encode_history};
pub use plan::{Extremes, PlanNode, PlanReport, Staging};
pub use transfers::{TRANSFERS_MAX, Transfer, Transfers, decode_drained, encode_drained};

/// Most tasks that are read: a node has four kinds of repair.
const TASKS_MAX: usize = 64;

/// Most backlogs that are read: one for each other node.
const BACKLOGS_MAX: usize = 65_536;

/// Most hints of one key that are read: one for each owner, of the present layout and of former ones.
const HINTS_MAX: u32 = 64;

/// Most bytes of records in one answer to `inspect`: what surely fits into a frame for clients, which is twice the largest
/// batch.
pub const INSPECT_BYTES_MAX: usize = 2 * super::BATCH_BYTES_MAX;

/// How the repairs of a node stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RepairStatus {
    /// What it does beside its clients' work.
    pub tasks: Vec<RepairTask>,
    /// What it keeps for nodes that are away.
    pub hints: Vec<HintBacklog>,
    /// Records known here that can't be verified and are not rebuilt yet.
    pub unreadable: u64,
    /// The share of its full speed that background work has now, 0.02 to 1.
    pub throttle: f32,
}

/// One kind of repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairTask {
    /// "exchange", "hints", "scrub" or "rebuild".
    pub name: String,
    /// "idle", "running" or "waiting".
    pub state: String,
    /// Units finished of the current or the last run: partitions for "exchange" and "scrub", objects for the others.
    pub done: u64,
    /// How many there are.
    pub total: u64,
    /// Objects brought level since the node started.
    pub repaired: u64,
    /// Attempts that ended without success since the node started.
    pub failed: u64,
    /// Milliseconds since the last run ended; `None` for never.
    pub last_milliseconds_ago: Option<u64>,
}

/// What a node keeps for one that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintBacklog {
    /// Whom it is for.
    pub target: NodeIndex,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Hints for it that were refused since the node started.
    pub refused: u64,
}

/// What to begin at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairRun {
    /// Compare every partition with every other owner.
    pub exchange: bool,
    /// Deliver all hints whose targets can be reached.
    pub hints: bool,
    /// Verify every record.
    pub scrub: bool,
}

/// What stands in one place of a node under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    #[default]
    Absent,
    /// A whole object, as a record.
    Record(Bytes),
    /// A record that can't be verified.
    Corrupt,
}

/// What one node holds under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whether it is an owner of the key.
    pub is_owner: bool,
    /// What it holds as an owner.
    pub held: Held,
    /// What it keeps of the key for others.
    pub hints: Vec<(NodeId, Held)>,
    /// Operations in flight here on the key's partition.
    pub running: u32,
}

/// A tombstone that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reap {
    /// Which key.
    pub address: Address,
    /// The checksum of the only record that may be removed.
    pub digest: u128,
}

impl RepairStatus {
    /// Writes it, with its header.
    pub fn encode(&self, header: &ReplyHeader, mut wire: wire::repair_status_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_unreadable(self.unreadable);
        wire.set_throttle(self.throttle);
        let mut tasks = wire.reborrow().init_tasks(list_length(self.tasks.len()));
        for (at, task) in (0..).zip(&self.tasks) {
            let mut entry = tasks.reborrow().get(at);
            entry.set_name(&task.name);
            entry.set_state(&task.state);
            entry.set_done(task.done);
            entry.set_total(task.total);
            entry.set_repaired(task.repaired);
            entry.set_failed(task.failed);
            entry.set_last_milliseconds_ago(task.last_milliseconds_ago.unwrap_or(u64::MAX));
        }
        let mut hints = wire.init_hints(list_length(self.hints.len()));
        for (at, backlog) in (0..).zip(&self.hints) {
            let mut entry = hints.reborrow().get(at);
            entry.set_target(backlog.target.0);
            entry.set_objects(backlog.objects);
            entry.set_bytes(backlog.bytes);
            entry.set_refused(backlog.refused);
        }
    }

    /// Writes why there is none.
    pub fn encode_failure(header: &ReplyHeader, failure: &Failure, mut wire: wire::repair_status_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        encode_failure(wire.init_error(), failure);
    }

    /// Reads it.
    pub fn decode(wire: wire::repair_status_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        let tasks = wire.get_tasks().map_err(|error| malformed("tasks", error))?;
        let hints = wire.get_hints().map_err(|error| malformed("hints", error))?;
        let task = |task: wire::task::Reader<'_>| RepairTask {
            name: lenient_text(task.get_name()),
            state: lenient_text(task.get_state()),
            done: task.get_done(),
            total: task.get_total(),
            repaired: task.get_repaired(),
            failed: task.get_failed(),
            last_milliseconds_ago: Some(task.get_last_milliseconds_ago()).filter(|ago| *ago != u64::MAX),
        };
        let backlog = |backlog: wire::hint_backlog::Reader<'_>| HintBacklog {
            target: NodeIndex(backlog.get_target()),
            objects: backlog.get_objects(),
            bytes: backlog.get_bytes(),
            refused: backlog.get_refused(),
        };
        let throttle = wire.get_throttle();
        Ok(Self {
            tasks: tasks.iter().take(TASKS_MAX).map(task).collect(),
            hints: hints.iter().take(BACKLOGS_MAX).map(backlog).collect(),
            unreadable: wire.get_unreadable(),
            // What is no share at all is none: nobody should have to think of numbers that are not numbers.
            throttle: if throttle.is_finite() { throttle.clamp(0.0, 1.0) } else { 0.0 },
        })
    }
}

impl RepairRun {
    /// Writes it; the header is written apart.
    pub fn encode(&self, mut wire: wire::repair_run_request::Builder<'_>) {
        wire.set_exchange(self.exchange);
        wire.set_hints(self.hints);
        wire.set_scrub(self.scrub);
    }

    /// Reads it.
    pub fn decode(wire: wire::repair_run_request::Reader<'_>) -> Self {
        Self { exchange: wire.get_exchange(), hints: wire.get_hints(), scrub: wire.get_scrub() }
    }
}

impl Inspection {
    /// Bytes of the records it brings: an answer may have at most [`INSPECT_BYTES_MAX`].
    pub fn record_bytes(&self) -> usize {
        self.hints.iter().map(|(_, held)| held).chain([&self.held]).map(Held::record_bytes).sum()
    }

    /// Writes it, with its header.
    pub fn encode(&self, header: &ReplyHeader, mut wire: wire::inspect_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_is_owner(self.is_owner);
        wire.set_running(self.running);
        encode_held(wire.reborrow().init_held(), &self.held);
        let mut hints = wire.init_hints(list_length(self.hints.len()));
        for (at, (target, held)) in (0..).zip(&self.hints) {
            let mut entry = hints.reborrow().get(at);
            entry.set_target(&target.0.to_be_bytes());
            encode_held(entry, held);
        }
    }

    /// Writes why there is none.
    pub fn encode_failure(header: &ReplyHeader, failure: &Failure, mut wire: wire::inspect_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        encode_failure(wire.init_error(), failure);
    }

    /// Reads it. However often a hostile node names the same bytes, the records together stay within
    /// [`INSPECT_BYTES_MAX`].
    pub fn decode(wire: wire::inspect_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        let mut gather = Gather::new(INSPECT_BYTES_MAX, 0);
        let held = wire.get_held().map_err(|error| malformed("held", error))?;
        let held = DraftHeld::read(&mut gather, "held.record", held)?;
        let list = wire.get_hints().map_err(|error| malformed("hints", error))?;
        if list.len() > HINTS_MAX {
            return Err(too_large("hints", HINTS_MAX as usize, list.len() as usize, "entries"));
        }
        let mut hints = Vec::with_capacity(list.len() as usize);
        for hint in list.iter() {
            let target = NodeId(sixteen("hints.target", hint.get_target())?);
            hints.push((target, DraftHeld::read(&mut gather, "hints.record", hint)?));
        }
        let bytes = gather.finish();
        let finish = |draft| match draft {
            DraftHeld::Absent => Held::Absent,
            DraftHeld::Corrupt => Held::Corrupt,
            DraftHeld::Record(span) => Held::Record(bytes.slice(span)),
        };
        Ok(Self {
            is_owner: wire.get_is_owner(),
            held: finish(held),
            hints: hints.into_iter().map(|(target, draft)| (target, finish(draft))).collect(),
            running: wire.get_running(),
        })
    }
}

impl Held {
    fn record_bytes(&self) -> usize {
        match self {
            Self::Record(record) => record.len(),
            Self::Absent | Self::Corrupt => 0,
        }
    }
}

/// Writes the question for a key; the header is written apart.
pub fn encode_inspect(mut wire: wire::inspect_request::Builder<'_>, address: &Address) {
    wire.set_bucket(capnp::text::Reader::from(&*address.bucket));
    wire.set_key(&address.key);
}

/// Reads the question for a key.
pub fn decode_inspect(wire: wire::inspect_request::Reader<'_>) -> Result<Address, Failure> {
    address(wire.get_bucket(), wire.get_key())
}

/// Writes what is to be reaped; the header is written apart.
pub fn encode_reap(mut wire: wire::reap_request::Builder<'_>, reap: &Reap) {
    wire.set_bucket(capnp::text::Reader::from(&*reap.address.bucket));
    wire.set_key(&reap.address.key);
    let (high, low) = halves(reap.digest);
    wire.set_digest_high(high);
    wire.set_digest_low(low);
}

/// Reads what is to be reaped.
pub fn decode_reap(wire: wire::reap_request::Reader<'_>) -> Result<Reap, Failure> {
    Ok(Reap {
        address: address(wire.get_bucket(), wire.get_key())?,
        digest: whole(wire.get_digest_high(), wire.get_digest_low()),
    })
}

/// Writes whether it was reaped, or why not, with the header.
pub fn encode_reaped(header: &ReplyHeader, reaped: &Result<bool, Failure>, mut wire: wire::reap_reply::Builder<'_>) {
    header.encode(wire.reborrow().init_header());
    match reaped {
        Ok(reaped) => wire.set_reaped(*reaped),
        Err(failure) => encode_failure(wire.init_error(), failure),
    }
}

/// Reads whether it was reaped.
pub fn decode_reaped(wire: wire::reap_reply::Reader<'_>) -> Result<bool, Failure> {
    decode_optional_failure(wire.has_error(), wire.get_error())?;
    Ok(wire.get_reaped())
}

enum DraftHeld {
    Absent,
    Record(Span),
    Corrupt,
}

impl DraftHeld {
    fn read(gather: &mut Gather, field: &'static str, held: wire::held::Reader<'_>) -> Result<Self, Failure> {
        if held.get_corrupt() {
            return Ok(Self::Corrupt);
        }
        let record = held.get_record().map_err(|error| malformed(field, error))?;
        if record.is_empty() {
            return Ok(Self::Absent);
        }
        gather.add(record).map(Self::Record).map_err(|got| too_large(field, INSPECT_BYTES_MAX, got, "bytes"))
    }
}

fn encode_held(mut wire: wire::held::Builder<'_>, held: &Held) {
    match held {
        Held::Absent => {}
        Held::Record(record) => wire.set_record(record),
        Held::Corrupt => wire.set_corrupt(true),
    }
}

fn address(
    bucket: capnp::Result<capnp::text::Reader<'_>>,
    key: capnp::Result<capnp::data::Reader<'_>>,
) -> Result<Address, Failure> {
    let mut bucket = strict_text("bucket", bucket)?;
    if bucket.is_empty() {
        dynamo::ident::BUCKET_DEFAULT.clone_into(&mut bucket);
    }
    if !is_bucket_name(bucket.as_bytes()) {
        return Err(invalid("bucket", "a name has 1 to 64 bytes of [A-Za-z0-9._-]"));
    }
    let key = super::bounded_data("key", key, KEY_BYTES_MAX)?;
    if key.is_empty() {
        return Err(invalid("key", "0 bytes, but a key has 1 to 1024"));
    }
    Ok(Address::new(Bytes::from(bucket), key))
}

/// Sentences for people. A list that is too long is refused, not cut: whoever reads half of the warnings believes there are no others.
fn lenient_texts(
    field: &'static str,
    list: capnp::Result<capnp::text_list::Reader<'_>>,
) -> Result<Vec<String>, Failure> {
    let list = list.map_err(|error| malformed(field, error))?;
    if list.len() as usize > plan::SENTENCES_MAX {
        return Err(too_large(field, plan::SENTENCES_MAX, list.len() as usize, "sentences"));
    }
    Ok(list.iter().map(lenient_text).collect())
}

fn set_texts(mut list: capnp::text_list::Builder<'_>, texts: &[String]) {
    for (at, text) in (0..).zip(texts) {
        list.set(at, text);
    }
}
