//! Callers who ask for a lot and read nothing: what they cost is bounded for all of them together, not only for each. Alone in
//! its process, because it looks at the memory of all of it.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use cluster::{Client, Cluster, get, is_stored, local, put, values};
use dynamo::operation::{Basis, Operation};
use schema::convert::{RequestHeader, encode_operations};

/// Callers that do not read.
const CALLERS: usize = 60;

/// Calls each of them makes, with replies of four mebibytes.
const CALLS: usize = 8;

/// How much memory all that may take: the bound on large replies with what surrounds them, and the sockets' last pieces.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

#[test]
fn callers_that_do_not_read_take_bounded_memory_and_others_are_served() {
    let cluster = Cluster::start(1);
    let address = cluster.addresses[0];
    let gets: Vec<Operation> = (0..4).map(|at| get(&format!("k{at}"))).collect();
    local(async {
        let client = cluster.client(0).await;
        for at in 0..4 {
            assert!(is_stored(&client.one(put(&format!("k{at}"), &vec![7; 1_000_000], Basis::Local)).await));
        }
    });
    let before = resident_bytes();
    let (asked, all_asked) = mpsc::channel();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (gets, asked) = (gets.clone(), asked.clone());
            thread::spawn(move || {
                local(async move {
                    let client = Client::connect(address).await;
                    let calls: Vec<_> = (0..CALLS).map(|_| ask(&client, &gets)).collect();
                    // Long enough to send the requests, hardly long enough to read an answer.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    asked.send(()).unwrap();
                    thread::sleep(Duration::from_secs(4));
                    drop(calls);
                });
            })
        })
        .collect();
    local(async {
        let client = cluster.client(0).await;
        for _ in 0..CALLERS {
            all_asked.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        let (mut most, began) = (0, Instant::now());
        while began.elapsed() < Duration::from_secs(3) {
            let asked = Instant::now();
            assert!(is_stored(&client.one(put("mine", b"v", Basis::Local)).await));
            assert_eq!(values(&client.one(get("mine")).await), [b"v"]);
            assert!(asked.elapsed() < Duration::from_secs(2), "an honest client waited {:?}", asked.elapsed());
            most = most.max(resident_bytes());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let calls = client.counter("batches").await;
        assert!(calls > CALLERS as u64, "hardly anything was asked, so this shows nothing: {calls} calls");
        let growth = most.saturating_sub(before);
        println!("{CALLERS} callers asked for {} MiB; memory grew by {} MiB", CALLERS * CALLS * 4, growth >> 20);
        assert!(growth < GROWTH_BYTES_MAX, "memory grew by {} MiB", growth >> 20);
    });
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}

fn ask(client: &Client, operations: &[Operation]) -> impl Sized + use<> {
    let mut request = client.kv.execute_request();
    let mut wire = request.get().init_request();
    RequestHeader::default().encode(wire.reborrow().init_header());
    encode_operations(wire.init_operations(operations.len() as u32), operations);
    request.send().promise
}

/// Memory of this process, which is the node and its callers.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
