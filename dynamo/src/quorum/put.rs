//! The tally of a write (paper, section 4.5, put): how many distinct replicas have the version on disk, whether W can still
//! be reached, and whether anything may have been stored when it can't. An acknowledgement is counted once per place, only
//! after that replica's commit, and only under exactly the operation's view. A stand-in that was admitted counts like an owner,
//! once its hint is durable; a hint that it refused counts for nothing.

use super::{Place, Places, Quorums, Verdict};
use crate::layout::View;

/// What became of the write at one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is on that replica's disk.
    Durable,
    /// It is certainly not there: never sent, or refused.
    Refused,
    /// It was sent and nobody knows.
    Unclear,
}

/// A write in progress.
#[derive(Clone, Copy, Debug)]
pub struct Put {
    quorums: Quorums,
    /// Where it was minted. The write is acknowledged only after this replica's commit has ended one way or the other, so
    /// that a client's next operation at the same coordinator meets its own write.
    coordinator: Place,
    /// Sent to these.
    asked: Places,
    durable: Places,
    refused: Places,
    unclear: Places,
}

impl Put {
    /// A write that needs these quorums, minted at the place `coordinator`, which is taken as asked. Some places are known
    /// not to be reachable.
    pub fn new(quorums: Quorums, coordinator: Place, unreachable: Places) -> Self {
        let mut asked = Places::NONE;
        asked.insert(coordinator);
        Self { quorums, coordinator, asked, durable: Places::NONE, refused: unreachable, unclear: Places::NONE }
    }

    /// Lets a stand-in count.
    pub fn admit(&mut self, stand_in: Place) {
        self.quorums.admit(stand_in);
    }

    /// Every place the version shall be sent to now: all in use that can be reached. They are taken as asked.
    pub fn next_replicas(&mut self) -> Places {
        let chosen = self.quorums.places().without(self.asked).without(self.refused);
        self.asked = self.asked.union(chosen);
        chosen
    }

    /// Counts what became of the write at a replica, as answered under the view `under`. False when it counts for nothing:
    /// another view, or a place that was not asked. Once durable, always durable.
    pub fn on_reply(&mut self, place: Place, under: View, answer: Answer) -> bool {
        if under != self.quorums.view() || !self.asked.contains(place) {
            return false;
        }
        match answer {
            Answer::Durable => {
                self.durable.insert(place);
                self.refused.remove(place);
                self.unclear.remove(place);
            }
            Answer::Refused if !self.durable.contains(place) => self.refused.insert(place),
            Answer::Unclear if !self.durable.contains(place) => self.unclear.insert(place),
            Answer::Refused | Answer::Unclear => {}
        }
        true
    }

    /// How the write stands.
    pub fn verdict(&self) -> Verdict {
        match self.quorums.verdict(self.durable, self.refused.union(self.unclear)) {
            Verdict::Reached if !self.is_settled(self.coordinator) => Verdict::Pending,
            verdict @ (Verdict::Reached | Verdict::Pending | Verdict::Lost) => verdict,
        }
    }

    /// Whether W replicas have it, whatever the coordinator's own disk is doing: what counts when time is up.
    pub fn is_durable(&self) -> bool {
        self.quorums.verdict(self.durable, Places::NONE) == Verdict::Reached
    }

    /// Whether any replica may have stored it, or may still.
    pub fn maybe_applied(&self) -> bool {
        !self.asked.without(self.refused.without(self.unclear)).is_empty()
    }

    /// The owners that are not known to have it: whom a hint has to bring level, if they do not answer any more.
    pub fn repairs(&self) -> Places {
        self.quorums.places().without(self.quorums.stand_ins()).without(self.durable)
    }

    /// The places that can't be counted on any more.
    pub fn failed(&self) -> Places {
        self.refused.union(self.unclear).without(self.durable)
    }

    /// The places that have it on disk.
    pub fn durable(&self) -> Places {
        self.durable
    }

    /// What the write needs.
    pub fn quorums(&self) -> &Quorums {
        &self.quorums
    }

    fn is_settled(&self, place: Place) -> bool {
        self.durable.union(self.refused).union(self.unclear).contains(place)
    }
}
