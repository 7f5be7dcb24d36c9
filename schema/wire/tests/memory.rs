//! What connections cost in memory. A program of its own with one test, since it measures the whole process.

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
#[allow(clippy::wildcard_imports, clippy::use_self, clippy::unimplemented, clippy::todo)]
#[rustfmt::skip]
#[path = "generated/echo_capnp.rs"]
mod echo_capnp;
#[path = "echo/service.rs"]
mod service;

use std::time::Duration;

use service::{EchoServer, MIB, admitted, echo, on_one_thread};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wire::Limits;

const CONNECTIONS: usize = 1000;

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let fields = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = fields.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// What the server's side of many connections costs that each send these bytes and then nothing.
async fn cost_of(server: &EchoServer, bytes: &[u8]) -> usize {
    // The first connections pay for what all of them share.
    let (client, _handle) = server.client().await;
    echo(&client, &vec![1; MIB]).await.unwrap();
    let already = server.handles.borrow().len();
    let before_bytes = resident_bytes();
    let mut sockets = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        sockets.push(socket);
    }
    let has_arrived = |server: &EchoServer| {
        let handles = server.handles.borrow();
        handles.len() == already + CONNECTIONS
            && handles[already..].iter().all(|handle| handle.bytes_received() == bytes.len() as u64)
    };
    while !has_arrived(server) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*server.reasons.borrow(), [], "all of this is legal");
    assert_eq!(echo(&client, b"served meanwhile").await.unwrap(), b"served meanwhile");
    resident_bytes().saturating_sub(before_bytes)
}

fn announcement(bytes: usize) -> Vec<u8> {
    [[0; 4], (bytes as u32 / 8).to_le_bytes()].concat()
}

fn idle() -> Vec<u8> {
    let mut message = capnp::message::Builder::new_default();
    message.init_root::<capnp_rpc::rpc_capnp::message::Builder<'_>>().init_bootstrap().set_question_id(0);
    capnp::serialize::write_message_to_words(&message)
}

#[test]
fn a_thousand_connections_cost_what_they_send_and_not_what_they_announce() {
    on_one_thread(async {
        let usual = admitted();
        let generous = Limits { frame_bytes: 65 * MIB, frame_bytes_before_hello: 65 * MIB, ..admitted() };
        let cases = [
            ("idle", usual.clone(), idle(), 20 * MIB),
            ("the largest legal frame announced", usual.clone(), announcement(usual.frame_bytes - 8), 16 * MIB),
            ("64 MiB announced where that is legal", generous, announcement(64 * MIB), 16 * MIB),
            (
                "16 KiB of a large frame",
                usual.clone(),
                [announcement(usual.frame_bytes - 8), vec![0; 16 * 1024]].concat(),
                64 * MIB,
            ),
        ];
        for (what, limits, bytes, most_bytes) in cases {
            let server = EchoServer::start(limits);
            let cost_bytes = cost_of(&server, &bytes).await;
            println!("{CONNECTIONS} connections, {what}: {} KiB", cost_bytes / 1024);
            assert!(cost_bytes <= most_bytes, "{what}: {cost_bytes} bytes, {most_bytes} allowed");
        }
    });
}
