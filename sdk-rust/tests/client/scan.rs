//! Scans: complete, in order, without repetition, also when an owner fails in the middle.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use quorate::{Level, Scan};

use crate::support::{Cluster, run};

async fn keys(scan: Scan) -> Vec<String> {
    let scanned = scan.map(|key| String::from_utf8(key.unwrap().key.to_vec()).unwrap());
    scanned.collect().await
}

#[test]
fn a_scan_finds_every_key_of_its_bucket_once() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        let names: BTreeSet<String> = (0..500).map(|at| format!("key-{at}")).collect();
        assert!(db.put_many(names.iter().map(|name| (name, name))).await.iter().all(Result::is_ok));
        db.bucket("other").put("elsewhere", "v").await.unwrap();
        db.put("gone", "v").await.unwrap();
        db.delete("gone").await.unwrap();
        for level in [Level::One, Level::Quorum, Level::All] {
            let found = keys(db.scan().level(level)).await;
            assert_eq!(found.len(), 500, "{level:?}");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names, "{level:?}");
        }
        assert_eq!(keys(db.bucket("other").scan()).await, ["elsewhere"]);
        assert_eq!(keys(db.scan_all()).await.len(), 501);
        assert!(keys(db.bucket("empty").scan()).await.is_empty());
    });
}

#[test]
fn a_scan_reads_values_when_asked() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        db.put_many((0..100).map(|at| (format!("key-{at}"), format!("value of key-{at}")))).await;
        db.put("key-7", "beside").beside().await.unwrap();
        let mut scan = db.scan().values();
        let mut count = 0;
        while let Some(scanned) = scan.next().await {
            let scanned = scanned.unwrap();
            let name = String::from_utf8(scanned.key.to_vec()).unwrap();
            let found = scanned.found.unwrap();
            let siblings = if name == "key-7" { 2 } else { 1 };
            assert_eq!((scanned.siblings, found.siblings().len()), (siblings, siblings));
            assert_eq!(&found.siblings()[0].value[..], format!("value of {name}").as_bytes());
            count += 1;
        }
        assert_eq!(count, 100);
    });
}

#[test]
fn an_owner_that_fails_during_a_scan_is_replaced_where_it_stopped() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        db.put_many((0..500).map(|at| (format!("key-{at}"), "v"))).await;
        let mut scan = db.scan().level(Level::One);
        let mut found = BTreeSet::new();
        for at in 0.. {
            match at {
                50 => *cluster.node(0).control.scan_fails.lock().unwrap() = true,
                150 => cluster.node(1).kill(),
                _ => {}
            }
            let Some(scanned) = scan.next().await else { break };
            assert!(found.insert(scanned.unwrap().key), "a key came twice");
        }
        assert_eq!(found.len(), 500);
        *cluster.node(2).control.scan_fails.lock().unwrap() = true;
        let mut scan = db.scan();
        assert!(scan.next().await.unwrap().is_err());
        assert!(scan.next().await.is_none(), "a scan ends with its first error");
    });
}
