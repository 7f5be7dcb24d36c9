//! The tally of a read (paper, section 4.5, get): whose record is wanted in full, whose digest is enough to see that it is
//! behind, when R records are there, and who needs repair. It knows contents only by their digests; reading, merging and
//! sending records is the coordinator's part.
//!
//! What an admitted stand-in keeps counts as read and can show that owners are behind. The stand-in itself never is: it keeps
//! what owners missed and nothing else, so it is sent no repairs.

use alloc::vec::Vec;

use super::{Place, Places, Quorums, Verdict};
use crate::{
    bug::{self, Bug},
    layout::View,
};

/// What a replica holds: the digest of its record, or `None` when it has none.
pub type Contents = Option<u128>;

/// What a replica answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its record, verified, or the word that there is none. Only this counts towards R.
    Record(Contents),
    /// The digest of its record. It shows whether the replica is behind and never counts towards R.
    Digest(Contents),
    /// No use: refused, unreachable, under another view, or a record that does not verify.
    Failed,
}

/// A read in progress.
#[derive(Clone, Debug)]
pub struct Get {
    quorums: Quorums,
    /// Asked for their record.
    reading: Places,
    /// Gave their record. What a place gave is final: a digest that was overtaken by it is ignored.
    read: Places,
    /// Can't be counted on.
    failed: Places,
    /// Known to hold nothing.
    absent: Places,
    /// The contents that were heard of first. In the best case everyone agrees, and then this is the whole tally.
    first: Group,
    /// Other contents. They stay when their last place was repaired, so that a late digest finds them already read.
    others: Vec<Group>,
}

/// The places known to hold the same contents.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    digest: u128,
    places: Places,
    /// One of them gave its record: the contents are part of what the coordinator merged.
    read: bool,
    /// Whether `digest` means anything.
    used: bool,
}

impl Get {
    /// A read that needs these quorums, of which some places are known not to be reachable.
    pub fn new(quorums: Quorums, unreachable: Places) -> Self {
        Self {
            quorums,
            reading: Places::NONE,
            read: Places::NONE,
            failed: unreachable,
            absent: Places::NONE,
            first: Group::default(),
            others: Vec::new(),
        }
    }

    /// Lets a stand-in count.
    pub fn admit(&mut self, stand_in: Place) {
        self.quorums.admit(stand_in);
    }

    /// The places to ask for their record now, so that every configuration can reach its quorum: at the start R of them,
    /// later one more for each that failed. They are taken as asked.
    pub fn next_readers(&mut self) -> Places {
        let hopeful = self.reading.without(self.failed).union(self.read);
        let mut chosen = Places::NONE;
        for asked in self.quorums.configurations() {
            let covered = asked.places.intersection(hopeful.union(chosen)).len();
            let lacking = usize::from(asked.need.saturating_sub(covered));
            let candidates = asked.places.without(hopeful).without(self.failed).without(chosen);
            candidates.iter().take(lacking).for_each(|place| chosen.insert(place));
        }
        self.reading = self.reading.union(chosen);
        chosen
    }

    /// The places to ask for their record because only its digest is known and nobody else gave that record: one for each
    /// such digest. They are taken as asked.
    pub fn next_fetches(&mut self) -> Places {
        let mut chosen = Places::NONE;
        for group in self.groups().filter(|group| !group.read) {
            let asked = group.places.intersection(self.reading).without(self.failed).without(self.read);
            let next = group.places.without(self.failed).without(self.read).iter().next();
            if let (true, Some(place)) = (asked.is_empty(), next) {
                chosen.insert(place);
            }
        }
        self.reading = self.reading.union(chosen);
        chosen
    }

    /// Counts a replica's answer that was given under the view `under`. False when it counts for nothing: another view,
    /// a place that is not in use, or a digest that the same place's record overtook.
    pub fn on_reply(&mut self, place: Place, under: View, answer: Answer) -> bool {
        if under != self.quorums.view() || !self.quorums.places().contains(place) {
            return false;
        }
        match answer {
            Answer::Record(contents) => {
                self.read.insert(place);
                self.failed.remove(place);
                self.holds(place, contents, true);
                true
            }
            Answer::Digest(contents) if !self.read.contains(place) => {
                self.holds(place, contents, false);
                true
            }
            Answer::Digest(_) => false,
            Answer::Failed => {
                if !self.read.contains(place) {
                    self.failed.insert(place);
                }
                true
            }
        }
    }

    /// How the read stands.
    pub fn verdict(&self) -> Verdict {
        if bug::is_on(Bug::ReadQuorumOfOne) && !self.read.is_empty() {
            return Verdict::Reached;
        }
        self.quorums.verdict(self.read, self.failed.without(self.read))
    }

    /// The owners that are known not to hold `merged`, the merge of every record that was read. Those whose contents
    /// nobody read are left out: they hold something that is not in `merged` yet ([`Get::next_fetches`]).
    pub fn repairs(&self, merged: Contents) -> Places {
        let Some(merged) = merged else { return Places::NONE };
        let behind = |group: &Group| group.read && group.digest != merged;
        self.groups().filter(|group| behind(group)).fold(self.absent, |places, group| places.union(group.places))
    }

    /// Notes that these places were sent `merged` and will hold it.
    pub fn on_repaired(&mut self, places: Places, merged: u128) {
        for place in places.iter() {
            self.holds(place, Some(merged), true);
        }
    }

    /// One more place to ask for its record, because those that were asked are slow. It is taken as asked.
    pub fn next_hedge(&mut self) -> Option<Place> {
        let untried = self.quorums.places().without(self.reading).without(self.read).without(self.failed);
        let place = untried.iter().next()?;
        self.reading.insert(place);
        Some(place)
    }

    /// Whether some place gave a record with this digest before.
    pub fn has_read(&self, digest: u128) -> bool {
        self.groups().any(|group| group.read && group.digest == digest)
    }

    /// The places that gave their record.
    pub fn read(&self) -> Places {
        self.read
    }

    /// Whether some place's contents are known only by a digest.
    pub fn has_unread(&self) -> bool {
        self.groups().any(|group| !group.read && !group.places.is_empty())
    }

    /// Whether not all that is known agrees.
    pub fn is_divided(&self) -> bool {
        self.first.used && !(self.absent.is_empty() && self.others.is_empty() && self.first.read)
    }

    /// What the read needs.
    pub fn quorums(&self) -> &Quorums {
        &self.quorums
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        core::iter::once(&self.first).filter(|group| group.used).chain(&self.others)
    }

    fn holds(&mut self, place: Place, contents: Contents, read: bool) {
        let is_owner = !self.quorums.stand_ins().contains(place);
        self.absent.remove(place);
        self.first.places.remove(place);
        self.others.iter_mut().for_each(|group| group.places.remove(place));
        let Some(digest) = contents else {
            if is_owner {
                self.absent.insert(place);
            }
            return;
        };
        if !self.first.used {
            self.first = Group { digest, places: Places::NONE, read: false, used: true };
        }
        let group = if self.first.digest == digest {
            &mut self.first
        } else {
            let known = self.others.iter().position(|group| group.digest == digest);
            let at = known.unwrap_or_else(|| {
                self.others.push(Group { digest, places: Places::NONE, read: false, used: true });
                self.others.len() - 1
            });
            &mut self.others[at]
        };
        if is_owner {
            group.places.insert(place);
        }
        group.read |= read;
    }
}
