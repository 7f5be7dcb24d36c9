//! What closing a client does to operations under way and to those that come after.

use std::time::{Duration, Instant};

use quorate::Error;

use crate::support::{Act, Cluster, run};

#[test]
fn closing_waits_for_what_is_under_way_and_refuses_what_comes_after() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(100)));
        let other = db.clone();
        let puts = (0..50).map(|at| other.put(format!("key-{at}"), "v"));
        let mut puts: Vec<_> = puts.collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for put in &mut puts {
            assert!(std::pin::Pin::new(put).poll(&mut context).is_pending());
        }
        db.close().await;
        for put in puts {
            put.await.unwrap();
        }
        assert!(matches!(db.get("k").await, Err(Error::ClientClosed(_))));
        assert!(matches!(db.stats().await, Err(Error::ClientClosed(_))));
        db.close().await;
    });
}

#[test]
fn closing_does_not_wait_longer_than_the_timeouts() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        cluster.node(0).script(|_| Act::Hang);
        let mut put = db.put("k", "v").timeout(Duration::from_millis(100));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut put).poll(&mut context).is_pending());
        let began = Instant::now();
        db.close().await;
        assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
        assert!(matches!(put.await, Err(Error::Timeout(_))));
    });
}

#[test]
fn a_request_keeps_the_client_alive_after_its_last_handle_is_gone() {
    let cluster = Cluster::start(1);
    let db = run(cluster.client());
    let other = db.clone();
    drop(db);
    run(async { other.put("k", "v").await.unwrap() });
    let pending = other.get("k");
    drop(other);
    // A request holds the client, too.
    assert!(run(pending).unwrap().is_some());
}
