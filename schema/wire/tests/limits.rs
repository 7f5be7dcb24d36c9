//! What the other side of a connection can and can't do to us: frames, calls and bytes at and beyond their bounds, over real sockets.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use schema::node_capnp::node;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::LocalSet};
use wire::{Budget, Limits, Reason};

/// Answers pings; panics when asked with a padding of one byte.
struct Echo;

impl node::Server for Echo {
    async fn hello(self: Rc<Self>, _: node::HelloParams, _: node::HelloResults) -> Result<(), capnp::Error> {
        Err(capnp::Error::unimplemented("only pings here".into()))
    }

    async fn ping(
        self: Rc<Self>,
        params: node::PingParams,
        mut results: node::PingResults,
    ) -> Result<(), capnp::Error> {
        let padding = params.get()?.get_request()?.get_padding()?;
        assert!(padding.len() != 1, "asked to panic");
        tokio::task::yield_now().await;
        results.get().init_reply().init_header().set_epoch(padding.len() as u64);
        Ok(())
    }
}

/// A server on a free port, and why each of its connections ended.
fn serve(limits: Limits) -> (SocketAddr, Rc<RefCell<Vec<Reason>>>) {
    let listener = wire::listen_reuseport("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let reasons = Rc::new(RefCell::new(Vec::new()));
    let ended = Rc::clone(&reasons);
    let budget = Budget::new(64 << 20);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            let client = capnp_rpc::new_client::<node::Client, _>(Echo).client;
            let connection = wire::serve(stream, limits.clone(), budget.clone(), client);
            connection.admit(budget.clone());
            let ended = Rc::clone(&ended);
            tokio::task::spawn_local(async move {
                let reason = connection.closed().await;
                ended.borrow_mut().push(reason);
            });
        }
    });
    (address, reasons)
}

fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), scenario).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the scenario ends within a minute");
}

async fn connect(address: SocketAddr) -> (node::Client, wire::ConnectionHandle) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    wire::connect(stream, Limits::client(1 << 20), Budget::new(64 << 20))
}

async fn ping(client: &node::Client, padding: usize) -> Result<u64, capnp::Error> {
    let mut request = client.ping_request();
    request.get().init_request().set_padding(&vec![7; padding]);
    let reply = request.send().promise.await?;
    Ok(reply.get()?.get_reply()?.get_header()?.get_epoch())
}

async fn wait_for_reason(reasons: &RefCell<Vec<Reason>>) -> Reason {
    loop {
        if let Some(reason) = reasons.borrow().first() {
            return reason.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4096
}

#[test]
fn calls_beyond_the_cap_wait_and_none_is_lost() {
    run(async {
        let (address, _) = serve(Limits::server(1 << 20));
        let (client, _) = connect(address).await;
        let calls = (0..10_000).map(|size| ping(&client, 2 + size % 1000));
        let answers = futures_util::future::join_all(calls).await;
        for (size, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.expect("every call is answered"), (2 + size % 1000) as u64);
        }
    });
}

#[test]
fn large_frames_pass_and_too_large_ones_end_only_their_connection() {
    run(async {
        let (address, reasons) = serve(Limits::server(1 << 20));
        let (client, _) = connect(address).await;
        assert_eq!(ping(&client, 1 << 20).await.expect("a legal message"), 1 << 20);
        let (other, _) = connect(address).await;
        assert!(ping(&other, 16 << 20).await.is_err());
        assert!(matches!(wait_for_reason(&reasons).await, Reason::FrameTooLarge { .. }));
        assert_eq!(ping(&client, 10).await.expect("the first connection lives"), 10);
    });
}

#[test]
fn a_thousand_announcements_of_64_mib_reserve_nothing() {
    run(async {
        let mut limits = Limits::server(40 << 20);
        limits.frame_timeout = Duration::from_secs(30);
        let (address, reasons) = serve(limits);
        let before = resident_bytes();
        let mut sockets = Vec::new();
        for _ in 0..1000 {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            let words: u32 = (64 << 20) / 8;
            let mut header = 0u32.to_le_bytes().to_vec();
            header.extend(words.to_le_bytes());
            socket.write_all(&header).await.expect("eight bytes");
            sockets.push(socket);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "a thousand headers cost {grown} bytes");
        assert!(reasons.borrow().is_empty(), "64 MiB was legal here, so the connections stand: {reasons:?}");
    });
}

#[test]
fn too_many_segments_and_garbage_end_the_connection_with_their_reason() {
    run(async {
        for (bytes, expected) in [
            (600u32.to_le_bytes().to_vec(), Reason::TooManySegments { segments: 601, limit: 512 }),
            (
                [0u32.to_le_bytes(), 1u32.to_le_bytes(), u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes()].concat(),
                Reason::Malformed,
            ),
            (vec![0, 0, 0], Reason::Broken),
        ] {
            let (address, reasons) = serve(Limits::server(1 << 20));
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            socket.write_all(&bytes).await.expect("some bytes");
            socket.shutdown().await.expect("the writing half closes");
            assert_eq!(wait_for_reason(&reasons).await, expected);
        }
    });
}

#[test]
fn a_slow_drip_is_cut() {
    run(async {
        let mut limits = Limits::server(1 << 20);
        limits.frame_timeout = Duration::from_millis(300);
        let (address, reasons) = serve(limits);
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        for byte in [0u8, 0, 0, 0, 200, 0, 0, 0].into_iter().chain(std::iter::repeat_n(0, 100)) {
            if socket.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(wait_for_reason(&reasons).await, Reason::FrameTimeout);
    });
}

#[test]
fn a_panic_in_a_handler_ends_only_its_connection() {
    run(async {
        let (address, reasons) = serve(Limits::server(1 << 20));
        let (client, _) = connect(address).await;
        let (other, _) = connect(address).await;
        assert!(ping(&other, 1).await.is_err());
        assert!(matches!(wait_for_reason(&reasons).await, Reason::Panicked { .. }));
        assert_eq!(ping(&client, 5).await.expect("the other connection lives"), 5);
    });
}

#[test]
fn a_connection_that_ends_fails_what_waits_for_it() {
    run(async {
        let (address, _) = serve(Limits::server(1 << 20));
        let (client, connection) = connect(address).await;
        ping(&client, 3).await.expect("it works");
        connection.close();
        assert!(ping(&client, 3).await.is_err());
        assert_eq!(connection.closed().await, Reason::Closed);
    });
}
