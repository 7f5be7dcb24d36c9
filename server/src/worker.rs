//! One worker: a thread with a single-threaded runtime, its own listener on the shared port, its own coordinator, and its own
//! connections to the other nodes. A connection never changes its worker, so nothing here is locked.

mod accepting;
mod admission;
mod batches;
mod breaker;
mod calls;
pub(crate) mod dialling;
mod driver;
mod inquiries;
mod keepers;
mod links;
mod merges;
mod outbox;
mod patience;
mod reading;

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::{runtime, task::JoinHandle};

use crate::node::{Node, Stage};

pub(crate) use self::{
    admission::{Admitted, Room, Share},
    batches::Results,
    breaker::Trouble,
    driver::{Driver, Terms, refusal, wall_ms},
    inquiries::Inquiries,
    keepers::Keepers,
    links::Capabilities,
    merges::Merges,
    reading::read_all,
};

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct Worker {
    thread: thread::JoinHandle<()>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Worker {
    /// Starts worker `number` of a node, listening on `address`. Returns when it listens.
    pub(crate) fn start(node: Arc<Node>, number: usize, address: SocketAddr) -> io::Result<Self> {
        let (started, result) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let node = AliveUntilDropped::new(node);
            let run = |report: std::sync::mpsc::SyncSender<io::Result<SocketAddr>>| -> io::Result<()> {
                let runtime =
                    runtime::Builder::new_current_thread().enable_all().build_local(runtime::LocalOptions::default())?;
                runtime.block_on(serve(Arc::clone(&node.0), number, address, report))
            };
            if let Err(error) = run(started.clone()) {
                // Nobody listens when the worker had already started; then there is no such error.
                let _ = started.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(body)?;
        match result.recv() {
            Ok(Ok(address)) => Ok(Self { thread, address }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the worker ended before it listened")),
        }
    }

    /// Waits until it has ended, and says whether it ended as it should.
    pub(crate) fn join(self) -> Result<(), ()> {
        self.thread.join().map_err(drop)
    }
}

/// Tells the node when its worker has ended, also by a panic: a node that lost a worker must not go on half deaf.
struct AliveUntilDropped(Arc<Node>);

impl AliveUntilDropped {
    fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

impl Drop for AliveUntilDropped {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a worker ended in a panic; the node stops. Please report this with the log");
            self.0.failed();
        }
    }
}

async fn serve(
    node: Arc<Node>,
    number: usize,
    address: SocketAddr,
    started: std::sync::mpsc::SyncSender<io::Result<SocketAddr>>,
) -> io::Result<()> {
    let listener = wire::listen_reuseport(address)?;
    let address = listener.local_addr()?;
    let driver = Driver::new(Arc::clone(&node), number);
    let mut stage = node.stage();
    let tasks = start_tasks(&driver);
    let accepting = tokio::task::spawn_local(accepting::accept(Rc::clone(&driver), listener));
    let _ = started.send(Ok(address));
    let _ = stage.wait_for(|stage| *stage != Stage::Serving).await;
    // The listener closes with its task, so that clients turn to other nodes at once.
    accepting.abort();
    let stopped = stage.wait_for(|stage| *stage == Stage::Stopped);
    tokio::select! {
        _ = stopped => {}
        // The tasks run for ever; one that ended has panicked, and the worker with it.
        () = ended(tasks) => panic!("a task of the worker ended"),
    }
    Ok(())
}

/// The tasks that a driver needs beside those of its connections.
fn start_tasks(driver: &Rc<Driver>) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![
        tokio::task::spawn_local(Rc::clone(driver).complete_writes()),
        tokio::task::spawn_local(Merges::complete(Rc::clone(driver))),
        tokio::task::spawn_local(Rc::clone(driver).watch_deadlines()),
        tokio::task::spawn_local(inquiries::answer(Rc::clone(driver))),
        tokio::task::spawn_local(follow_ring(Rc::clone(driver))),
        tokio::task::spawn_local(follow_views(Rc::clone(driver))),
    ];
    if driver.number == 0 {
        tasks.push(tokio::task::spawn_local(keep_acquaintances(Rc::clone(driver))));
    }
    tasks
}

/// Follows the ring, for ever: the coordinator routes by it, and to each of its nodes a connection is kept.
async fn follow_ring(driver: Rc<Driver>) {
    let mut changes = driver.node.changes();
    let mut keepers = Keepers::default();
    loop {
        let known = Arc::clone(&changes.borrow_and_update());
        driver.follow(&known);
        keepers.follow(&known, |to| dialling::keep(Rc::clone(&driver), to));
        tokio::select! {
            changed = changes.changed() => changed.expect("the node lives as long as its workers"),
            () = keepers.panicked() => panic!("a task that keeps a connection ended"),
        }
    }
}

/// Tells the coordinator what this node's own rows know of their partitions, for ever.
async fn follow_views(driver: Rc<Driver>) {
    let (feed, mut views) = (driver.node.store.view_feed(), Vec::new());
    loop {
        feed.arrived().await;
        feed.drain(&mut views);
        driver.learn_views(views.drain(..));
    }
}

/// Makes durable what was heard of other nodes, for ever and off this thread, for it waits for the disk.
async fn keep_acquaintances(driver: Rc<Driver>) {
    /// How much of that a crash may lose, about: little enough that an old copy of another node's data put back at that very
    /// moment is unlikely, for a flush that is small against those of the writes it tells of.
    const SAVE_EVERY: Duration = Duration::from_millis(500);
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let node = Arc::clone(&driver.node);
        let saved = tokio::task::spawn_blocking(move || node.acquaintances.save(&node.store)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "can't remember how far other nodes have come; trying again");
        }
    }
}

/// Waits until one of the tasks has ended, which none of them ever should.
async fn ended(mut tasks: Vec<JoinHandle<()>>) {
    /// How often to look: a worker without one of its tasks answers with timeouts meanwhile.
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    while !tasks.iter_mut().any(|task| task.is_finished()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
