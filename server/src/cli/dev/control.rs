//! How one `quorate dev` asks another, which runs the nodes, to start or kill some: a line of JSON each way over a socket in the kernel's
//! abstract name space, named after a node's address. So whoever knows where the cluster is reached finds who runs it, nothing is left
//! on any disk, and only the user who runs the cluster is listened to.

use std::{
    io,
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener as StdListener, UnixStream as StdStream},
    },
    time::Duration,
};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::cli::exit::{CommandError, Exit};

/// Most bytes of a line: a request is a word and a name, an answer the addresses of at most a hundred nodes.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// How long the other side may take to write its request, which it does at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take: a node that starts has a minute, and a demonstration may be running before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Requests that wait; more find the socket's own queue.
const WAITING_MAX: usize = 8;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", deny_unknown_fields)]
pub(super) enum Request {
    /// Start another node, which asks to be let into the ring, perhaps in the place of this one.
    Add {
        /// Whose place it takes.
        replaces: Option<String>,
    },
    /// Kill a node as a power switch would.
    Kill {
        /// Its name.
        node: String,
    },
    /// Start a node again that was killed.
    Start {
        /// Its name.
        node: String,
    },
}

/// What was done, and how the cluster is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// The node it was done to.
    pub(super) node: String,
    /// Where that is reached.
    pub(super) address: String,
    /// Its process, which has ended if it was killed.
    pub(super) process: u32,
    /// Where the nodes that run are reached.
    pub(super) endpoints: Vec<String>,
    /// The names of those that do not run.
    pub(super) ended: Vec<String>,
}

/// A request and where its answer goes: what was done, or why nothing was.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Done, String>>,
}

/// Where the one that runs the nodes is asked.
#[derive(Debug)]
pub(super) struct Control {
    orders: mpsc::Receiver<Order>,
    sender: mpsc::Sender<Order>,
}

impl Control {
    /// Listens in the name of nodes at these addresses.
    pub(super) fn listen(addresses: impl IntoIterator<Item = SocketAddr>) -> Result<Self, CommandError> {
        let (sender, orders) = mpsc::channel(WAITING_MAX);
        let control = Self { orders, sender };
        addresses.into_iter().try_for_each(|address| control.listen_at(address))?;
        Ok(control)
    }

    /// Listens in the name of another node, too.
    pub(super) fn listen_at(&self, address: SocketAddr) -> Result<(), CommandError> {
        let listener = name(address).and_then(|name| StdListener::bind_addr(&name));
        let listener = listener.and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let listener = listener
            .map_err(|error| CommandError::new(Exit::Failed, format!("can't listen for other commands: {error}")))?;
        tokio::spawn(serve(listener, self.sender.clone()));
        Ok(())
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            // Not while this value has a sender itself.
            None => std::future::pending().await,
        }
    }
}

/// Asks whoever runs the nodes at these addresses.
pub(super) async fn ask(endpoints: &[String], request: &Request) -> Result<Done, CommandError> {
    let Some(stream) = endpoints.iter().find_map(|endpoint| connect(endpoint)) else {
        let message = format!("no quorate dev of yours runs a node at {}", endpoints.join(" or "));
        return Err(CommandError::new(Exit::Unavailable, message)
            .next("quorate dev in another terminal; if one runs, give this the --endpoints or the --dir that it has"));
    };
    let answer = timeout(ANSWER_TIMEOUT, exchange(stream, request)).await;
    let silent = |why: String| CommandError::new(Exit::Unclear, format!("the quorate dev that runs the nodes {why}"));
    match answer {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(refused))) => Err(CommandError::new(Exit::Refused, refused)),
        Ok(Err(error)) => Err(silent(format!("has hung up: {error}"))),
        Err(_) => Err(silent(format!("has not answered within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}

async fn exchange(stream: UnixStream, request: &Request) -> io::Result<Result<Done, String>> {
    let mut stream = BufReader::new(stream);
    write_line(stream.get_mut(), request).await?;
    read_line(&mut stream).await
}

fn connect(endpoint: &str) -> Option<UnixStream> {
    let stream = StdStream::connect_addr(&name(endpoint.parse().ok()?).ok()?).ok()?;
    stream.set_nonblocking(true).ok()?;
    let stream = UnixStream::from_std(stream).ok()?;
    is_mine(&stream).then_some(stream)
}

async fn serve(listener: UnixListener, orders: mpsc::Sender<Order>) {
    // One after the other: they are people's.
    while let Ok((stream, _)) = listener.accept().await {
        if is_mine(&stream) {
            // Whoever hangs up does not want to know.
            let _ = converse(stream, &orders).await;
        }
    }
}

async fn converse(stream: UnixStream, orders: &mpsc::Sender<Order>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = timeout(REQUEST_TIMEOUT, read_line(&mut stream)).await??;
    let (answer, answered) = oneshot::channel();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    orders.send(Order { request, answer }).await.map_err(|error| gone(error.to_string()))?;
    let answer = answered.await.map_err(|error| gone(error.to_string()))?;
    write_line(stream.get_mut(), &answer).await
}

async fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn read_line<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> io::Result<T> {
    let mut line = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line)?)
}

/// Whether the process at the other end is of the same user: any may open such a socket, and any may have made it.
fn is_mine(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

fn name(address: SocketAddr) -> io::Result<UnixAddr> {
    UnixAddr::from_abstract_name(format!("quorate-dev-{address}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{Control, Done, Exit, Request, ask};

    #[tokio::test]
    async fn what_is_asked_at_any_node_of_a_cluster_is_answered_by_who_runs_it() {
        // Held, so that nobody else has these addresses.
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [0, 1].map(|at: usize| held[at].local_addr().unwrap());
        let endpoints = ["nonsense".to_owned(), addresses[1].to_string()];
        let request = Request::Add { replaces: Some("n2".into()) };
        assert_eq!(ask(&endpoints, &request).await.unwrap_err().exit, Exit::Unavailable);

        let mut control = Control::listen(addresses).unwrap();
        let done =
            Done { node: "n4".into(), address: "a".into(), process: 7, endpoints: vec!["b".into()], ended: vec![] };
        for answer in [Ok(done.clone()), Err("it does not run".to_owned())] {
            let (answered, ()) = tokio::join!(ask(&endpoints, &request), async {
                let order = control.next().await;
                assert_eq!(order.request, request);
                order.answer.send(answer.clone()).unwrap();
            });
            assert_eq!(answered.map_err(|error| error.message), answer);
        }
    }
}
