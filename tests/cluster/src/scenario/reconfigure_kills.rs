//! Row "reconfigure-kills": the node that partitions come from, the one they go to, and an elector while a commit is being decided, are
//! killed in turn. What moves goes on where it was when the node is back: nothing comes a second time, and it always ends. A commit whose
//! elector or proposer died is decided by those who are left, or by the same command again.

use std::time::{Duration, Instant};

use quorate::Client;
use quorate_tests::cluster::Options;
use tokio::{task::block_in_place, time::sleep};

use super::{
    Settings, come_to_rest, debian, progress,
    reconfigure::{Concluded, KEYS, LOAD_TIMEOUT, TIMEOUT, conclude, work},
};
use crate::{
    changing::{Change, Changing, PATIENCE, Received, Standing},
    figures::Finding,
    random::Random,
};

/// Records besides those that the clients write: enough that a move takes longer than a moment.
const RECORDS: usize = 20_000;

/// The weights of the fourth node, in turn: partitions come to it and go again.
const WEIGHTS: [&str; 2] = ["40", "100"];

/// The number of the fourth node.
const FOURTH: usize = 3;

/// Three attempts: a node that is killed takes the operations with it that it has, and they must not fail for that.
const ATTEMPTS: u32 = 3;

/// Of a change in whose middle a node was killed half of the bytes had come on the average: beginning again would make one and a half
/// times the bytes. Less than that is asked, and more than the records which are written meanwhile and come twice.
const RECEIVED_MAX: f64 = 1.2;

/// How often the same commit is given again after the node that had it died.
const COMMITS_MAX: usize = 20;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// A node that partitions come from.
    Sender,
    /// A node that they go to.
    Receiver,
    /// One of those that decide about the change, while they do.
    Elector,
}

/// What was seen in all rounds together.
#[derive(Debug, Default)]
struct Seen {
    senders: u64,
    receivers: u64,
    electors: u64,
    /// Of the electors those that were killed before the commit had ended, and those through which it went.
    deciding: u64,
    proposers: u64,
    /// Of the others, those that were killed while something moved.
    in_the_middle: u64,
    /// Of all, those that had more to get afterwards than before.
    from_nothing: u64,
    longest: Duration,
    /// How long a commit takes at least when nobody is killed.
    commit_takes: Duration,
    /// What was to move, in copies of partitions, and the bytes that came.
    moved: u64,
    received: u64,
    /// The largest number of bytes for a copy of a partition in one round.
    dearest: f64,
}

/// Kills a node in the middle of a change, `rounds` times.
pub fn reconfigure_kills(settings: &Settings, rounds: u64) -> Finding {
    let (index, source) = debian::index(RECORDS);
    settings.run(20 + rounds, async {
        let mut ring = Changing::start(&Options::default());
        let clients = [ring.client(TIMEOUT, ATTEMPTS).await, ring.client(TIMEOUT, ATTEMPTS).await];
        let loader = ring.client(LOAD_TIMEOUT, ATTEMPTS).await;
        debian::load(&loader, &index).await;
        loader.close().await;
        let mut random = Random::new(settings.seed);
        let workload = work(&clients, random.number());
        block_in_place(|| ring.cluster.join(0, "zone = \"z3\""));
        ring.commit_and_wait(1);
        let mut seen = Seen { commit_takes: PATIENCE, ..Seen::default() };
        for number in 0..rounds {
            seen.add_round(&mut ring, &clients[0], number, &mut random).await;
        }
        let (recorder, tally) = workload.finish().await;
        let read = debian::read_all(&clients[0], &index).await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = clients[0].ring();
        for client in &clients {
            client.close().await;
        }
        let Concluded { report, leftovers, copy_bytes } =
            conclude("reconfigure-kills", settings, &mut ring, &layout, &recorder);
        let failed = tally.failed_count();
        let ratio = seen.received as f64 / (seen.moved as f64 * copy_bytes);
        let dearest = seen.dearest / copy_bytes;
        let is_good = report.is_clean()
            && failed == 0
            && read.right == index.len()
            && seen.from_nothing == 0
            && dearest <= RECEIVED_MAX
            && leftovers == 0
            && seen.in_the_middle * 2 > seen.senders + seen.receivers
            && seen.deciding * 2 >= seen.electors;
        let Seen { senders, receivers, electors, deciding, proposers, in_the_middle, from_nothing, longest, .. } = seen;
        let seen = format!(
            "{rounds} kills: {senders} senders and {receivers} receivers, {in_the_middle} of them while something moved, {electors} electors, \
             {deciding} of them before the commit had ended and {proposers} of them its proposer; {from_nothing} began anew, all got {ratio:.2} \
             of the bytes that moved and in the dearest round {dearest:.2}, each change over within {longest:.1?}; {} records of {source}: \
             {read}; {report}; failed: {}; {leftovers} records left at former owners; {rest}",
            index.len(),
            if failed == 0 { "none".to_owned() } else { tally.failures() },
        );
        Finding::new(is_good, seen)
    })
}

impl Seen {
    /// A change with a kill in it, until it is over.
    async fn add_round(&mut self, ring: &mut Changing, client: &Client, number: u64, random: &mut Random) {
        let victim = [Victim::Sender, Victim::Receiver, Victim::Elector][(number % 3) as usize];
        let comes = number % 2 == 1;
        let mut received = Received::default();
        received.look(&ring.standing());
        let before = received.total();
        ring.ring(&["stage", "reweight", "n4", WEIGHTS[(number % 2) as usize]]);
        let plan = ring.plan(1);
        let started = Instant::now();
        let node = match (victim, comes) {
            (Victim::Sender, true) | (Victim::Receiver, false) => random.below(3) as usize,
            (Victim::Sender, false) | (Victim::Receiver, true) => FOURTH,
            (Victim::Elector, _) => *random.choose(&ring.electors(client)),
        };
        match victim {
            Victim::Sender | Victim::Receiver => {
                self.kill_while_it_moves(ring, &plan, node, random, &mut received).await
            }
            Victim::Elector => self.kill_while_it_is_decided(ring, &plan, node, random, &mut received).await,
        }
        match victim {
            Victim::Sender => self.senders += 1,
            Victim::Receiver => self.receivers += 1,
            Victim::Elector => self.electors += 1,
        }
        block_in_place(|| ring.wait_until_settled(plan.epoch));
        received.look(&ring.standing());
        let received = received.total() - before;
        self.longest = self.longest.max(started.elapsed());
        self.moved += plan.moved;
        self.received += received;
        self.dearest = self.dearest.max(received as f64 / plan.moved.max(1) as f64);
        progress(
            "reconfigure-kills",
            &format!(
                "round {number}: {victim:?} n{} killed, {} copies of partitions and {:.1} MB moved, over after {:.1?}",
                node + 1,
                plan.moved,
                received as f64 / 1e6,
                started.elapsed()
            ),
        );
    }

    /// Kills a node when a part of what moves has come.
    async fn kill_while_it_moves(
        &mut self,
        ring: &mut Changing,
        plan: &Change,
        node: usize,
        random: &mut Random,
        received: &mut Received,
    ) {
        let began = Instant::now();
        let decided = ring.begin(plan, &ring.cluster.running()).end();
        assert!(decided.code == 0, "not decided: {decided:?}");
        self.commit_takes = self.commit_takes.min(began.elapsed());
        let enough = plan.moved * (30 + random.below(50)) / 100;
        // Only when everybody knows of the change, it can be seen how far it is.
        let is_enough = |standing: &Standing| standing.epoch >= plan.epoch && standing.coming <= enough;
        let mut standing = ring.standing();
        while !is_enough(&standing) && began.elapsed() < PATIENCE {
            standing = ring.standing();
        }
        received.look(&standing);
        self.kill(ring, node, random, received).await;
        self.in_the_middle += u64::from(standing.open() > 0);
        let after = ring.standing();
        // What a node had got is not to come a second time.
        let coming = |standing: &Standing| standing.of(node).map(|(coming, _)| coming);
        self.from_nothing +=
            u64::from(coming(&standing).zip(coming(&after)).is_some_and(|(before, after)| after > before));
    }

    /// Kills an elector at some moment of the commit; every other time the one that has the commit. Then the same commit again, until it
    /// is known to be decided.
    async fn kill_while_it_is_decided(
        &mut self,
        ring: &mut Changing,
        plan: &Change,
        node: usize,
        random: &mut Random,
        received: &mut Received,
    ) {
        let is_proposer = random.below(2) == 0;
        let through = if is_proposer { node } else { (node + 1) % 3 };
        let mut commit = ring.begin(plan, &ring.cluster.address(through).to_string());
        // At any moment between the start of the command and the end it would have. The sooner half of that it connects and looks at
        // what is staged.
        sleep(self.commit_takes.mul_f64((25 + random.below(70)) as f64 / 100.0)).await;
        self.deciding += u64::from(commit.is_running());
        self.proposers += u64::from(is_proposer);
        self.kill(ring, node, random, received).await;
        let mut ran = commit.end();
        for _ in 0..COMMITS_MAX {
            if ran.code == 0 {
                return;
            }
            sleep(Duration::from_millis(250)).await;
            ran = ring.begin(plan, &ring.cluster.running()).end();
        }
        panic!("{COMMITS_MAX} times not decided: {ran:?}");
    }

    /// Kills a node, and starts it again a moment later.
    async fn kill(&mut self, ring: &mut Changing, node: usize, random: &mut Random, received: &mut Received) {
        ring.cluster.kill(node);
        received.ended(node);
        sleep(Duration::from_millis(100 + random.below(400))).await;
        block_in_place(|| ring.cluster.restart(node));
    }
}
