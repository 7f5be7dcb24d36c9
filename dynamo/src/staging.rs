//! What operators want of the next layout (paper, section 4.8.1; design, ring, "Agreeing on the next epoch"): changes that any node
//! takes and passes on, so that it does not matter which node an operator talks to.
//!
//! A [`Staged`] is a map from what a change is about to the last word on it, ordered by stamps. Joining two such maps is
//! commutative, associative and idempotent, so nodes exchange them in any order and agree in the end. Nothing here takes
//! effect: [`crate::planner`] turns it into a layout, and only what the electors decide is done. A change that has been done
//! stays in the map as a word that says nothing new; [`Staged::pending`] leaves it out.

mod back;
mod codec;
mod error;
mod pending;
#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, string::String, vec::Vec};

pub use back::changes_back;
pub use codec::StagedDecodeError;
pub use error::StagingError;

use crate::{
    hlc,
    ident::NodeId,
    layout::{BucketProperties, Layout, Member},
};

/// Most words that are kept, done ones and undone ones included: a tenth more nodes for the largest cluster, and as many
/// changes of other kinds. When two maps together have more, the oldest are dropped.
pub const WORDS_MAX: usize = 4096;

/// A change of the ring that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node shall become a member, or one that is leaving shall stay after all. In the entry of a node that replaces
    /// another, an empty zone and weight 0 stand for the other's.
    Join(Member),
    /// The node shall own nothing any more, and then leave.
    Leave(NodeId),
    /// `new`, which joins, takes the partitions of `old`, which leaves: no others move.
    Replace {
        /// Who leaves.
        old: NodeId,
        /// Who comes; its [`Change::Join`] is staged too.
        new: NodeId,
    },
    /// The node leaves and its copies are given up: no quorum waits for them any more.
    Lost(NodeId),
    /// The node shall have this share relative to the others.
    Reweight {
        /// Which node.
        node: NodeId,
        /// Its weight, at least 1.
        weight: u32,
    },
    /// The node stands in another zone.
    Zone {
        /// Which node.
        node: NodeId,
        /// The zone.
        zone: String,
    },
    /// The node listens elsewhere.
    Addresses {
        /// Which node.
        node: NodeId,
        /// `host:port`, most preferred first.
        addresses: Vec<String>,
    },
    /// What operations on a bucket do when a request does not say otherwise.
    Bucket {
        /// The bucket's name.
        name: String,
        /// Its properties.
        properties: BucketProperties,
    },
    /// N: how many copies there shall be.
    Replicas(u8),
    /// There shall be 2^bits partitions.
    PartitionBits(u8),
    /// Whatever was staged about this is not to be done after all.
    Undo(Subject),
}

/// What changes can be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A node.
    Node(NodeId),
    /// A bucket.
    Bucket(String),
    /// The number of copies.
    Replicas,
    /// The number of partitions.
    PartitionBits,
}

/// When a word was said: the later one counts. Clocks need not be right, for a node's next stamp is above all it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// A hybrid logical clock ([`crate::hlc`]).
    pub clock: u64,
    /// The node that took the change; breaks ties.
    pub node: NodeId,
}

/// What the words of a map are kept under. The derived order is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Whether the node is to be a member.
    Membership(NodeId),
    /// Whom the node replaces.
    Replaces(NodeId),
    /// Whether its copies are given up.
    Loss(NodeId),
    Weight(NodeId),
    Zone(NodeId),
    Addresses(NodeId),
    Bucket(String),
    Replicas,
    PartitionBits,
}

/// The last word on something.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    stamp: Stamp,
    /// `None`: it shall be as the layout has it.
    change: Option<Change>,
}

/// The changes that are staged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    words: BTreeMap<Key, Word>,
    /// Words up to this stamp are forgotten, here and wherever this map comes.
    cleared: Option<Stamp>,
}

impl Staged {
    /// A stamp above all in the map, for a change that a node takes at this time.
    pub fn next_stamp(&self, wall_ms: u64, node: NodeId) -> Stamp {
        let highest = self.words.values().map(|word| word.stamp).chain(self.cleared).max();
        let above = highest.map_or(0, |stamp| stamp.clock.saturating_add(1));
        Stamp { clock: hlc::clock_of(wall_ms).max(above), node }
    }

    /// Takes a change. Each gets a stamp of its own, in the order in which they were asked for.
    ///
    /// Only what could never be a layout is refused here; what does not fit the present one is for
    /// [`crate::planner::plan_change`] to say.
    pub fn stage(&mut self, change: Change, stamp: Stamp) -> Result<(), StagingError> {
        change.check()?;
        match change {
            Change::Undo(subject) => self.undo(&subject, stamp),
            Change::Join(member) => self.say(Key::Membership(member.id), stamp, Some(Change::Join(member))),
            Change::Leave(node) => self.say(Key::Membership(node), stamp, Some(Change::Leave(node))),
            Change::Replace { old, new } => {
                self.say(Key::Replaces(new), stamp, Some(Change::Replace { old, new }));
                self.say(Key::Membership(old), stamp, Some(Change::Leave(old)));
            }
            Change::Lost(node) => {
                self.say(Key::Loss(node), stamp, Some(Change::Lost(node)));
                self.say(Key::Membership(node), stamp, Some(Change::Leave(node)));
            }
            Change::Reweight { node, weight } => {
                self.say(Key::Weight(node), stamp, Some(Change::Reweight { node, weight }));
            }
            Change::Zone { node, zone } => self.say(Key::Zone(node), stamp, Some(Change::Zone { node, zone })),
            Change::Addresses { node, addresses } => {
                self.say(Key::Addresses(node), stamp, Some(Change::Addresses { node, addresses }));
            }
            Change::Bucket { name, properties } => {
                self.say(Key::Bucket(name.clone()), stamp, Some(Change::Bucket { name, properties }));
            }
            Change::Replicas(replicas) => self.say(Key::Replicas, stamp, Some(Change::Replicas(replicas))),
            Change::PartitionBits(bits) => self.say(Key::PartitionBits, stamp, Some(Change::PartitionBits(bits))),
        }
        self.drop_oldest();
        Ok(())
    }

    /// Learns what the other knows. Returns whether anything was new.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (key, word) in &other.words {
            self.say(key.clone(), word.stamp, word.change.clone());
        }
        if let Some(cleared) = other.cleared {
            self.clear(cleared);
        }
        self.drop_oldest();
        *self != before
    }

    /// Forgets everything that was staged up to a stamp.
    pub fn clear(&mut self, stamp: Stamp) {
        self.cleared = self.cleared.max(Some(stamp));
        let cleared = self.cleared;
        self.words.retain(|_, word| Some(word.stamp) > cleared);
    }

    /// When the map is half full, forgets the oldest changes as far as they have been done. Called before something is
    /// staged; a change that another node took meanwhile and has not told yet may be forgotten with them.
    pub fn make_room(&mut self, layout: &Layout) {
        if self.words.len() < WORDS_MAX / 2 {
            return;
        }
        let oldest_pending = self.pending_words(layout).iter().map(|word| word.stamp).min();
        let is_done = |stamp: &Stamp| oldest_pending.is_none_or(|oldest| *stamp < oldest);
        if let Some(last) = self.words.values().map(|word| word.stamp).filter(is_done).max() {
            self.clear(last);
        }
    }

    /// The addresses that were last staged for a node, whether the layout has them already or not.
    pub fn addresses(&self, node: NodeId) -> Option<&[String]> {
        match self.words.get(&Key::Addresses(node)).map(|word| &word.change) {
            Some(Some(Change::Addresses { addresses, .. })) => Some(addresses),
            Some(_) | None => None,
        }
    }

    /// Whether nothing was ever staged, or all of it is forgotten.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn undo(&mut self, subject: &Subject, stamp: Stamp) {
        match subject {
            Subject::Node(node) => self.undo_node(*node, stamp),
            Subject::Bucket(name) => self.say(Key::Bucket(name.clone()), stamp, None),
            Subject::Replicas => self.say(Key::Replicas, stamp, None),
            Subject::PartitionBits => self.say(Key::PartitionBits, stamp, None),
        }
    }

    fn undo_node(&mut self, node: NodeId, stamp: Stamp) {
        // Whoever does not replace another does not send it away either.
        if let Some(Word { stamp: said, change: Some(Change::Replace { old, .. }) }) =
            self.words.get(&Key::Replaces(node))
        {
            let (said, old) = (*said, *old);
            if self.words.get(&Key::Membership(old)).is_some_and(|word| word.stamp == said) {
                self.say(Key::Membership(old), stamp, None);
            }
        }
        for key in [Key::Membership, Key::Replaces, Key::Loss, Key::Weight, Key::Zone, Key::Addresses] {
            self.say(key(node), stamp, None);
        }
    }

    /// The later word counts. Two with one stamp, which only a broken node makes, are ordered by what they say.
    fn say(&mut self, key: Key, stamp: Stamp, change: Option<Change>) {
        if Some(stamp) <= self.cleared {
            return;
        }
        let word = Word { stamp, change };
        let counts = self.words.get(&key).is_none_or(|known| {
            (known.stamp, codec::change_bytes(known.change.as_ref()))
                < (word.stamp, codec::change_bytes(word.change.as_ref()))
        });
        if counts {
            self.words.insert(key, word);
        }
    }

    /// Keeps the latest [`WORDS_MAX`]. Whatever a join adds only pushes older words out, so the order of joins does not matter.
    fn drop_oldest(&mut self) {
        if self.words.len() <= WORDS_MAX {
            return;
        }
        let mut order: Vec<(Stamp, &Key)> = self.words.iter().map(|(key, word)| (word.stamp, key)).collect();
        order.sort_unstable();
        let excess: Vec<Key> = order[..order.len() - WORDS_MAX].iter().map(|&(_, key)| key.clone()).collect();
        for key in excess {
            self.words.remove(&key);
        }
    }
}
