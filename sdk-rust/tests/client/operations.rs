//! What an application sees when nothing goes wrong.

use std::time::Duration;

use quorate::{Client, Context, Error, Level, NodeIndex};

use crate::support::{Cluster, run};

#[test]
fn a_value_that_was_put_is_found_and_one_that_was_deleted_is_not() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        assert!(db.get("greeting").await.unwrap().is_none());
        assert!(!db.exists("greeting").await.unwrap());
        let stored = db.put("greeting", "hello").await.unwrap();
        assert_eq!((stored.siblings, stored.receipt.durable), (1, 1));
        let found = db.get("greeting").await.unwrap().unwrap();
        assert_eq!(&found.value().unwrap()[..], b"hello");
        assert!(db.exists("greeting").await.unwrap());
        db.delete("greeting").await.unwrap();
        assert!(db.get("greeting").await.unwrap().is_none());
    });
}

#[test]
fn absence_has_a_context_under_which_a_put_replaces_nothing_newer() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        db.put("k", "old").await.unwrap();
        db.delete("k").await.unwrap();
        let absent = db.get("k").lookup().await.unwrap();
        assert!(!absent.context().is_empty() && absent.siblings().is_empty());
        db.put("k", "someone else's").await.unwrap();
        let stored = db.put("k", "mine").context(absent.context()).await.unwrap();
        assert_eq!(stored.siblings, 2);
        assert!(stored.context.is_none());
    });
}

#[test]
fn siblings_are_shown_and_a_put_with_their_context_replaces_them() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        db.put("cart", "milk").await.unwrap();
        db.put("cart", "bread").beside().await.unwrap();
        let found = db.get("cart").await.unwrap().unwrap();
        assert!(found.is_conflict());
        assert_eq!(found.siblings().len(), 2);
        assert!(matches!(found.value(), Err(Error::Siblings(_))));
        let stored = db.put("cart", "milk, bread").context(found.context()).await.unwrap();
        assert_eq!(stored.siblings, 1);
        let context = stored.context.unwrap();
        let text = context.to_string();
        db.delete("cart").context(text.parse::<Context>().unwrap()).await.unwrap();
        assert!(!db.exists("cart").await.unwrap());
    });
}

#[test]
fn many_operations_have_a_result_each_in_their_order() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        let entries = (0..10_000).map(|at| (format!("key-{at}"), format!("value-{at}")));
        let stored = db.put_many(entries).await;
        assert_eq!(stored.len(), 10_000);
        assert!(stored.iter().all(Result::is_ok));
        let too_long = "x".repeat(1025);
        let found = db.get_many(["key-7", too_long.as_str(), "missing", "key-9999"]).await;
        assert_eq!(&found[0].as_ref().unwrap().as_ref().unwrap().value().unwrap()[..], b"value-7");
        assert!(matches!(found[1], Err(Error::TooLarge(_))));
        assert!(matches!(found[2], Ok(None)));
        assert_eq!(&found[3].as_ref().unwrap().as_ref().unwrap().value().unwrap()[..], b"value-9999");
        let deleted = db.delete_many((0..10_000).map(|at| format!("key-{at}"))).await;
        assert!(deleted.iter().all(Result::is_ok));
        assert!(!db.exists("key-7").await.unwrap());
        assert!(db.get_many(Vec::<&str>::new()).await.is_empty());
    });
}

#[test]
fn update_merges_what_it_read_and_again_when_another_was_quicker() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        db.update("cart", |values| values.concat()).await.unwrap();
        db.put("cart", "a").await.unwrap();
        let (other, mut rounds) = (db.clone(), 0);
        let stored = db
            .update("cart", |values| {
                rounds += 1;
                if rounds == 1 {
                    // Another writer comes between reading and writing.
                    let other = other.clone();
                    std::thread::spawn(move || run(async move { other.put("cart", "b").await.unwrap() }))
                        .join()
                        .unwrap();
                }
                let mut merged: Vec<_> = values.iter().map(|value| value.to_vec()).collect();
                merged.push(b"c".to_vec());
                merged.sort();
                merged.concat()
            })
            .await
            .unwrap();
        assert_eq!((rounds, stored.siblings), (2, 1));
        let found = db.get("cart").await.unwrap().unwrap();
        assert!(found.value().unwrap().starts_with(b"ac") || found.value().unwrap().contains(&b'b'));
    });
}

#[test]
fn buckets_keep_keys_apart_and_carry_defaults() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        let carts = db.bucket("carts").level(Level::All).timeout(Duration::from_secs(1));
        carts.put("ann", "milk").await.unwrap();
        assert!(db.get("ann").await.unwrap().is_none());
        assert!(carts.exists("ann").await.unwrap());
        let seen = cluster.seen();
        let levels: Vec<_> = seen.iter().map(|seen| seen.operation.consistency.level).collect();
        assert_eq!(levels.iter().filter(|level| **level == Some(Level::All)).count(), 2);
        db.get("ann").r(3).n(2).await.unwrap();
        let last = cluster.seen().into_iter().find(|seen| seen.operation.consistency.r == 3).unwrap();
        assert_eq!(last.operation.consistency.n, 2);
        assert!(matches!(db.bucket("no/slash").get("k").await, Err(Error::InvalidRequest(_))));
    });
}

#[test]
fn what_every_node_would_refuse_is_refused_before_it_is_sent() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        db.put("k", "v").await.unwrap();
        let before = cluster.seen().len();
        assert!(matches!(db.get("").await, Err(Error::InvalidRequest(_))));
        assert!(matches!(db.get(vec![0; 1025]).await, Err(Error::TooLarge(_))));
        assert!(matches!(db.put("k", vec![0; (1 << 20) + 1]).await, Err(Error::TooLarge(_))));
        assert!(matches!(db.delete("k").context(Context::EMPTY).await, Err(Error::InvalidRequest(_))));
        assert_eq!(cluster.seen().len(), before);
    });
}

#[test]
fn the_client_explains_pings_and_counts() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        db.put("k", "v").await.unwrap();
        let explanation = db.explain("k").await.unwrap();
        let owners: Vec<_> = explanation.owners.iter().map(|owner| usize::from(owner.node.0)).collect();
        assert_eq!(owners, cluster.owners("k"));
        assert_eq!(explanation.write_coordinator.map(|node| usize::from(node.0)), Some(owners[0]));
        assert!(explanation.owners[0].connected && explanation.owners[0].usable);
        let pings = db.ping().await;
        assert_eq!(pings.len(), 3);
        assert!(pings.iter().all(|(_, ping)| ping.as_ref().is_ok_and(|took| *took < Duration::from_secs(1))));
        assert_eq!(db.status(NodeIndex(2)).await.unwrap().name, "n2");
        assert!(db.status(NodeIndex(3)).await.is_err());
        let stats = db.stats().await.unwrap();
        assert_eq!((stats.succeeded, stats.failed, stats.retries, stats.epoch), (1, 0, 0, 1));
        assert_eq!(db.ring().members.len(), 3);
    });
}

#[test]
fn a_client_finds_its_cluster_from_any_address_that_works() {
    let cluster = Cluster::start(3);
    run(async {
        cluster.node(0).kill();
        cluster.node(2).kill();
        let db = cluster.client().await;
        assert!(db.get("k").await.unwrap().is_none());
        cluster.node(1).kill();
        let error = cluster.builder().connect().await.unwrap_err();
        assert!(matches!(error, Error::Connection(_)), "{error}");
        assert!(error.message().contains(&cluster.node(1).address), "{error}");
        assert!(matches!(Client::builder().connect().await, Err(Error::InvalidRequest(_))));
    });
}
