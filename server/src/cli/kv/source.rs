//! Where bulk commands read records from: a file or standard input, parsed on a thread of its own.
//!
//! A thread, because standard input may stall for hours while writes under way must still be acknowledged, and because
//! parsing then uses another core. What was read and is not done yet is bounded by bytes, not by a number of records.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::cli::{
    exit::CommandError,
    jsonl::{Line, Lines, Place},
};

/// Bytes of records that are read and not done: far more than are ever in flight, little beside a desktop's memory.
const BYTES_AHEAD_MAX: u32 = 64 << 20;

/// What a record costs beside its bytes.
const RECORD_OVERHEAD_BYTES: usize = 256;

/// Lines that wait to be taken; the budget of bytes is what bounds them, this only sizes a queue.
const LINES_AHEAD_MAX: usize = 4_096;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// A line that was read, and its share of the memory for such lines.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) line: Line,
    _share: OwnedSemaphorePermit,
}

/// Lines from a thread that reads them.
#[derive(Debug)]
pub(super) struct Source {
    lines: Mutex<mpsc::Receiver<io::Result<Item>>>,
}

impl Source {
    /// Starts reading at `start`; `-` is standard input. Returns also the length of the input, if it is a file.
    pub(super) fn open(path: &Path, start: Place) -> Result<(Self, Option<u64>), CommandError> {
        let (input, length): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let mut file = File::open(path).map_err(|error| CommandError::file("read", path, &error))?;
            let metadata = file.metadata()?;
            if metadata.is_file() {
                file.seek(SeekFrom::Start(start.end_offset))?;
            }
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
        let runtime = Handle::current();
        // Nobody joins it: it may be stuck in a read of standard input, and ends with the process.
        let skip = if length.is_some() { 0 } else { start.end_offset };
        let reader = move || read(input, skip, start, &sender, &runtime);
        thread::Builder::new().name("read-lines".into()).spawn(reader)?;
        Ok((Self { lines: Mutex::new(receiver) }, length))
    }

    /// The next line, in order; `None` at the end.
    pub(super) async fn next(&self) -> Option<io::Result<Item>> {
        self.lines.lock().await.recv().await
    }
}

/// Sends lines until the input ends or nobody wants more.
fn read(
    mut input: Box<dyn Read + Send>,
    skip: u64,
    start: Place,
    sender: &mpsc::Sender<io::Result<Item>>,
    runtime: &Handle,
) {
    let memory = Arc::new(Semaphore::new(BYTES_AHEAD_MAX as usize));
    if let Err(error) = io::copy(&mut (&mut input).take(skip), &mut io::sink()) {
        let _ = sender.blocking_send(Err(error));
        return;
    }
    let mut lines = Lines::new(BufReader::with_capacity(READ_BYTES, input), start);
    loop {
        let sent = match lines.advance() {
            Ok(None) => return,
            Ok(Some((place, line))) => {
                let bytes = RECORD_OVERHEAD_BYTES + weight_bytes(&line);
                // A record above the whole budget gets all of it: it is then alone.
                let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(BYTES_AHEAD_MAX);
                let acquired = runtime.block_on(memory.clone().acquire_many_owned(share));
                let share = acquired.expect("the budget is never closed");
                sender.blocking_send(Ok(Item { place, line, _share: share }))
            }
            Err(error) => sender.blocking_send(Err(error)),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn weight_bytes(line: &Line) -> usize {
    match line {
        Line::Record(record) => record.weight_bytes(),
        Line::Bad(reason) => reason.len(),
        Line::Blank => 0,
    }
}

/// What a path is called in messages.
pub(super) fn describe(path: &Path) -> PathBuf {
    if path == Path::new("-") { "standard input".into() } else { path.to_owned() }
}
