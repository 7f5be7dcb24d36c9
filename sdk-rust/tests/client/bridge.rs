//! The bridge for other languages: every question has its answer, once, in time, and one wake announces many.

mod aside;
mod batches;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate::{
    Client, Context, Error, Lookup,
    bridge::{Answer, Ask, CallOptions, DeleteEntry, Ended, Outbox, PutEntry, ScanOptions, Sink, Ticket, Waiter},
};

use crate::support::{Act, Cluster, run};

fn far() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn within(milliseconds: u64) -> CallOptions {
    CallOptions { timeout: Some(Duration::from_millis(milliseconds)), ..CallOptions::default() }
}

fn get(key: &str) -> Ask {
    Ask::Get { key: Bytes::copy_from_slice(key.as_bytes()), without_values: false }
}

fn entry(key: &str, value: &str) -> PutEntry {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    PutEntry { key, value, context: None, ttl: None }
}

fn put(key: &str, value: &str) -> Ask {
    Ask::Put(entry(key, value))
}

/// Asks and waits.
fn ask(client: &Client, question: Ask) -> Result<Answer, Error> {
    ask_with(client, question, &CallOptions::default())
}

fn ask_with(client: &Client, question: Ask, options: &CallOptions) -> Result<Answer, Error> {
    let waiter = Waiter::new();
    client.default_bucket().ask(question, options, 7, &waiter)?;
    waiter.wait(far()).expect("every call ends")
}

fn read(client: &Client, key: &str) -> Lookup {
    match ask(client, get(key)) {
        Ok(Answer::Read(lookup)) => lookup,
        other => panic!("{other:?}"),
    }
}

/// An outbox with the number of times it has woken its owner.
fn outbox() -> (Arc<Outbox>, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    (Outbox::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)), wakes)
}

/// Drains until so many have come.
fn drain(outbox: &Outbox, count: usize) -> Vec<Ended> {
    let (mut ended, mut piece, until) = (Vec::new(), Vec::new(), far());
    while ended.len() < count {
        assert!(Instant::now() < until, "only {} of {count} came", ended.len());
        outbox.drain(&mut piece);
        ended.append(&mut piece);
        thread::sleep(Duration::from_millis(1));
    }
    ended
}

#[test]
fn every_question_has_its_answer() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    assert!(matches!(ask(&client, put("k", "v")), Ok(Answer::Stored(stored)) if stored.siblings == 1));
    assert_eq!(&read(&client, "k").siblings()[0].value[..], b"v");
    let sizes = ask(&client, Ask::Get { key: "k".into(), without_values: true });
    assert!(
        matches!(sizes, Ok(Answer::Read(read)) if read.siblings()[0].value.is_empty() && read.siblings()[0].value_bytes == 1)
    );
    assert!(matches!(ask(&client, Ask::Exists { key: "k".into() }), Ok(Answer::Exists(true))));
    let Ok(Answer::Explanation(explanation)) = ask(&client, Ask::Explain { key: "k".into() }) else { panic!() };
    assert_eq!(explanation.owners.len(), 3);
    let delete = DeleteEntry { key: "k".into(), context: Some(read(&client, "k").context().clone()) };
    assert!(matches!(ask(&client, Ask::Delete(delete)), Ok(Answer::Stored(_))));
    assert!(matches!(ask(&client, Ask::Exists { key: "k".into() }), Ok(Answer::Exists(false))));
    assert!(matches!(read(&client, "k"), Lookup::Absent(absent) if !absent.context.is_empty()));
    let Ok(Answer::Pings(pings)) = ask(&client, Ask::Ping) else { panic!() };
    assert_eq!(pings.iter().map(|ping| &ping.name[..]).collect::<Vec<_>>(), ["n0", "n1", "n2"]);
    assert!(pings.iter().all(|ping| ping.took.is_ok()));
    let Ok(Answer::Stats(stats)) = ask(&client, Ask::Stats) else { panic!() };
    assert_eq!((stats.succeeded, stats.failed), (8, 0));
    assert!(matches!(ask(&client, Ask::Close), Ok(Answer::Closed)));
    assert!(matches!(ask(&client, get("k")), Err(Error::ClientClosed(_))));
    assert!(matches!(ask(&client, Ask::Stats), Err(Error::ClientClosed(_))));
    assert!(matches!(ask(&client, Ask::Close), Ok(Answer::Closed)), "closing twice is closing once");
}

#[test]
fn a_batch_has_a_result_for_each_entry_with_its_own_context() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    ask(&client, put("old", "1")).unwrap();
    let seen = read(&client, "old").context().clone();
    let with = |entry: PutEntry, context: Context| PutEntry { context: Some(context), ..entry };
    let entries = vec![
        entry("new", "2"),
        with(entry("old", "2"), seen),
        with(entry("old", "beside"), Context::EMPTY),
        entry(&"x".repeat(1025), "too long"),
        PutEntry { ttl: Some(Duration::from_secs(60)), ..entry("brief", "3") },
    ];
    let Ok(Answer::Writes(written)) = ask(&client, Ask::PutMany { entries }) else { panic!() };
    let siblings: Vec<_> = written.iter().map(|stored| stored.as_ref().map(|stored| stored.siblings).ok()).collect();
    assert_eq!((siblings[0], siblings[3], siblings[4]), (Some(1), None, Some(1)));
    assert!(matches!(written[3], Err(Error::TooLarge(_))));
    let mut values: Vec<_> = read(&client, "old").siblings().iter().map(|sibling| sibling.value.clone()).collect();
    values.sort();
    assert_eq!(values, [&b"2"[..], b"beside"]);
    let ttl = |key: &[u8]| {
        let written = cluster.seen().into_iter().find(|seen| &seen.operation.address.key[..] == key).unwrap();
        let quorate::Action::Put { ttl_ms, .. } = written.operation.action else { panic!() };
        ttl_ms
    };
    assert_eq!((ttl(b"brief"), ttl(b"new")), (60_000, 0));
    let keys = vec!["new".into(), "missing".into(), Bytes::new()];
    let Ok(Answer::Reads(reads)) = ask(&client, Ask::GetMany { keys }) else { panic!() };
    assert_eq!(&reads[0].as_ref().unwrap().siblings()[0].value[..], b"2");
    assert!(matches!(&reads[1], Ok(Lookup::Absent(_))) && matches!(&reads[2], Err(Error::InvalidRequest(_))));
    let deletes = ["new", "old"].map(|key| DeleteEntry { key: key.into(), context: None });
    let nothing = DeleteEntry { key: "new".into(), context: Some(Context::EMPTY) };
    let entries = deletes.into_iter().chain([nothing]).collect();
    let Ok(Answer::Writes(deleted)) = ask(&client, Ask::DeleteMany { entries }) else { panic!() };
    assert!(deleted[0].is_ok() && deleted[1].is_ok() && matches!(deleted[2], Err(Error::InvalidRequest(_))));
    assert!(matches!(ask(&client, Ask::GetMany { keys: Vec::new() }), Ok(Answer::Reads(reads)) if reads.is_empty()));
}

#[test]
fn a_batch_of_more_than_a_window_is_one_answer() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    let (outbox, wakes) = outbox();
    let entries = (0..10_000).map(|at| entry(&format!("key-{at}"), "v")).collect();
    client.default_bucket().ask(Ask::PutMany { entries }, &within(15_000), 5, &outbox).unwrap();
    let ended = drain(&outbox, 1);
    let [Ended { token: 5, result: Ok(Answer::Writes(written)) }] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!(written.iter().filter(|result| result.is_ok()).count(), 10_000);
    assert_eq!((cluster.map.writes(), wakes.load(Ordering::SeqCst)), (10_000, 1));
}

#[test]
fn one_wake_announces_many_answers() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    ask(&client, put("k", "v")).unwrap();
    let (outbox, wakes) = outbox();
    // The first call holds the others back, so that they travel together.
    cluster.node(0).first([Act::ServeAfter(Duration::from_millis(100))]);
    for token in 0..201 {
        client.default_bucket().ask(get("k"), &CallOptions::default(), token, &outbox).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    let woken = wakes.load(Ordering::SeqCst);
    let mut tokens: Vec<_> = drain(&outbox, 201).into_iter().map(|ended| ended.token).collect();
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..201));
    assert_eq!(woken, 1, "nobody drained, so nobody needs another wake");
    client.default_bucket().ask(get("k"), &CallOptions::default(), 0, &outbox).unwrap();
    drain(&outbox, 1);
    assert_eq!(wakes.load(Ordering::SeqCst), 2, "after draining the next answer wakes again");
}

#[test]
fn options_of_a_call_go_before_the_buckets() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    let bucket = client.bucket("carts").level(quorate::Level::All).replicas(2, 2);
    let waiter = Waiter::new();
    let options = CallOptions { level: Some(quorate::Level::One), r: 1, w: 0, n: 2, timeout: None };
    bucket.ask(put("k", "v"), &options, 1, &waiter).unwrap();
    waiter.wait(far()).unwrap().unwrap();
    let seen = cluster.seen().pop().unwrap().operation;
    assert_eq!(&seen.address.bucket[..], b"carts");
    let consistency = seen.consistency;
    let numbers = (consistency.r, consistency.w, consistency.n);
    assert_eq!((consistency.level, numbers), (Some(quorate::Level::One), (1, 2, 2)));
}

#[test]
fn what_is_wrong_from_the_start_is_an_error_at_once_and_not_told() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    let (outbox, wakes) = outbox();
    let refused = client.default_bucket().ask(get(""), &CallOptions::default(), 1, &outbox);
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    let nothing = Ask::Delete(DeleteEntry { key: "k".into(), context: Some(Context::EMPTY) });
    assert!(client.default_bucket().ask(nothing, &CallOptions::default(), 1, &outbox).is_err());
    assert_eq!(wakes.load(Ordering::SeqCst), 0);
}

#[test]
fn every_call_ends_by_its_deadline_when_a_node_hangs() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    ask(&client, put("k", "v")).unwrap();
    cluster.node(0).script(|_| Act::Hang);
    for (question, writes) in [
        (get("k"), false),
        (put("k", "w"), true),
        (Ask::GetMany { keys: vec!["k".into(); 9000] }, false),
        (Ask::PutMany { entries: vec![entry("k", "w"); 3] }, true),
    ] {
        let began = Instant::now();
        let result = ask_with(&client, question, &within(150));
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
        let errors: Vec<Error> = match result {
            Err(error) => vec![error],
            Ok(Answer::Reads(reads)) => reads.into_iter().map(Result::unwrap_err).collect(),
            Ok(Answer::Writes(writes)) => writes.into_iter().map(Result::unwrap_err).collect(),
            Ok(other) => panic!("{other:?}"),
        };
        assert!(matches!(errors[0], Error::Timeout(_)), "{:?}", errors[0]);
        // After enough calls without an answer the link counts as broken, and what was not sent says so.
        let expected = |error: &Error| matches!(error, Error::Timeout(_) | Error::Connection(_));
        assert!(errors.iter().all(expected));
        assert_eq!(errors[0].maybe_applied(), writes);
    }
}

#[test]
fn closing_in_flight_ends_every_call_once() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    let (outbox, _) = outbox();
    ask(&client, put("k", "v")).unwrap();
    cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(100)));
    let pages = client.default_bucket().scan_pages(&ScanOptions { values: true, ..ScanOptions::default() });
    let questions =
        [get("k"), put("k", "w"), Ask::GetMany { keys: vec!["k".into(); 9000] }, Ask::ScanPage(pages), Ask::Close];
    for (token, question) in (0..).zip(questions) {
        client.default_bucket().ask(question, &within(1500), token, &outbox).unwrap();
    }
    let ended = drain(&outbox, 5);
    thread::sleep(Duration::from_millis(50));
    outbox.drain(&mut Vec::new());
    assert_eq!(ended.len(), 5);
    assert_eq!(ended.last().map(|ended| ended.token), Some(4), "closed is told last");
    for ended in ended {
        match (ended.token, ended.result) {
            (0, Ok(Answer::Read(_))) | (1, Ok(Answer::Stored(_))) | (4, Ok(Answer::Closed)) => {}
            (2, Ok(Answer::Reads(reads))) => {
                let closed = reads.iter().filter(|read| matches!(read, Err(Error::ClientClosed(_)))).count();
                assert!((1..9000).contains(&closed), "{closed} of what was not begun");
            }
            (3, Err(Error::ClientClosed(_))) => {}
            (token, result) => panic!("{token}: {result:?}"),
        }
    }
}

#[test]
fn a_call_that_was_withdrawn_is_not_told_and_not_sent_again() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    ask(&client, put("k", "v")).unwrap();
    let (outbox, wakes) = outbox();
    cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(200)));
    client.default_bucket().ask(get("k"), &CallOptions::default(), 0, &outbox).unwrap();
    thread::sleep(Duration::from_millis(50));
    let before = cluster.seen().len();
    let pages = client.default_bucket().scan_pages(&ScanOptions { values: true, ..ScanOptions::default() });
    let questions = [put("k", "w"), Ask::GetMany { keys: vec!["k".into(); 9000] }, Ask::ScanPage(Arc::clone(&pages))];
    let tickets: Vec<Ticket> = (1..)
        .zip(questions)
        .map(|(token, question)| {
            client.default_bucket().ask(question, &CallOptions::default(), token, &outbox).unwrap()
        })
        .collect();
    tickets.into_iter().for_each(|ticket| client.withdraw(ticket));
    let ended = drain(&outbox, 1);
    thread::sleep(Duration::from_millis(300));
    let mut more = Vec::new();
    outbox.drain(&mut more);
    assert_eq!((ended[0].token, ended.len(), more.len()), (0, 1, 0));
    assert_eq!(wakes.load(Ordering::SeqCst), 1);
    assert!(cluster.seen().len() - before < 2000, "no more than may be under way at the same time");
    assert!(matches!(ask(&client, Ask::ScanPage(pages)), Ok(Answer::Page(_))), "the scan can be asked again");
    assert_eq!(run(client.stats()).unwrap().waiting, 0);
}

#[test]
fn an_abandoned_outbox_takes_nothing_and_wakes_nobody() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    ask(&client, put("k", "v")).unwrap();
    let (outbox, wakes) = outbox();
    cluster.node(0).first([Act::ServeAfter(Duration::from_millis(100))]);
    client.subscribe(9, &outbox);
    for token in 0..100 {
        client.default_bucket().ask(get("k"), &CallOptions::default(), token, &outbox).unwrap();
    }
    client.default_bucket().ask(Ask::Stats, &CallOptions::default(), 100, &outbox).unwrap();
    outbox.abandon();
    outbox.deliver(0, Ok(Answer::Closed));
    let before = wakes.load(Ordering::SeqCst);
    thread::sleep(Duration::from_millis(250));
    let mut ended = Vec::new();
    outbox.drain(&mut ended);
    assert!(ended.is_empty());
    assert_eq!(wakes.load(Ordering::SeqCst), before);
    assert_eq!(run(client.stats()).unwrap().in_flight, 0);
}

#[test]
fn an_outbox_whose_owner_looks_wakes_it_only_when_it_rests() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    let (outbox, wakes) = outbox();
    outbox.attend();
    client.default_bucket().ask(put("k", "v"), &CallOptions::default(), 1, &outbox).unwrap();
    assert_eq!(drain(&outbox, 1).len(), 1);
    assert_eq!(wakes.load(Ordering::SeqCst), 0, "its owner saw the answer by itself");
    outbox.rest();
    assert_eq!(wakes.load(Ordering::SeqCst), 0, "there is nothing to wake for");
    outbox.attend();
    client.default_bucket().ask(get("k"), &CallOptions::default(), 2, &outbox).unwrap();
    // An answer that waits for the question of another sink has been delivered, too: both are of the same thread.
    read(&client, "k");
    outbox.rest();
    assert_eq!((wakes.load(Ordering::SeqCst), drain(&outbox, 1).len()), (1, 1), "it had not looked");
}

#[test]
fn a_waiter_gives_up_by_itself_when_nobody_answers() {
    let waiter = Waiter::new();
    waiter.expect(1, Instant::now() + Duration::from_millis(50), true);
    let began = Instant::now();
    assert!(waiter.wait(began + Duration::from_millis(20)).is_none(), "asked to look up in between");
    let Some(Err(error)) = waiter.wait(far()) else { panic!("nobody answered") };
    assert!(matches!(error, Error::Timeout(_)) && error.maybe_applied());
    assert!(began.elapsed() >= Duration::from_millis(50) && began.elapsed() < Duration::from_secs(2));
    assert!(waiter.is_left());
    waiter.deliver(1, Ok(Answer::Closed));
    assert!(waiter.wait(Instant::now()).is_none_or(|answer| answer.is_err()), "what comes late is dropped");
}

#[test]
fn a_waiter_serves_one_call_after_another_and_is_woken_from_sleep() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    let waiter = Waiter::new();
    for at in 0..200 {
        if at % 50 == 0 {
            cluster.node(0).first([Act::ServeAfter(Duration::from_millis(20))]);
        }
        client.default_bucket().ask(put("k", &at.to_string()), &CallOptions::default(), at, &waiter).unwrap();
        assert!(matches!(waiter.wait(far()), Some(Ok(Answer::Stored(_)))));
    }
    assert_eq!(cluster.map.writes(), 200);
}

#[test]
fn an_update_reads_merges_writes_and_asks_for_another_round_when_another_was_quicker() {
    let cluster = Cluster::start(3);
    let client = run(cluster.client());
    ask(&client, put("cart", "a")).unwrap();
    let update = client.default_bucket().begin_update("cart".into(), &within(5000));
    let values = || match ask(&client, Ask::UpdateRead(Arc::clone(&update))) {
        Ok(Answer::Values(values)) => values,
        other => panic!("{other:?}"),
    };
    let write = |value: &'static str| match ask(&client, Ask::UpdateWrite(Arc::clone(&update), value.into())) {
        Ok(Answer::Updated(updated)) => updated,
        other => panic!("{other:?}"),
    };
    assert_eq!(values(), [&b"a"[..]]);
    ask(&client, put("cart", "b")).unwrap();
    assert!(write("ac").is_none(), "another writer was quicker");
    let mut both = values();
    both.sort();
    assert_eq!(both, [&b"ac"[..], b"b"]);
    assert_eq!(write("abc").unwrap().siblings, 1);
    assert!(matches!(
        ask(&client, Ask::UpdateWrite(Arc::clone(&update), "again".into())),
        Err(Error::InvalidRequest(_))
    ));
    assert!(!update.remaining().is_zero() && update.remaining() < Duration::from_secs(5));
    assert!(update.overdue().maybe_applied(), "the first round stored something");
    let late = client.default_bucket().begin_update("cart".into(), &within(30));
    thread::sleep(Duration::from_millis(60));
    assert_eq!(late.remaining(), Duration::ZERO);
    let overdue = late.overdue();
    assert!(
        matches!(overdue, Error::Timeout(_))
            && !overdue.maybe_applied()
            && overdue.elapsed() >= Duration::from_millis(60)
    );
    assert!(matches!(ask(&client, Ask::UpdateRead(late)), Err(Error::Timeout(_))));
}

#[test]
fn thousands_of_calls_can_be_withdrawn_at_once() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    ask(&client, put("k", "v")).unwrap();
    let (outbox, _) = outbox();
    cluster.node(0).script(|_| Act::Hang);
    let ask_one = |token| client.default_bucket().ask(get("k"), &within(20_000), token, &outbox).unwrap();
    let tickets: Vec<Ticket> = (0..20_000).map(ask_one).collect();
    let began = Instant::now();
    tickets.into_iter().for_each(|ticket| client.withdraw(ticket));
    let stats = run(client.stats()).unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((stats.in_flight, stats.waiting, stats.cancelled), (0, 0, 20_000));
}
