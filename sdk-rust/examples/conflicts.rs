//! Concurrent writes become siblings, and nothing is lost: shopping carts, as in the Dynamo paper. Looks for a node at
//! `QUORATE_ENDPOINTS`, or at 127.0.0.1:7601.

use std::collections::BTreeSet;

use quorate::{Bytes, Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoints = std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:7601".to_owned());
    let db = Client::connect(endpoints).await?;
    let carts = db.bucket("carts");
    carts.delete("ann").await?;

    // Two devices write without having seen each other's version.
    carts.put("ann", "milk").await?;
    carts.put("ann", "bread,butter").beside().await?;
    if let Some(found) = carts.get("ann").await? {
        println!("{} versions stand side by side:", found.siblings().len());
        for sibling in found.siblings() {
            println!("  {:?}", sibling.value);
        }
        if let Err(error) = found.value() {
            println!("asking for *the* value says: {error}");
        }
        // The merge replaces exactly the versions that were read.
        let values: Vec<Bytes> = found.siblings().iter().map(|sibling| sibling.value.clone()).collect();
        let stored = carts.put("ann", union(&values)).context(found.context()).await?;
        println!("merged; versions now: {}", stored.siblings);
    }

    // The same in one call: read, merge, write, and again if somebody was quicker.
    carts
        .update("ann", |values| {
            let mut merged = union(values);
            merged.push_str(",jam");
            merged
        })
        .await?;
    if let Some(found) = carts.get("ann").await? {
        println!("in the cart: {:?}", found.value()?);
    }
    carts.delete("ann").await?;
    db.close().await;
    Ok(())
}

/// Everything that is in any of the carts. Pure, and the same in whatever order the carts come.
fn union(carts: &[Bytes]) -> String {
    let items: BTreeSet<String> = carts
        .iter()
        .flat_map(|cart| String::from_utf8_lossy(cart).split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter(|item| !item.is_empty())
        .collect();
    items.into_iter().collect::<Vec<_>>().join(",")
}
