//! The background half of a node: one thread that carries out what [`dynamo::steward`] decides, beside and never before the
//! clients' work (design, quorum, "Read repair, anti-entropy"; paper, section 6.5).
//!
//! It has its own runtime, its own connections to the other nodes and its own place in the store's queues, so it stands before
//! no request of a client in any of them. How fast it goes is decided by what clients feel ([`throttle`]). Workers talk to it
//! only through its [`Handle`], which never makes them wait.

mod driver;
mod handle;
mod links;
mod local;
mod pulse;
mod report;
mod scrub;
mod throttle;

use std::{io, rc::Rc, sync::Arc, thread};

use tokio::runtime;

pub(crate) use self::{handle::Handle, pulse::Pulse};

use self::driver::Driver;
use crate::{
    node::{Node, Stage},
    ring::{announcing, parting, pulling},
};

/// The steward's thread.
#[derive(Debug)]
pub(crate) struct Thread(thread::JoinHandle<()>);

impl Thread {
    /// Starts it. It ends when the node drains: what it was doing is found again.
    pub(crate) fn start(node: Arc<Node>) -> io::Result<Self> {
        let body = move || {
            let node = TellWhenPanicking(node);
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build_local(runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(serve(Arc::clone(&node.0))),
                Err(error) => {
                    tracing::error!(%error, "background repair can't start; the node stops");
                    node.0.failed();
                }
            }
        };
        thread::Builder::new().name("steward".to_owned()).spawn(body).map(Self)
    }

    /// Waits until it has ended, and says whether it ended as it should.
    pub(crate) fn join(self) -> Result<(), ()> {
        self.0.join().map_err(drop)
    }
}

/// A node whose steward has panicked must not go on as if its replicas were looked after.
struct TellWhenPanicking(Arc<Node>);

impl Drop for TellWhenPanicking {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("background repair ended in a panic; the node stops. Please report this with the log");
            self.0.failed();
        }
    }
}

async fn serve(node: Arc<Node>) {
    let driver = Driver::new(Arc::clone(&node));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_local(Rc::clone(&driver).complete_writes());
    tasks.spawn_local(Rc::clone(&driver).complete_hints());
    tasks.spawn_local(Rc::clone(&driver).listen());
    tasks.spawn_local(Rc::clone(&driver).watch_deadlines());
    tasks.spawn_local(throttle::control(Rc::clone(&driver)));
    tasks.spawn_local(scrub::keep(Rc::clone(&driver)));
    tasks.spawn_local(Rc::clone(&driver).follow_ring());
    tasks.spawn_local(Rc::clone(&driver).follow_views());
    tasks.spawn_local(pulling::keep(Arc::clone(&node)));
    tasks.spawn_local(announcing::announce(Arc::clone(&node)));
    tasks.spawn_local(parting::part(Arc::clone(&node)));
    let mut stage = node.stage();
    tokio::select! {
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => {}
        // The tasks run for ever; one that ended has panicked.
        _ = tasks.join_next() => panic!("a task of the steward ended"),
    }
}
