//! Compares this crate with the network that comes with `capnp-rpc` in one run: the same calls over loopback, with the
//! same object behind them, alternating, so that a busy machine slows both. Prints medians and their ratio.
//!
//!     cargo run --release -p quorate-wire --example echo_bench [-- SECONDS]
//!
//! The server has one thread and the clients another. The figures are calls that were answered, per second.

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
#[allow(clippy::wildcard_imports, clippy::use_self, clippy::unimplemented, clippy::todo)]
#[rustfmt::skip]
#[path = "../tests/generated/echo_capnp.rs"]
mod echo_capnp;
#[path = "../tests/echo/service.rs"]
mod service;
#[path = "echo_bench/stock.rs"]
mod stock;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use echo_capnp::echo;
use service::{EchoServer, MIB, admitted, budget};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::spawn_local;
use wire::{ConnectionHandle, Limits};

/// How often each case is measured with each network; the median counts.
const ROUNDS: usize = 5;

/// Time to connect and to fill the queues, which is not measured.
const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    connections: usize,
    in_flight: usize,
    bytes: usize,
}

const CASES: [Case; 7] = [
    Case { name: "one call at a time", connections: 1, in_flight: 1, bytes: 100 },
    Case { name: "1 x 64", connections: 1, in_flight: 64, bytes: 100 },
    Case { name: "1 x 256", connections: 1, in_flight: 256, bytes: 100 },
    Case { name: "4 x 64", connections: 4, in_flight: 64, bytes: 100 },
    Case { name: "4 x 16, 4 KiB", connections: 4, in_flight: 16, bytes: 4 << 10 },
    Case { name: "4 x 16, 64 KiB", connections: 4, in_flight: 16, bytes: 64 << 10 },
    Case { name: "4 x 2, 1 MiB", connections: 4, in_flight: 2, bytes: MIB },
];

#[derive(Clone, Copy)]
enum Network {
    Ours,
    Stock,
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(1.0, |argument| argument.parse().expect("a number of seconds"));
    let measured = Duration::from_secs_f64(seconds);
    let (ours, stock) = (start(Network::Ours), start(Network::Stock));
    println!("{:<20} {:>12} {:>12} {:>8}", "case", "ours/s", "stock/s", "ratio");
    for case in CASES {
        let (mut our_rates, mut stock_rates) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_rates.push(rate(Network::Ours, ours, case, measured));
            stock_rates.push(rate(Network::Stock, stock, case, measured));
        }
        let (ours, stock) = (median(&mut our_rates), median(&mut stock_rates));
        println!("{:<20} {ours:>12.0} {stock:>12.0} {:>8.2}", case.name, ours / stock);
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime")
}

/// Starts a server on a thread of its own.
fn start(network: Network) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async move {
            let address = match network {
                Network::Ours => EchoServer::start(admitted()).address,
                Network::Stock => stock::serve(),
            };
            tell.send(address).expect("the main thread waits");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("the server has an address")
}

/// Answered calls per second.
fn rate(network: Network, server: SocketAddr, case: Case, measured: Duration) -> f64 {
    runtime().block_on(async move {
        let answered = Rc::new(Cell::new(0_u64));
        let mut handles: Vec<Option<ConnectionHandle>> = Vec::new();
        for _ in 0..case.connections {
            let stream = TcpStream::connect(server).await.expect("a connection");
            wire::tune(&stream).expect("options");
            let client: echo::Client = match network {
                Network::Ours => {
                    let (client, handle) = wire::connect(stream, Limits::client(MIB), budget());
                    handles.push(Some(handle));
                    client
                }
                Network::Stock => stock::connect(stream),
            };
            for _ in 0..case.in_flight {
                let (client, answered) = (client.clone(), Rc::clone(&answered));
                let data = vec![7; case.bytes];
                spawn_local(async move {
                    loop {
                        let mut request = client.echo_request();
                        request.get().set_data(&data);
                        let Ok(answer) = request.send().promise.await else { return };
                        let answer = answer.get().and_then(|answer| answer.get_data()).expect("an answer");
                        assert_eq!(answer.len(), data.len());
                        answered.set(answered.get() + 1);
                    }
                });
            }
        }
        tokio::time::sleep(WARM_UP).await;
        let (before, started) = (answered.get(), Instant::now());
        tokio::time::sleep(measured).await;
        let rate = (answered.get() - before) as f64 / started.elapsed().as_secs_f64();
        handles.into_iter().flatten().for_each(|handle| handle.close());
        rate
    })
}
