//! Answers as bytes: writes what `../src/reply.ts` reads. Numbers are little-endian. A large value does not stand among the
//! rest, where it would be kept by whoever keeps a small one, but apart, in memory of its own.

mod view;

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut, Bytes};
use quorate::{Context, Error, Found, Lookup, Receipt, Scanned, Sibling, Stored, bridge::Answer};

/// Values above this stand apart.
const VALUE_BYTES_WITHIN: usize = 4096;

/// What stands in the place of a length: of a value that is apart, or of text that is missing.
const NOT_HERE: u32 = u32::MAX;

/// Bytes before an answer: its length, its token, how many values are apart, what it is.
const HEADER_BYTES: usize = 17;

/// Bytes before a part of an answer: its length, how many values are apart, what it is.
const PART_HEADER_BYTES: usize = 9;

/// What an answer is.
#[derive(Clone, Copy)]
enum Kind {
    Failed,
    Done,
    Found,
    Absent,
    Exists,
    Stored,
    Many,
    Values,
    Again,
    Page,
    Explanation,
    Stats,
    Pings,
    Topology,
    NodeUp,
    NodeDown,
}

/// Writes one answer at a time.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    apart: VecDeque<Bytes>,
    apart_count: u32,
}

impl Writer {
    /// Writes an answer in the place of the one before it.
    pub(crate) fn write(&mut self, token: u64, result: Result<Answer, Error>) {
        self.bytes.clear();
        self.bytes.put_bytes(0, HEADER_BYTES);
        self.apart_count = 0;
        let kind = match result {
            Ok(answer) => self.answer(answer),
            Err(error) => self.error(&error),
        };
        let length = self.length_since(0);
        let mut header = &mut self.bytes[..HEADER_BYTES];
        header.put_u32_le(length);
        header.put_u64_le(token);
        header.put_u32_le(self.apart_count);
        header.put_u8(kind as u8);
    }

    /// The answer that was written last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values that stand apart and have not been taken yet, in the order of the answers they are of.
    pub(crate) fn take_apart(&mut self, count: usize) -> impl Iterator<Item = Bytes> + '_ {
        let count = count.min(self.apart.len());
        self.apart.drain(..count)
    }

    fn answer(&mut self, answer: Answer) -> Kind {
        match answer {
            Answer::Read(lookup) => self.lookup(&lookup),
            Answer::Exists(exists) => {
                self.bytes.put_u8(exists.into());
                Kind::Exists
            }
            Answer::Stored(stored) | Answer::Updated(Some(stored)) => self.stored(&stored),
            Answer::Reads(items) => self.many(items, |writer, lookup| writer.lookup(&lookup)),
            Answer::Writes(items) => self.many(items, |writer, stored| writer.stored(&stored)),
            Answer::Values(values) => {
                self.count(values.len());
                values.iter().for_each(|value| self.value(value));
                Kind::Values
            }
            Answer::Updated(None) => Kind::Again,
            Answer::Page(page) => {
                self.count(page.len());
                page.iter().for_each(|scanned| self.scanned(scanned));
                Kind::Page
            }
            Answer::Explanation(explanation) => self.explanation(&explanation),
            Answer::Stats(stats) => self.stats(&stats),
            Answer::Pings(pings) => self.pings(pings),
            Answer::Closed | Answer::Connected(_) => Kind::Done,
            Answer::Event(event) => self.event(&event),
        }
    }

    fn lookup(&mut self, lookup: &Lookup) -> Kind {
        match lookup {
            Lookup::Found(found) => {
                self.found(found);
                Kind::Found
            }
            Lookup::Absent(absent) => {
                self.context(&absent.context);
                self.receipt(&absent.receipt);
                Kind::Absent
            }
        }
    }

    fn found(&mut self, found: &Found) {
        self.count(found.siblings().len());
        found.siblings().iter().for_each(|sibling| self.sibling(sibling));
        self.context(found.context());
        self.receipt(found.receipt());
    }

    fn sibling(&mut self, sibling: &Sibling) {
        self.value(&sibling.value);
        self.bytes.put_u32_le(sibling.value_bytes);
        self.bytes.put_u64_le(sibling.clock);
        // As it is read aloud.
        self.bytes.put_u128(sibling.hash);
    }

    fn stored(&mut self, stored: &Stored) -> Kind {
        self.bytes.put_u16_le(stored.siblings);
        self.bytes.put_u64_le(stored.clock);
        self.bytes.put_u8(stored.context.is_some().into());
        self.context(stored.context.as_ref().unwrap_or(&Context::EMPTY));
        self.receipt(&stored.receipt);
        Kind::Stored
    }

    fn many<T>(&mut self, items: Vec<Result<T, Error>>, write: impl Fn(&mut Self, T) -> Kind) -> Kind {
        self.count(items.len());
        for item in items {
            self.part(|writer| match item {
                Ok(item) => write(writer, item),
                Err(error) => writer.error(&error),
            });
        }
        Kind::Many
    }

    fn scanned(&mut self, scanned: &Scanned) {
        self.text(Some(&scanned.bucket));
        self.value(&scanned.key);
        self.count(scanned.siblings);
        self.bytes.put_f64_le(scanned.value_bytes as f64);
        self.bytes.put_u8(scanned.found.is_some().into());
        if let Some(found) = &scanned.found {
            self.part(|writer| {
                writer.found(found);
                Kind::Found
            });
        }
    }

    /// Writes something that can be passed over and read by itself.
    fn part(&mut self, write: impl FnOnce(&mut Self) -> Kind) {
        let (at, apart_before) = (self.bytes.len(), self.apart_count);
        self.bytes.put_bytes(0, PART_HEADER_BYTES);
        let from = self.bytes.len();
        let kind = write(self);
        let (length, apart) = (self.length_since(from), self.apart_count - apart_before);
        let mut header = &mut self.bytes[at..from];
        header.put_u32_le(length);
        header.put_u32_le(apart);
        header.put_u8(kind as u8);
    }

    fn receipt(&mut self, receipt: &Receipt) {
        self.bytes.put_u64_le(receipt.epoch);
        for number in [receipt.need, receipt.durable, receipt.stand_ins, receipt.repaired.into(), receipt.replicas] {
            self.bytes.put_u8(number);
        }
        self.bytes.put_u16_le(receipt.answered.len() as u16);
        receipt.answered.iter().for_each(|node| self.bytes.put_u16_le(node.0));
    }

    fn error(&mut self, error: &Error) -> Kind {
        self.text(Some(error.kind()));
        self.text(Some(error.code()));
        self.text(Some(&error.to_string()));
        self.bytes.put_u8(error.retryable().into());
        self.bytes.put_u8(error.maybe_applied().into());
        self.bytes.put_u32_le(error.attempts());
        self.milliseconds(error.elapsed());
        self.text(error.node());
        let (need, got) = error.need_and_got().unwrap_or_default();
        self.bytes.put_u8(need);
        self.bytes.put_u8(got);
        Kind::Failed
    }

    fn context(&mut self, context: &Context) {
        self.count(context.as_bytes().len());
        self.bytes.put_slice(context.as_bytes());
    }

    /// A value, or the mark that it stands apart.
    fn value(&mut self, value: &Bytes) {
        if value.len() > VALUE_BYTES_WITHIN {
            self.bytes.put_u32_le(NOT_HERE);
            self.apart.push_back(value.clone());
            self.apart_count += 1;
        } else {
            self.count(value.len());
            self.bytes.put_slice(value);
        }
    }

    fn text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.count(text.len());
                self.bytes.put_slice(text.as_bytes());
            }
            None => self.bytes.put_u32_le(NOT_HERE),
        }
    }

    /// A number of things in memory, of which there are fewer than 2^32.
    fn count(&mut self, count: usize) {
        self.bytes.put_u32_le(count as u32);
    }

    fn milliseconds(&mut self, time: Duration) {
        self.bytes.put_f64_le(time.as_secs_f64() * 1e3);
    }

    fn length_since(&self, from: usize) -> u32 {
        (self.bytes.len() - from) as u32
    }
}
