//! Operations of every kind, one after the other in a few hands, each answer compared with what was written before. Nodes count what they
//! had to forward meanwhile; this program does not know.

use futures_util::StreamExt;
use quorate::{Client, Error, Level};
use serde_json::{Value, json};

/// Hands that work at the same time: more than one, so that calls carry several operations.
const HANDS: u64 = 16;

/// Operations of one round below.
const ROUND: u64 = 23;

/// Keys of the batches in a round.
const BATCH: usize = 3;

/// Makes about so many operations; says how many, and how many answers were wrong.
pub(super) async fn run(client: &Client, operations: u64) -> Result<Value, Error> {
    let rounds = operations.div_ceil(HANDS * ROUND).max(1);
    let hand = |hand: u64| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut wrong = 0;
            for number in 0..rounds {
                wrong += round(&client, &format!("{hand}/{number}")).await?;
            }
            Ok::<u64, Error>(wrong)
        })
    };
    let mut wrong = 0;
    for hand in (0..HANDS).map(hand).collect::<Vec<_>>() {
        wrong += hand.await.expect("a hand does not panic")?;
    }
    let mut scanned = 0;
    let mut scan = client.scan();
    while let Some(key) = scan.next().await {
        key?;
        scanned += 1;
    }
    // Of every round, the updated key and the keys of the batch are left.
    wrong += u64::from(scanned != HANDS * rounds * 2);
    Ok(json!({ "operations": HANDS * rounds * ROUND, "wrong": wrong, "scanned": scanned }))
}

/// Writes, reads, replaces, merges and deletes; how many answers were not what they had to be.
async fn round(client: &Client, name: &str) -> Result<u64, Error> {
    let mut wrong = 0;
    let mut expect = |is_right: bool| wrong += u64::from(!is_right);
    let (key, other, merged) = (format!("key {name}"), format!("other {name}"), format!("merged {name}"));
    expect(!client.exists(&key).level(Level::Quorum).await?);
    expect(client.put(&key, "first").level(Level::Quorum).await?.siblings == 1);
    let first = client.get(&key).lookup().await?;
    expect(first.siblings().first().is_some_and(|sibling| sibling.value == "first"));
    client.put(&key, "second").context(first.context()).level(Level::All).await?;
    expect(
        client
            .get(&key)
            .level(Level::One)
            .await?
            .is_some_and(|found| found.value().is_ok_and(|value| value == "second")),
    );
    expect(client.put(&key, "beside").beside().await?.siblings == 2);
    client.update(&key, |values| values.concat()).await?;
    expect(client.get(&key).await?.is_some_and(|found| found.siblings().len() == 1));
    client.put(&other, "other").level(Level::One).await?;
    client.delete(&other).level(Level::Quorum).await?;
    expect(client.get(&other).level(Level::Quorum).await?.is_none());
    client.delete(&key).level(Level::Quorum).await?;
    client.update(&merged, |values| format!("{} values", values.len())).await?;
    let keys: Vec<String> = (0..BATCH).map(|at| format!("batch {at} {name}")).collect();
    for stored in client.put_many(keys.iter().map(|key| (key, "many"))).level(Level::Quorum).await {
        stored?;
    }
    for found in client.get_many(&keys).await {
        expect(found?.is_some_and(|found| found.value().is_ok_and(|value| value == "many")));
    }
    for deleted in client.delete_many(&keys[1..]).await {
        deleted?;
    }
    Ok(wrong)
}
