//! Drives a body without any tool: takes an input, changes it in the ways that parsers dislike, and tries it, for a while.
//! It does not see which code an input reaches; libFuzzer does, and finds more in the same time. This finds the rest of what
//! one forgets, on every machine.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::Target;

/// Most changes of one input.
const CHANGES_MAX: u64 = 6;

/// Longest input: beyond it nothing new is found, only later.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Numbers that parsers dislike.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// An input that made a body panic.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// How many inputs were tried before.
    pub tried: u64,
}

/// Tries a target for a while; how many inputs that were, or the one that made it panic.
pub fn drive(target: &Target, seed: u64, duration: Duration) -> Result<u64, Finding> {
    let seeds: Vec<Vec<u8>> = (target.seeds)().into_iter().map(|(_, input)| input).collect();
    let (mut numbers, started, mut tried) = (Numbers(seed), Instant::now(), 0);
    let mut next = seeds.clone().into_iter();
    while started.elapsed() < duration || tried < seeds.len() as u64 {
        let input = next.next().unwrap_or_else(|| changed(&seeds, &mut numbers));
        if catch_unwind(AssertUnwindSafe(|| (target.body)(&input))).is_err() {
            return Err(Finding { input, tried });
        }
        tried += 1;
    }
    Ok(tried)
}

fn changed(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = match numbers.below(16) {
        0 => (0..numbers.below(200)).map(|_| numbers.next_number() as u8).collect(),
        _ => seeds[numbers.below(seeds.len() as u64) as usize].clone(),
    };
    for _ in 0..=numbers.below(CHANGES_MAX) {
        change(&mut input, seeds, numbers);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(input.len() as u64 + 1) as usize;
    let end = at + numbers.below((input.len() - at) as u64 + 1) as usize;
    match numbers.below(9) {
        0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
        1 if at < input.len() => input[at] = numbers.next_number() as u8,
        2 => {
            // A length, a count or an offset, wherever it stands.
            let number = NUMBERS[numbers.below(NUMBERS.len() as u64) as usize].wrapping_add(numbers.below(3));
            let width = 1 << numbers.below(4);
            input
                .iter_mut()
                .skip(at)
                .zip(number.to_le_bytes().into_iter().take(width))
                .for_each(|(to, from)| *to = from);
        }
        3 => drop(input.drain(at..end.min(at + 64))),
        4 => input.truncate(at),
        5 => drop(input.splice(at..at, std::iter::repeat_n(numbers.next_number() as u8, numbers.below(32) as usize))),
        6 => {
            let piece = input[at..end].to_vec();
            drop(input.splice(at..at, piece));
        }
        7 => {
            let other = &seeds[numbers.below(seeds.len() as u64) as usize];
            let from = numbers.below(other.len() as u64 + 1) as usize;
            drop(input.splice(at..end, other[from..].iter().copied()));
        }
        _ => input[at..end].fill(0),
    }
}

/// Numbers that look random and are the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next_number() % end
    }
}
