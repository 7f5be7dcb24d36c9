//! Writes and reads at `quorum` by a client that may send each operation twice: what fails all the same, or is read wrongly, is counted.
//! Somebody else kills nodes meanwhile, and ends standard input when it is enough.

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use quorate::{Client, Context, Error, Level};
use serde_json::{Value, json};

/// Hands that work at the same time, each on keys of its own.
const HANDS: usize = 16;

/// Keys of one hand: enough that every node coordinates some.
const KEYS: usize = 20;

/// An operation and one retry.
const ATTEMPTS: u32 = 2;

/// What one hand has seen.
#[derive(Debug, Default)]
struct Seen {
    operations: u64,
    wrong: u64,
    errors: BTreeMap<String, u64>,
}

/// Works until standard input ends.
pub(super) async fn run(endpoints: &str) -> Result<Value, Error> {
    let client = Client::builder().endpoints(endpoints).attempts(ATTEMPTS).connect().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let hands: Vec<_> = (0..HANDS).map(|hand| tokio::spawn(work(client.clone(), hand, Arc::clone(&stop)))).collect();
    std::thread::spawn(move || {
        // However standard input ends, it is over.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    });
    let mut all = Seen::default();
    for hand in hands {
        let seen = hand.await.expect("a hand does not panic");
        all.operations += seen.operations;
        all.wrong += seen.wrong;
        for (code, count) in seen.errors {
            *all.errors.entry(code).or_default() += count;
        }
    }
    let retries = client.stats().await?.retries;
    client.close().await;
    Ok(json!({ "operations": all.operations, "wrong": all.wrong, "errors": all.errors, "retries": retries }))
}

/// Replaces each of its values by the next under the context of what it last read, and reads it back.
async fn work(client: Client, hand: usize, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut contexts = vec![Context::EMPTY; KEYS];
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (at, value) = (number % KEYS, format!("{hand}/{number}"));
        let key = format!("strict {} {hand} {at}", std::process::id());
        let stored = client.put(&key, &value).context(&contexts[at]).level(Level::Quorum).await;
        let read = client.get(&key).level(Level::Quorum).await;
        seen.operations += 2;
        match (stored, read) {
            (Ok(_), Ok(Some(found))) => {
                seen.wrong += u64::from(!found.value().is_ok_and(|read| *read == value.as_bytes()));
                contexts[at] = found.context().clone();
            }
            (Ok(_), Ok(None)) => seen.wrong += 1,
            (stored, read) => {
                for error in [stored.err(), read.err()].into_iter().flatten() {
                    *seen.errors.entry(error.to_string()).or_default() += 1;
                }
            }
        }
    }
    seen
}
