//! Calls without end: the memory of this process after a part of them, and after all. What it rises by in between is what calls leave behind.

use std::time::Instant;

use quorate::{Client, Error, Level};
use serde_json::{Value, json};

/// Calls under way: many, so that a million do not take long.
const HANDS: u64 = 128;

/// Of so many calls one comes before the first look at memory: what is grown once is grown by then.
const WARM: u64 = 5;

/// Keys and a size of values that many applications have.
const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 100;

/// Gets, and a put for every ten of them: memory of the client is asked here, and a put costs the node's disk.
const GETS_PER_PUT: u64 = 10;

/// Makes so many calls.
pub(super) async fn run(client: &Client, calls: u64) -> Result<Value, Error> {
    for stored in client.put_many((0..KEYS).map(|at| (key(at), vec![7; VALUE_BYTES]))).level(Level::One).await {
        stored?;
    }
    some(client, calls / WARM).await?;
    let (before, started) = (resident_bytes(), Instant::now());
    some(client, calls - calls / WARM).await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({ "operations": calls, "before_bytes": before, "after_bytes": resident_bytes(), "seconds": seconds }))
}

async fn some(client: &Client, calls: u64) -> Result<(), Error> {
    let hand = |hand: u64| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..calls / HANDS {
                let key = key((number * HANDS + hand) % KEYS);
                if number % GETS_PER_PUT == 0 {
                    client.put(key, vec![7; VALUE_BYTES]).level(Level::One).await?;
                } else {
                    client.get(key).level(Level::One).await?;
                }
            }
            Ok::<(), Error>(())
        })
    };
    for hand in (0..HANDS).map(hand).collect::<Vec<_>>() {
        hand.await.expect("a hand does not panic")?;
    }
    Ok(())
}

fn key(at: u64) -> String {
    format!("memory {at}")
}

/// What this process has resident.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status says VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmRSS is a number") * 1024
}
