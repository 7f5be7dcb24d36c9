//! Random numbers for jitter and choices: fast, seeded from the operating system, of no use for secrets.

/// A xorshift generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator whose sequence `seed` determines.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A generator seeded by the operating system.
    pub(crate) fn from_system() -> Self {
        Self::new(getrandom::u64().unwrap_or_else(|_| std::process::id().into()))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, or 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The upper half of a product spreads evenly enough for any bound that occurs here.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
