//! The life of the I/O threads: the first finds the cluster from any of its addresses and learns the layout; then all of
//! them drive their machines until the client is closed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use dynamo::layout::Layout;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    time::timeout,
};
use wire::Budget;

use super::{Driver, refresh::fetch};
use crate::{
    Error,
    core::{Config, REPLY_BYTES_MAX, Shared},
    random::Random,
    transport,
};

/// An endpoint has no more than this part of the time for a connection to itself.
const STAGGERS_MIN: u32 = 4;

/// How long connections have to say goodbye when the client closes.
const FAREWELL: Duration = Duration::from_millis(100);

/// Who is told, once, when the layout is known or why it is not to be had.
struct Ready(Option<Tell>);

type Tell = Box<dyn FnOnce(Result<Arc<Shared>, Error>) + Send>;

impl Ready {
    fn tell(mut self, result: Result<Arc<Shared>, Error>) {
        if let Some(tell) = self.0.take() {
            tell(result);
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // The thread could not be started, or has panicked.
        if let Some(tell) = self.0.take() {
            tell(Err(Error::internal("no I/O thread could be started")));
        }
    }
}

/// Starts a client. `ready` is called, once, when the layout is known, or with the reason why it is not to be had; on the I/O
/// thread as a rule. Whoever drops what it is given closes the client.
pub(crate) fn start(config: Config, ready: impl FnOnce(Result<Arc<Shared>, Error>) + Send + 'static) {
    let ready = Ready(Some(Box::new(ready)));
    let spawned = thread::Builder::new().name("quorate-io-0".to_owned()).spawn(move || first_thread(config, ready));
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread could be started");
    }
}

fn first_thread(config: Config, ready: Ready) {
    let runtime = match make_runtime(0) {
        Ok(runtime) => runtime,
        Err(error) => return ready.tell(Err(error)),
    };
    let layout = match runtime.block_on(find_cluster(&config)) {
        Ok(layout) => layout,
        Err(error) => return ready.tell(Err(error)),
    };
    let client = match getrandom::u64() {
        Ok(client) => client,
        Err(error) => return ready.tell(Err(Error::internal(format!("no random numbers: {error}")))),
    };
    let shared = Arc::new(Shared::new(config, client, layout));
    if let Err(error) = start_others(&shared, make_runtime) {
        return ready.tell(Err(error));
    }
    ready.tell(Ok(Arc::clone(&shared)));
    drive(runtime, &shared, 0);
}

/// Makes what the I/O thread with this number runs on.
type MakeRuntime = fn(usize) -> Result<LocalRuntime, Error>;

/// Starts the I/O threads beside the first, and waits until each has what it runs on. A client has all of its threads or none: with an
/// error it is closed, and those that have begun end.
fn start_others(shared: &Arc<Shared>, make: MakeRuntime) -> Result<(), Error> {
    let (begun, others_begun) = mpsc::channel();
    let mut others = 1..shared.config.io_threads;
    let started = others.clone().try_for_each(|at| {
        let (also, begun) = (Arc::clone(shared), begun.clone());
        let further = move || further_thread(&also, at, make, begun);
        let spawned = thread::Builder::new().name(format!("quorate-io-{at}")).spawn(further);
        spawned.map(drop).map_err(|error| Error::internal(format!("no thread could be started: {error}")))
    });
    // From here on, only threads that have not begun keep the channel open: one that panics is missed, not waited for.
    drop(begun);
    let panicked = |_| Err(Error::internal("an I/O thread panicked before it began"));
    let all = started.and_then(|()| others.try_for_each(|_| others_begun.recv().unwrap_or_else(panicked)));
    if all.is_err() {
        shared.close();
    }
    all
}

fn further_thread(shared: &Arc<Shared>, at: usize, make: MakeRuntime, begun: mpsc::Sender<Result<(), Error>>) {
    let (runtime, result) = match make(at) {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // Nobody listens any more when another thread could not begin; then the client is closed, and driving it ends at once.
    _ = begun.send(result);
    drop(begun);
    match runtime {
        Some(runtime) => drive(runtime, shared, at),
        None => shared.thread_ended(),
    }
}

fn drive(runtime: LocalRuntime, shared: &Arc<Shared>, at: usize) {
    let driver = Driver::new(Arc::clone(shared), at);
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(Rc::clone(&driver).run())));
    let error = match ended {
        Ok(()) => Error::closed(),
        Err(_) => Error::internal("an I/O thread of the client panicked; the operation may have been sent"),
    };
    driver.stop(&error);
    drop(driver);
    // Ends what else is under way, scans and the like: who waits for the client's end finds nothing open.
    runtime.shutdown_timeout(FAREWELL);
    shared.thread_ended();
}

fn make_runtime(_thread: usize) -> Result<LocalRuntime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| Error::internal(format!("no I/O thread: {error}")))
}

/// Asks the endpoints, in random order and soon at the same time, until one has told the layout.
pub(super) async fn find_cluster(config: &Config) -> Result<Layout, Error> {
    let mut endpoints = config.endpoints.clone();
    let mut random = Random::from_system();
    for at in (1..endpoints.len()).rev() {
        endpoints.swap(at, random.below(at as u64 + 1) as usize);
    }
    let stagger = stagger(config);
    let (mut asked, mut problems) = (FuturesUnordered::new(), Vec::new());
    let mut waiting = endpoints.into_iter();
    loop {
        asked.extend(waiting.next().map(|endpoint| ask(config, endpoint)));
        // The next is asked when one has failed, or when there was no answer for a while.
        let patience = if waiting.len() > 0 { stagger } else { connect_within(config) };
        match timeout(patience, asked.next()).await {
            Ok(Some(Ok(layout))) => return Ok(layout),
            Ok(Some(Err(problem))) => problems.push(problem),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    let problems = problems.join("; ");
    Err(Error::connection(format!("no node could be reached ({problems}); is one running, and is the address right?")))
}

/// The time after which a cluster has been found or not: until the last endpoint is asked, it has answered, and the layout has come.
pub(crate) fn connect_within(config: &Config) -> Duration {
    config.connect_timeout.saturating_mul(2).saturating_add(config.timeout)
}

/// How long an endpoint has to itself before the next one is asked as well.
fn stagger(config: &Config) -> Duration {
    let endpoints = u32::try_from(config.endpoints.len()).unwrap_or(u32::MAX);
    config.connect_timeout / endpoints.max(STAGGERS_MIN)
}

async fn ask(config: &Config, endpoint: String) -> Result<Layout, String> {
    let told = ask_for_layout(config, &endpoint).await;
    told.map_err(|error| match error.message() {
        // What the transport says names the address already.
        message if message.starts_with(&endpoint) => message.to_owned(),
        message => format!("{endpoint}: {message}"),
    })
}

async fn ask_for_layout(config: &Config, endpoint: &str) -> Result<Layout, Error> {
    let addresses = [endpoint.to_owned()];
    let budget = Budget::new(REPLY_BYTES_MAX);
    let connection = transport::connect(&addresses, &config.name, None, config.connect_timeout, &budget).await?;
    let cluster = connection.hello.cluster;
    let fetched = timeout(config.timeout, fetch(&connection.kv, None, config.timeout));
    let layout = fetched.await.map_err(|_| Error::timeout("the layout did not come in time"))??;
    let layout = layout.ok_or_else(|| Error::internal("the node sent no layout"))?;
    if layout.cluster != cluster {
        return Err(Error::wrong_cluster("the node's layout is of another cluster than the node"));
    }
    Ok(layout)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Arc, Duration, Error, LocalRuntime, Shared, make_runtime, mpsc, start_others, thread};
    use crate::Client;

    fn shared() -> Arc<Shared> {
        let config = Client::builder().endpoints("127.0.0.1:1").io_threads(4).into_config().unwrap();
        Arc::new(Shared::new(config, 1, stage::layout(&["127.0.0.1:1".to_owned()], 1)))
    }

    /// No I/O thread is left that has the client.
    fn all_end(shared: &Arc<Shared>) {
        let until = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(shared) > 1 {
            assert!(Instant::now() < until, "an I/O thread goes on");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_client_whose_threads_can_not_all_begin_is_none() {
        fn scarce(thread: usize) -> Result<LocalRuntime, Error> {
            if thread == 2 { Err(Error::internal("too many open files")) } else { make_runtime(thread) }
        }
        let shared = shared();
        let error = start_others(&shared, scarce).unwrap_err();
        assert!(error.to_string().contains("too many open files"), "{error}");
        assert!(shared.is_closed());
        all_end(&shared);
    }

    #[test]
    fn a_thread_that_panics_before_it_begins_is_not_waited_for() {
        fn broken(thread: usize) -> Result<LocalRuntime, Error> {
            assert_ne!(thread, 3, "as the test wants it");
            make_runtime(thread)
        }
        let shared = shared();
        let error = start_others(&shared, broken).unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        all_end(&shared);
    }

    #[test]
    fn threads_that_have_all_begun_go_on_until_the_client_is_closed() {
        let shared = shared();
        start_others(&shared, make_runtime).unwrap();
        assert!(!shared.is_closed());
        let (done, jobs) = mpsc::channel();
        for at in 1..4 {
            let done = done.clone();
            assert!(shared.queues[at].push_job(Box::new(move |_| done.send(at).unwrap())));
        }
        let mut at_work: Vec<usize> =
            (1..4).map(|_| jobs.recv_timeout(Duration::from_secs(20)).expect("each thread works")).collect();
        at_work.sort_unstable();
        assert_eq!(at_work, [1, 2, 3]);
        shared.close();
        all_end(&shared);
    }
}
