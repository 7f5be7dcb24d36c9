//! A scan that is asked for page by page.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dynamo::layout::Level;
use futures_util::{FutureExt, StreamExt};

use crate::{Bucket, Error, Scan, Scanned};

/// Keys in a page at most: as many as a scan reads together.
const PAGE_KEYS_MAX: usize = 256;

/// What a page may need in turn: an owner that does not answer, another that does, and a read of the keys. Each has its part of the time.
const STEPS: u32 = 3;

/// What a scan shall find. What is `None` or 0 is as the bucket has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// Also reads the values.
    pub values: bool,
    /// Keys of every bucket.
    pub all_buckets: bool,
    /// Instead of the keys with live values, those that have none.
    pub deleted: bool,
    /// How many owners' keys are united, and the level at which keys are read.
    pub level: Option<Level>,
    /// Unites the keys of so many owners, and reads from as many, whatever the level says.
    pub r: u8,
    /// Only the first so many owners of a key are used to read it.
    pub n: u8,
    /// Time for each page.
    pub timeout: Option<Duration>,
    /// Begins with this partition of the ring.
    pub first_partition: u32,
}

/// A scan under way. It is over after its last page, after an error, and when a page was withdrawn that had been begun.
pub struct ScanPages {
    timeout: Duration,
    state: Mutex<State>,
}

enum State {
    Open(Box<Scan>),
    /// A page is being made.
    Busy,
    /// The error of what came after the page that was given out last.
    Failed(Error),
    Over,
}

impl ScanPages {
    pub(super) fn new(bucket: &Bucket, options: &ScanOptions) -> Self {
        let timeout = options.timeout.unwrap_or(bucket.defaults().timeout);
        let mut scan =
            bucket.clone().timeout(timeout / STEPS).scan().first_partition(options.first_partition).n(options.n);
        scan = if options.values { scan.values() } else { scan };
        scan = if options.all_buckets { scan.all_buckets() } else { scan };
        scan = if options.deleted { scan.deleted() } else { scan };
        scan = options.level.into_iter().fold(scan, Scan::level);
        scan = if options.r > 0 { scan.r(options.r) } else { scan };
        Self { timeout, state: Mutex::new(State::Open(Box::new(scan))) }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The next keys; none at the end.
    pub(super) async fn next(&self) -> Result<Vec<Scanned>, Error> {
        let before = std::mem::replace(&mut *self.lock(), State::Busy);
        let mut scan = match before {
            State::Open(scan) => scan,
            State::Busy => {
                return Err(Error::invalid("a page of this scan is already under way; ask for one at a time"));
            }
            State::Failed(error) => {
                *self.lock() = State::Over;
                return Err(error);
            }
            State::Over => {
                *self.lock() = State::Over;
                return Ok(Vec::new());
            }
        };
        let mut ending = Ending { pages: self, state: State::Over };
        let mut page = Vec::new();
        ending.state = loop {
            // Waits for the first key only; what else is there already goes along.
            let next = if page.is_empty() { Some(scan.next().await) } else { scan.next().now_or_never() };
            match next {
                Some(Some(Ok(scanned))) => page.push(scanned),
                Some(Some(Err(error))) if page.is_empty() => return Err(error),
                Some(Some(Err(error))) => break State::Failed(error),
                Some(None) => break State::Over,
                None => break State::Open(scan),
            }
            if page.len() == PAGE_KEYS_MAX {
                break State::Open(scan);
            }
        };
        Ok(page)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a scan is after a page. If the page fails, is withdrawn or takes too long, the scan is over.
struct Ending<'a> {
    pages: &'a ScanPages,
    state: State,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        *self.pages.lock() = std::mem::replace(&mut self.state, State::Over);
    }
}
