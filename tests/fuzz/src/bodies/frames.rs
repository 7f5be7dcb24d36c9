//! A byte stream on a connection: frames, and the RPC messages in them, against the transport with a node that understands
//! everything and does nothing. Whatever comes, the connection ends when the stream does, and gives its memory back.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use capnp_rpc::new_client;
use schema::{convert, kv_capnp::kv, node_capnp::node};
use tokio::{
    io::{AsyncRead, ReadBuf},
    runtime::{Builder, LocalOptions},
    time::timeout,
};
use wire::{Budget, Limits, serve_over};

/// How long a connection may outlive its stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// Memory for received messages.
const BUDGET_BYTES: usize = 1 << 20;

const VALUE_BYTES_MAX: usize = 4096;

/// A stream of bytes. The first one says in pieces of which length the others arrive.
pub fn frames(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let stream = Pieces { bytes: bytes.to_vec(), at: 0, length: usize::from(piece).max(1) };
    let runtime = Builder::new_current_thread().enable_time().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(async {
        let budget = Budget::new(BUDGET_BYTES);
        let limits = Limits::server(VALUE_BYTES_MAX);
        let handle = serve_over(
            stream,
            tokio::io::sink(),
            limits,
            budget.clone(),
            new_client::<node::Client, _>(Listener).client,
        );
        let reason = timeout(PATIENCE, handle.closed()).await.expect("a connection ends when its stream does");
        assert!(!matches!(reason, wire::Reason::Panicked { .. }), "a handler panicked");
        drop(handle);
        // Tasks that the end has cancelled run once more to be dropped.
        for _ in 0..100 {
            if budget.used() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} bytes of a connection that ended are still held", budget.used());
    });
}

/// Bytes that arrive in pieces, and then the end.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    length: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let end = self.bytes.len().min(self.at + self.length.min(buffer.remaining()));
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// A node that reads what it is asked and does nothing.
struct Listener;

impl node::Server for Listener {
    fn hello(
        self: Rc<Self>,
        params: node::HelloParams,
        mut results: node::HelloResults,
    ) -> impl Future<Output = Result<(), capnp::Error>> {
        std::future::ready(params.get().and_then(|params| {
            let _ = convert::HelloRequest::decode(params.get_request()?);
            results.get().init_reply().set_kv(new_client(Self));
            Ok(())
        }))
    }
}

impl kv::Server for Listener {
    fn execute(
        self: Rc<Self>,
        params: kv::ExecuteParams,
        mut results: kv::ExecuteResults,
    ) -> impl Future<Output = Result<(), capnp::Error>> {
        std::future::ready(params.get().and_then(|params| {
            let operations = params.get_request()?.get_operations()?;
            let decoded = convert::decode_operations(operations, VALUE_BYTES_MAX);
            let count = decoded.map_or(1, |operations| operations.len()) as u32;
            results.get().init_reply().init_results(count);
            Ok(())
        }))
    }
}
