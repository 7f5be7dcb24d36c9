//! Hybrid logical clocks: one number that is the time where clocks agree, and still grows along every chain of writes
//! where they do not. They order *concurrent* versions where the last writer wins, and serve expiry. Nothing is lost or
//! found by them: no rule may depend on clocks for safety.
//!
//! There is no clock state: a new clock is derived from the wall time and from the clocks in the one object that is being
//! written. So a wrong clock can't spread from key to key inside a node, and a client that carries one from key to key
//! (its highest clock seen) is believed only within [`AHEAD_MS_MAX`].

/// How far ahead of the wall time a clock may be and still be an authority for new ones. Clocks kept by NTP differ by
/// milliseconds; half a second is a clock that someone should look at.
pub const AHEAD_MS_MAX: u64 = 500;

/// How many bits the counter below the milliseconds has.
const COUNTER_BITS: u32 = 16;

/// The clock at the beginning of a millisecond since 1970. Times after the year 10889 are that year's.
pub const fn clock_of(wall_ms: u64) -> u64 {
    let last_ms = u64::MAX >> COUNTER_BITS;
    (if wall_ms > last_ms { last_ms } else { wall_ms }) << COUNTER_BITS
}

/// The millisecond since 1970 that a clock lies in.
pub const fn wall_ms_of(clock: u64) -> u64 {
    clock >> COUNTER_BITS
}

/// The clock of a write at `wall_ms`: that time, or one above the highest of `known` that is an authority.
///
/// A known clock more than [`AHEAD_MS_MAX`] ahead of `wall_ms` is not an authority: it is left out, as if it were not
/// there. The version that bears it keeps its place and its rank; only nothing new is derived from it, so one node with a
/// wrong clock can't push everybody's clocks into the future.
pub fn next(wall_ms: u64, known: impl IntoIterator<Item = u64>) -> u64 {
    let is_authority = |clock: &u64| wall_ms_of(*clock) <= wall_ms.saturating_add(AHEAD_MS_MAX);
    let highest = known.into_iter().filter(is_authority).max();
    clock_of(wall_ms).max(highest.map_or(0, |clock| clock.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::{AHEAD_MS_MAX, clock_of, next, wall_ms_of};

    #[test]
    fn a_clock_is_the_wall_time_when_nothing_known_is_later() {
        assert_eq!(next(1_000, []), clock_of(1_000));
        assert_eq!(next(1_000, [0, clock_of(999) + 77]), clock_of(1_000));
    }

    #[test]
    fn a_clock_is_above_every_authority() {
        let known = [clock_of(1_000), clock_of(1_000) + 3, clock_of(1_200)];
        assert_eq!(next(1_000, known), clock_of(1_200) + 1);
        // The counter runs over into the milliseconds, so "above" holds even after 65,536 writes in one of them.
        assert_eq!(wall_ms_of(next(1_000, [clock_of(1_001) - 1])), 1_001);
    }

    #[test]
    fn a_clock_more_than_half_a_second_ahead_is_no_authority() {
        let (last, first_refused) = (clock_of(1_001 + AHEAD_MS_MAX) - 1, clock_of(1_001 + AHEAD_MS_MAX));
        assert_eq!(next(1_000, [last]), last + 1);
        assert_eq!(next(1_000, [first_refused]), clock_of(1_000));
        // It does not take the authority of others away.
        assert_eq!(next(1_000, [u64::MAX, clock_of(1_300), first_refused]), clock_of(1_300) + 1);
    }

    #[test]
    fn clocks_at_the_end_of_time_do_not_overflow() {
        assert_eq!(next(u64::MAX, [u64::MAX, 5]), u64::MAX);
        assert_eq!(wall_ms_of(clock_of(u64::MAX)), u64::MAX >> 16);
    }
}
