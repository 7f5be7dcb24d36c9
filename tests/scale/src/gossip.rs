//! What gossip costs as a cluster grows: bytes per node and second when nothing happens, and how long it takes until everybody knows of
//! a new epoch, of a death, and of a return. All nodes run in this process under a made-up clock, with the server's own members and packets
//! ([`Swim`]), sealed and all. They begin as a cluster that has stood for a while: everybody knows of everybody.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use dynamo::ident::NodeId;
use server::gossip::{Happening, Identity, Membership, News, Rhythm, Roster, Seal, Swim};

use crate::{dice::Dice, zone};

/// What a packet spends on IPv4 and UDP.
const HEADERS_BYTES: u64 = 28;

/// A packet's way within a zone and between two, in microseconds; it may take up to twice as long.
const NEAR_US: u64 = 200;
const FAR_US: u64 = 1_000;

/// One packet of so many is lost.
const LOST: u64 = 100;

/// What it takes a node that has heard of a newer epoch to fetch it; from then on it says so itself.
const FETCH: Duration = Duration::from_millis(5);

/// The first probes are spread over a period, as those of nodes that were started one by one.
const PERIOD: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_secs(20);

/// Longest time that news may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most nodes: their number is their port.
pub const NODES_MAX: usize = 60_000;

/// The figures of one size.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Nodes.
    pub nodes: usize,
    /// Bytes that a node sends in a second in which nothing happens, with those of UDP and IP.
    pub bytes_per_second: f64,
    /// Until every node has fetched an epoch that one has committed; NaN if that takes longer than [`measure`] waits.
    pub epoch_seconds: f64,
    /// Until every node takes one that was killed for dead.
    pub death_seconds: f64,
    /// Until every node takes it for alive after it was started again.
    pub return_seconds: f64,
    /// The most bytes a node sent on average in a second while the death was found out and told.
    pub busy_bytes_per_second: f64,
    /// How often somebody was taken for dead who was not.
    pub alarms: u64,
}

#[derive(Debug)]
enum Event {
    /// A node with everybody in its memory begins.
    Begin,
    Packet(Vec<u8>),
    Wake,
    /// A node that was started again asks others to take it in.
    Look,
    Fetched,
}

/// An event in line; the earliest is the greatest.
#[derive(Debug)]
struct Due {
    at: Duration,
    serial: u64,
    node: usize,
    event: Event,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        Reverse((self.at, self.serial)).cmp(&Reverse((other.at, other.serial)))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

/// Which nodes know something.
#[derive(Debug, Default)]
struct Knowing(Vec<bool>);

impl Knowing {
    fn learn(&mut self, node: usize) {
        self.0[node] = true;
    }

    /// Whether everybody but one knows.
    fn is_complete(&self, but: usize) -> bool {
        self.0.iter().enumerate().all(|(node, knows)| *knows || node == but)
    }
}

struct Cluster {
    nodes: Vec<Swim>,
    roster: Rc<Roster>,
    now: Duration,
    line: BinaryHeap<Due>,
    serial: u64,
    /// When each node is woken next: other wakes that stand in line are out of date.
    wakes: Vec<Option<Duration>>,
    dice: Dice,
    dead: Option<usize>,
    has_epoch: Knowing,
    knows_death: Knowing,
    knows_return: Knowing,
    alarms: u64,
}

impl Cluster {
    fn new(count: usize) -> Self {
        let roster: Rc<Roster> = Rc::new((0..count).map(|node| (id(node), Some(address(node)))).collect());
        let nobody = || Knowing(vec![false; count]);
        let mut cluster = Self {
            nodes: (0..count).map(|node| swim(life(node, 1), &roster, 0)).collect(),
            roster,
            now: Duration::ZERO,
            line: BinaryHeap::new(),
            serial: 0,
            wakes: vec![None; count],
            dice: Dice(count as u64),
            dead: None,
            has_epoch: nobody(),
            knows_death: nobody(),
            knows_return: nobody(),
            alarms: 0,
        };
        for node in 0..count {
            let begin = PERIOD.mul_f64(cluster.dice.part());
            cluster.put(begin, node, Event::Begin);
        }
        cluster
    }

    fn put(&mut self, at: Duration, node: usize, event: Event) {
        self.serial += 1;
        self.line.push(Due { at, serial: self.serial, node, event });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.line.peek().is_some_and(|due| due.at <= end) {
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let Some(Due { at: now, node, event, .. }) = self.line.pop() else { return };
        self.now = now;
        if self.dead == Some(node) {
            return;
        }
        let swim = &mut self.nodes[node];
        match event {
            Event::Begin => {
                let count = self.roster.len();
                swim.recall(now, (0..count).map(|other| life(other, 1)));
                drop(swim.happenings());
            }
            Event::Packet(packet) => swim.receive(now, &packet),
            Event::Wake if self.wakes[node] != Some(now) => return,
            Event::Wake => {
                self.wakes[node] = None;
                swim.wake(now);
            }
            Event::Look => {
                swim.join(now, self.serial);
                self.put(now + PERIOD, node, Event::Look);
            }
            Event::Fetched => {
                swim.tell(news(1));
                self.has_epoch.learn(node);
            }
        }
        self.take_out(node);
    }

    /// What a node sends, has learned, and wants to be woken for.
    fn take_out(&mut self, node: usize) {
        let packets: Vec<_> = self.nodes[node].outgoing().collect();
        for (to, packet) in packets {
            let to = usize::from(to.port()) - 1;
            let way_us = if zone(node) == zone(to) { NEAR_US } else { FAR_US };
            let delay = Duration::from_micros(way_us + self.dice.roll() % way_us);
            if !self.dice.roll().is_multiple_of(LOST) {
                self.put(self.now + delay, to, Event::Packet(packet));
            }
        }
        let happenings: Vec<_> = self.nodes[node].happenings().collect();
        for happening in happenings {
            self.notice(node, happening);
        }
        if let Some(due) = self.nodes[node].next_deadline()
            && self.wakes[node].is_none_or(|wake| due < wake)
        {
            let due = due.max(self.now);
            self.wakes[node] = Some(due);
            self.put(due, node, Event::Wake);
        }
    }

    fn notice(&mut self, node: usize, happening: Happening) {
        match happening {
            Happening::News(_, news) if news.epoch > 0 && !self.has_epoch.0[node] => {
                self.put(self.now + FETCH, node, Event::Fetched);
            }
            Happening::Down(other) if self.dead.is_some_and(|dead| id(dead) == other) => self.knows_death.learn(node),
            Happening::Down(_) => self.alarms += 1,
            Happening::Up(_) => self.knows_return.learn(node),
            Happening::News(..) | Happening::Renewed | Happening::Twin(_) => {}
        }
    }

    /// How long it takes until everybody but one knows, and the most bytes a node sent in a second of it.
    fn until_known(&mut self, knowing: fn(&Self) -> &Knowing, but: usize) -> (f64, f64) {
        let (began, mut busiest) = (self.now, 0.0_f64);
        while self.now < began + PATIENCE {
            let sent = self.sent_bytes();
            for _ in 0..10 {
                self.pass(PERIOD / 10);
                if knowing(self).is_complete(but) {
                    return ((self.now - began).as_secs_f64(), busiest);
                }
            }
            busiest = busiest.max((self.sent_bytes() - sent) as f64 / self.nodes.len() as f64);
        }
        (f64::NAN, busiest)
    }

    fn sent_bytes(&self) -> u64 {
        let tallies = self.nodes.iter().map(Swim::tally);
        tallies.map(|tally| tally.bytes_out + HEADERS_BYTES * tally.packets_out).sum()
    }
}

fn id(node: usize) -> NodeId {
    NodeId(node as u128 + 1)
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node as u16 + 1))
}

fn life(node: usize, bump: u64) -> Identity {
    Identity::new(id(node), address(node), bump)
}

fn news(epoch: u64) -> News {
    News { epoch, positions: vec![1, 1], ..News::default() }
}

/// A member with the rhythm a node has by its default configuration.
fn swim(me: Identity, roster: &Rc<Roster>, epoch: u64) -> Swim {
    let rhythm = Rhythm {
        probe_every: Duration::from_millis(1_000),
        probe_timeout: Duration::from_millis(400),
        suspicion: None,
    };
    let seal = Seal::new(b"a simulated cluster's secret", 1);
    let seed = me.node.0 as u64;
    let mut swim = Swim::new(Membership { me, others: Rc::clone(roster), seal, rhythm }, seed);
    swim.tell(news(epoch));
    swim
}

/// Lets so many nodes gossip, at least two.
pub fn measure(nodes: usize) -> Row {
    let nodes = nodes.clamp(2, NODES_MAX);
    let mut cluster = Cluster::new(nodes);
    cluster.pass(PERIOD + SETTLE);
    let before = cluster.sent_bytes();
    cluster.pass(WATCH);
    let bytes_per_second = (cluster.sent_bytes() - before) as f64 / WATCH.as_secs_f64() / nodes as f64;

    cluster.nodes[0].tell(news(1));
    cluster.has_epoch.learn(0);
    let (epoch_seconds, _) = cluster.until_known(|cluster| &cluster.has_epoch, 0);

    let killed = nodes - 1;
    cluster.dead = Some(killed);
    let (death_seconds, busy_bytes_per_second) = cluster.until_known(|cluster| &cluster.knows_death, killed);

    cluster.dead = None;
    cluster.wakes[killed] = None;
    cluster.nodes[killed] = swim(life(killed, 2), &cluster.roster, 1);
    cluster.knows_return = Knowing(vec![false; nodes]);
    let now = cluster.now;
    cluster.put(now, killed, Event::Look);
    let (return_seconds, _) = cluster.until_known(|cluster| &cluster.knows_return, killed);
    let alarms = cluster.alarms;
    Row { nodes, bytes_per_second, epoch_seconds, death_seconds, return_seconds, busy_bytes_per_second, alarms }
}

/// What the sizes that were measured let expect of a larger one: the times of an epidemic, and the time for which a suspect may defend
/// itself, grow by the logarithm of the number of nodes, so a straight line over that is carried on. False alarms can't be foreseen.
pub fn trend(rows: &[Row], nodes: usize) -> Row {
    let place = |nodes: usize| (nodes as f64).log10();
    let carried_on = |value: fn(&Row) -> f64| {
        let count = rows.len() as f64;
        let (x, y) = (rows.iter().map(|row| place(row.nodes)).sum::<f64>(), rows.iter().map(value).sum::<f64>());
        let (x, y) = (x / count, y / count);
        let slope = rows.iter().map(|row| (place(row.nodes) - x) * (value(row) - y)).sum::<f64>()
            / rows.iter().map(|row| (place(row.nodes) - x).powi(2)).sum::<f64>();
        y + slope * (place(nodes) - x)
    };
    Row {
        nodes,
        bytes_per_second: carried_on(|row| row.bytes_per_second),
        epoch_seconds: carried_on(|row| row.epoch_seconds),
        death_seconds: carried_on(|row| row.death_seconds),
        return_seconds: carried_on(|row| row.return_seconds),
        busy_bytes_per_second: carried_on(|row| row.busy_bytes_per_second),
        alarms: 0,
    }
}

/// The head of the table.
pub fn head() -> String {
    let [nodes, calm, busy] = ["nodes", "B/s", "busiest B/s"];
    let [epoch, death, back, alarms] = ["epoch s", "death s", "return s", "false alarms"];
    format!("{nodes:>6} {calm:>6} {busy:>12} {epoch:>8} {death:>8} {back:>9} {alarms:>13}")
}

impl Row {
    /// Its line in the table.
    pub fn line(&self) -> String {
        format!(
            "{:>6} {:>6.0} {:>12.0} {:>8.1} {:>8.1} {:>9.1} {:>13}",
            self.nodes,
            self.bytes_per_second,
            self.busy_bytes_per_second,
            self.epoch_seconds,
            self.death_seconds,
            self.return_seconds,
            self.alarms,
        )
    }
}
