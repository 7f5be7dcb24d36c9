//! What the client says in passing, as a library in another language sees it. In a process of its own: the subscriber is the process's.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use quorate::bridge::log::{self, Level};

#[test]
fn records_gather_from_the_level_up_and_the_oldest_are_forgotten_when_there_are_too_many() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    log::on_records(move || _ = counted.fetch_add(1, Ordering::SeqCst));
    assert!(log::install(Level::WARN));
    let mut records = Vec::new();
    assert_eq!(log::drain(&mut records), 0);

    tracing::info!("not bad enough");
    tracing::warn!(node = "n1", attempts = 3, "it went wrong");
    tracing::error!(error = %"a \"quoted\" reason", "it went very wrong");
    assert_eq!(wakes.load(Ordering::SeqCst), 1, "one wake until somebody drains");
    assert_eq!(log::drain(&mut records), 0);
    let said: Vec<_> = records.iter().map(|record| (record.level, &record.message[..])).collect();
    let expected = [
        (Level::WARN, "it went wrong node=\"n1\" attempts=3"),
        (Level::ERROR, "it went very wrong error=a \"quoted\" reason"),
    ];
    assert_eq!(said, expected);
    assert_eq!(records[0].target, "log");

    assert!(log::install(Level::DEBUG), "the level can be changed");
    records.clear();
    (0..5000).for_each(|at| tracing::debug!("record {at}"));
    let forgotten = log::drain(&mut records);
    assert_eq!((forgotten, records.len()), (5000 - 4096, 4096));
    assert_eq!(records[4095].message, "record 4999");
    assert_eq!(wakes.load(Ordering::SeqCst), 2);

    records.clear();
    tracing::warn!("{}", "é".repeat(10_000));
    log::drain(&mut records);
    assert!(records[0].message.len() <= 4096 && records[0].message.starts_with("éé"));
}
