//! The canonical bytes of a layout: one sequence for one layout, so that a hash of them names it. They stand on disk and
//! under [`Layout::hash`]; what travels to clients is the schema's `Ring`.
//!
//! ```text
//! version u8 = 2
//! cluster u128, generation u64, epoch u64, parent_hash [16], partition_bits u8, replicas u8
//! electors  count u32, { index u16 }
//! members   count u32, { id u128, state u8, weight u32, name, zone, addresses: count u32, { text } }
//! buckets   count u32, { name, level u8, r u8, w u8, conflict_rule u8 }, ascending by name
//! spans     count u32, { first u32, since u64, oldest u64 }, ascending by first
//! slots     2^partition_bits × replicas × u16
//! text = length u32, UTF-8;  integers are big-endian
//! ```
//!
//! [`Layout::decode`] takes bytes from anywhere: it allocates no more than a small multiple of what it was given, and what
//! it accepts has passed [`Layout::check`] and, if it is of this version, encodes to the same bytes again. Version 1 had no spans, for
//! rings could not change: it is read as a layout all of whose partitions have had their owners since its epoch.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use super::{
    BucketProperties, ConflictRule, Layout, Level, Member, MemberState, NodeIndex, PARTITION_BITS_MAX, REPLICAS_MAX,
    check::LayoutError,
    spans::{Span, SpanRun, Spans},
};
use crate::ident::NodeId;

/// The format that [`Layout::encode`] writes, as the first byte.
pub const LAYOUT_FORMAT: u8 = 2;

/// The format before, which had no spans. Still read, no longer written.
const LAYOUT_FORMAT_1: u8 = 1;

/// Bytes of a run of spans.
const SPAN_BYTES: usize = 4 + 8 + 8;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 2;

/// The fewest bytes a member can take, all its texts empty. Counts are checked against it before anything is allocated.
const MEMBER_BYTES_MIN: usize = 16 + 1 + 4 + 4 + 4 + 4;

/// The fewest bytes a text can take.
const TEXT_BYTES_MIN: usize = 4;

/// The fewest bytes a bucket can take.
const BUCKET_BYTES_MIN: usize = TEXT_BYTES_MIN + 4;

/// Why bytes are no layout. Nothing was changed. Bytes from a disk: restore the layout from another node. Bytes from a
/// network: ask somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The first byte names a format this program does not know; a newer one may.
    Format(u8),
    /// The bytes end before the layout does, or a count promises more than follows.
    Truncated,
    /// Bytes follow after the end of the layout.
    Trailing(usize),
    /// A text is not UTF-8.
    Text,
    /// A number stands for none of the choices it must stand for.
    Choice {
        /// What was to be chosen.
        field: &'static str,
        /// The number found.
        value: u8,
    },
    /// The buckets are not in ascending order of their names, each once.
    BucketOrder,
    /// The runs of spans are not the fewest there can be.
    SpanOrder,
    /// The bytes are a layout, but one that breaks a rule.
    Layout(LayoutError),
}

impl Layout {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(self.slots.len() * SLOT_BYTES + self.members.len() * 64 + 256));
        writer.u8(LAYOUT_FORMAT);
        writer.bytes(&self.cluster.to_be_bytes());
        writer.bytes(&self.generation.to_be_bytes());
        writer.bytes(&self.epoch.to_be_bytes());
        writer.bytes(&self.parent_hash);
        writer.u8(self.partition_bits);
        writer.u8(self.replicas);
        writer.count(self.electors.len());
        for elector in &self.electors {
            writer.bytes(&elector.0.to_be_bytes());
        }
        writer.count(self.members.len());
        for member in &self.members {
            writer.member(member);
        }
        writer.count(self.buckets.len());
        for (name, properties) in &self.buckets {
            writer.bucket(name, properties);
        }
        writer.count(self.spans.runs().len());
        for SpanRun { first, span } in self.spans.runs() {
            writer.bytes(&first.to_be_bytes());
            writer.bytes(&span.since.to_be_bytes());
            writer.bytes(&span.oldest.to_be_bytes());
        }
        for slot in &self.slots {
            writer.bytes(&slot.to_be_bytes());
        }
        writer.0
    }

    /// The layout that `bytes` are the canonical bytes of. Total: any bytes give a checked layout or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let format = reader.u8()?;
        if format != LAYOUT_FORMAT && format != LAYOUT_FORMAT_1 {
            return Err(DecodeError::Format(format));
        }
        let mut layout = Self {
            cluster: u128::from_be_bytes(reader.array()?),
            generation: u64::from_be_bytes(reader.array()?),
            epoch: u64::from_be_bytes(reader.array()?),
            parent_hash: reader.array()?,
            partition_bits: reader.u8()?,
            replicas: reader.u8()?,
            electors: Vec::new(),
            members: Vec::new(),
            slots: Vec::new(),
            buckets: BTreeMap::new(),
            spans: Spans::from_runs([]),
        };
        layout.spans = Spans::uniform(Span::settled(layout.epoch));
        layout.check_frame().map_err(DecodeError::Layout)?;
        let electors = reader.count(SLOT_BYTES)?;
        layout.electors = (0..electors).map(|_| reader.u16().map(NodeIndex)).collect::<Result<_, _>>()?;
        let members = reader.count(MEMBER_BYTES_MIN)?;
        layout.members = (0..members).map(|_| reader.member()).collect::<Result<_, _>>()?;
        layout.buckets = reader.buckets()?;
        if format == LAYOUT_FORMAT {
            layout.spans = reader.spans()?;
        }
        layout.slots = reader.slots(layout.partition_bits, layout.replicas)?;
        if !reader.0.is_empty() {
            return Err(DecodeError::Trailing(reader.0.len()));
        }
        layout.check().map_err(DecodeError::Layout)?;
        Ok(layout)
    }
}

/// Writes the fields of a format. Also the difference of two layouts and staged changes are made of them.
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A count or a length. One that does not fit would take more memory than it counts; the value then written is beyond
    /// every limit, so that the bytes do not decode.
    pub(crate) fn count(&mut self, count: usize) {
        self.bytes(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    pub(crate) fn member(&mut self, member: &Member) {
        self.bytes(&member.id.0.to_be_bytes());
        self.u8(match member.state {
            MemberState::Active => 0,
            MemberState::Leaving => 1,
            MemberState::Lost => 2,
            MemberState::Gone => 3,
        });
        self.bytes(&member.weight.to_be_bytes());
        self.text(&member.name);
        self.text(&member.zone);
        self.texts(&member.addresses);
    }

    pub(crate) fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    pub(crate) fn bucket(&mut self, name: &str, properties: &BucketProperties) {
        self.text(name);
        self.u8(match properties.level {
            Level::One => 0,
            Level::Available => 1,
            Level::Quorum => 2,
            Level::All => 3,
        });
        self.u8(properties.r);
        self.u8(properties.w);
        self.u8(match properties.conflict_rule {
            ConflictRule::Siblings => 0,
            ConflictRule::LastWriterWins => 1,
        });
    }
}

/// Reads them, and says what is wrong with bytes that are none.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A count of things that take at least `bytes_min` each, for which there are bytes enough.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, DecodeError> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        if count > self.0.len() / bytes_min { Err(DecodeError::Truncated) } else { Ok(count) }
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let length = self.count(1)?;
        core::str::from_utf8(self.take(length)?).map(String::from).map_err(|_| DecodeError::Text)
    }

    pub(crate) fn member(&mut self) -> Result<Member, DecodeError> {
        Ok(Member {
            id: NodeId(u128::from_be_bytes(self.array()?)),
            state: match self.u8()? {
                0 => MemberState::Active,
                1 => MemberState::Leaving,
                2 => MemberState::Lost,
                3 => MemberState::Gone,
                value => return Err(DecodeError::Choice { field: "member state", value }),
            },
            weight: u32::from_be_bytes(self.array()?),
            name: self.text()?,
            zone: self.text()?,
            addresses: self.texts()?,
        })
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>, DecodeError> {
        let count = self.count(TEXT_BYTES_MIN)?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(crate) fn buckets(&mut self) -> Result<BTreeMap<String, BucketProperties>, DecodeError> {
        let count = self.count(BUCKET_BYTES_MIN)?;
        let mut buckets = BTreeMap::new();
        for _ in 0..count {
            let name = self.text()?;
            if buckets.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::BucketOrder);
            }
            buckets.insert(name, self.bucket_properties()?);
        }
        Ok(buckets)
    }

    pub(crate) fn bucket_properties(&mut self) -> Result<BucketProperties, DecodeError> {
        Ok(BucketProperties {
            level: match self.u8()? {
                0 => Level::One,
                1 => Level::Available,
                2 => Level::Quorum,
                3 => Level::All,
                value => return Err(DecodeError::Choice { field: "level", value }),
            },
            r: self.u8()?,
            w: self.u8()?,
            conflict_rule: match self.u8()? {
                0 => ConflictRule::Siblings,
                1 => ConflictRule::LastWriterWins,
                value => return Err(DecodeError::Choice { field: "conflict rule", value }),
            },
        })
    }

    pub(crate) fn spans(&mut self) -> Result<Spans, DecodeError> {
        let count = self.count(SPAN_BYTES)?;
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            let first = u32::from_be_bytes(self.array()?);
            let (since, oldest) = (u64::from_be_bytes(self.array()?), u64::from_be_bytes(self.array()?));
            runs.push(SpanRun { first, span: Span { since, oldest } });
        }
        let spans = Spans::from_runs(runs);
        if spans.runs().len() == count { Ok(spans) } else { Err(DecodeError::SpanOrder) }
    }

    pub(crate) fn slots(&mut self, partition_bits: u8, replicas: u8) -> Result<Vec<u16>, DecodeError> {
        debug_assert!(partition_bits <= PARTITION_BITS_MAX && replicas <= REPLICAS_MAX);
        let count = usize::from(replicas) << partition_bits;
        let (slots, _) = self.take(count * SLOT_BYTES)?.as_chunks();
        Ok(slots.iter().map(|&slot| u16::from_be_bytes(slot)).collect())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(
                formatter,
                "layout format {format} is unknown (this program writes {LAYOUT_FORMAT}): a newer program may read it"
            ),
            Self::Truncated => formatter.write_str("the bytes end before the layout does: fetch it again"),
            Self::Trailing(count) => write!(formatter, "{count} bytes follow after the layout: fetch it again"),
            Self::Text => formatter.write_str("a name in the layout is not UTF-8: fetch it again"),
            Self::Choice { field, value } => {
                write!(formatter, "{value} is no {field}: the layout is damaged or was written by a newer program")
            }
            Self::BucketOrder => formatter.write_str("the layout's buckets are out of order: fetch it again"),
            Self::SpanOrder => formatter.write_str("the layout's spans are not in order: fetch it again"),
            Self::Layout(error) => error.fmt(formatter),
        }
    }
}

impl core::error::Error for DecodeError {}
