//! One node of the fake cluster: a thread that serves the real interface on a real port.

use std::{
    net::TcpListener,
    rc::Rc,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use dynamo::{
    layout::{Layout, NodeIndex},
    operation::{ErrorCode, Failure, Operation, Outcome, Reply},
};
use schema::{
    convert::{self, HelloReply, NodeLimits, ReplyHeader, RequestHeader, ScanKey, ScanPage, Status},
    kv_capnp::kv,
    node_capnp::node,
};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{Notify, oneshot},
    task::spawn_local,
};
use wire::{Budget, Limits};

use crate::{Act, Control, Map, Seen};

/// A node.
pub struct Node {
    /// Its position in the layout.
    pub index: NodeIndex,
    /// Where it listens.
    pub address: String,
    /// What a test and this node have in common.
    pub control: Arc<Control>,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Node {
    /// Starts one that serves `listener`, keeps its data in `map` and tells `layout`.
    pub fn start(index: NodeIndex, listener: TcpListener, map: Arc<Map>, layout: Layout) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let control = Arc::new(Control {
            script: Mutex::new(Box::new(|_| Act::Serve)),
            seen: Mutex::default(),
            layout: Mutex::new(layout),
            ring_calls: Mutex::default(),
            scan_calls: Mutex::default(),
            scan_fails: Mutex::default(),
            silent: Mutex::default(),
            map,
        });
        let node = Self { index, address, control, running: Mutex::default() };
        node.serve(listener);
        node
    }

    /// What it shall do with the calls that come.
    pub fn script(&self, script: impl FnMut(&[Operation]) -> Act + Send + 'static) {
        *self.control.script.lock().unwrap() = Box::new(script);
    }

    /// What it shall do with the first calls that come; after those it serves.
    pub fn first(&self, acts: impl IntoIterator<Item = Act>) {
        let mut acts = acts.into_iter().collect::<std::collections::VecDeque<_>>();
        self.script(move |_| acts.pop_front().unwrap_or(Act::Serve));
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.control.seen.lock().unwrap().clone()
    }

    /// Ends it: its port refuses, its connections break.
    pub fn kill(&self) {
        if let Some((stop, thread)) = self.running.lock().unwrap().take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }

    /// Starts it again on its old port.
    pub fn restart(&self) {
        for _ in 0..200 {
            match TcpListener::bind(&self.address) {
                Ok(listener) => return self.serve(listener),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("the port {} stays taken", self.address);
    }

    fn serve(&self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel();
        let (control, index) = (Arc::clone(&self.control), self.index);
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, control, index) => {}
                }
            });
        });
        *self.running.lock().unwrap() = Some((stop, thread));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: tokio::net::TcpListener, control: Arc<Control>, index: NodeIndex) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        wire::tune(&stream).unwrap();
        let hang_up = Rc::new(Notify::new());
        let service = Service { control: Arc::clone(&control), index, hang_up: Rc::clone(&hang_up) };
        let bootstrap: node::Client = capnp_rpc::new_client(service);
        let budget = Budget::new(64 << 20);
        let connection = wire::serve(stream, Limits::server(1 << 20), budget.clone(), bootstrap.client);
        connection.admit(budget);
        spawn_local(async move {
            hang_up.notified().await;
            connection.close();
        });
    }
}

#[derive(Clone)]
struct Service {
    control: Arc<Control>,
    index: NodeIndex,
    hang_up: Rc<Notify>,
}

impl Service {
    /// Never returns if that is what the node was told.
    async fn stay_silent(&self) {
        let silent = *self.control.silent.lock().unwrap();
        if silent {
            std::future::pending::<()>().await;
        }
    }

    fn header(&self) -> ReplyHeader {
        let epoch = self.control.layout.lock().unwrap().epoch;
        ReplyHeader { epoch, coordinator: Some(self.index), load: 0, server_micros: 1 }
    }

    fn carry_out(&self, operations: &[Operation]) -> Vec<Reply> {
        operations.iter().map(|operation| self.control.map.carry_out(operation)).collect()
    }
}

impl node::Server for Service {
    async fn hello(self: Rc<Self>, _: node::HelloParams, mut results: node::HelloResults) -> capnp::Result<()> {
        let layout = self.control.layout.lock().unwrap().clone();
        let Some(member) = layout.member(self.index) else {
            return Err(capnp::Error::failed("this node is not in the layout it tells".to_owned()));
        };
        let limits = NodeLimits {
            key_bytes_max: 1024,
            value_bytes_max: 1 << 20,
            batch_operations_max: 1024,
            batch_bytes_max: 4 << 20,
            calls_in_flight_max: 256,
        };
        let hello = HelloReply {
            header: self.header(),
            protocol: 1,
            server: "fake".to_owned(),
            cluster: layout.cluster,
            node: member.id,
            directory: u128::from(self.index.0) + 100,
            positions: Vec::new(),
            process: 0,
            name: member.name.clone(),
            limits,
        };
        let mut reply = results.get().init_reply();
        hello.encode(reply.reborrow());
        let kv: kv::Client = capnp_rpc::new_client((*self).clone());
        reply.set_kv(kv);
        Ok(())
    }

    async fn ping(self: Rc<Self>, _: node::PingParams, mut results: node::PingResults) -> capnp::Result<()> {
        self.stay_silent().await;
        self.header().encode(results.get().init_reply().init_header());
        Ok(())
    }
}

impl kv::Server for Service {
    async fn execute(self: Rc<Self>, params: kv::ExecuteParams, mut results: kv::ExecuteResults) -> capnp::Result<()> {
        let request = params.get()?.get_request()?;
        let budget_ms = RequestHeader::decode(request.get_header()).unwrap().budget_ms;
        let decoded = convert::decode_operations(request.get_operations()?, 1 << 20).unwrap();
        let operations: Vec<Operation> = decoded.into_iter().map(|operation| operation.unwrap()).collect();
        {
            let mut seen = self.control.seen.lock().unwrap();
            let (call, at) = (seen.last().map_or(0, |seen| seen.call + 1), Instant::now());
            seen.extend(operations.iter().cloned().map(|operation| Seen { operation, call, budget_ms, at }));
        }
        let act = (self.control.script.lock().unwrap())(&operations);
        let fail = |failure: Failure| Reply { outcome: Outcome::Failed(failure), receipt: Default::default() };
        let replies = match act {
            Act::Serve => self.carry_out(&operations),
            Act::ServeAfter(pause) => {
                tokio::time::sleep(pause).await;
                self.carry_out(&operations)
            }
            Act::Fail(failure) => operations.iter().map(|_| fail(failure.clone())).collect(),
            Act::Refuse(failure) => vec![fail(failure)],
            Act::Answer(reply) => operations.iter().map(|_| (*reply).clone()).collect(),
            Act::Hang => std::future::pending().await,
            Act::ServeAndHangUp => {
                self.carry_out(&operations);
                self.hang_up.notify_one();
                std::future::pending().await
            }
            Act::HangUp => {
                self.hang_up.notify_one();
                std::future::pending().await
            }
            Act::Damage => self.carry_out(&operations).into_iter().map(damaged).collect(),
        };
        let mut reply = results.get().init_reply();
        self.header().encode(reply.reborrow().init_header());
        convert::encode_replies(reply.init_results(replies.len() as u32), &replies);
        Ok(())
    }

    async fn ring(self: Rc<Self>, params: kv::RingParams, mut results: kv::RingResults) -> capnp::Result<()> {
        *self.control.ring_calls.lock().unwrap() += 1;
        let layout = self.control.layout.lock().unwrap().clone();
        let request = params.get()?.get_request()?;
        let mut reply = results.get().init_reply();
        self.header().encode(reply.reborrow().init_header());
        if request.get_have_epoch() == layout.epoch {
            reply.set_unchanged(());
        } else {
            convert::encode_ring(reply.init_ring(), &layout, &layout.hash(), request.get_pages());
        }
        Ok(())
    }

    async fn scan(self: Rc<Self>, params: kv::ScanParams, mut results: kv::ScanResults) -> capnp::Result<()> {
        *self.control.scan_calls.lock().unwrap() += 1;
        self.stay_silent().await;
        let scan = convert::decode_scan(params.get()?.get_request()?).unwrap();
        let bits = self.control.layout.lock().unwrap().partition_bits;
        let page = if *self.control.scan_fails.lock().unwrap() {
            Err(Failure::new(ErrorCode::Unavailable, "told to fail"))
        } else {
            // Pages of two keys, so that cursors matter; the cursor is the place in the partition.
            let skip = scan.cursor.first().copied().unwrap_or(0);
            let keys = self.control.map.partition(bits, scan.partition);
            let rest = keys.len().saturating_sub(usize::from(skip) + 2);
            let page = keys.into_iter().skip(usize::from(skip)).take(2);
            let wanted = page.filter(|(address, values)| {
                scan.bucket.as_ref().is_none_or(|name| name.as_bytes() == &address.bucket[..]) && !values.is_empty()
            });
            let keys = wanted.map(|(address, values)| ScanKey {
                bucket: address.bucket,
                key: address.key,
                siblings: values.len() as u16,
                value_bytes: values.iter().map(|value| value.len() as u64).sum(),
            });
            let cursor = if rest > 0 { vec![skip + 2].into() } else { Default::default() };
            Ok(ScanPage { keys: keys.collect(), unreadable: 0, cursor })
        };
        let mut reply = results.get().init_reply();
        self.header().encode(reply.reborrow().init_header());
        convert::encode_scan_page(reply, &page);
        Ok(())
    }

    async fn status(self: Rc<Self>, _: kv::StatusParams, mut results: kv::StatusResults) -> capnp::Result<()> {
        let status = Status { name: format!("n{}", self.index.0), state: "serving".to_owned(), ..Status::default() };
        convert::encode_status(results.get().init_reply(), &status);
        Ok(())
    }
}

fn damaged(mut reply: Reply) -> Reply {
    if let Outcome::Found { siblings, .. } = &mut reply.outcome {
        siblings.iter_mut().for_each(|sibling| sibling.value = b"something else"[..].into());
    }
    reply
}
