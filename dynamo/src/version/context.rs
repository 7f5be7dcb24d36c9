//! Causal contexts: which dots of one key are known, as the highest count per actor. It stands for *all* counts of the
//! actor up to that one on this key, which is only true because an actor holds everything it ever counted, and is why a
//! context must never be used on another key or enriched by guesses.

use alloc::vec::Vec;
use core::mem;

use super::{Actor, Dot};

/// The highest known count of each actor, for one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    /// Ascending by actor, each once, no count zero.
    entries: Vec<(Actor, u64)>,
}

impl CausalContext {
    /// The context of knowing nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Takes entries as they stand in a record or token; `None` unless they strictly ascend by actor and no count is zero.
    pub fn from_entries(entries: Vec<(Actor, u64)>) -> Option<Self> {
        let ascends = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (ascends && entries.iter().all(|&(_, seq)| seq > 0)).then_some(Self { entries })
    }

    /// Whether the dot is known.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq <= self.seen(dot.actor)
    }

    /// The highest known count of `actor`; 0 for none.
    pub fn seen(&self, actor: Actor) -> u64 {
        match self.position(actor) {
            Ok(at) => self.entries[at].1,
            Err(_) => 0,
        }
    }

    /// Whether everything `other` knows is known here.
    pub fn includes(&self, other: &Self) -> bool {
        other.entries.iter().all(|&(actor, seq)| seq <= self.seen(actor))
    }

    /// Makes the dot known, and with it every earlier one of its actor on this key.
    pub fn add(&mut self, dot: Dot) {
        match self.position(dot.actor) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(dot.seq),
            Err(at) => self.entries.insert(at, (dot.actor, dot.seq)),
        }
    }

    /// Makes everything known that `other` knows.
    pub fn join(&mut self, other: &Self) {
        if self.includes(other) {
            return;
        }
        let joined = Vec::with_capacity(self.entries.len() + other.entries.len());
        let ours = mem::replace(&mut self.entries, joined);
        let (mut ours, mut theirs) = (ours.into_iter().peekable(), other.entries.iter().copied().peekable());
        while let Some(entry) = match (ours.peek(), theirs.peek()) {
            (Some(our), Some(their)) if our.0 == their.0 => ours.next().max(theirs.next()),
            (Some(our), Some(their)) if our.0 > their.0 => theirs.next(),
            (Some(_), _) => ours.next(),
            (None, _) => theirs.next(),
        } {
            self.entries.push(entry);
        }
    }

    /// The entries, ascending by actor.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Actor, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// How many actors it names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at a position.
    pub(crate) fn entry(&self, at: usize) -> Option<(Actor, u64)> {
        self.entries.get(at).copied()
    }

    /// Where an actor stands, or would stand.
    pub(crate) fn position(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&actor, |&(known, _)| known)
    }
}

impl FromIterator<Dot> for CausalContext {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::new();
        for dot in dots {
            context.add(dot);
        }
        context
    }
}
