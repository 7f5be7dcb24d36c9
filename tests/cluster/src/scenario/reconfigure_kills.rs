//! Row "reconfigure-kills": while partitions move, the node they come from, the one they go to, or an elector is killed, in turn. What
//! moves goes on where it was when the node is back: it never begins from nothing, and it always ends.

use std::time::{Duration, Instant};

use quorate_tests::cluster::Options;
use tokio::{task::block_in_place, time::sleep};

use super::{
    Settings, come_to_rest, debian, progress,
    reconfigure::{KEYS, TIMEOUT, conclude, work},
};
use crate::{changing::Changing, figures::Finding, random::Random};

/// Records besides those that the clients write: enough that a move takes longer than a moment.
const RECORDS: usize = 20_000;

/// The weights of the fourth node, in turn: partitions come to it and go again.
const WEIGHTS: [&str; 2] = ["40", "100"];

/// The number of the fourth node.
const FOURTH: usize = 3;

/// Three attempts: a node that is killed takes the operations with it that it has, and they must not fail for that.
const ATTEMPTS: u32 = 3;

/// Kills a node in the middle of a change, `rounds` times.
pub fn reconfigure_kills(settings: &Settings, rounds: u64) -> Finding {
    let (index, source) = debian::index(RECORDS);
    settings.run(20 + rounds, async {
        let mut ring = Changing::start(&Options::default());
        let clients = [ring.client(TIMEOUT, ATTEMPTS).await, ring.client(TIMEOUT, ATTEMPTS).await];
        debian::load(&clients[0], &index).await;
        let mut random = Random::new(settings.seed);
        let workload = work(&clients, random.number());
        block_in_place(|| ring.cluster.join(0, "zone = \"z3\""));
        ring.commit_and_wait(1);
        let (mut in_the_middle, mut from_nothing, mut longest) = (0, 0, Duration::ZERO);
        for round in 0..rounds {
            ring.ring(&["stage", "reweight", "n4", WEIGHTS[(round % 2) as usize]]);
            let change = ring.commit(1);
            let started = Instant::now();
            sleep(Duration::from_millis(20 + random.below(400))).await;
            let comes = round % 2 == 1;
            let victim = match (round / 2) % 3 {
                // Who sends, who receives, and one of the electors, which the first nodes are.
                0 => if comes { random.below(3) as usize } else { FOURTH },
                1 => if comes { FOURTH } else { random.below(3) as usize },
                _ => random.below(3) as usize,
            };
            let before = ring.standing();
            ring.cluster.kill(victim);
            sleep(Duration::from_millis(100 + random.below(400))).await;
            block_in_place(|| ring.cluster.restart(victim));
            let after = ring.standing();
            in_the_middle += u64::from(before.open() > 0);
            // What a node had got is not to come a second time.
            let coming = |standing: &crate::changing::Standing| standing.of(victim).map(|(coming, _)| coming);
            from_nothing += u64::from(coming(&before).zip(coming(&after)).is_some_and(|(before, after)| after > before));
            block_in_place(|| ring.wait_until_settled(change.epoch));
            longest = longest.max(started.elapsed());
            progress(
                "reconfigure-kills",
                &format!("round {round}: n{} killed with {} open, over after {:.1?}", victim + 1, before.open(), started.elapsed()),
            );
        }
        let (recorder, tally) = workload.finish().await;
        let read = debian::read_all(&clients[0], &index).await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = clients[0].ring();
        for client in &clients {
            client.close().await;
        }
        let (report, leftovers) = conclude("reconfigure-kills", settings, &mut ring, &layout, &recorder);
        let failed = tally.failed_count();
        let is_good = report.is_clean()
            && failed == 0
            && read.right == index.len()
            && from_nothing == 0
            && leftovers == 0
            && in_the_middle * 2 > rounds;
        let seen = format!(
            "{rounds} kills of senders, receivers and electors, {in_the_middle} while something moved, {from_nothing} began anew, each change over \
             within {longest:.1?}; {} records of {source}: {read}; {report}; failed: {}; {leftovers} records left at former owners; {rest}",
            index.len(),
            if failed == 0 { "none".to_owned() } else { tally.failures() },
        );
        Finding::new(is_good, seen)
    })
}
