//! Repeatable randomness: SplitMix64, which is a counter and three multiplications. One seed is one run.

/// A generator of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose sequence `seed` determines.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds shall not begin alike.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Another generator, independent of what is drawn here later.
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(end)) >> 64) as u64
    }

    /// A position below `end`.
    pub fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True `share` times out of a thousand.
    pub fn chance(&mut self, share: u32) -> bool {
        self.below(1_000) < u64::from(share)
    }

    /// A time around `mean`: between nothing and three times as much, short ones more often.
    pub fn around(&mut self, mean: u64) -> u64 {
        let (first, second) = (self.below(3 * mean + 1), self.below(3 * mean + 1));
        first.min(second) + 1
    }

    /// One of these.
    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.index(from.len())]
    }
}
