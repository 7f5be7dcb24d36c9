//! Who is in the next layout and at which position, and what of the old slots carries over to it.
//!
//! A position means the same node in every layout of a ring for as long as any of them may be looked at, so positions are
//! given up in steps. A member that is to go stays in its place as leaving or lost. Once no configuration that may be active has
//! it, nobody needs to ask it; once it has handed over what it held, or its copies were given up, it needs nobody. Then the next
//! layout calls it gone. Only the layout after that gives its place to a newcomer, or cuts it off at the end: whoever
//! knows that one has rows in which no configuration is active that had the member, for rows follow what layouts say is retired.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};

use super::{Desired, Past};
use crate::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex, SLOT_EMPTY},
};

/// The members of the next layout in their positions. `desired` has no identity twice.
pub(super) fn arrange(past: Option<&Past<'_>>, desired: &Desired) -> Vec<Member> {
    let before = past.map_or(&[][..], |past| &past.newest().members);
    let needed = past.and_then(|past| past.owners(&desired.proven));
    let may_go = |at: u16, member: &Member| {
        let has_nothing = member.state == MemberState::Lost || desired.proven.is_empty(NodeIndex(at));
        has_nothing && needed.as_ref().is_some_and(|needed| !needed.contains(&NodeIndex(at)))
    };
    let is_gone = |member: &Member| member.state == MemberState::Gone;
    let mut wanted: BTreeMap<NodeId, &Member> = desired.members.iter().map(|member| (member.id, member)).collect();
    let mut places: Vec<Member> =
        (0..).zip(before).map(|(at, member)| succeed(member, wanted.remove(&member.id), may_go(at, member))).collect();
    let mut newcomers =
        desired.members.iter().filter(|member| wanted.contains_key(&member.id) && !is_gone(member)).cloned();
    for (place, _) in places.iter_mut().zip(before).filter(|(_, before)| is_gone(before)) {
        match newcomers.next() {
            Some(newcomer) => *place = newcomer,
            None => break,
        }
    }
    places.extend(newcomers);
    while places.len() <= before.len() && places.last().is_some_and(is_gone) && is_gone(&before[places.len() - 1]) {
        places.pop();
    }
    places
}

fn is_active(member: &Member) -> bool {
    member.state == MemberState::Active
}

/// What becomes of a member, given what is desired of it; nothing is desired of one that shall go.
fn succeed(member: &Member, desired: Option<&Member>, may_go: bool) -> Member {
    let wanted = desired.map_or(MemberState::Leaving, |desired| desired.state);
    let state = match (member.state, wanted) {
        (MemberState::Gone, _) => return member.clone(),
        (MemberState::Leaving | MemberState::Lost, MemberState::Leaving | MemberState::Lost | MemberState::Gone)
            if may_go =>
        {
            return Member { state: MemberState::Gone, addresses: Vec::new(), ..member.clone() };
        }
        // Whose copies were given up stays given up: quorums did not wait for it, so what it holds is out of date.
        (MemberState::Lost, _) => MemberState::Lost,
        (MemberState::Active | MemberState::Leaving, MemberState::Gone) => MemberState::Leaving,
        (MemberState::Active | MemberState::Leaving, state) => state,
    };
    Member { state, ..desired.unwrap_or(member).clone() }
}

/// The slots of the old layout in the terms of the new one.
pub(super) struct Inherited<'a> {
    old: Option<&'a Layout>,
    /// The layout whose slots are kept as far as they can be: the old one, or one before it that is gone back to.
    base: Option<&'a Layout>,
    /// By position: who takes over what the node there owned; itself, unless it is replaced.
    heirs: Vec<u16>,
    partition_bits: u8,
}

impl<'a> Inherited<'a> {
    pub(super) fn new(
        old: Option<&'a Layout>,
        former: Option<&'a Layout>,
        new: &Layout,
        replacements: &BTreeMap<NodeId, NodeId>,
    ) -> Self {
        let positions: BTreeMap<NodeId, u16> = new.members.iter().map(|member| member.id).zip(0..).collect();
        let heir = |(at, member): (u16, &Member)| {
            let heir = replacements.get(&member.id).and_then(|heir| positions.get(heir));
            heir.copied().unwrap_or(at)
        };
        let base = former.or(old);
        Self {
            old,
            base,
            heirs: base.map_or_else(Vec::new, |base| (0..).zip(&base.members).map(heir).collect()),
            partition_bits: new.partition_bits,
        }
    }

    /// The old layout's electors, in a first plan nobody.
    pub(super) fn electors(&self) -> &'a [NodeIndex] {
        self.old.map_or(&[], |old| &old.electors)
    }

    /// Whether the node at this position was a member of the old layout.
    pub(super) fn was_member(&self, at: usize) -> bool {
        self.old.and_then(|old| old.members.get(at)).is_some_and(|member| member.state != MemberState::Gone)
    }

    /// The owners that a partition of the new layout had so far. Partitions are prefixes of identifiers, so halves of a divided
    /// one have its owners.
    pub(super) fn before(&self, partition: u32) -> impl Iterator<Item = u16> + Clone + '_ {
        self.owners_in(self.old, partition)
    }

    /// Those who shall go on owning it if they can, with those who take the places of others instead of them.
    pub(super) fn owners(&self, partition: u32) -> impl Iterator<Item = u16> + Clone + '_ {
        self.owners_in(self.base, partition).map(|owner| self.heirs[usize::from(owner)])
    }

    /// How many slots each member of the new layout would hold if all of them could.
    pub(super) fn held(&self, members: usize) -> Vec<u32> {
        self.count(members, |partition| self.owners(partition))
    }

    /// How many slots each member of the new layout holds before anything moves.
    pub(super) fn held_before(&self, members: usize) -> Vec<u32> {
        self.count(members, |partition| self.before(partition))
    }

    /// The slots of the new layout where nothing that decides them has changed: the active nodes, with those who take the places of
    /// others instead of them, their weights and zones, and the number of copies.
    pub(super) fn carried_over(&self, new: &Layout) -> Option<Vec<u16>> {
        let base = self.base.filter(|base| base.replicas == new.replicas)?;
        let kept = base.members.iter().enumerate().filter(|(_, member)| is_active(member));
        let kept: BTreeSet<_> =
            kept.map(|(at, member)| (usize::from(self.heirs[at]), member.weight, member.zone.as_str())).collect();
        let wanted = new.members.iter().enumerate().filter(|(_, member)| is_active(member));
        let wanted: BTreeSet<_> = wanted.map(|(at, member)| (at, member.weight, member.zone.as_str())).collect();
        if kept != wanted {
            return None;
        }
        let replicas = usize::from(new.replicas);
        let filled = |partition| self.owners(partition).chain(core::iter::repeat(SLOT_EMPTY)).take(replicas);
        let slots: Vec<u16> = (0..new.partitions()).flat_map(filled).collect();
        // Owners that were given up for lost may have stayed where a partition could not be moved ([`super::crowd`]).
        let stays = |slot: &u16| *slot == SLOT_EMPTY || is_active(&new.members[usize::from(*slot)]);
        slots.iter().all(stays).then_some(slots)
    }

    fn owners_in(&self, layout: Option<&'a Layout>, partition: u32) -> impl Iterator<Item = u16> + Clone + 'a {
        let owners = layout.map(|layout| layout.owners(partition >> (self.partition_bits - layout.partition_bits)));
        owners.into_iter().flatten().map(|owner| owner.0)
    }

    fn count<I: Iterator<Item = u16>>(&self, members: usize, owners: impl Fn(u32) -> I) -> Vec<u32> {
        let mut held = vec![0; members];
        if self.old.is_some() {
            for node in (0..1 << self.partition_bits).flat_map(owners) {
                held[usize::from(node)] += 1;
            }
        }
        held
    }
}
