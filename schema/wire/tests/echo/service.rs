//! An object that does as it is told, and a server on loopback that remembers how its connections ended. Shared by the
//! tests and the benchmark.
#![allow(dead_code, reason = "each user of this file needs another part of it")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use wire::{Budget, ConnectionHandle, Limits, Reason};

use crate::echo_capnp::echo;

pub(crate) const MIB: usize = 1024 * 1024;

/// Longer than any test should take on a loaded machine; a test that hangs must fail.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Runs a future where connections can live.
pub(crate) fn on_one_thread<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(TEST_LIMIT, future).await.expect("the test takes too long") })
}

pub(crate) fn budget() -> Budget {
    Budget::new(256 * MIB)
}

/// What the object does to all connections of a server.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) running: Cell<usize>,
    pub(crate) most_running: Cell<usize>,
    pub(crate) served: Cell<usize>,
}

pub(crate) struct Service {
    pub(crate) handle: Rc<RefCell<Option<ConnectionHandle>>>,
    pub(crate) shared: Rc<Shared>,
}

struct Running(Rc<Shared>);

impl Running {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.running.set(shared.running.get() + 1);
        shared.most_running.set(shared.most_running.get().max(shared.running.get()));
        Self(Rc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

impl echo::Server for Service {
    async fn echo(self: Rc<Self>, params: echo::EchoParams, mut results: echo::EchoResults) -> capnp::Result<()> {
        self.shared.served.set(self.shared.served.get() + 1);
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }

    async fn slow(self: Rc<Self>, params: echo::SlowParams, _: echo::SlowResults) -> capnp::Result<()> {
        let _running = Running::new(&self.shared);
        tokio::time::sleep(Duration::from_millis(u64::from(params.get()?.get_millis()))).await;
        self.shared.served.set(self.shared.served.get() + 1);
        Ok(())
    }

    async fn panic(self: Rc<Self>, _: echo::PanicParams, _: echo::PanicResults) -> capnp::Result<()> {
        panic!("as asked");
    }

    async fn large(self: Rc<Self>, params: echo::LargeParams, mut results: echo::LargeResults) -> capnp::Result<()> {
        match params.get()?.get_bytes() {
            bytes if bytes as usize <= 64 * MIB => {
                results.get().init_data(bytes);
                Ok(())
            }
            bytes => Err(capnp::Error::failed(format!("{bytes} bytes are too many"))),
        }
    }

    async fn fork(self: Rc<Self>, _: echo::ForkParams, mut results: echo::ForkResults) -> capnp::Result<()> {
        let fork = Self { handle: Rc::clone(&self.handle), shared: Rc::clone(&self.shared) };
        results.get().set_echo(capnp_rpc::new_client(fork));
        Ok(())
    }

    async fn admit(self: Rc<Self>, _: echo::AdmitParams, _: echo::AdmitResults) -> capnp::Result<()> {
        if let Some(handle) = &*self.handle.borrow() {
            handle.admit(budget());
        }
        Ok(())
    }

    async fn call_back(
        self: Rc<Self>,
        params: echo::CallBackParams,
        mut results: echo::CallBackResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let mut request = params.get_echo()?.echo_request();
        request.get().set_data(params.get_data()?);
        let answer = request.send().promise.await?;
        results.get().set_data(answer.get()?.get_data()?);
        Ok(())
    }
}

/// A server on loopback. It lives as long as the runtime.
#[derive(Clone)]
pub(crate) struct EchoServer {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Rc<Shared>,
    pub(crate) handles: Rc<RefCell<Vec<ConnectionHandle>>>,
    pub(crate) reasons: Rc<RefCell<Vec<Reason>>>,
}

impl EchoServer {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::start_with(limits, budget())
    }

    pub(crate) fn start_with(limits: Limits, budget: Budget) -> Self {
        let listener = wire::listen_reuseport(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            shared: Rc::default(),
            handles: Rc::default(),
            reasons: Rc::default(),
        };
        let accepting = server.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                wire::tune(&stream).unwrap();
                let service = Service { handle: Rc::default(), shared: Rc::clone(&accepting.shared) };
                let own_handle = Rc::clone(&service.handle);
                let object: echo::Client = capnp_rpc::new_client(service);
                let handle = wire::serve(stream, limits.clone(), budget.clone(), object.client);
                own_handle.replace(Some(handle.clone()));
                accepting.handles.borrow_mut().push(handle.clone());
                let reasons = Rc::clone(&accepting.reasons);
                spawn_local(async move {
                    let reason = handle.closed().await;
                    reasons.borrow_mut().push(reason);
                });
            }
        });
        server
    }

    /// Waits until that many connections have ended, and returns their reasons.
    pub(crate) async fn reasons(&self, count: usize) -> Vec<Reason> {
        while self.reasons.borrow().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.reasons.borrow().clone()
    }

    pub(crate) async fn client(&self) -> (echo::Client, ConnectionHandle) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        wire::tune(&stream).unwrap();
        wire::connect(stream, Limits::client(MIB), budget())
    }
}

/// Limits of a server that knows its peers from the start.
pub(crate) fn admitted() -> Limits {
    let limits = Limits::server(MIB);
    Limits { frame_bytes_before_hello: limits.frame_bytes, hello_timeout: None, ..limits }
}

/// One call that returns its argument.
pub(crate) async fn echo(client: &echo::Client, data: &[u8]) -> capnp::Result<Vec<u8>> {
    let mut request = client.echo_request();
    request.get().set_data(data);
    Ok(request.send().promise.await?.get()?.get_data()?.to_vec())
}
