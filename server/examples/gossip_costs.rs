//! What gossip costs and how fast it tells: bytes per second of a node when nothing happens, and the time until all members know
//! of a death, of a return, and of news. All members run in this one process under a made-up clock and a network that delays
//! packets by a millisecond and loses one in a hundred; the packets are those of a real node, sealed and all.
//!
//!     cargo run --release -p quorate-server --example gossip_costs -- 3 10 100 300

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
    time::Duration,
};

use dynamo::ident::NodeId;
use server::gossip::{Happening, Identity, Membership, News, Rhythm, Seal, Standing, Swim};

/// What a packet spends on IPv4 and UDP.
const HEADERS_BYTES: u64 = 28;

const DELAY: Duration = Duration::from_millis(1);

/// One packet of so many is lost.
const LOST: u64 = 100;

/// How long a node looks for others it has not heard of, as the server does it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the cluster settles, and how long it is watched.
const SETTLE: Duration = Duration::from_secs(30);
const WATCH: Duration = Duration::from_secs(60);

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(300);

enum Event {
    Packet(Vec<u8>),
    Wake,
    Look,
}

struct Cluster {
    nodes: Vec<Swim>,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    contents: BTreeMap<u64, Event>,
    serial: u64,
    dead: Option<usize>,
    told: Vec<Option<Duration>>,
    deaths: u64,
}

impl Cluster {
    fn new(count: usize) -> Self {
        let nodes = (0..count).map(|at| swim(at, count, 1)).collect();
        let (events, contents) = (BinaryHeap::new(), BTreeMap::new());
        let mut cluster = Self {
            nodes,
            now: Duration::ZERO,
            events,
            contents,
            serial: 0,
            dead: None,
            told: vec![None; count],
            deaths: 0,
        };
        (0..count).for_each(|at| cluster.put(Duration::from_millis(at as u64 % 1_000), at, Event::Look));
        cluster
    }

    fn put(&mut self, due: Duration, at: usize, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((due, self.serial, at)));
        self.contents.insert(self.serial, event);
    }

    /// Lets one event happen.
    fn step(&mut self) {
        let Some(Reverse((due, serial, at))) = self.events.pop() else { return };
        let Some(event) = self.contents.remove(&serial) else { return };
        self.now = due;
        if self.dead == Some(at) {
            return;
        }
        match event {
            Event::Packet(packet) => self.nodes[at].receive(self.now, &packet),
            Event::Wake => self.nodes[at].wake(self.now),
            Event::Look => {
                self.nodes[at].join(self.now, self.serial);
                self.put(self.now + LOOK_EVERY, at, Event::Look);
            }
        }
        let packets: Vec<_> = self.nodes[at].outgoing().collect();
        for (to, packet) in packets {
            let is_lost = self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / LOST;
            let to = usize::from(to.port() - 1);
            if is_lost {
                self.serial += 1;
            } else {
                self.put(self.now + DELAY, to, Event::Packet(packet));
            }
        }
        for happening in self.nodes[at].happenings() {
            match happening {
                Happening::News(_, news) if news.epoch > 0 => self.told[at] = self.told[at].or(Some(due)),
                Happening::Down(_) => self.deaths += 1,
                Happening::Up(_) | Happening::News(..) | Happening::Renewed | Happening::Twin(_) => {}
            }
        }
        // One wake too many does nothing.
        if let Some(due) = self.nodes[at].next_deadline() {
            self.put(due.max(self.now + Duration::from_millis(1)), at, Event::Wake);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.events.peek().is_some_and(|Reverse((due, ..))| *due <= end) {
            self.step();
        }
        self.now = end;
    }

    /// How long it takes until everybody says so of a node.
    fn until_all_say(&mut self, of: usize, standing: Standing) -> Duration {
        let began = self.now;
        while self.now < began + PATIENCE {
            self.pass(Duration::from_millis(100));
            let id = id(of);
            let mut others = (0..self.nodes.len()).filter(|at| *at != of);
            if others.all(|at| self.nodes[at].standings().any(|(node, says)| node == id && says == standing)) {
                return self.now - began;
            }
        }
        panic!("not everybody says that node {of} is {standing:?}");
    }
}

fn id(at: usize) -> NodeId {
    NodeId(at as u128 + 1)
}

fn swim(at: usize, count: usize, bump: u64) -> Swim {
    let address = |at: usize| SocketAddr::from(([127, 0, 0, 1], at as u16 + 1));
    let others = (0..count).filter(|&other| other != at).map(|other| (id(other), Some(address(other)))).collect();
    let rhythm = Rhythm {
        probe_every: Duration::from_millis(1_000),
        probe_timeout: Duration::from_millis(400),
        suspicion: None,
    };
    let me = Identity::new(id(at), address(at), bump);
    let mut swim = Swim::new(Membership { me, others, seal: Seal::new(b"an example's secret", 1), rhythm }, at as u64);
    swim.tell(News { positions: vec![1, 1], ..News::default() });
    swim
}

fn measure(count: usize) {
    let mut cluster = Cluster::new(count);
    cluster.pass(SETTLE);
    let sent = |cluster: &Cluster| {
        let tallies = cluster.nodes.iter().map(Swim::tally);
        tallies.fold((0, 0), |(packets, bytes), tally| (packets + tally.packets_out, bytes + tally.bytes_out))
    };
    let (packets_before, bytes_before) = sent(&cluster);
    cluster.pass(WATCH);
    let (packets, bytes) = sent(&cluster);
    let false_alarms = cluster.deaths;
    let per_second = |number: u64| number as f64 / WATCH.as_secs_f64() / count as f64;
    let (packets, bytes) =
        (packets - packets_before, bytes - bytes_before + HEADERS_BYTES * (packets - packets_before));

    let began = cluster.now;
    cluster.nodes[0].tell(News { epoch: 1, positions: vec![1, 1], ..News::default() });
    cluster.dead = Some(count - 1);
    let death = cluster.until_all_say(count - 1, Standing::Down);
    cluster.dead = None;
    cluster.nodes[count - 1] = swim(count - 1, count, 2);
    let now = cluster.now;
    cluster.put(now, count - 1, Event::Look);
    let back = cluster.until_all_say(count - 1, Standing::Alive);
    let told: Vec<Duration> = cluster.told.iter().flatten().map(|&at| at - began).collect();
    println!(
        "{count:>6} {:>12.1} {:>10.0} {:>12.1} {:>12.1} {:>14} {:>8}",
        per_second(packets),
        per_second(bytes),
        death.as_secs_f64(),
        back.as_secs_f64(),
        format!("{}/{}", told.len(), count - 1),
        false_alarms,
    );
}

fn main() {
    let counts: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    println!(
        "{:>6} {:>12} {:>10} {:>12} {:>12} {:>14} {:>8}",
        "nodes", "packets/s", "bytes/s", "death s", "return s", "told directly", "alarms"
    );
    for count in if counts.is_empty() { vec![3, 10, 100] } else { counts } {
        measure(count.clamp(2, 10_000));
    }
}
