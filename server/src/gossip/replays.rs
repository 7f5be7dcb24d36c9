//! Which packets came before: for each sender the highest number of its latest life and a window behind it, as IPsec does
//! (RFC 4303, section 3.4.3). What is older than the window, or came already, is a copy that somebody kept.

use std::collections::BTreeMap;

use dynamo::ident::NodeId;

use super::identity::Identity;

/// Numbers behind the highest that may still come: far more than a network reorders of the few packets a second.
const WINDOW: u64 = 64;

/// The packets that came.
#[derive(Clone, Debug, Default)]
pub(super) struct Replays {
    senders: BTreeMap<NodeId, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    bump: u64,
    highest: u64,
    /// Bit n: the number n below the highest came.
    window: u64,
}

impl Replays {
    /// Whether this packet is the first of its number; from now on it is not. Only for senders in the layout: there is an
    /// entry for each.
    pub(super) fn is_first(&mut self, sender: &Identity, number: u64) -> bool {
        let fresh = Seen { bump: sender.bump, highest: number, window: 1 };
        let Some(seen) = self.senders.get_mut(&sender.node) else {
            self.senders.insert(sender.node, fresh);
            return true;
        };
        if sender.bump != seen.bump {
            let is_later = sender.bump > seen.bump;
            if is_later {
                *seen = fresh;
            }
            // An earlier life's packet may be a process that started with its clock set back: it must learn from the others
            // that it needs a later one, so it is let through, where SWIM answers and otherwise ignores it.
            return true;
        }
        if number > seen.highest {
            let ahead = number - seen.highest;
            seen.window = if ahead < WINDOW { seen.window << ahead | 1 } else { 1 };
            seen.highest = number;
            return true;
        }
        let behind = seen.highest - number;
        let is_first = behind < WINDOW && seen.window >> behind & 1 == 0;
        if is_first {
            seen.window |= 1 << behind;
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::SocketAddr};

    use dynamo::ident::NodeId;
    use proptest::prelude::{prop::collection::vec, prop_assert_eq, proptest};

    use super::{Identity, Replays, WINDOW};

    fn life(node: u128, bump: u64) -> Identity {
        Identity::new(NodeId(node), SocketAddr::from(([127, 0, 0, 1], 1)), bump)
    }

    #[test]
    fn a_copy_is_refused_and_each_sender_and_life_counts_for_itself() {
        let mut replays = Replays::default();
        assert!(replays.is_first(&life(1, 1), 5));
        assert!(!replays.is_first(&life(1, 1), 5));
        assert!(replays.is_first(&life(2, 1), 5));
        assert!(replays.is_first(&life(1, 2), 5), "a later life counts anew");
        assert!(!replays.is_first(&life(1, 2), 5));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_all_numbers_within_the_window(numbers in vec(0_u64..200, 1..200)) {
            let (mut replays, mut all, mut highest) = (Replays::default(), BTreeSet::new(), 0);
            for number in numbers {
                highest = highest.max(number);
                let expected = all.insert(number) && highest - number < WINDOW;
                prop_assert_eq!(replays.is_first(&life(1, 1), number), expected, "{} of {}", number, highest);
            }
        }
    }
}
