//! A cluster's gossip in one thread under a made-up clock and network: what the members learn, how soon, and what they do not
//! fall for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use dynamo::ident::NodeId;

use super::{Happening, Identity, Membership, News, PACKET_BYTES_MAX, Rhythm, Roster, Seal, Standing, Swim};

const MS: Duration = Duration::from_millis(1);

/// Nodes whose packets arrive after a millisecond.
struct Village {
    nodes: Vec<Swim>,
    now: Duration,
    underway: VecDeque<(Duration, usize, Vec<u8>)>,
    /// What arrived at stopped processes lies in their sockets.
    unread: Vec<(usize, Vec<u8>)>,
    /// Neither send nor receive nor run.
    stopped: BTreeSet<usize>,
    /// They run, and nothing reaches or leaves them.
    cut_off: BTreeSet<usize>,
    happenings: Vec<(usize, Happening)>,
    /// Copies of all packets, for those who would play them again.
    kept: Vec<(usize, Vec<u8>)>,
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + at as u16))
}

fn id(at: usize) -> NodeId {
    NodeId(at as u128 + 1)
}

fn swim(at: usize, nodes: usize, bump: u64, seal: Seal) -> Swim {
    let others: Roster = (0..nodes).map(|other| (id(other), Some(address(other)))).collect();
    let rhythm = Rhythm {
        probe_every: Duration::from_millis(1_000),
        probe_timeout: Duration::from_millis(400),
        suspicion: None,
    };
    let me = Identity::new(id(at), address(at), bump);
    Swim::new(Membership { me, others: others.into(), seal, rhythm }, at as u64)
}

fn seal() -> Seal {
    Seal::new(b"a secret of the village", 1)
}

impl Village {
    fn new(nodes: usize) -> Self {
        let mut village = Self {
            nodes: (0..nodes).map(|at| swim(at, nodes, 100, seal())).collect(),
            now: Duration::ZERO,
            underway: VecDeque::new(),
            unread: Vec::new(),
            stopped: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            happenings: Vec::new(),
            kept: Vec::new(),
        };
        for at in 0..nodes {
            village.nodes[at].join(village.now, at as u64);
            village.post(at);
        }
        village
    }

    /// Lets time pass in steps of a millisecond.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for (to, packet) in std::mem::take(&mut self.unread) {
            self.deliver(to, packet);
        }
        while self.now < end {
            self.now += MS;
            while self.underway.front().is_some_and(|(due, ..)| *due <= self.now) {
                let Some((_, to, packet)) = self.underway.pop_front() else { break };
                self.deliver(to, packet);
            }
            for at in 0..self.nodes.len() {
                if !self.stopped.contains(&at) && self.nodes[at].next_deadline().is_some_and(|due| due <= self.now) {
                    self.nodes[at].wake(self.now);
                    self.post(at);
                }
            }
        }
    }

    fn deliver(&mut self, to: usize, packet: Vec<u8>) {
        if self.stopped.contains(&to) {
            self.unread.push((to, packet));
        } else {
            self.nodes[to].receive(self.now, &packet);
            self.post(to);
        }
    }

    fn post(&mut self, at: usize) {
        let packets: Vec<_> = self.nodes[at].outgoing().collect();
        for (to, packet) in packets {
            assert!(packet.len() <= PACKET_BYTES_MAX);
            let to = usize::from(to.port() - 10_000);
            self.kept.push((to, packet.clone()));
            if !self.cut_off.contains(&at) && !self.cut_off.contains(&to) {
                self.underway.push_back((self.now + MS, to, packet));
            }
        }
        let happenings: Vec<_> = self.nodes[at].happenings().collect();
        self.happenings.extend(happenings.into_iter().map(|happening| (at, happening)));
    }

    fn standing(&self, from: usize, of: usize) -> Option<Standing> {
        self.nodes[from].standings().collect::<BTreeMap<_, _>>().get(&id(of)).copied()
    }

    /// Whether all others that run say so of a node.
    fn agree(&self, of: usize, standing: Standing) -> bool {
        let others = (0..self.nodes.len()).filter(|at| *at != of && !self.stopped.contains(at));
        others.into_iter().all(|from| self.standing(from, of) == Some(standing))
    }

    fn deaths(&self) -> usize {
        self.happenings.iter().filter(|(_, happening)| matches!(happening, Happening::Down(_))).count()
    }
}

#[test]
fn all_members_learn_of_each_other_and_nobody_is_accused_while_all_is_well() {
    for nodes in [2, 3, 20] {
        let mut village = Village::new(nodes);
        village.pass(Duration::from_secs(60));
        assert!((0..nodes).all(|of| village.agree(of, Standing::Alive)), "{nodes} nodes");
        assert_eq!(village.deaths(), 0);
        assert!(village.nodes.iter().all(|node| node.patience() == 1 && node.tally().renewals == 0));
    }
}

#[test]
fn a_death_is_known_by_all_and_so_is_the_return() {
    let mut village = Village::new(5);
    village.pass(Duration::from_secs(5));
    village.cut_off.insert(4);
    village.stopped.insert(4);
    village.pass(Duration::from_secs(30));
    assert!(village.agree(4, Standing::Down));
    // Another process on the same data, after a restart.
    (village.cut_off, village.stopped) = (BTreeSet::new(), BTreeSet::new());
    village.nodes[4] = swim(4, 5, 200, seal());
    village.nodes[4].join(village.now, 0);
    village.post(4);
    village.pass(Duration::from_secs(5));
    assert!(village.agree(4, Standing::Alive));
}

#[test]
fn a_process_that_starts_with_its_clock_set_back_is_alive_within_seconds() {
    let mut village = Village::new(3);
    village.pass(Duration::from_secs(5));
    village.nodes[2] = swim(2, 3, 1, seal());
    village.nodes[2].join(village.now, 0);
    village.post(2);
    village.pass(Duration::from_secs(30));
    assert!(village.agree(2, Standing::Alive));
    assert!(village.nodes[2].tally().renewals > 0);
}

#[test]
fn a_stopped_process_that_goes_on_accuses_nobody_and_takes_another_life() {
    let mut village = Village::new(3);
    village.pass(Duration::from_secs(5));
    village.stopped.insert(2);
    village.pass(Duration::from_secs(30));
    assert!(village.agree(2, Standing::Down));
    let deaths = village.deaths();
    village.stopped.clear();
    village.pass(Duration::from_millis(50));
    assert!(village.nodes[2].patience() > 1, "it knows that it was away");
    village.pass(Duration::from_secs(20));
    assert_eq!(village.deaths(), deaths, "{:?}", village.happenings);
    assert!((0..3).all(|of| village.agree(of, Standing::Alive)));
    assert!(village.nodes[2].tally().renewals >= 1);
}

#[test]
fn a_node_that_hears_nobody_doubts_itself_first() {
    let mut village = Village::new(3);
    village.pass(Duration::from_secs(5));
    village.cut_off.insert(0);
    let (mut alone, mut others) = (None, None);
    for _ in 0..600 {
        village.pass(Duration::from_millis(100));
        let down = |from, of| village.standing(from, of) == Some(Standing::Down);
        if alone.is_none() && (down(0, 1) || down(0, 2)) {
            alone = Some(village.now);
        }
        if others.is_none() && down(1, 0) && down(2, 0) {
            others = Some(village.now);
        }
    }
    let (alone, others) = (alone.expect("in the end it must"), others.expect("the two others agree"));
    assert!(alone > others, "it accused others at {alone:?}, and was known to be away at {others:?}");
    village.cut_off.clear();
    village.pass(Duration::from_secs(30));
    assert!((0..3).all(|of| village.agree(of, Standing::Alive)), "it heals");
}

#[test]
fn news_ride_along_and_reach_every_member() {
    let mut village = Village::new(5);
    village.pass(Duration::from_secs(2));
    let news = News { process: 7, epoch: 3, layout_hash: [9; 16], positions: vec![5, 6] };
    village.nodes[1].tell(news.clone());
    village.pass(Duration::from_secs(15));
    for at in [0, 2, 3, 4] {
        assert!(village.happenings.contains(&(at, Happening::News(id(1), news.clone()))), "node {at}");
    }
}

#[test]
fn packets_that_are_forged_foreign_copied_or_too_long_are_dropped_and_counted() {
    let mut village = Village::new(3);
    village.pass(Duration::from_secs(10));
    let before = village.nodes[0].tally();
    let (_, copied) = village.kept.iter().rev().find(|(to, _)| *to == 0).cloned().expect("node 0 got packets");
    village.nodes[0].receive(village.now, &copied);
    let mut forged = copied.clone();
    forged[40] ^= 1;
    village.nodes[0].receive(village.now, &forged);
    village.nodes[0].receive(village.now, &[0; PACKET_BYTES_MAX + 1]);
    village.nodes[0].receive(village.now, b"");

    // A cluster of another secret, one of another name, and a node that the layout does not have.
    for (at, seal) in [(1, Seal::new(b"another secret", 1)), (1, Seal::new(b"a secret of the village", 2)), (7, seal())]
    {
        let mut stranger = swim(at, 3, 900, seal);
        stranger.join(village.now, 0);
        let packets: Vec<_> = stranger.outgoing().filter(|(to, _)| *to == address(0)).collect();
        assert_eq!(packets.len(), 1);
        village.nodes[0].receive(village.now, &packets[0].1);
    }
    let after = village.nodes[0].tally();
    assert_eq!(after.replayed, before.replayed + 1);
    assert_eq!(after.forged, before.forged + 4, "changed, empty, and two other clusters");
    assert_eq!((after.oversized, after.strangers), (before.oversized + 1, before.strangers + 1));
    assert_eq!(after.packets_in, before.packets_in);
    assert_eq!(village.nodes[0].outgoing().count(), 0, "none is answered");
    village.pass(Duration::from_secs(10));
    assert!((0..3).all(|of| village.agree(of, Standing::Alive)));
}

#[test]
fn another_process_under_this_nodes_name_is_noticed() {
    let mut village = Village::new(3);
    village.pass(Duration::from_secs(2));
    let mut twin = swim(0, 3, 500, seal());
    // It reaches this node because somebody gave it this node's address for another one's.
    twin.locate(id(1), address(0));
    twin.join(village.now, 0);
    let packets: Vec<_> = twin.outgoing().filter(|(to, _)| *to == address(0)).collect();
    village.nodes[0].receive(village.now, &packets[0].1);
    village.post(0);
    assert!(village.happenings.iter().any(|(at, happening)| *at == 0 && matches!(happening, Happening::Twin(_))));
}
