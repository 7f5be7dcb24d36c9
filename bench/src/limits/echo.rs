//! The limit of the wire: the schema's own batched call over Quorate's own transport on loopback, answered from a constant.
//!
//! One connection, one thread at each end, as a client with one I/O thread has to one node. Requests and replies have the
//! size and shape of the load's; nobody hashes, coordinates, stores or checks anything. What is left is encoding, the
//! transport and the kernel: what a node and its client can approach and not pass with such batches.

use std::{
    cell::Cell,
    io,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use capnp::capability;
use futures_util::future::join_all;
use schema::kv_capnp::{kv, operation, result};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::oneshot,
    task::LocalSet,
};
use wire::{Budget, Limits};

use crate::keys;

/// Bytes of messages that either end may hold: never the bottleneck.
const BUDGET_BYTES: usize = 256 << 20;

/// Bytes of a context token in a reply to a read: about what one actor takes.
const CONTEXT_BYTES: usize = 48;

/// The shape of the load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Operations in one call.
    pub operations_per_call: usize,
    /// Operations under way: so many calls are.
    pub operations_in_flight: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value, in replies to reads and in requests to write.
    pub value_bytes: usize,
    /// How long each measurement takes.
    pub duration: Duration,
}

/// What the wire carried.
#[derive(Clone, Debug, Serialize)]
pub struct EchoLimit {
    /// Operations in one call.
    pub operations_per_call: usize,
    /// Calls under way.
    pub calls_in_flight: usize,
    /// Reads per second.
    pub gets_per_second: f64,
    /// Writes per second.
    pub puts_per_second: f64,
}

/// Which operations a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Put,
}

/// Measures; takes twice the shape's duration.
pub fn measure(shape: Shape) -> io::Result<EchoLimit> {
    let per_call = shape.operations_per_call.max(1);
    let calls = (shape.operations_in_flight / per_call).max(1);
    let shape = Shape { operations_per_call: per_call, ..shape };
    Ok(EchoLimit {
        operations_per_call: per_call,
        calls_in_flight: calls,
        gets_per_second: measure_kind(shape, calls, Kind::Get)?,
        puts_per_second: measure_kind(shape, calls, Kind::Put)?,
    })
}

/// Operations of one kind per second, over a connection of their own.
fn measure_kind(shape: Shape, calls: usize, kind: Kind) -> io::Result<f64> {
    let (address, ended) = start_server(shape.value_bytes)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let rate = LocalSet::new().block_on(&runtime, async {
        let stream = TcpStream::connect(address).await?;
        wire::tune(&stream)?;
        let budget = Budget::new(BUDGET_BYTES);
        let (client, connection) = wire::connect::<kv::Client>(stream, Limits::client(shape.value_bytes), budget);
        let rate = carry(&client, shape, calls, kind).await;
        let broken = connection.reason();
        connection.close();
        rate.map_err(|error| {
            // Why the connection broke says more than that it did.
            let reason = broken.map_or_else(|| error.to_string(), |reason| reason.to_string());
            io::Error::other(format!("the echo broke off: {reason}"))
        })
    });
    drop(ended);
    rate
}

/// Keeps `calls` calls under way for the duration; operations per second.
async fn carry(client: &kv::Client, shape: Shape, calls: usize, kind: Kind) -> Result<f64, capnp::Error> {
    let key = vec![b'k'; shape.key_bytes];
    let value = keys::value(shape.value_bytes, 1);
    let operations = Cell::new(0u64);
    let started = Instant::now();
    let one = || async {
        while started.elapsed() < shape.duration {
            let mut request = client.execute_request();
            let batch = request.get().init_request().init_operations(shape.operations_per_call as u32);
            fill(batch, kind, &key, &value);
            let response = request.send().promise.await?;
            let results = response.get()?.get_reply()?.get_results()?;
            for one in results.iter() {
                // What any client must look at to hand a result on.
                match one.which()? {
                    result::Which::Found(found) => {
                        let found = found?;
                        let (siblings, context) = (found.get_siblings()?, found.get_context()?);
                        std::hint::black_box((siblings.get(0).get_value()?.len(), context.len()));
                    }
                    result::Which::Stored(stored) => {
                        std::hint::black_box(stored?.get_clock());
                    }
                    result::Which::NotFound(_) | result::Which::Error(_) => {
                        return Err(capnp::Error::failed("the echo answered something else".into()));
                    }
                }
            }
            operations.set(operations.get() + u64::from(results.len()));
        }
        Ok(())
    };
    join_all((0..calls).map(|_| one())).await.into_iter().collect::<Result<(), capnp::Error>>()?;
    Ok(operations.get() as f64 / started.elapsed().as_secs_f64())
}

fn fill(batch: capnp::struct_list::Builder<'_, operation::Owned>, kind: Kind, key: &[u8], value: &Bytes) {
    let mut batch = batch;
    for at in 0..batch.len() {
        let operation = batch.reborrow().get(at);
        match kind {
            Kind::Get => operation.init_get().set_key(key),
            Kind::Put => {
                let mut put = operation.init_put();
                put.set_key(key);
                put.set_value(value);
            }
        }
    }
}

/// Starts the answering end on a thread of its own; it ends when the returned sender is dropped.
fn start_server(value_bytes: usize) -> io::Result<(SocketAddr, oneshot::Sender<()>)> {
    let (sender, ended) = oneshot::channel::<()>();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("echo".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::from_std(listener)?;
            let (stream, _) = listener.accept().await?;
            wire::tune(&stream)?;
            let echo: kv::Client = capnp_rpc::new_client(Echo { value: keys::value(value_bytes, 1) });
            let budget = Budget::new(BUDGET_BYTES);
            let connection = wire::serve(stream, Limits::server(value_bytes), budget.clone(), echo.client);
            connection.admit(budget);
            // An error says that the other end has been dropped: just what is waited for.
            let _ = ended.await;
            io::Result::Ok(())
        })
    })?;
    Ok((address, sender))
}

/// Answers every read with the same value and every write with success.
struct Echo {
    value: Bytes,
}

impl kv::Server for Echo {
    async fn execute(
        self: capability::Rc<Self>,
        parameters: kv::ExecuteParams,
        mut answer: kv::ExecuteResults,
    ) -> Result<(), capnp::Error> {
        let operations = parameters.get()?.get_request()?.get_operations()?;
        let mut results = answer.get().init_reply().init_results(operations.len());
        for (at, operation) in (0..).zip(operations.iter()) {
            let mut result = results.reborrow().get(at);
            match operation.which()? {
                operation::Which::Get(get) => {
                    std::hint::black_box(get?.get_key()?.len());
                    let mut found = result.reborrow().init_found();
                    let mut sibling = found.reborrow().init_siblings(1).get(0);
                    sibling.set_value(&self.value);
                    sibling.set_value_bytes(self.value.len() as u32);
                    found.set_context(&[0; CONTEXT_BYTES]);
                }
                operation::Which::Put(put) => {
                    let put = put?;
                    std::hint::black_box((put.get_key()?.len(), put.get_value()?.len()));
                    let mut stored = result.reborrow().init_stored();
                    stored.set_siblings(1);
                    stored.set_context(&[0; CONTEXT_BYTES]);
                }
                operation::Which::Delete(_) => return Err(capnp::Error::failed("nobody deletes here".into())),
            }
            result.init_receipt().init_answered(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Shape, measure};

    #[test]
    fn the_wire_is_measured_in_both_directions() {
        let shape = Shape {
            operations_per_call: 64,
            operations_in_flight: 256,
            key_bytes: 16,
            value_bytes: 100,
            duration: Duration::from_millis(100),
        };
        let limit = measure(shape).unwrap();
        assert_eq!((limit.operations_per_call, limit.calls_in_flight), (64, 4));
        assert!(limit.gets_per_second > 1_000.0 && limit.puts_per_second > 1_000.0, "{limit:?}");
    }
}
