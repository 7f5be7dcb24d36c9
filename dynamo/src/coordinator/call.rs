//! Names of calls. A call's name says which operation it belongs to, at which place of its preference list, and what was
//! asked, so an answer finds its way without a map; and it says so under a number that is never used again, so a late
//! answer, a doubled one, or one that a peer made up finds an operation that is over, and does nothing.

use crate::quorum::Place;

/// Most operations one coordinator can have in flight: what fits the bits of a name. A worker is overloaded long before.
pub(super) const SLOTS_MAX: usize = 1 << SLOT_BITS;

const ASK_BITS: u32 = 1;
const PLACE_BITS: u32 = 5;
const SLOT_BITS: u32 = 19;
const PREFIX_SHIFT: u32 = ASK_BITS + PLACE_BITS;
// 39 bits are left for the serial number: at a million operations a second it repeats after six days, while names live
// no longer than `budget_max_ms`.

/// Names one call to a replica or another node; comes back with its answer. Nothing can be concluded from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What a call asked. A place may be asked both, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The record, a write, or a whole operation.
    Whole,
    /// Only the digest.
    Digest,
}

/// What the names of all calls of one operation, in one of its stages, have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Calls(u64);

impl Calls {
    /// The names of the stage with this serial number in this slot.
    pub(super) fn new(serial: u64, slot: usize) -> Self {
        debug_assert!(slot < SLOTS_MAX);
        Self(serial << SLOT_BITS | slot as u64)
    }

    /// The call that asks `ask` of `place`.
    pub(super) fn to(self, place: Place, ask: Ask) -> CallId {
        let ask = match ask {
            Ask::Whole => 0,
            Ask::Digest => 1,
        };
        CallId(self.0 << PREFIX_SHIFT | (place.index() as u64) << ASK_BITS | ask)
    }

    /// The slot the operation stands in.
    pub(super) fn slot(self) -> usize {
        self.0 as usize & (SLOTS_MAX - 1)
    }
}

impl CallId {
    /// What it has in common with its operation's other calls.
    pub(super) fn calls(self) -> Calls {
        // The names were shifted left by as much, which dropped the serial's highest bits.
        Calls(self.0 >> PREFIX_SHIFT)
    }

    /// The place that was asked.
    pub(super) fn place(self) -> Place {
        let position = (self.0 >> ASK_BITS) as usize & ((1 << PLACE_BITS) - 1);
        Place::new(position).unwrap_or(Place::FIRST)
    }

    /// What was asked.
    pub(super) fn ask(self) -> Ask {
        if self.0 & 1 == 0 { Ask::Whole } else { Ask::Digest }
    }
}

/// The serial number after this one; it wraps where a name has no more bits for it.
pub(super) fn next_serial(serial: u64) -> u64 {
    (serial + 1) & (u64::MAX >> (SLOT_BITS + PREFIX_SHIFT))
}

#[cfg(test)]
mod tests {
    use super::{Ask, CallId, Calls, SLOTS_MAX, next_serial};
    use crate::quorum::{PLACES_MAX, Place};

    #[test]
    fn a_name_says_whose_call_it_is_and_what_it_asked() {
        let serials = [0, 1, 77, (1 << 39) - 1];
        for (serial, slot) in serials.into_iter().flat_map(|serial| [0, 5, SLOTS_MAX - 1].map(|slot| (serial, slot))) {
            let calls = Calls::new(serial, slot);
            assert_eq!(calls.slot(), slot);
            for place in (0..PLACES_MAX).filter_map(Place::new) {
                for ask in [Ask::Whole, Ask::Digest] {
                    let call: CallId = calls.to(place, ask);
                    assert_eq!((call.calls(), call.place(), call.ask()), (calls, place, ask));
                }
            }
        }
    }

    #[test]
    fn serial_numbers_wrap_within_their_bits() {
        assert_eq!(next_serial(41), 42);
        assert_eq!(next_serial((1 << 39) - 1), 0);
    }
}
