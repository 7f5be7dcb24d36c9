//! Requests as bytes: reads what `../src/request.ts` wrote. Numbers are little-endian.

use std::time::Duration;

use bytes::{Buf, Bytes};
use quorate::{
    Context, Level,
    bridge::{Ask, CallOptions, DeleteEntry, PutEntry, ScanOptions},
};

use crate::settings::milliseconds;

/// What stands where a context's length would, if there is none.
const NO_CONTEXT: u32 = u32::MAX;

/// Bytes of the length before a request, which counts them.
const LENGTH_BYTES: u32 = 4;

/// The levels in the order in which requests number them, from 1.
const LEVELS: [Level; 4] = [Level::One, Level::Available, Level::Quorum, Level::All];

/// Bits of what a scan wants.
const SCAN_VALUES: u8 = 1;
const SCAN_ALL_BUCKETS: u8 = 2;

/// One call that TypeScript makes.
pub(crate) struct Request {
    /// What names it, there and here.
    pub(crate) token: u64,
    /// Whether it may be withdrawn, so that its ticket has to be kept.
    pub(crate) withdrawable: bool,
    pub(crate) bucket: Bytes,
    pub(crate) options: CallOptions,
    pub(crate) want: Want,
}

/// What a request asks for.
pub(crate) enum Want {
    /// An answer.
    Answer(Ask),
    /// An update of a key, made step by step.
    Update(Bytes),
    /// A scan, made page by page.
    Scan(ScanOptions),
}

/// What was read is no request: TypeScript and Rust are not of the same version.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Reads the next request. All that it holds shares one copy of its bytes.
pub(crate) fn read(requests: &mut &[u8]) -> Result<Request, Malformed> {
    let length = requests.try_get_u32_le()?.checked_sub(LENGTH_BYTES).ok_or(Malformed)? as usize;
    let (bytes, others) = requests.split_at_checked(length).ok_or(Malformed)?;
    *requests = others;
    let mut rest = Bytes::copy_from_slice(bytes);
    let rest = &mut rest;
    let token = rest.try_get_u64_le()?;
    let withdrawable = rest.try_get_u8()? != 0;
    let ask = rest.try_get_u8()?;
    let level = rest.try_get_u8()?;
    let level = level.checked_sub(1).map(|at| LEVELS.get(usize::from(at)).copied().ok_or(Malformed)).transpose()?;
    let (r, w, n) = (rest.try_get_u8()?, rest.try_get_u8()?, rest.try_get_u8()?);
    let flags = rest.try_get_u16_le()?.to_le_bytes()[0];
    let options = CallOptions { level, r, w, n, timeout: milliseconds(rest.try_get_f64_le()?) };
    let bucket = text(rest)?;
    let want = match ask {
        1 => Want::Answer(Ask::Get { key: text(rest)?, without_values: false }),
        2 => Want::Answer(Ask::Exists { key: text(rest)? }),
        3 => Want::Answer(Ask::Put(put(rest)?)),
        4 => Want::Answer(Ask::Delete(delete(rest)?)),
        5 => Want::Answer(Ask::GetMany { keys: list(rest, text)? }),
        6 => Want::Answer(Ask::PutMany { entries: list(rest, put)? }),
        7 => Want::Answer(Ask::DeleteMany { entries: list(rest, delete)? }),
        8 => Want::Answer(Ask::Explain { key: text(rest)? }),
        9 => Want::Answer(Ask::Stats),
        10 => Want::Answer(Ask::Ping),
        11 => Want::Answer(Ask::Close),
        12 => Want::Update(text(rest)?),
        13 => Want::Scan(scan(flags, &options)),
        _ => return Err(Malformed),
    };
    if rest.has_remaining() {
        return Err(Malformed);
    }
    Ok(Request { token, withdrawable, bucket, options, want })
}

fn put(rest: &mut Bytes) -> Result<PutEntry, Malformed> {
    let (key, value, context) = (text(rest)?, text(rest)?, context(rest)?);
    Ok(PutEntry { key, value, context, ttl: time(rest)? })
}

fn delete(rest: &mut Bytes) -> Result<DeleteEntry, Malformed> {
    Ok(DeleteEntry { key: text(rest)?, context: context(rest)? })
}

fn scan(flags: u8, options: &CallOptions) -> ScanOptions {
    ScanOptions {
        values: flags & SCAN_VALUES != 0,
        all_buckets: flags & SCAN_ALL_BUCKETS != 0,
        level: options.level,
        r: options.r,
        n: options.n,
        timeout: options.timeout,
        ..ScanOptions::default()
    }
}

fn list<T>(rest: &mut Bytes, read: impl Fn(&mut Bytes) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    (0..rest.try_get_u32_le()?).map(|_| read(rest)).collect()
}

fn time(rest: &mut Bytes) -> Result<Option<Duration>, Malformed> {
    Ok(milliseconds(rest.try_get_f64_le()?))
}

fn context(rest: &mut Bytes) -> Result<Option<Context>, Malformed> {
    match rest.try_get_u32_le()? {
        NO_CONTEXT => Ok(None),
        length => Ok(Some(Context::from_bytes(take(rest, length)?).map_err(|_| Malformed)?)),
    }
}

/// Bytes with their length before them.
fn text(rest: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = rest.try_get_u32_le()?;
    take(rest, length)
}

fn take(rest: &mut Bytes, length: u32) -> Result<Bytes, Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    (length <= rest.len()).then(|| rest.split_to(length)).ok_or(Malformed)
}

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Self
    }
}
