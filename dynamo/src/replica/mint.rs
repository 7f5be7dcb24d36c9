//! Minting: a new version with a new dot, at the replica of the operation's coordinator.

use bytes::Bytes;

use super::{
    Limits, MintBasis, Minted, OBJECT_BYTES_MAX, Place, Rows, Write, WriteOutcome,
    actors::Actors,
    apply::{Before, Work},
    standing::Standing,
};
use crate::{
    bug::{self, Bug},
    hlc,
    layout::ConflictRule,
    operation::{Address, ErrorCode, Failure},
    record::{self, RecordError},
    version::{
        self, Content, Object, SIBLINGS_MAX, Version,
        put::{Recognition, Seen},
    },
};

impl<R: Rows> Work<'_, R> {
    pub(super) fn mint(
        mut self,
        standing: Option<Standing>,
        address: &Address,
        write: Write,
    ) -> Result<WriteOutcome, R::Error> {
        let before = standing.as_ref().map(Before::of);
        let (actors, limits) = (&mut self.replica.actors, &self.replica.limits);
        let (object, minted) = match mint(actors, self.place, limits, standing, address, write) {
            Minting::Ended(outcome) => return Ok(outcome),
            Minting::New { object, minted } => (object, minted),
        };
        // First of all: whatever fails from here on, this actor must not count on.
        self.changed.insert(self.place);
        if let Some(row) = self.replica.partitions.get_mut(&self.place) {
            row.last = minted.dot;
        }
        self.store(before, &object, &minted.record)?;
        Ok(WriteOutcome::Minted(minted))
    }
}

/// What minting came to.
pub(crate) enum Minting {
    /// Nothing was minted, and nothing is to be stored: a retry or a refusal.
    Ended(WriteOutcome),
    /// A version was minted; its record is to be stored. If it is not, for whatever reason, its actor must not count on.
    New {
        /// The object with the version in it.
        object: Object,
        /// The same as a record, and what the coordinator needs.
        minted: Minted,
    },
}

/// Mints a version on what this node holds of a key, under the current actor of the key's partition, unless the write is a
/// retry or has to be refused. The one place where dots are made: for owners and for stand-ins.
pub(crate) fn mint(
    actors: &mut Actors,
    place: Place,
    limits: &Limits,
    standing: Option<Standing>,
    address: &Address,
    write: Write,
) -> Minting {
    let now = hlc::clock_of(write.wall_ms);
    if let Some(standing) = &standing
        && let Some(outcome) = answer_without_minting(standing, address, &write, now)
    {
        return Minting::Ended(outcome);
    }
    let mut object = standing.map_or_else(Object::new, |standing| standing.record.object);
    let seen = match write.basis {
        MintBasis::Local => object.seen(),
        MintBasis::Beside => Seen::default(),
        MintBasis::Context(seen) => seen,
    };
    actors.notice_amnesia(place, &object.context, &seen.context);
    let known = object.versions.iter().map(|version| version.clock).chain([write.seen_clock]);
    let clock = hlc::next(write.wall_ms, known);
    let size = Size::of(&object);
    object.overwrite(&seen, clock, version::fingerprint(&write.op_id, &write.content));
    if let Err(failure) = check_growth(limits, size, Size::of(&object), &write.content) {
        return Minting::Ended(WriteOutcome::Refused(failure));
    }
    let dot = actors.mint(place);
    let version = Version { dot, op_id: write.op_id, clock, expires: write.expires, content: write.content };
    object.add(version.clone());
    let record = Bytes::from(record::encode(address, &object));
    let minted = Minted::of(&object, Some(&version), record, now);
    Minting::New { object, minted }
}

impl Minted {
    /// What a coordinator needs of an object in which its operation's version is `version`, or was overwritten.
    fn of(object: &Object, version: Option<&Version>, record: Bytes, now: u64) -> Self {
        let is_ours = |other: &Version| {
            version.is_some_and(|ours| {
                let twins = ours.fingerprint().is_some() && ours.fingerprint() == other.fingerprint();
                twins || ours.dot == other.dot
            })
        };
        // Expired siblings count here, although no reader is shown them: this clock alone must not be what lets the next
        // put under this context overwrite them.
        let is_sole = version.is_some() && (object.live().all(is_ours) || bug::is_on(Bug::PutReturnsWholeContext));
        let highest = object.versions.iter().map(|version| version.clock).max().unwrap_or(0);
        Self {
            record,
            dot: version.map(|version| version.dot),
            retried: false,
            clock: version.map_or(highest, |version| version.clock),
            siblings: u16::try_from(object.present(ConflictRule::Siblings, now).count()).unwrap_or(u16::MAX),
            seen: is_sole.then(|| object.seen()),
        }
    }
}

/// The outcome of a write that must not be minted: a retry, or one that can't be meant for this key.
fn answer_without_minting(standing: &Standing, address: &Address, write: &Write, now: u64) -> Option<WriteOutcome> {
    if !standing.record.is_of(address) {
        return Some(WriteOutcome::Refused(RecordError::OtherKey.failure()));
    }
    let object = &standing.record.object;
    let version = match object.recognise(&write.op_id, &write.content) {
        Recognition::New => return None,
        Recognition::Standing(version) => Some(version),
        Recognition::Spent => None,
        Recognition::Contradicted => {
            return Some(WriteOutcome::Refused(Failure::new(
                ErrorCode::InvalidRequest,
                "this operation id was used for another write of this key; nothing was done, take a new id",
            )));
        }
    };
    let minted = Minted::of(object, version, standing.bytes.clone(), now);
    Some(WriteOutcome::Minted(Minted { retried: true, ..minted }))
}

/// How large an object is, in the terms of its limits.
#[derive(Clone, Copy)]
struct Size {
    versions: usize,
    value_bytes: u64,
}

impl Size {
    fn of(object: &Object) -> Self {
        Self { versions: object.versions.len(), value_bytes: object.value_bytes() }
    }
}

/// Whether a version with `content` may be added to what is left of an object after it has overwritten its basis.
fn check_growth(limits: &Limits, before: Size, left: Size, content: &Content) -> Result<(), Failure> {
    if content.len() > limits.value_bytes_max {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            "the value is longer than this node accepts; nothing was done, keep large data elsewhere and store a link",
        ));
    }
    let versions = left.versions + 1;
    let value_bytes = left.value_bytes + content.len();
    // What makes an object smaller may always go on, or a key above a limit could never be brought below it.
    let too_many = versions > SIBLINGS_MAX && versions > before.versions;
    let too_long = value_bytes > OBJECT_BYTES_MAX.max(limits.value_bytes_max) && value_bytes > before.value_bytes;
    if too_many || too_long {
        return Err(Failure::new(
            ErrorCode::TooManySiblings,
            "the key holds as much as concurrent versions may; nothing was done, get it, merge, and put with its context",
        ));
    }
    Ok(())
}
