//! Batches that several I/O threads end at the same time: one answer, with a result for each entry.

use bytes::Bytes;
use quorate::{
    Lookup,
    bridge::{Answer, Ask},
};

use super::{ask, entry};
use crate::support::{Cluster, run};

/// Batches of each kind. Every round is another chance for two threads to end one at the same moment.
const ROUNDS: usize = 1500;

/// Entries of one batch: a few for each thread, so that they end close to each other.
const ENTRIES: usize = 6;

#[test]
fn a_batch_that_several_threads_end_has_every_result() {
    let cluster = Cluster::start(3);
    let client = run(cluster.builder().io_threads(3).connect()).unwrap();
    let names: Vec<String> = (0..ENTRIES).map(|at| format!("key {at}")).collect();
    for round in 0..ROUNDS {
        let value = format!("value {round}");
        if round % 10 == 0 {
            let entries = names.iter().map(|name| entry(name, &value)).collect();
            let Ok(Answer::Writes(written)) = ask(&client, Ask::PutMany { entries }) else { panic!("round {round}") };
            assert_eq!(written.len(), ENTRIES, "round {round}");
            written.into_iter().for_each(|stored| drop(stored.unwrap()));
        }
        // What no node needs to be asked for ends in the caller's thread, before, between and after the others.
        let mut keys: Vec<Bytes> = names.iter().map(|name| Bytes::copy_from_slice(name.as_bytes())).collect();
        keys.insert(round % (ENTRIES + 1), Bytes::new());
        let Ok(Answer::Reads(reads)) = ask(&client, Ask::GetMany { keys }) else { panic!("round {round}") };
        assert_eq!(reads.len(), ENTRIES + 1, "round {round}");
        for (at, read) in reads.iter().enumerate() {
            match read {
                Ok(Lookup::Found(found)) => assert!(found.siblings()[0].value.starts_with(b"value "), "{round}"),
                Ok(Lookup::Absent(_)) => panic!("round {round}: entry {at} is missing"),
                Err(error) => assert_eq!(at, round % (ENTRIES + 1), "round {round}: {error}"),
            }
        }
    }
}
