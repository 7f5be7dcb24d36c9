//! The way of one operation: which owners it uses, in which order, under which view, and who stands in for those that fail.

use alloc::vec::Vec;

use super::{
    CoordinatorConfig,
    call::Ask,
    demand::{Demand, Wanted},
    flight::Shared,
};
use crate::{
    bug::{self, Bug},
    ident::{Id, StoreKey},
    layout::{NodeIndex, REPLICAS_MAX, View},
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation},
    quorum::{CONFIGURATIONS_MAX, Configuration, PLACES_MAX, Place, Places, Quorums},
    ring::{Named, Ring, Untold},
};

/// The nodes an operation uses, none of them twice: the owners in use, then stand-ins as they are needed. If this node is one
/// of the owners it stands first; the owners of the newest configuration follow it, then those only of older ones, each time in the
/// order of the preference list and around its end, so that the owners of a partition spread the reads they ask of each other evenly.
/// If it coordinates in the owners' place, it stands before them all. Who is given up for lost has no place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    nodes: [NodeIndex; PLACES_MAX],
    count: u8,
    /// Where owners stand; everyone else is a stand-in.
    owners: Places,
    /// Whether the first is this node.
    is_mine: bool,
    /// Whether this node is an owner, in use or not.
    pub(super) is_member: bool,
    /// How many owners the newest active configuration has, used or not.
    pub(super) replicas: u8,
    /// How many configurations are active.
    active: u8,
    /// By active configuration, the newest first: where its owners stand.
    configurations: [Places; CONFIGURATIONS_MAX],
    /// Likewise: how many more owners it has that were given up for lost.
    lost: [u8; CONFIGURATIONS_MAX],
    /// The epoch of the newest layout when the way was found.
    pub(super) epoch: u64,
    /// What every call of the operation carries, and what its answers count under.
    pub(super) view: View,
}

impl Route {
    /// Makes it the way to the owners of a partition of the newest layout that has had these since then, and no others any more.
    pub(super) fn settle(&mut self, shared: &Shared, partition: u32, since: u64, demand: &Demand) {
        let layout = shared.layout();
        *self =
            Self::nowhere(layout.epoch, View { prefix: partition, bits: layout.partition_bits, lo: since, hi: since });
        self.enter(layout.owners(partition), shared.config.me, demand.owners, &shared.lost);
    }

    /// The way to the key's owners by every configuration that is active under `view`. While there is one, its first `demand.owners`
    /// owners are in use; while there are several, all of them.
    pub(super) fn new(shared: &Shared, store_key: &StoreKey, demand: &Demand, view: View) -> Result<Self, Untold> {
        let Shared { config: CoordinatorConfig { me, ring, .. }, lost, .. } = shared;
        let mut route = Self::nowhere(ring.epoch(), view);
        let id = store_key.id();
        if view.lo == view.hi {
            let named = ring.active(&id, &view).next().unwrap_or(Err(Untold::Misnamed))?;
            route.enter(named.owners(), *me, demand.owners, lost);
            return Ok(route);
        }
        let mut active = [None; CONFIGURATIONS_MAX];
        for (at, named) in in_use(ring, &id, &view, lost).enumerate() {
            *active.get_mut(at).ok_or(Untold::Misnamed)? = Some(named?);
        }
        let mine = active.iter().flatten().flat_map(Named::owners).find(|owner| Some(*owner) == *me);
        // Who is here at all comes first, whatever the configuration it belongs to.
        if let Some(me) = mine.filter(|me| !lost.contains(me)) {
            route.place_of(me);
        }
        for named in active.iter().flatten() {
            route.enter(named.owners(), *me, usize::MAX, lost);
        }
        Ok(route)
    }

    /// Whether no more configurations are active under a view than a way can lead to.
    pub(super) fn are_few(ring: &Ring, id: &Id, view: &View, lost: &[NodeIndex]) -> Result<bool, Untold> {
        let mut counted = in_use(ring, id, view, lost).take(CONFIGURATIONS_MAX + 1);
        let count = counted.try_fold(0, |count, named| named.map(|_| count + 1))?;
        Ok(count <= CONFIGURATIONS_MAX)
    }

    /// A way without places: of an operation that does not know yet whom to ask.
    pub(super) fn nowhere(epoch: u64, view: View) -> Self {
        Self {
            nodes: [NodeIndex(0); PLACES_MAX],
            count: 0,
            owners: Places::NONE,
            is_mine: false,
            is_member: false,
            replicas: 0,
            active: 0,
            configurations: [Places::NONE; CONFIGURATIONS_MAX],
            lost: [0; CONFIGURATIONS_MAX],
            epoch,
            view,
        }
    }

    /// Gives the first `in_use` owners of the next configuration their places, those before `me` after all others.
    fn enter(
        &mut self,
        owners: impl Iterator<Item = NodeIndex>,
        me: Option<NodeIndex>,
        in_use: usize,
        lost: &[NodeIndex],
    ) {
        let (mut used, mut count, mut replicas) = ([NodeIndex(0); REPLICAS_MAX as usize], 0, 0);
        let (mut mine, mut is_member, in_use, mut lost_count) = (None, false, in_use.min(used.len()), 0);
        for owner in owners {
            replicas += 1;
            let is_me = Some(owner) == me;
            is_member |= is_me;
            if count == in_use {
                continue;
            }
            if !lost.is_empty() && lost.contains(&owner) && !bug::is_on(Bug::CountLostOwner) {
                lost_count += 1;
                continue;
            }
            if is_me {
                mine = Some(count);
            }
            used[count] = owner;
            count += 1;
        }
        self.is_member |= is_member;
        self.is_mine |= mine.is_some();
        let first = mine.unwrap_or(0);
        let mut places = Places::first(count);
        if self.count == 0 {
            for (at, &owner) in used[..count].iter().enumerate() {
                self.nodes[if at < first { at + count - first } else { at - first }] = owner;
            }
            self.count = count as u8;
        } else {
            places = Places::NONE;
            for &owner in used[first..count].iter().chain(&used[..first]) {
                self.place_of(owner).into_iter().for_each(|place| places.insert(place));
            }
        }
        if self.active == 0 {
            self.replicas = replicas;
        }
        self.configurations[usize::from(self.active)] = places;
        // Who uses fewer owners than there are has chosen for itself whom its reads and writes have in common.
        self.lost[usize::from(self.active)] = if in_use < usize::from(replicas) { 0 } else { lost_count };
        self.active += 1;
        self.owners = self.owners.union(places);
    }

    /// The place of a node, which is given one if it has none and there is one left.
    fn place_of(&mut self, node: NodeIndex) -> Option<Place> {
        let known = self.nodes[..usize::from(self.count)].iter().position(|&used| used == node);
        let place = Place::new(known.unwrap_or(usize::from(self.count)))?;
        if known.is_none() {
            self.nodes[place.index()] = node;
            self.count += 1;
        }
        Some(place)
    }

    /// The same way for `me`, which is no owner and coordinates in their place. Four times seven owners leave room for it.
    #[must_use]
    pub(super) fn standing_in(mut self, me: NodeIndex) -> Self {
        self.dismiss();
        let owners = usize::from(self.count);
        self.nodes.copy_within(0..owners, 1);
        self.nodes[0] = me;
        self.count += 1;
        self.owners = self.owners.one_later();
        self.configurations = self.configurations.map(Places::one_later);
        self.is_mine = true;
        self
    }

    /// Takes the next stand-in into use: the first node alive, in the order the newest layout gives, that is not in use yet. `None`
    /// when nobody is left, and when the number of partitions has doubled since.
    pub(super) fn recruit(&mut self, shared: &mut Shared) -> Option<Place> {
        let place = Place::new(usize::from(self.count))?;
        if shared.layout().partition_bits != self.view.bits {
            return None;
        }
        let is_new = |node: &&NodeIndex| !self.uses(**node) || bug::is_on(Bug::CountOneNodeTwice);
        self.nodes[place.index()] = *shared.stand_ins(self.view.prefix).iter().find(is_new)?;
        self.count += 1;
        Some(place)
    }

    /// Takes a node into use that somebody else named as an owner, if it has no place yet and there is one left.
    pub(super) fn add(&mut self, node: NodeIndex) -> Option<Place> {
        if self.uses(node) { None } else { self.place_of(node) }
    }

    /// Lets all stand-ins go but this node.
    pub(super) fn dismiss(&mut self) {
        self.count = self.owners.len() + u8::from(self.is_standing_in());
    }

    /// Whether this node coordinates, and then at [`Place::FIRST`].
    pub(super) fn is_mine(&self) -> bool {
        self.is_mine
    }

    /// Whether this node coordinates and is no owner.
    pub(super) fn is_standing_in(&self) -> bool {
        self.is_mine && !self.owners.contains(Place::FIRST)
    }

    /// Whether a place is this node.
    pub(super) fn is_me(&self, place: Place) -> bool {
        self.is_mine && place == Place::FIRST
    }

    /// The node at a place.
    pub(super) fn node(&self, place: Place) -> NodeIndex {
        self.nodes[place.index()]
    }

    /// All places.
    pub(super) fn places(&self) -> Places {
        Places::first(usize::from(self.count))
    }

    /// Where owners stand.
    pub(super) fn owners(&self) -> Places {
        self.owners
    }

    /// Where stand-ins stand.
    pub(super) fn stand_ins(&self) -> Places {
        self.places().without(self.owners)
    }

    /// The nodes at these places.
    pub(super) fn nodes(&self, places: Places) -> Vec<NodeIndex> {
        let mut nodes = Vec::with_capacity(usize::from(places.len()));
        nodes.extend(places.iter().map(|place| self.node(place)));
        nodes
    }

    /// The place of a node, if it has one.
    pub(super) fn find(&self, node: NodeIndex) -> Option<Place> {
        self.places().iter().find(|&place| self.node(place) == node)
    }

    /// What a read needs of each active configuration.
    pub(super) fn read_quorums(&self, demand: &Demand) -> Result<Quorums, Failure> {
        self.quorums(demand.read, demand.is_sloppy, bug::is_on(Bug::ReadNewestOnly))
    }

    /// What a write needs of each active configuration.
    pub(super) fn write_quorums(&self, demand: &Demand) -> Result<Quorums, Failure> {
        self.quorums(demand.write, demand.is_sloppy, bug::is_on(Bug::WriteNewestOnly))
    }

    /// The quorums of an operation that wants so many answers of the owners of each active configuration, or of this node if it stands
    /// in for them. A configuration of which everybody is lost has nobody to wait for.
    fn quorums(&self, wanted: Wanted, is_sloppy: bool, is_newest_only: bool) -> Result<Quorums, Failure> {
        // What stand-ins count for gives no promise that a raise could keep.
        let is_raised = self.view.lo < self.view.hi && !is_sloppy;
        let asked = |places: Places, lost| Configuration { places, need: wanted.of(places.len(), lost, is_raised) };
        let found = match &self.configurations[..usize::from(self.active)] {
            [alone] => Quorums::new(self.view, &[asked(*alone, self.lost[0])]),
            several => {
                let counted = if is_newest_only { 1 } else { CONFIGURATIONS_MAX };
                let active = several.iter().zip(self.lost).filter(|(places, _)| !places.is_empty()).take(counted);
                Quorums::new(self.view, &active.map(|(places, lost)| asked(*places, lost)).collect::<Vec<_>>())
            }
        };
        let mut quorums = found.ok_or_else(no_owners)?;
        if self.is_standing_in() {
            quorums.admit(Place::FIRST);
        }
        Ok(quorums)
    }

    /// What a read asks of the node at a place: an owner for its record, a stand-in for what it keeps.
    pub(super) fn read(&self, store_key: StoreKey, place: Place, ask: Ask) -> PeerOperation {
        let action = match ask {
            Ask::Whole if self.owners.contains(place) => PeerAction::Read,
            Ask::Whole => PeerAction::ReadHint,
            Ask::Digest => PeerAction::Digest,
        };
        PeerOperation { view: self.view, store_key, action }
    }

    fn uses(&self, node: NodeIndex) -> bool {
        self.nodes[..usize::from(self.count)].contains(&node)
    }
}

/// The active configurations that an operation must ask, the newest first. An older one of which everybody is lost has nobody to ask;
/// whoever plans does not count it either.
fn in_use<'r>(
    ring: &'r Ring,
    id: &'r Id,
    view: &View,
    lost: &[NodeIndex],
) -> impl Iterator<Item = Result<Named<'r>, Untold>> {
    let has_somebody = |named: &Named<'_>| !named.owners().all(|owner| lost.contains(&owner));
    let is_asked = move |named: &Result<Named<'_>, Untold>| named.as_ref().map_or(true, has_somebody);
    ring.active(id, view).enumerate().filter(move |(at, named)| *at == 0 || is_asked(named)).map(|(_, named)| named)
}

fn no_owners() -> Failure {
    let message = "no node owns this key under the layout; nothing was done, wait until the ring has nodes";
    Failure::new(ErrorCode::Unavailable, message)
}
