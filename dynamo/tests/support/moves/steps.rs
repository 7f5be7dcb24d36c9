//! What may happen to a replica whose partitions move, drawn at random.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// How many keys there are.
pub(crate) const KEYS: u8 = 24;

/// How a view is chosen among those a sender may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ViewChoice {
    /// Among the configurations that the partition has had.
    pub(crate) lo: u8,
    pub(crate) hi: u8,
    /// The row's own view instead.
    pub(crate) is_own: bool,
    /// Of a layout with fewer or more bits.
    pub(crate) bits: i8,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The next layout: a partition keeps its owners where a bit of `kept` is set, and all of them are proven retired but the newest
    /// where one of `settled` is.
    Layout {
        seed: u64,
        kept: u64,
        settled: u64,
        doubles: bool,
        is_aborted: bool,
    },
    /// An operation on a key.
    Write {
        key: u8,
        choice: ViewChoice,
        kind: u8,
        is_aborted: bool,
    },
    Read {
        key: u8,
        choice: ViewChoice,
    },
    /// A step of a key's partition.
    Adopt {
        key: u8,
        choice: ViewChoice,
    },
    Fill {
        key: u8,
        choice: ViewChoice,
    },
    Copied {
        key: u8,
        choice: ViewChoice,
    },
    Drop {
        key: u8,
        choice: ViewChoice,
        records_max: u8,
        is_aborted: bool,
    },
    /// The whole conversation of a partition that was handed over: the view is what the layout says, and everything is dropped.
    Leave {
        key: u8,
    },
    Restart,
}

fn choice() -> impl Strategy<Value = ViewChoice> {
    let bits = prop_oneof![8 => Just(0_i8), 1 => Just(-1), 1 => Just(1)];
    (any::<u8>(), any::<u8>(), prop_oneof![3 => Just(true), 2 => Just(false)], bits)
        .prop_map(|(lo, hi, is_own, bits)| ViewChoice { lo, hi, is_own, bits })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    let rarely = || prop_oneof![6 => Just(false), 1 => Just(true)];
    prop_oneof![
        3 => (any::<u64>(), any::<u64>(), any::<u64>(), rarely(), rarely()).prop_map(
            |(seed, kept, settled, doubles, is_aborted)| Step::Layout { seed, kept, settled, doubles, is_aborted }
        ),
        8 => (key(), choice(), any::<u8>(), rarely())
            .prop_map(|(key, choice, kind, is_aborted)| Step::Write { key, choice, kind, is_aborted }),
        2 => (key(), choice()).prop_map(|(key, choice)| Step::Read { key, choice }),
        3 => (key(), choice()).prop_map(|(key, choice)| Step::Adopt { key, choice }),
        1 => (key(), choice()).prop_map(|(key, choice)| Step::Fill { key, choice }),
        1 => (key(), choice()).prop_map(|(key, choice)| Step::Copied { key, choice }),
        3 => (key(), choice(), 0_u8..4, rarely())
            .prop_map(|(key, choice, records_max, is_aborted)| Step::Drop { key, choice, records_max, is_aborted }),
        2 => key().prop_map(|key| Step::Leave { key }),
        1 => Just(Step::Restart),
    ]
}
