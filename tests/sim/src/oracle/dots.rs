//! Sets of dots of one key, as bits: a dot is known by the order in which it was minted. Plain sets are the dumbest model of what a
//! replica knows, which is why the oracle uses them and nothing cleverer.

/// A set of dots, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dots(Vec<u64>);

impl Dots {
    /// Adds a dot.
    pub fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// Whether a dot is in the set.
    pub fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Adds all of `other`.
    pub fn unite(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours |= theirs);
    }

    /// Takes away all of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours &= !theirs);
    }

    /// Whether the sets have a dot in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(ours, theirs)| ours & theirs != 0)
    }

    /// Whether all of `other` is in this set.
    pub fn includes(&self, other: &Self) -> bool {
        let ours = |at: usize| self.0.get(at).copied().unwrap_or(0);
        other.0.iter().enumerate().all(|(at, theirs)| theirs & !ours(at) == 0)
    }

    /// Whether both hold the same dots.
    pub fn equals(&self, other: &Self) -> bool {
        self.includes(other) && other.includes(self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The dots, in the order in which they were minted.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for Dots {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut dots = Self::default();
        numbers.into_iter().for_each(|number| dots.insert(number));
        dots
    }
}
