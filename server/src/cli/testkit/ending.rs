//! When a test cluster is to end: standard input has closed, the process that started it has died, or a signal says so. And
//! the lines that standard input brings until then.
//!
//! The parent's death is watched besides standard input because another process may have inherited the writing end of that
//! pipe, as children of a test that forks do, and would keep it open.

use std::{
    io::{self, BufRead, BufReader, Read},
    thread,
    time::Duration,
};

use rustix::process::{Pid, getppid};
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

/// Longest line that is read: far more than a command for 99 nodes takes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How many lines may wait while a command is carried out; beyond, the sender waits.
const LINES_MAX: usize = 256;

/// How often it is looked whether the parent is still there: a question to the kernel of less than a microsecond.
const PARENT_LOOK: Duration = Duration::from_millis(100);

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nobody will say anything any more.
    InputClosed,
    ParentDied,
    Signal,
}

impl Reason {
    /// What to say when there is no cluster yet.
    pub(super) fn while_starting(self) -> &'static str {
        match self {
            Self::InputClosed => "standard input is closed, and a test cluster ends with it",
            Self::ParentDied => "the process that started this one has ended, and a test cluster ends with it",
            Self::Signal => "interrupted while starting",
        }
    }
}

/// A line of standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(Vec<u8>),
    /// Longer than any command.
    TooLong,
}

/// Waits for the end.
pub(super) struct Ending {
    closed: mpsc::Receiver<()>,
    parent: Option<Pid>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Begins to read standard input and to watch for the end.
pub(super) fn watch() -> io::Result<(Ending, mpsc::Receiver<Line>)> {
    let (lines, received) = mpsc::channel(LINES_MAX);
    // Nothing is ever sent: it closes when the thread ends.
    let (open, closed) = mpsc::channel(1);
    let read = move || {
        read_lines(BufReader::new(io::stdin()), |line| lines.blocking_send(line).is_ok());
        drop(open);
    };
    let ending = Ending {
        closed,
        parent: getppid(),
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    thread::Builder::new().name("read-stdin".into()).spawn(read)?;
    Ok((ending, received))
}

impl Ending {
    /// Waits until it is time to end.
    pub(super) async fn come(&mut self) -> Reason {
        let parent = async {
            // Whose parent dies is adopted by another process.
            while getppid() == self.parent {
                sleep(PARENT_LOOK).await;
            }
        };
        select! {
            _ = self.closed.recv() => Reason::InputClosed,
            () = parent => Reason::ParentDied,
            _ = self.terminate.recv() => Reason::Signal,
            _ = self.interrupt.recv() => Reason::Signal,
            _ = self.hangup.recv() => Reason::Signal,
        }
    }
}

/// Reads lines until the end of the input or until nobody wants more.
fn read_lines(mut input: impl BufRead, mut each: impl FnMut(Line) -> bool) {
    loop {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        match input.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_whole = line.ends_with(b"\n") || line.len() <= LINE_BYTES_MAX;
        if !is_whole && skip_line(&mut input).is_err() {
            return;
        }
        let line = if is_whole { Line::Text(line) } else { Line::TooLong };
        let is_blank = matches!(&line, Line::Text(text) if text.trim_ascii().is_empty());
        if !is_blank && !each(line) {
            return;
        }
    }
}

/// Reads up to the end of a line without holding it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let (used, is_over) = (end.map_or(chunk.len(), |at| at + 1), end.is_some() || chunk.is_empty());
        input.consume(used);
        if is_over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, Line, read_lines};

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        read_lines(input, |line| {
            lines.push(line);
            true
        });
        lines
    }

    #[test]
    fn lines_are_read_one_by_one_and_the_last_needs_no_end() {
        let text = |text: &str| Line::Text(text.as_bytes().to_vec());
        assert_eq!(lines(b"a\n\n \r\nb"), [text("a\n"), text("b")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut input = vec![b'x'; 10 * LINE_BYTES_MAX];
        input.extend_from_slice(b"\nnext\n");
        assert_eq!(lines(&input), [Line::TooLong, Line::Text(b"next\n".to_vec())]);
        let longest = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines(&longest), [Line::Text(longest.clone())]);
    }
}
