//! The example in Rust of `docs/testing.md`, letter for letter, run as its readers would run it.

use quorate::{Level, testing::LocalCluster};

#[tokio::test]
async fn the_cart_survives_the_death_of_a_node() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = LocalCluster::start(3)?;
    let db = cluster.client().await?;
    db.put("cart", "bread").level(Level::Quorum).await?;
    cluster.kill(&[0])?;
    let found = db.get("cart").level(Level::Quorum).await?.expect("it is there");
    assert_eq!(found.value()?, "bread");
    Ok(())
}

#[tokio::test]
async fn the_smaller_side_of_a_partition_takes_no_orders() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = LocalCluster::start(3)?;
    let db = cluster.client().await?;
    cluster.partition(&[&[0], &[1, 2]], 0)?;
    let refused = db.put("cart", "milk").level(Level::Quorum).await.expect_err("one of three is no majority");
    assert!(refused.retryable());
    Ok(())
}

#[test]
fn the_page_shows_what_is_run_here() {
    let page = quorate_tests::repository::read("docs/testing.md");
    let shown = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example in Rust");
    let run = quorate_tests::repository::read("tests/tests/testing_page.rs");
    assert!(run.contains(shown), "docs/testing.md and tests/tests/testing_page.rs differ");
}
