//! The first ten minutes: put, get, conditional put, delete. Needs a cluster: `cargo run --release -- dev`, then
//! `cargo run --example quickstart`. Looks for a node at `QUORATE_ENDPOINTS`, or at 127.0.0.1:7601.

use quorate::{Client, Error, Level};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoints = std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:7601".to_owned());
    let db = Client::connect(endpoints).await?;
    let ring = db.ring();
    println!("{} nodes, {} partitions, {} copies of each", ring.members.len(), ring.partitions(), ring.replicas);

    let stored = db.put("greeting", "hello").await?;
    println!("stored on {} disks when it was acknowledged", stored.receipt.durable);

    let Some(found) = db.get("greeting").await? else {
        println!("somebody else deleted it meanwhile");
        return Ok(());
    };
    println!(
        "read {:?}, which {} of {} owners agreed on",
        found.value()?,
        found.receipt().answered.len(),
        ring.replicas
    );

    // With the context of a read, a put replaces exactly what was read.
    db.put("greeting", "good day").context(found.context()).await?;
    let explanation = db.explain("greeting").await?;
    let owners: Vec<_> = explanation.owners.iter().map(|owner| owner.name.as_str()).collect();
    println!("partition {} of the ring, owned by {}", explanation.partition, owners.join(", "));

    // One replica's answer is enough here; it may be a little old.
    let quick = db.get("greeting").level(Level::One).await?;
    println!("quick read: {:?}", quick.map(|found| found.siblings().len()));

    db.delete("greeting").await?;
    println!("exists after the delete: {}", db.exists("greeting").await?);
    db.close().await;
    Ok(())
}
