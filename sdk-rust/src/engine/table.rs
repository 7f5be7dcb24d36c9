//! The operations that have not ended, in places that are used again. A ticket names an operation and one attempt of it, so
//! that what arrives for an operation that has ended, or for an attempt that was given up, is recognised.

use std::{sync::Arc, time::Instant};

use dynamo::layout::NodeIndex;

use crate::{
    Completer,
    engine::{Submission, link::LinkId},
    retry::Trouble,
    routing::Kind,
};

/// Names an operation and an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    place: u32,
    pub(super) sequence: u64,
    pub(super) attempt: u32,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun: enough others are under way.
    Waiting,
    /// On a link, waiting for a call.
    Gathered { link: LinkId },
    /// In a call.
    Sent { link: LinkId, call: u64 },
    /// Between two attempts, until `due`.
    Paused,
}

/// An operation that has not ended.
pub(crate) struct Entry {
    pub(super) submission: Submission,
    pub(super) kind: Kind,
    pub(super) stage: Stage,
    /// When the stage has lasted long enough.
    pub(super) due: Instant,
    /// Counts how often it was put on a link.
    pub(super) attempt: u32,
    /// How often it was sent to a node that did not refuse it because it shuts down.
    pub(super) sent: u32,
    /// How often it went to the same node again.
    pub(super) repeats: u32,
    /// How often it has paused.
    pub(super) pauses: u32,
    /// Whether an attempt may have stored something.
    pub(super) maybe_applied: bool,
    /// Whether its answer needs a reply of its own.
    pub(super) alone: bool,
    /// The nodes that have failed it.
    pub(super) tried: Vec<NodeIndex>,
    /// The link it was put on last.
    pub(super) last: Option<LinkId>,
    /// The link it shall go to after a pause.
    pub(super) prefer: Option<LinkId>,
    /// What went wrong last.
    pub(super) trouble: Option<Trouble>,
}

/// The table.
#[derive(Default)]
pub(crate) struct Table {
    places: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Ticket {
    pub(super) fn of_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }
}

impl Entry {
    pub(super) fn new(submission: Submission, kind: Kind) -> Self {
        Self {
            due: submission.deadline,
            submission,
            kind,
            stage: Stage::Waiting,
            attempt: 0,
            sent: 0,
            repeats: 0,
            pauses: 0,
            maybe_applied: false,
            alone: false,
            tried: Vec::new(),
            last: None,
            prefer: None,
            trouble: None,
        }
    }
}

impl Table {
    pub(super) fn insert(&mut self, entry: Entry) -> Ticket {
        let (sequence, attempt) = (entry.submission.sequence, entry.attempt);
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(entry);
                place
            }
            None => {
                self.places.push(Some(entry));
                (self.places.len() - 1) as u32
            }
        };
        Ticket { place, sequence, attempt }
    }

    /// The operation of a ticket, whatever the attempt.
    pub(super) fn get(&self, ticket: Ticket) -> Option<&Entry> {
        let entry = self.places.get(ticket.place as usize)?.as_ref()?;
        (entry.submission.sequence == ticket.sequence).then_some(entry)
    }

    /// The operation of a ticket, whatever the attempt.
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        let entry = self.places.get_mut(ticket.place as usize)?.as_mut()?;
        (entry.submission.sequence == ticket.sequence).then_some(entry)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Entry> {
        self.get(ticket)?;
        self.free.push(ticket.place);
        self.places[ticket.place as usize].take()
    }

    /// The operations of these numbers, which must be in order.
    pub(super) fn find(&self, sequences: &[u64]) -> Vec<Ticket> {
        let named = |ticket: &Ticket| sequences.binary_search(&ticket.sequence).is_ok();
        self.tickets().map(|(ticket, _)| ticket).filter(named).collect()
    }

    /// All operations, with tickets for their present attempts.
    pub(super) fn tickets(&self) -> impl Iterator<Item = (Ticket, &Entry)> {
        (0..).zip(&self.places).filter_map(|(place, entry)| {
            let entry = entry.as_ref()?;
            let ticket = Ticket { place, sequence: entry.submission.sequence, attempt: entry.attempt };
            Some((ticket, entry))
        })
    }

    /// A new layout gives every node another chance, and other places.
    pub(super) fn forget_tried(&mut self) {
        self.places.iter_mut().flatten().for_each(|entry| entry.tried.clear());
    }

    /// Empties the table and says whom to tell.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Arc<dyn Completer>, u64)> {
        self.free.clear();
        let entries = std::mem::take(&mut self.places).into_iter().flatten();
        entries.map(|entry| (entry.submission.completer, entry.submission.token))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}
