//! Which key comes next: uniform or Zipf choices over numbered keys, from a seed.
//!
//! The generator of random numbers is SplitMix64: eight bytes of state, a few additions and multiplications per number, good
//! enough to choose keys, and reproducible. It is no source of secrets.

use bytes::{BufMut, Bytes, BytesMut};

use crate::workload::Distribution;

/// Bytes of each key: as long as a typical short name, and the number fits in hexadecimal digits.
pub const KEY_BYTES: usize = 16;

/// A sequence of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// The next number below `bound`, which is not zero. Its bias, below `bound` / 2^64, does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// The next number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn scramble(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Chooses numbers below a count.
#[derive(Clone, Debug)]
pub enum Chooser {
    /// Every number equally.
    Uniform {
        /// How many there are.
        count: u64,
    },
    /// Zipf's law, by the closed approximation of Gray et al. ("Quickly generating billion-record synthetic databases",
    /// SIGMOD 1994): constant time per choice after one pass over the count.
    Zipf {
        /// How many there are.
        count: u64,
        /// The exponent, 0 ≤ θ < 1.
        theta: f64,
        /// Σ 1/k^θ for k up to `count`.
        zeta: f64,
        /// The approximation's curvature.
        eta: f64,
    },
}

impl Chooser {
    /// Chooses among `count` numbers, at least one.
    pub fn new(count: u64, distribution: Distribution) -> Self {
        match distribution {
            Distribution::Uniform => Self::Uniform { count },
            Distribution::Zipf { exponent: theta } => {
                let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-theta)).sum();
                let first_two = 1.0 + 0.5f64.powf(theta);
                let eta = (1.0 - (2.0 / count as f64).powf(1.0 - theta)) / (1.0 - first_two / zeta);
                Self::Zipf { count, theta, zeta, eta }
            }
        }
    }

    /// The next choice.
    pub fn choose(&self, random: &mut Random) -> u64 {
        match *self {
            Self::Uniform { count } => random.below(count),
            // Neighbouring ranks must not be neighbouring keys, or tests of caches and partitions would flatter.
            Self::Zipf { count, .. } => scramble(self.rank(random)) % count,
        }
    }

    /// The next choice by popularity: 0 is the most popular.
    fn rank(&self, random: &mut Random) -> u64 {
        match *self {
            Self::Uniform { count } => random.below(count),
            Self::Zipf { count, theta, zeta, eta } => {
                let unit = random.unit();
                let scaled = unit * zeta;
                if scaled < 1.0 || count == 1 {
                    0
                } else if scaled < 1.0 + 0.5f64.powf(theta) {
                    1
                } else {
                    let rank = count as f64 * (eta * unit - eta + 1.0).powf(1.0 / (1.0 - theta));
                    (rank as u64).min(count - 1)
                }
            }
        }
    }
}

/// The keys of a run, made once: a request takes a slice of them and allocates nothing.
#[derive(Clone, Debug)]
pub struct Keys {
    all: Bytes,
}

impl Keys {
    /// `count` keys.
    pub fn new(count: u64) -> Self {
        let mut all = BytesMut::with_capacity(usize::try_from(count).expect("keys fit in memory") * KEY_BYTES);
        for number in 0..count {
            all.put_slice(format!("{number:0width$x}", width = KEY_BYTES).as_bytes());
        }
        Self { all: all.freeze() }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        (self.all.len() / KEY_BYTES) as u64
    }

    /// The key of a number below the count.
    pub fn key(&self, number: u64) -> Bytes {
        let first = number as usize * KEY_BYTES;
        self.all.slice(first..first + KEY_BYTES)
    }
}

/// A value of `length` bytes that no compression can shrink, the same for the same seed.
pub fn value(length: usize, seed: u64) -> Bytes {
    let mut random = Random::new(seed);
    (0..length).map(|_| (random.next_u64() >> 56) as u8).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Chooser, Keys, Random, value};
    use crate::workload::Distribution;

    #[test]
    fn uniform_choices_reach_every_key_about_equally() {
        let chooser = Chooser::new(10, Distribution::Uniform);
        let mut random = Random::new(1);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[chooser.choose(&mut random) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_choices_follow_the_law() {
        let count = 1_000;
        let chooser = Chooser::new(count, Distribution::Zipf { exponent: 0.99 });
        let mut random = Random::new(1);
        let mut counts = vec![0f64; count as usize];
        let draws = 400_000;
        for _ in 0..draws {
            counts[chooser.rank(&mut random) as usize] += 1.0;
        }
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-0.99)).sum();
        for rank in [1usize, 2, 10, 100] {
            let expected = f64::from(draws) / (rank as f64).powf(0.99) / zeta;
            let ratio = counts[rank - 1] / expected;
            assert!((0.8..1.3).contains(&ratio), "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn choices_stay_below_the_count_even_for_one_key() {
        for distribution in [Distribution::Uniform, Distribution::Zipf { exponent: 0.99 }] {
            for count in [1, 2, 3, 1000] {
                let chooser = Chooser::new(count, distribution);
                let mut random = Random::new(7);
                assert!((0..10_000).all(|_| chooser.choose(&mut random) < count));
            }
        }
    }

    #[test]
    fn keys_are_distinct_and_values_have_their_length() {
        let keys = Keys::new(300);
        let distinct: std::collections::BTreeSet<Bytes> = (0..keys.count()).map(|number| keys.key(number)).collect();
        assert_eq!(distinct.len(), 300);
        assert_eq!(value(100, 1).len(), 100);
        assert_eq!(value(0, 1).len(), 0);
    }
}
