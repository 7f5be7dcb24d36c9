//! Numbers that look random and are the same in every run (SplitMix64).

/// A sequence of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, above 0 and at most 1.
    pub(crate) fn part(&mut self) -> f64 {
        ((self.roll() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}
