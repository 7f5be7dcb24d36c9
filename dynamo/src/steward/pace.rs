//! How fast background work goes: units of work accrue with time, in the share that is left to it, and every round spends some.
//! A round may overdraw; then nothing more begins until the debt is paid off. So no round is ever too large to begin.

use crate::tick::Tick;

/// Parts of a unit, so that a slow pace accrues something in a millisecond: thousandths of thousandths.
const PARTS: i64 = 1_000_000;

/// Full speed may be saved up for so long.
const SAVED_MS: u64 = 100;

/// The least share: repair that starves ends with data lost (design, quorum).
const SHARE_MIN_PERMILLE: u32 = 20;

/// Units of work that may be spent.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: i64,
    share_permille: u32,
    /// In parts of a unit; negative after an overdraft.
    saved: i64,
    since: Tick,
}

impl Pace {
    pub(super) fn new(per_second: u64, now: Tick) -> Self {
        let per_second = i64::try_from(per_second).unwrap_or(i64::MAX / PARTS).clamp(1, i64::MAX / PARTS / 1_000);
        Self { per_second, share_permille: 1_000, saved: 1, since: now }
    }

    /// Goes on with a share of full speed.
    pub(super) fn set_share(&mut self, now: Tick, permille: u32) {
        self.accrue(now);
        self.share_permille = permille.clamp(SHARE_MIN_PERMILLE, 1_000);
    }

    /// The share, in thousandths.
    pub(super) fn share(&self) -> u32 {
        self.share_permille
    }

    /// Whether something may begin.
    pub(super) fn is_open(&mut self, now: Tick) -> bool {
        self.accrue(now);
        self.saved > 0
    }

    /// When something may begin, if nothing changes.
    pub(super) fn opens_at(&self) -> Tick {
        if self.saved > 0 {
            return self.since;
        }
        let wait_ms = (1 - self.saved + self.per_ms() - 1) / self.per_ms();
        self.since.after(u64::try_from(wait_ms).unwrap_or(0))
    }

    /// Spends units.
    pub(super) fn spend(&mut self, units: u64) {
        let parts = i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(PARTS);
        self.saved = self.saved.saturating_sub(parts);
    }

    fn accrue(&mut self, now: Tick) {
        let passed_ms = i64::try_from(now.since(self.since)).unwrap_or(i64::MAX);
        self.since = self.since.max(now);
        let most = self.per_ms().saturating_mul(SAVED_MS as i64).max(1);
        self.saved = self.saved.saturating_add(self.per_ms().saturating_mul(passed_ms)).min(most);
    }

    /// Parts that accrue in a millisecond: units per second, times thousandths.
    fn per_ms(&self) -> i64 {
        self.per_second.saturating_mul(i64::from(self.share_permille)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use crate::tick::Tick;

    /// Units spent in a second by whoever spends `round` whenever it may.
    fn spent_in_a_second(pace: &mut Pace, round: u64, from: u64) -> u64 {
        let mut spent = 0;
        for now in from..from + 1_000 {
            while pace.is_open(Tick(now)) {
                pace.spend(round);
                spent += round;
            }
        }
        spent
    }

    #[test]
    fn work_goes_at_its_full_speed_and_at_its_share_but_never_below_the_floor() {
        let mut pace = Pace::new(10_000, Tick(0));
        assert!((9_950..10_100).contains(&spent_in_a_second(&mut pace, 7, 0)));
        pace.set_share(Tick(1_000), 250);
        assert!((2_400..2_600).contains(&spent_in_a_second(&mut pace, 7, 1_000)));
        pace.set_share(Tick(2_000), 0);
        assert!((190..210).contains(&spent_in_a_second(&mut pace, 7, 2_000)), "2 %");
    }

    #[test]
    fn a_round_larger_than_a_seconds_worth_begins_and_is_paid_for_after() {
        let mut pace = Pace::new(100, Tick(0));
        assert!(pace.is_open(Tick(0)));
        pace.spend(500);
        assert!(!pace.is_open(Tick(4_900)));
        assert!(pace.opens_at() > Tick(4_900) && pace.opens_at() <= Tick(5_001), "{:?}", pace.opens_at());
        let opens_at = pace.opens_at();
        assert!(pace.is_open(opens_at));
    }

    #[test]
    fn little_is_saved_up_while_there_is_nothing_to_do() {
        let mut pace = Pace::new(1_000, Tick(0));
        assert!(spent_in_a_second(&mut pace, 1, 1_000_000) < 1_150);
    }
}
