//! The bridge's calls that are no operations: connecting, scans, pings, and what subscribers are told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quorate::{
    Client, Error,
    bridge::{self, Answer, Ask, Event, ScanOptions, Waiter},
};

use super::{ask, ask_with, drain, entry, far, outbox, put, read, within};
use crate::support::{Cluster, run};

#[test]
fn connecting_gives_a_client_or_an_error() {
    let cluster = Cluster::start(1);
    let waiter = Waiter::new();
    bridge::connect(cluster.builder(), 3, &waiter).unwrap();
    let Some(Ok(Answer::Connected(client))) = waiter.wait(far()) else { panic!("no client") };
    assert!(read(&client, "k").siblings().is_empty());
    assert!(matches!(bridge::connect(Client::builder(), 3, &waiter), Err(Error::InvalidRequest(_))));
    cluster.node(0).kill();
    bridge::connect(cluster.builder(), 3, &waiter).unwrap();
    assert!(matches!(waiter.wait(far()), Some(Err(Error::Connection(_)))));
}

#[test]
fn an_endpoint_that_does_not_answer_is_not_waited_for() {
    let cluster = Cluster::start(1);
    // Takes connections, and that is all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = || cluster.builder().endpoints(&silent.local_addr().unwrap().to_string());
    for _ in 0..6 {
        let (waiter, began) = (Waiter::new(), Instant::now());
        bridge::connect(builder(), 0, &waiter).unwrap();
        assert!(matches!(waiter.wait(far()), Some(Ok(Answer::Connected(_)))));
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    }
    cluster.node(0).kill();
    let (waiter, began) = (Waiter::new(), Instant::now());
    bridge::connect(builder(), 0, &waiter).unwrap();
    let Some(Err(error)) = waiter.wait(far()) else { panic!("nobody answers") };
    assert!(error.message().contains("no answer within") && error.message().contains("refused"), "{error}");
    assert!(began.elapsed() <= builder().connect_within() + Duration::from_millis(200));
}

#[test]
fn a_scan_comes_page_by_page_and_ends_with_an_empty_one() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    let entries = (0..700).map(|at| entry(&format!("key-{at:03}"), "value")).collect();
    ask(&client, Ask::PutMany { entries }).unwrap();
    for values in [false, true] {
        let pages = client.default_bucket().scan_pages(&ScanOptions { values, ..ScanOptions::default() });
        let mut keys = Vec::new();
        loop {
            let Ok(Answer::Page(page)) = ask(&client, Ask::ScanPage(Arc::clone(&pages))) else { panic!() };
            if page.is_empty() {
                break;
            }
            assert!(page.iter().all(|scanned| scanned.found.is_some() == values && scanned.value_bytes == 5));
            keys.extend(page.into_iter().map(|scanned| scanned.key));
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 700);
    }
    cluster.nodes.iter().for_each(|node| *node.control.scan_fails.lock().unwrap() = true);
    let pages = client.default_bucket().scan_pages(&ScanOptions::default());
    assert!(matches!(ask(&client, Ask::ScanPage(Arc::clone(&pages))), Err(Error::Unavailable(_))));
    assert!(matches!(ask(&client, Ask::ScanPage(pages)), Ok(Answer::Page(page)) if page.is_empty()));
}

#[test]
fn subscribers_are_told_of_nodes_that_go_and_come_and_of_new_layouts() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    let (outbox, _) = outbox();
    client.subscribe(42, &outbox);
    let event = || {
        let ended = drain(&outbox, 1);
        assert!(ended.iter().all(|ended| ended.token == 42));
        match &ended[0].result {
            Ok(Answer::Event(event)) => event.clone(),
            other => panic!("{other:?}"),
        }
    };
    ask(&client, put("k", "v")).unwrap();
    assert!(matches!(event(), Event::NodeUp { name, .. } if name == "n0"));
    cluster.node(0).kill();
    assert!(matches!(event(), Event::NodeDown { name, .. } if name == "n0"));
    cluster.node(0).restart();
    assert!(matches!(event(), Event::NodeUp { .. }));
    let next = crate::support::layout(&[cluster.node(0).address.clone()], 2);
    cluster.publish(&next);
    ask(&client, put("k", "v")).unwrap();
    assert_eq!(event(), Event::Topology { epoch: 2, generation: 0 });
}

#[test]
fn a_page_survives_an_owner_that_does_not_answer_and_ends_in_time_when_none_does() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    let entries = (0..100).map(|at| entry(&format!("key-{at:03}"), "value")).collect();
    ask(&client, Ask::PutMany { entries }).unwrap();
    *cluster.node(0).control.silent.lock().unwrap() = true;
    let options = ScanOptions { timeout: Some(Duration::from_millis(1500)), ..ScanOptions::default() };
    let pages = client.default_bucket().scan_pages(&options);
    let mut keys = 0;
    loop {
        let Ok(Answer::Page(page)) = ask(&client, Ask::ScanPage(Arc::clone(&pages))) else {
            panic!("it has two more owners")
        };
        if page.is_empty() {
            break;
        }
        keys += page.len();
    }
    assert_eq!(keys, 100);
    cluster.nodes.iter().for_each(|node| *node.control.silent.lock().unwrap() = true);
    let pages =
        client.default_bucket().scan_pages(&ScanOptions { timeout: Some(Duration::from_millis(300)), ..options });
    let began = Instant::now();
    assert!(matches!(ask(&client, Ask::ScanPage(pages)), Err(Error::Timeout(_))));
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
}

#[test]
fn a_ping_tells_of_each_node_also_when_one_is_silent_and_one_is_gone() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    *cluster.node(1).control.silent.lock().unwrap() = true;
    cluster.node(2).kill();
    let began = Instant::now();
    let Ok(Answer::Pings(pings)) = ask_with(&client, Ask::Ping, &within(500)) else { panic!("it has an answer") };
    assert!(began.elapsed() <= Duration::from_millis(700), "{:?}", began.elapsed());
    assert!(pings[0].took.is_ok());
    assert!(matches!(pings[1].took, Err(Error::Timeout(_))), "{:?}", pings[1].took);
    assert!(matches!(pings[2].took, Err(Error::Connection(_))), "{:?}", pings[2].took);
}
