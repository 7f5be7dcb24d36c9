//! Many keys at once: load, read back, scan, delete. Looks for a node at `QUORATE_ENDPOINTS`, or at 127.0.0.1:7601.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use quorate::{Client, Error};

/// How many records the example works with.
const RECORDS: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoints = std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:7601".to_owned());
    let db = Client::builder().endpoints(&endpoints).timeout(Duration::from_secs(10)).connect().await?;
    let records = db.bucket("bulk-example");
    let key = |at: usize| format!("record-{at:06}");

    let began = Instant::now();
    let stored = records.put_many((0..RECORDS).map(|at| (key(at), format!("value of {at}")))).await;
    report("put", began, check(stored)?);

    let began = Instant::now();
    let found = check(records.get_many((0..RECORDS).map(key)).await)?;
    for (at, found) in found.iter().enumerate() {
        let value = found.as_ref().map(|found| found.value()).transpose()?;
        assert_eq!(value.map(|value| &value[..]), Some(format!("value of {at}").as_bytes()));
    }
    report("got", began, found);

    let began = Instant::now();
    let scanned: Vec<_> = records.scan().collect().await;
    let scanned = check(scanned)?;
    assert_eq!(scanned.len(), RECORDS);
    report("scanned", began, scanned);

    let began = Instant::now();
    report("deleted", began, check(records.delete_many((0..RECORDS).map(key)).await)?);
    let stats = db.stats().await?;
    println!("{} operations in {} calls, {} retries", stats.operations_sent, stats.calls, stats.retries);
    db.close().await;
    Ok(())
}

/// All results, or the first error.
fn check<T>(results: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
    results.into_iter().collect()
}

fn report<T>(what: &str, began: Instant, results: Vec<T>) {
    let rate = results.len() as f64 / began.elapsed().as_secs_f64();
    println!("{what} {} in {:.2?} ({rate:.0}/s)", results.len(), began.elapsed());
}
