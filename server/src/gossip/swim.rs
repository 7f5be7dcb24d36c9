//! SWIM for one node, without its socket and its clock: packets and the time go in, packets and happenings come out. The
//! protocol is `foca`'s; around it are sealing, the check for copies, the news that ride along, and this node's judgement of
//! itself, which it makes by stretching what `foca` waits for.
//!
//! Its clock stands still while its thread does: what comes due during a pause (a stopped process, a starved machine) comes
//! due that much later, so that the answers which lie unread in the socket are read before anybody is accused.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    rc::Rc,
    time::Duration,
};

use dynamo::ident::NodeId;
use foca::{AccumulatingRuntime, Foca, NoCustomBroadcast, OwnedNotification, PeriodicParams, State, Timer};
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    codec::{Codec, Margin},
    envelope::{ENVELOPE_BYTES_MAX, Envelope, News},
    health::{Health, LAG_MAX},
    identity::Identity,
    replays::Replays,
    seal::{SEAL_BYTES, Seal},
};

/// Longest packet: what every network of today carries in one piece.
pub const PACKET_BYTES_MAX: usize = 1_400;

/// How often members that are down are asked whether they are back, and how many of them at once. A node that was only cut off
/// asks too, so this heals what both sides have given up.
const DOWN_ASKED_EVERY: Duration = Duration::from_secs(10);
const DOWN_ASKED: usize = 2;

/// Most members a node that starts asks to take it in; the rest hear of it from those.
const ANNOUNCE_TO: usize = 8;

/// The rhythm of gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// How often a member is probed.
    pub probe_every: Duration,
    /// How long its answer may take before others are asked to probe it too. Less than half of `probe_every`.
    pub probe_timeout: Duration,
    /// How long a suspect member may defend itself; `None` for what suits the number of members.
    pub suspicion: Option<Duration>,
}

/// The nodes of the layout, with their addresses as far as these are known. Whether the node itself is among them makes no difference,
/// so that simulated nodes can share one.
pub type Roster = BTreeMap<NodeId, Option<SocketAddr>>;

/// Who takes part, from one node's point of view.
#[derive(Clone)]
pub struct Membership {
    /// This node's life.
    pub me: Identity,
    /// The other nodes of the layout, and where they are.
    pub others: Rc<Roster>,
    /// What opens and seals packets.
    pub seal: Seal,
    /// How fast.
    pub rhythm: Rhythm,
}

/// What others should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The members say that a node is alive, after it was down or unknown.
    Up(NodeId),
    /// They say that it is down.
    Down(NodeId),
    /// A node has news.
    News(NodeId, News),
    /// This node was said to be down, and has taken another life.
    Renewed,
    /// Another process uses this node's name.
    Twin(SocketAddr),
}

/// What a member is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It answers.
    Alive,
    /// It did not answer somebody and may defend itself.
    Suspect,
    /// It did not.
    Down,
}

/// What went in and out, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets sent.
    pub packets_out: u64,
    /// Their bytes, without those of UDP and IP.
    pub bytes_out: u64,
    /// Packets received and read.
    pub packets_in: u64,
    /// Dropped: not sealed by this cluster, or changed on the way.
    pub forged: u64,
    /// Dropped: longer than any packet of ours.
    pub oversized: u64,
    /// Dropped: it came before.
    pub replayed: u64,
    /// Dropped: from or about a node that is not in the layout.
    pub strangers: u64,
    /// Dropped: properly sealed, but not in this version's form.
    pub malformed: u64,
    /// Members that were suspected by this node or others and declared down.
    pub deaths: u64,
    /// How often this node was said to be down while it was alive.
    pub renewals: u64,
}

impl Tally {
    /// All packets that were dropped.
    pub fn dropped(&self) -> u64 {
        self.forged + self.oversized + self.replayed + self.strangers + self.malformed
    }
}

/// One node's part in the gossip.
pub struct Swim {
    foca: Foca<Identity, Codec, SmallRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    margin: Rc<Margin>,
    me: Identity,
    seal: Seal,
    rhythm: Rhythm,
    timers: BTreeMap<(Duration, u64), Timer<Identity>>,
    timers_made: u64,
    /// How long its clock has stood still in all.
    stood_still: Duration,
    health: Health,
    /// Acknowledgements and packets when the present probe began.
    probe_began_at: Option<(u64, u64)>,
    replays: Replays,
    number: u64,
    news: News,
    heard: BTreeMap<NodeId, News>,
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
    happenings: Vec<Happening>,
    tally: Tally,
}

impl Swim {
    /// A node that knows nobody yet; `seed` is any random number.
    pub fn new(membership: Membership, seed: u64) -> Self {
        let Membership { me, others, seal, rhythm } = membership;
        let config = configure(&rhythm, nodes(&me, &others));
        let margin = Rc::new(Margin::new(me, others));
        Self {
            foca: Foca::new(me, config, SmallRng::seed_from_u64(seed), Codec(Rc::clone(&margin))),
            runtime: AccumulatingRuntime::new(),
            margin,
            me,
            seal,
            rhythm,
            timers: BTreeMap::new(),
            timers_made: 0,
            stood_still: Duration::ZERO,
            health: Health::default(),
            probe_began_at: None,
            replays: Replays::default(),
            number: 0,
            news: News::default(),
            heard: BTreeMap::new(),
            outgoing: Vec::new(),
            happenings: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// What this node says about itself from now on.
    pub fn tell(&mut self, news: News) {
        self.news = news;
    }

    /// Learns who takes part from now on. Somebody new is believed to be where the layout says until it is located; of somebody who
    /// left nothing is taken in any more.
    pub fn set_others(&mut self, others: BTreeSet<NodeId>) {
        let mut roster = self.margin.roster.borrow_mut();
        let address_of = |node: NodeId| (node, roster.get(&node).copied().flatten());
        self.heard.retain(|node, _| others.contains(node));
        let others: Roster = others.into_iter().map(address_of).collect();
        let config = configure(&self.rhythm, nodes(&self.me, &others));
        *roster = Rc::new(others);
        drop(roster);
        // An error would say that the packets became longer, and they did not.
        let _ = self.foca.set_config(config);
    }

    /// Learns where a node is.
    pub fn locate(&mut self, node: NodeId, address: SocketAddr) {
        let mut roster = self.margin.roster.borrow_mut();
        if roster.get(&node).is_some_and(|known| *known != Some(address)) {
            Rc::make_mut(&mut roster).insert(node, Some(address));
        }
    }

    /// Takes others for members as if it had heard of them long ago: the state of a cluster that has stood for a while, for whoever
    /// simulates one that is too large to be seen coming together.
    pub fn recall(&mut self, now: Duration, others: impl Iterator<Item = Identity>) {
        let now = self.clock(now);
        let others = others.filter(|other| other.node != self.me.node).map(foca::Member::alive);
        // It is not told on, so there is no packet that could turn out too long.
        let _ = self.foca.apply_many(others, false, &mut self.runtime);
        self.settle(now);
    }

    /// Asks some of the nodes that it has not heard of to take it in; `choice` is any random number. To be repeated while
    /// there are such nodes.
    pub fn join(&mut self, now: Duration, choice: u64) {
        let now = self.clock(now);
        let known: BTreeSet<NodeId> = self.foca.iter_membership_state().map(|member| member.id().node).collect();
        let roster = Rc::clone(&self.margin.roster.borrow());
        let unknown: Vec<Identity> = roster
            .iter()
            .filter(|(node, _)| **node != self.me.node && !known.contains(node))
            .filter_map(|(&node, address)| address.map(|address| Identity::new(node, address, 0)))
            .collect();
        let first = choice as usize % unknown.len().max(1);
        for other in unknown.iter().cycle().skip(first).take(unknown.len().min(ANNOUNCE_TO)) {
            // An error would be a bug in how a packet is written; the next attempt is as good.
            let _ = self.foca.announce(*other, &mut self.runtime);
        }
        self.settle(now);
    }

    /// Takes a packet in.
    pub fn receive(&mut self, now: Duration, packet: &[u8]) {
        let now = self.clock(now);
        if packet.len() > PACKET_BYTES_MAX {
            self.tally.oversized += 1;
            return;
        }
        let Some(plain) = self.seal.open(packet) else {
            self.tally.forged += 1;
            return;
        };
        let mut message = plain.as_slice();
        let Ok(Envelope { sender, number, news }) = Envelope::read(&mut message) else {
            self.tally.malformed += 1;
            return;
        };
        if sender.node == self.me.node {
            self.happenings.push(Happening::Twin(sender.address));
            return;
        }
        if !self.margin.roster.borrow().contains_key(&sender.node) {
            self.tally.strangers += 1;
            return;
        }
        if !self.replays.is_first(&sender, number) {
            self.tally.replayed += 1;
            return;
        }
        self.margin.sender.set(sender);
        let accused = self.margin.accused.get();
        match self.foca.handle_data(message, &mut self.runtime) {
            Ok(()) => self.tally.packets_in += 1,
            Err(_) => self.tally.malformed += 1,
        }
        if self.margin.accused.get() > accused {
            self.health.accused();
        }
        if self.heard.get(&sender.node) != Some(&news) {
            self.heard.insert(sender.node, news.clone());
            self.happenings.push(Happening::News(sender.node, news));
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Duration) {
        let now = self.clock(now);
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            if matches!(timer, Timer::ProbeRandomMember(_)) {
                self.judge_probe();
            }
            // Errors are timers of a former life.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            self.settle(now);
        }
    }

    /// When it wants to be woken next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((due, _), _)| *due + self.stood_still)
    }

    /// The packets to send, and where to.
    pub fn outgoing(&mut self) -> std::vec::Drain<'_, (SocketAddr, Vec<u8>)> {
        self.outgoing.drain(..)
    }

    /// What has happened since the last time.
    pub fn happenings(&mut self) -> std::vec::Drain<'_, Happening> {
        self.happenings.drain(..)
    }

    /// What every node is said to be that was heard of.
    pub fn standings(&self) -> impl Iterator<Item = (NodeId, Standing)> {
        self.foca.iter_membership_state().map(|member| {
            let standing = match member.state() {
                State::Alive => Standing::Alive,
                State::Suspect => Standing::Suspect,
                State::Down => Standing::Down,
            };
            (member.id().node, standing)
        })
    }

    /// By how much it stretches its patience because it does not trust its own eyes; 1 when all is well.
    pub fn patience(&self) -> u32 {
        self.health.multiplier()
    }

    /// What went in and out.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Its own time, which leaves out its pauses.
    fn clock(&mut self, now: Duration) -> Duration {
        let now = now.saturating_sub(self.stood_still);
        let Some(((due, _), _)) = self.timers.first_key_value() else { return now };
        let lag = now.saturating_sub(*due);
        if lag <= LAG_MAX {
            return now;
        }
        self.stood_still += lag;
        self.health.lagged(lag, self.rhythm.probe_every);
        *due
    }

    /// Looks back at the probe that ends now.
    fn judge_probe(&mut self) {
        let (acknowledged, packets) = (self.margin.acknowledged.get(), self.tally.packets_in);
        match self.probe_began_at.replace((acknowledged, packets)) {
            Some((before, _)) if acknowledged > before => self.health.well(),
            Some((_, before)) if packets == before => self.health.deaf(),
            Some(_) | None => {}
        }
    }

    /// Follows what SWIM wants.
    fn settle(&mut self, now: Duration) {
        while let Some(notification) = self.runtime.to_notify() {
            self.notice(notification);
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let stretch = match timer {
                Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } | Timer::ChangeSuspectToDown { .. } => {
                    self.health.multiplier()
                }
                Timer::RemoveDown(_)
                | Timer::PeriodicAnnounce(_)
                | Timer::PeriodicGossip(_)
                | Timer::PeriodicAnnounceDown(_) => 1,
            };
            self.timers_made += 1;
            self.timers.insert((now + after * stretch, self.timers_made), timer);
        }
        while let Some((to, message)) = self.runtime.to_send() {
            self.send(&to, &message);
        }
    }

    fn notice(&mut self, notification: OwnedNotification<Identity>) {
        match notification {
            OwnedNotification::MemberUp(member) => self.happenings.push(Happening::Up(member.node)),
            OwnedNotification::MemberDown(member) => {
                self.tally.deaths += 1;
                self.happenings.push(Happening::Down(member.node));
            }
            OwnedNotification::Rejoin(me) => {
                self.tally.renewals += 1;
                self.me = me;
                self.margin.me.set(me);
                self.happenings.push(Happening::Renewed);
            }
            OwnedNotification::Rename(_, _)
            | OwnedNotification::Active
            | OwnedNotification::Idle
            | OwnedNotification::Defunct => {}
        }
    }

    fn send(&mut self, to: &Identity, message: &[u8]) {
        self.number += 1;
        let envelope = Envelope { sender: self.me, number: self.number, news: self.news.clone() };
        let mut plain = Vec::with_capacity(ENVELOPE_BYTES_MAX + message.len());
        envelope.put(&mut plain);
        plain.extend_from_slice(message);
        let address = self.margin.roster.borrow().get(&to.node).copied().flatten().unwrap_or(to.address);
        if let Some(packet) = self.seal.seal(&plain) {
            self.tally.packets_out += 1;
            self.tally.bytes_out += packet.len() as u64;
            self.outgoing.push((address, packet));
        }
    }
}

/// How many nodes there are.
fn nodes(me: &Identity, roster: &Roster) -> usize {
    roster.len() + usize::from(!roster.contains_key(&me.node))
}

/// SWIM's own settings for a cluster of so many nodes.
fn configure(rhythm: &Rhythm, nodes: usize) -> foca::Config {
    let size = u32::try_from(nodes).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    // A suspect has time to hear of it and to answer, which takes longer the more nodes there are: as in memberlist's and
    // foca's settings for a local network, four probes for ten nodes, more by the logarithm.
    let by_size = rhythm.probe_every.mul_f64(4.0 * f64::from(size.get()).log10().max(1.0));
    let message_bytes_max = PACKET_BYTES_MAX - SEAL_BYTES - ENVELOPE_BYTES_MAX;
    foca::Config {
        probe_period: rhythm.probe_every,
        probe_rtt: rhythm.probe_timeout,
        suspect_to_down_after: rhythm.suspicion.unwrap_or(by_size),
        // There are never more entries than nodes in the layout, and a dead one stays of interest.
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(message_bytes_max).unwrap_or(NonZeroUsize::MIN),
        periodic_announce_to_down_members: NonZeroUsize::new(DOWN_ASKED)
            .map(|num_members| PeriodicParams { frequency: DOWN_ASKED_EVERY, num_members }),
        ..foca::Config::new_lan(size)
    }
}
