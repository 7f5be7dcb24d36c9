//! The task that writes what a connection has queued, as much as possible in one system call.
//!
//! It waits one turn of the event loop after the first message, until no other task has anything to do: whatever the
//! others queue meanwhile leaves with it. With many calls in flight this halves the work for each of them, and a lone
//! message waits for nobody.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::link::Link;
use crate::outgoing::SLICES;
use crate::reason::Reason;

/// What a peer must take of its waiting bytes in each stall period to count as reading. One byte now and then would
/// otherwise hold megabytes for ever.
const FAIR_PROGRESS_BYTES: u64 = 64 * 1024;

/// What was queued when the connection ended is still offered to the peer for this long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Writes until the connection has ended and its queue is empty or worthless. Ends the connection when it fails.
pub(crate) async fn run<W: AsyncWrite + Unpin>(mut stream: W, link: Rc<Link>) {
    if let Err(reason) = write_until_closed(&mut stream, &link).await {
        link.end(reason);
    }
    // Dropped before the announcement: whoever waits for it may rely on the socket being closed for writing.
    drop(stream);
    link.set_written_out();
}

async fn write_until_closed<W: AsyncWrite + Unpin>(stream: &mut W, link: &Link) -> Result<(), Reason> {
    let mut progress = Progress::default();
    while poll_fn(|context| poll_work(link, context)).await {
        tokio::task::yield_now().await;
        poll_fn(|context| poll_write_queue(stream, link, &mut progress, context)).await?;
    }
    match timeout(FAREWELL, stream.shutdown()).await {
        Ok(Ok(())) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// True when there is something to write, false when nothing will come any more.
fn poll_work(link: &Link, context: &mut Context<'_>) -> Poll<bool> {
    if !link.outgoing.borrow().is_empty() {
        return Poll::Ready(true);
    }
    if link.has_shut_down() || link.reason().is_some_and(|reason| !reason.lets_queue_drain()) {
        return Poll::Ready(false);
    }
    link.park_writer(context.waker());
    Poll::Pending
}

fn poll_write_queue<W: AsyncWrite + Unpin>(
    stream: &mut W,
    link: &Link,
    progress: &mut Progress,
    context: &mut Context<'_>,
) -> Poll<Result<(), Reason>> {
    loop {
        if link.outgoing.borrow().is_empty() {
            progress.timer = None;
            return Poll::Ready(Ok(()));
        }
        match poll_write_once(stream, link, context) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::Error::from(ErrorKind::WriteZero).into())),
            Poll::Ready(Ok(bytes)) => {
                link.outgoing.borrow_mut().advance(bytes);
                link.on_written(bytes);
            }
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Pending => {
                // The end of the connection empties the queue, and must be noticed while the socket is full.
                link.park_writer(context.waker());
                return progress.poll_stall(link, context).map(Err);
            }
        }
    }
}

fn poll_write_once<W: AsyncWrite + Unpin>(
    stream: &mut W,
    link: &Link,
    context: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    let outgoing = link.outgoing.borrow();
    let mut slices = [IoSlice::new(&[]); SLICES];
    let used = outgoing.gather(&mut slices);
    match &slices[..used] {
        [slice] => Pin::new(stream).poll_write(context, slice),
        slices => Pin::new(stream).poll_write_vectored(context, slices),
    }
}

/// Whether the peer takes its share while the socket is full.
#[derive(Default)]
struct Progress {
    timer: Option<Pin<Box<Sleep>>>,
    /// The count of sent bytes that must be reached when the timer ends.
    target_bytes: u64,
    /// The timer is the last one.
    is_farewell: bool,
}

impl Progress {
    /// Called whenever the socket takes no more. Ready when the peer has taken too little since the first such moment.
    fn poll_stall(&mut self, link: &Link, context: &mut Context<'_>) -> Poll<Reason> {
        let period = if link.has_shut_down() { FAREWELL } else { link.limits.outgoing_stall };
        let sent_bytes = link.traffic.sent_bytes.get();
        let share_bytes = FAIR_PROGRESS_BYTES.min(link.outgoing.borrow().queued_bytes() as u64);
        let mut timer = match self.timer.take() {
            Some(timer) if self.is_farewell == link.has_shut_down() => timer,
            Some(_) | None => {
                self.is_farewell = link.has_shut_down();
                self.target_bytes = sent_bytes + share_bytes;
                Box::pin(sleep_until(Instant::now() + period))
            }
        };
        while pin!(&mut timer).poll(context).is_ready() {
            if sent_bytes < self.target_bytes {
                return Poll::Ready(Reason::OutgoingStalled { limit: period });
            }
            self.target_bytes = sent_bytes + share_bytes;
            timer.as_mut().reset(Instant::now() + period);
        }
        self.timer = Some(timer);
        Poll::Pending
    }
}
