//! What the steward knows of the other nodes: who can be reached, who failed lately and rests, and which partitions are to be
//! levelled with whom as soon as possible.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::StewardConfig;
use crate::{holdings::Holdings, ident::NodeId, layout::NodeIndex, round::End, tick::Tick};

/// The other nodes.
#[derive(Debug)]
pub(super) struct Neighbours {
    return_after_ms: u64,
    retry_min_ms: u64,
    retry_max_ms: u64,
    nodes: BTreeMap<NodeIndex, Neighbour>,
    /// Partitions of which an exchange runs.
    busy: BTreeSet<u32>,
}

/// One of them.
#[derive(Debug, Default)]
struct Neighbour {
    /// Who it is, for ever.
    id: Option<NodeId>,
    is_away: bool,
    /// It failed so often in a row.
    failures: u32,
    /// It is left alone until then.
    rests_until: Tick,
    /// It came back, and what it missed is compared then.
    returned_at: Option<Tick>,
    /// The partitions that are to be level here and there.
    shared: BTreeSet<u32>,
    /// Those of them that are to be levelled as soon as possible.
    wishes: BTreeSet<u32>,
}

impl Neighbours {
    pub(super) fn new(config: &StewardConfig, holdings: &Holdings) -> Self {
        let StewardConfig { return_after_ms, retry_min_ms, retry_max_ms, .. } = *config;
        let (nodes, busy) = (BTreeMap::new(), BTreeSet::new());
        let mut neighbours = Self { return_after_ms, retry_min_ms, retry_max_ms, nodes, busy };
        neighbours.follow(holdings, true);
        neighbours
    }

    /// Follows a change of the ring. What is known of a node stays known, unless another one has been given its place; wishes for partitions
    /// that are numbered otherwise now are forgotten.
    pub(super) fn follow(&mut self, holdings: &Holdings, are_renumbered: bool) {
        let members = (0..).map(NodeIndex).zip(&holdings.layout().members);
        for (node, member) in members.filter(|(node, _)| Some(*node) != holdings.me()) {
            let neighbour = self.nodes.entry(node).or_default();
            if neighbour.id != Some(member.id) {
                *neighbour = Neighbour { id: Some(member.id), ..Neighbour::default() };
            }
            neighbour.shared.clear();
            if are_renumbered {
                neighbour.wishes.clear();
            }
        }
        if let Some(me) = holdings.me() {
            self.nodes.remove(&me);
        }
        if are_renumbered {
            self.busy.clear();
        }
        for (partition, _) in holdings.rows() {
            self.share(holdings, partition);
        }
        for neighbour in self.nodes.values_mut() {
            neighbour.wishes.retain(|partition| neighbour.shared.contains(partition));
        }
    }

    /// Follows a change of one partition: of its owners, or of who of them is complete.
    pub(super) fn follow_partition(&mut self, holdings: &Holdings, partition: u32) {
        for neighbour in self.nodes.values_mut() {
            neighbour.shared.remove(&partition);
        }
        self.share(holdings, partition);
        for neighbour in self.nodes.values_mut() {
            if !neighbour.shared.contains(&partition) {
                neighbour.wishes.remove(&partition);
            }
        }
    }

    /// Notes that a node came or went; `true` if it came back.
    pub(super) fn set_reachable(&mut self, now: Tick, node: NodeIndex, reachable: bool) -> bool {
        let Some(neighbour) = self.nodes.get_mut(&node) else { return false };
        let is_back = neighbour.is_away && reachable;
        neighbour.is_away = !reachable;
        if reachable {
            (neighbour.failures, neighbour.rests_until) = (0, now);
        }
        if is_back {
            neighbour.returned_at = Some(now.after(self.return_after_ms));
        }
        is_back
    }

    /// Lets nobody rest any more.
    pub(super) fn forgive(&mut self) {
        for neighbour in self.nodes.values_mut() {
            (neighbour.failures, neighbour.rests_until) = (0, Tick(0));
        }
    }

    /// When the next node that came back is to be compared with.
    pub(super) fn next_return(&self) -> Option<Tick> {
        self.nodes.values().filter_map(|neighbour| neighbour.returned_at).min()
    }

    /// The nodes that came back long enough ago.
    pub(super) fn returned(&mut self, now: Tick) -> Vec<NodeIndex> {
        let is_due = |neighbour: &mut Neighbour| neighbour.returned_at.take_if(|due| *due <= now).is_some();
        self.nodes.iter_mut().filter_map(|(node, neighbour)| is_due(neighbour).then_some(*node)).collect()
    }

    /// Wishes every shared partition level with everyone, and so on. Returns how many wishes are new.
    pub(super) fn level_with_everyone(&mut self) -> usize {
        self.nodes.values_mut().map(Neighbour::level_all).sum()
    }

    /// Wishes all partitions shared with one node level.
    pub(super) fn level_with(&mut self, node: NodeIndex) -> usize {
        self.nodes.get_mut(&node).map_or(0, Neighbour::level_all)
    }

    /// Wishes one partition level with all its owners.
    pub(super) fn level_partition(&mut self, partition: u32) -> usize {
        self.nodes.values_mut().filter_map(|neighbour| neighbour.level(partition).then_some(())).count()
    }

    /// Wishes one partition level with one owner.
    pub(super) fn level(&mut self, partition: u32, node: NodeIndex) -> bool {
        self.nodes.get_mut(&node).is_some_and(|neighbour| neighbour.level(partition))
    }

    /// Whether anything is wished.
    pub(super) fn has_wishes(&self) -> bool {
        self.nodes.values().any(|neighbour| !neighbour.wishes.is_empty())
    }

    /// When the next wish can be fulfilled, as far as it depends on time.
    pub(super) fn next_wish(&self) -> Option<Tick> {
        let ready = self.nodes.values().filter(|neighbour| !neighbour.is_away);
        ready
            .filter(|neighbour| neighbour.wishes.iter().any(|partition| !self.busy.contains(partition)))
            .map(|neighbour| neighbour.rests_until)
            .min()
    }

    /// A wish that can be fulfilled now; its partition is busy until [`Neighbours::exchange_ended`].
    pub(super) fn take_wish(&mut self, now: Tick) -> Option<(u32, NodeIndex)> {
        let (partition, node) =
            self.nodes.iter().filter(|(_, neighbour)| neighbour.is_ready(now)).find_map(|(node, neighbour)| {
                let free = neighbour.wishes.iter().find(|partition| !self.busy.contains(partition));
                free.map(|partition| (*partition, *node))
            })?;
        self.nodes.get_mut(&node)?.wishes.remove(&partition);
        self.busy.insert(partition);
        Some((partition, node))
    }

    /// One of the other owners of a partition that can be compared with now, chosen by any number, and whether it
    /// was not wished already; the partition is busy until [`Neighbours::exchange_ended`].
    pub(super) fn take_owner(&mut self, now: Tick, partition: u32, any: u64) -> Option<(NodeIndex, bool)> {
        if self.busy.contains(&partition) {
            return None;
        }
        let shares = |neighbour: &Neighbour| neighbour.is_ready(now) && neighbour.shared.contains(&partition);
        let ready: Vec<NodeIndex> =
            self.nodes.iter().filter(|(_, neighbour)| shares(neighbour)).map(|(node, _)| *node).collect();
        let chosen = ready.get(usize::try_from(any % (ready.len() as u64).max(1)).unwrap_or(0)).copied()?;
        self.busy.insert(partition);
        let was_wished = self.nodes.get_mut(&chosen)?.wishes.remove(&partition);
        Some((chosen, !was_wished))
    }

    /// An exchange has ended.
    pub(super) fn exchange_ended(&mut self, now: Tick, partition: u32, node: NodeIndex, end: End) {
        self.busy.remove(&partition);
        self.note(now, node, end);
    }

    /// A delivery of hints has ended.
    pub(super) fn handoff_ended(&mut self, now: Tick, holdings: &Holdings, target: NodeId, end: End) {
        if let Some(node) = holdings.layout().index_of(target) {
            self.note(now, node, end);
        }
    }

    /// Whether hints for a node can be delivered now: to itself, or, if it owns nothing any more, to the present owners.
    pub(super) fn can_take_hints(&self, now: Tick, holdings: &Holdings, target: NodeId) -> bool {
        let layout = holdings.layout();
        let Some(node) = layout.index_of(target) else { return true };
        let owns_nothing = || !layout.slots.contains(&node.0);
        self.nodes.get(&node).is_none_or(|neighbour| neighbour.is_ready(now) || owns_nothing())
    }

    /// Whether a node can be reached, as far as is known.
    pub(super) fn is_reachable(&self, node: NodeIndex) -> bool {
        self.nodes.get(&node).is_none_or(|neighbour| !neighbour.is_away)
    }

    fn share(&mut self, holdings: &Holdings, partition: u32) {
        for partner in holdings.partners(partition) {
            if let Some(neighbour) = self.nodes.get_mut(&partner) {
                neighbour.shared.insert(partition);
            }
        }
    }

    fn note(&mut self, now: Tick, node: NodeIndex, end: End) {
        let Some(neighbour) = self.nodes.get_mut(&node) else { return };
        match end {
            End::Complete => neighbour.failures = 0,
            // It is about one partition, not about the node.
            End::Unfit => {}
            End::Failed => {
                let wait_ms = (self.retry_min_ms << neighbour.failures.min(16)).min(self.retry_max_ms);
                // Several conversations with it may have failed for one reason.
                if neighbour.rests_until <= now {
                    neighbour.failures += 1;
                }
                neighbour.rests_until = neighbour.rests_until.max(now.after(wait_ms));
            }
        }
    }
}

impl Neighbour {
    fn is_ready(&self, now: Tick) -> bool {
        !self.is_away && self.rests_until <= now
    }

    fn level(&mut self, partition: u32) -> bool {
        self.shared.contains(&partition) && self.wishes.insert(partition)
    }

    fn level_all(&mut self) -> usize {
        let before = self.wishes.len();
        self.wishes.extend(&self.shared);
        self.wishes.len() - before
    }
}
