//! Quorums (paper, section 4.5): when have enough replicas answered, when can't it be enough any more, and who is left
//! behind. Pure arithmetic on sets of places in a preference list: no nodes, no messages, no clocks.
//!
//! [`get::Get`] and [`put::Put`] share one shape: `new`, `on_reply`, `verdict`, `repairs`. While a partition moves, several
//! configurations are active, and an operation needs its quorum in every one of them, all counted under exactly the
//! operation's view; otherwise there is one.
//!
//! A quorum is sloppy (section 4.6) when [`Quorums::admit`] has let a stand-in count beside the owners. Each place is another
//! node, so W answers stay W distinct nodes, whoever gave them.

pub mod get;
pub mod put;

pub use crate::layout::spans::CONFIGURATIONS_MAX;
use crate::{
    bug::{self, Bug},
    layout::View,
};

/// Most places of one operation: four whole configurations of seven owners and a few stand-ins, and the sets fit a `u32`.
pub const PLACES_MAX: usize = 32;

/// How many of a configuration's owners make a majority, when so many are there and so many others were given up for lost: more than
/// half of those that are there, and no fewer than meet every majority of all of them that one of those there belonged to. What only
/// lost owners had is lost; what one more had must be found by whoever asks a majority of the rest.
pub fn majority(present: usize, lost: usize) -> usize {
    if bug::is_on(Bug::MajorityOfTheRest) {
        return (present / 2 + 1).min(present);
    }
    let all = present + lost;
    (present / 2 + 1).max(all - all / 2).min(present)
}

/// The position of a replica in an operation's preference list; smaller is preferred. Below [`PLACES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u8);

impl Place {
    /// The place with this position, if there can be one.
    pub fn new(position: usize) -> Option<Self> {
        if position < PLACES_MAX { u8::try_from(position).ok().map(Self) } else { None }
    }

    /// The first place: the coordinator itself, where it is an owner.
    pub const FIRST: Self = Self(0);

    /// Its position.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places(u32);

impl Places {
    /// No place.
    pub const NONE: Self = Self(0);

    /// The first `count` places, at most all there are.
    pub fn first(count: usize) -> Self {
        if count >= PLACES_MAX { Self(u32::MAX) } else { Self((1 << count) - 1) }
    }

    /// Adds a place.
    pub fn insert(&mut self, place: Place) {
        self.0 |= 1 << place.0;
    }

    /// Takes a place away.
    pub fn remove(&mut self, place: Place) {
        self.0 &= !(1 << place.0);
    }

    /// Whether the place is in the set.
    pub fn contains(self, place: Place) -> bool {
        self.0 & (1 << place.0) != 0
    }

    /// The same places one position later, for somebody who comes before them all.
    #[must_use]
    pub fn one_later(self) -> Self {
        Self(self.0 << 1)
    }

    /// How many there are.
    pub fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The places, most preferred first.
    pub fn iter(self) -> impl Iterator<Item = Place> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let place = u8::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
            left &= left - 1;
            Some(Place(place))
        })
    }
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Enough replicas answered, in every active configuration.
    Reached,
    /// Enough may still answer.
    Pending,
    /// Too many failed: enough can't answer any more.
    Lost,
}

/// What one active configuration asks: this many of these places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The configuration's owners that are in use.
    pub places: Places,
    /// How many of them must answer.
    pub need: u8,
}

/// What all active configurations of the operation's view ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    /// The view they belong to: an answer given under any other counts for nothing.
    view: View,
    /// The first `count` are in use.
    configurations: [Configuration; CONFIGURATIONS_MAX],
    count: u8,
    stand_ins: Places,
}

impl Quorums {
    /// The quorums of the given configurations under `view`. `None` when there are none or more than
    /// [`CONFIGURATIONS_MAX`], or when one asks for no answer or for more than it has places: a "quorum" that could be
    /// reached without an answer, or never.
    pub fn new(view: View, active: &[Configuration]) -> Option<Self> {
        let is_sensible = |asked: &Configuration| asked.need > 0 && asked.need <= asked.places.len();
        let mut configurations = [Configuration::default(); CONFIGURATIONS_MAX];
        for (at, asked) in active.iter().enumerate() {
            *configurations.get_mut(at).filter(|_| is_sensible(asked))? = *asked;
        }
        let is_any = !active.is_empty();
        is_any.then_some(Self { view, configurations, count: active.len() as u8, stand_ins: Places::NONE })
    }

    /// Lets a place that is no owner's count in every configuration.
    pub fn admit(&mut self, stand_in: Place) {
        for asked in &mut self.configurations[..usize::from(self.count)] {
            asked.places.insert(stand_in);
        }
        self.stand_ins.insert(stand_in);
    }

    /// The places that were admitted and are no owners'.
    pub fn stand_ins(&self) -> Places {
        self.stand_ins
    }

    /// The view under which answers count.
    pub fn view(&self) -> View {
        self.view
    }

    /// The active configurations.
    pub fn configurations(&self) -> &[Configuration] {
        &self.configurations[..usize::from(self.count)]
    }

    /// Every place of every configuration.
    pub fn places(&self) -> Places {
        self.configurations().iter().fold(Places::NONE, |all, asked| all.union(asked.places))
    }

    /// How it stands when these places answered well and these can't be counted on any more.
    pub fn verdict(&self, answered: Places, failed: Places) -> Verdict {
        let short = |asked: &Configuration, of: Places| asked.places.intersection(of).len() < asked.need;
        if !self.configurations().iter().any(|asked| short(asked, answered)) {
            Verdict::Reached
        } else if self.configurations().iter().any(|asked| short(asked, asked.places.without(failed).union(answered))) {
            Verdict::Lost
        } else {
            Verdict::Pending
        }
    }

    /// How many answers the configuration that needs most needs: what a receipt reports.
    pub fn need(&self) -> u8 {
        self.configurations().iter().map(|asked| asked.need).max().unwrap_or(0)
    }

    /// How many answers the configuration that lacks most needs, and how many of them it has: what an error reports.
    pub fn need_and_got(&self, answered: Places) -> (u8, u8) {
        self.configurations()
            .iter()
            .map(|asked| (asked.need, asked.places.intersection(answered).len().min(asked.need)))
            .max_by_key(|(need, got)| need - got)
            .unwrap_or((0, 0))
    }
}

#[cfg(test)]
mod tests;
