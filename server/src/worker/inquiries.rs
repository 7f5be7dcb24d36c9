//! Questions to all workers of this node: each has its own coordinator on its own thread, so what all of them do together can
//! only be asked of one after the other. For operators; nothing that clients do waits for it.

use std::{rc::Rc, sync::OnceLock};

use tokio::sync::{mpsc, oneshot};

use super::Driver;

/// Questions that may wait at a worker: more operators than that do not look at one node at the same time.
const WAITING_MAX: usize = 64;

/// Where each worker is asked.
#[derive(Debug)]
pub(crate) struct Inquiries(Vec<OnceLock<mpsc::Sender<Inquiry>>>);

/// How many operations of a worker are in flight on the partition with this prefix?
#[derive(Debug)]
struct Inquiry {
    prefix: u32,
    answer: oneshot::Sender<usize>,
}

impl Inquiries {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// How many operations are in flight on a partition, all workers together; `None` if one of them does not answer.
    pub(crate) async fn running(&self, prefix: u32) -> Option<usize> {
        let mut running = 0;
        for worker in &self.0 {
            let (answer, answered) = oneshot::channel();
            worker.get()?.try_send(Inquiry { prefix, answer }).ok()?;
            running += answered.await.ok()?;
        }
        Some(running)
    }
}

/// Answers the questions to a worker, for ever.
pub(super) async fn answer(driver: Rc<Driver>) {
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    if driver.node.inquiries.0[driver.number].set(sender).is_err() {
        // The first task of this worker has ended, which only happens when the worker does.
        return;
    }
    while let Some(Inquiry { prefix, answer }) = receiver.recv().await {
        // Whoever asked may have gone.
        let _ = answer.send(driver.in_flight_on(prefix));
    }
}
