//! How many slots each party (a zone, a node) shall hold: shares by weight, none above its cap, in whole slots.
//!
//! The whole numbers are those of D'Hondt's divisor method, for two reasons. It makes the fullest party, measured by its
//! weight, as empty as whole numbers allow, and the fullest node is the one that fills up first. And when a party comes or
//! goes, everybody else's number moves in the same direction, so rounding never causes a move of its own; the method of
//! largest remainders has neither property. Its price: a party whose share is below one slot may get none.

use alloc::{vec, vec::Vec};

/// Who takes part, and with what claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Party {
    /// Its weight, at least 1 and below 2^48: at most 65,535 nodes of 32 bits each.
    pub weight: u64,
    /// The most it can hold.
    pub cap: u32,
    /// What it holds now. Among equal claims to a last slot, whoever holds it already keeps it.
    pub held: u32,
}

/// Fraction bits of the divisor's inverse. A weight below 2^48 times a price below 2^(23 + 56) fits into 128 bits, and
/// prices that differ in the last bit change no party's number by more than one.
const PRICE_FRACTION_BITS: u32 = 56;

/// Bits of the largest total: seven replicas of 2^20 partitions are below 2^23.
const TOTAL_BITS: u32 = 23;

/// Divides `total` slots, which the caps have room for, into whole numbers.
pub(super) fn whole(total: u32, parties: &[Party]) -> Vec<u32> {
    debug_assert!(u64::from(total) <= parties.iter().map(|party| u64::from(party.cap)).sum());
    let at = |price: u128, party: &Party| {
        let slots = (u128::from(party.weight) * price) >> PRICE_FRACTION_BITS;
        u32::try_from(slots).unwrap_or(u32::MAX).min(party.cap)
    };
    let sum = |price: u128| parties.iter().map(|party| u64::from(at(price, party))).sum::<u64>();
    // The highest price per unit of weight that the total can pay; at the next one, more than the total is claimed.
    let (mut low, mut high) = (0, 1_u128 << (TOTAL_BITS + PRICE_FRACTION_BITS));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if sum(middle) <= u64::from(total) { low = middle } else { high = middle }
    }
    let mut slots: Vec<u32> = parties.iter().map(|party| at(low, party)).collect();
    let mut missing = total - slots.iter().sum::<u32>();
    for keeps in [true, false] {
        for (party, slots) in parties.iter().zip(&mut slots) {
            let claims = *slots < at(low + 1, party) && (party.held > *slots) == keeps;
            if claims && missing > 0 {
                *slots += 1;
                missing -= 1;
            }
        }
    }
    debug_assert_eq!(missing, 0);
    slots
}

/// Divides `total` slots exactly, in fractions: what a perfect balance under the caps would be.
pub(super) fn ideal(total: f64, parties: &[Party]) -> Vec<f64> {
    let mut shares = vec![None; parties.len()];
    loop {
        let capped: f64 = shares.iter().flatten().sum();
        let open = || parties.iter().zip(&shares).filter(|(_, share)| share.is_none());
        let weight: f64 = open().map(|(party, _)| party.weight as f64).sum();
        let price = (total - capped) / weight;
        let above: Vec<bool> = parties
            .iter()
            .zip(&shares)
            .map(|(party, share)| share.is_none() && party.weight as f64 * price > f64::from(party.cap))
            .collect();
        if !above.contains(&true) {
            let share = |(party, share): (&Party, &Option<f64>)| share.unwrap_or(party.weight as f64 * price);
            return parties.iter().zip(&shares).map(share).collect();
        }
        for ((party, share), above) in parties.iter().zip(&mut shares).zip(above) {
            if above {
                *share = Some(f64::from(party.cap));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::{Party, ideal, whole};

    fn parties(weights: &[u64], cap: u32) -> Vec<Party> {
        weights.iter().map(|&weight| Party { weight, cap, held: 0 }).collect()
    }

    #[test]
    fn shares_are_proportional_to_weights() {
        assert_eq!(whole(70, &parties(&[1, 2, 4], 100)), [10, 20, 40]);
        assert_eq!(ideal(70.0, &parties(&[1, 2, 4], 100)), [10.0, 20.0, 40.0]);
    }

    #[test]
    fn what_a_cap_leaves_over_goes_to_the_others_by_weight() {
        assert_eq!(whole(60, &parties(&[10, 1, 2], 30)), [30, 10, 20]);
        assert_eq!(ideal(60.0, &parties(&[10, 1, 2], 30)), [30.0, 10.0, 20.0]);
        assert_eq!(whole(90, &parties(&[10, 1, 2], 30)), [30, 30, 30]);
    }

    #[test]
    fn among_equal_claims_the_holder_keeps_the_last_slot() {
        let mut three = parties(&[1, 1, 1], 10);
        three[2].held = 4;
        assert_eq!(whole(10, &three), [3, 3, 4]);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let largest =
            vec![Party { weight: (1 << 48) - 1, cap: 7 << 20, held: 0 }, Party { weight: 1, cap: 7 << 20, held: 0 }];
        assert_eq!(whole(7 << 20, &largest), [7 << 20, 0]);
        assert_eq!(whole(7 << 20, &largest[1..]), [7 << 20]);
    }

    #[test]
    fn a_newcomer_only_takes() {
        for newcomer in 1..50 {
            let mut weights: Vec<u64> = (1..30).map(|weight| weight * 7 % 11 + 1).collect();
            let before = whole(10_000, &parties(&weights, 5000));
            weights.push(newcomer);
            let after = whole(10_000, &parties(&weights, 5000));
            assert!(before.iter().zip(&after).all(|(before, after)| after <= before));
            assert_eq!(after.iter().sum::<u32>(), 10_000);
        }
    }
}
