//! Quorum arithmetic against deliberately dumb oracles that know nodes by name, keep every answer in a list, and count by
//! looping; and the best cases in plain words.

use std::{collections::BTreeMap, vec::Vec};

use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, prop_oneof, proptest, strategy::Strategy};

use super::{CONFIGURATIONS_MAX, Configuration, PLACES_MAX, Place, Places, Quorums, Verdict, get, majority, put};
use crate::layout::View;

const VIEW: View = View { prefix: 5, bits: 8, lo: 3, hi: 3 };
const OTHER_VIEW: View = View { prefix: 5, bits: 8, lo: 3, hi: 4 };

fn place(position: usize) -> Place {
    Place::new(position).unwrap()
}

fn places(positions: &[usize]) -> Places {
    let mut set = Places::NONE;
    positions.iter().for_each(|&position| set.insert(place(position)));
    set
}

fn of(count: usize, need: u8) -> Quorums {
    Quorums::new(VIEW, &[Configuration { places: Places::first(count), need }]).unwrap()
}

/// Every set of this size of the owners below `count`.
fn sets(count: usize, size: usize) -> impl Iterator<Item = u32> {
    (0..1_u32 << count).filter(move |set| set.count_ones() as usize == size)
}

#[test]
fn a_majority_of_those_that_remain_meets_every_majority_there_was_and_is_the_smallest_that_does() {
    for (all, lost) in (1..=7).flat_map(|all| (0..all).map(move |lost| (all, lost))) {
        let present = all - lost;
        let there = (1_u32 << present) - 1;
        let meets_all = |size: usize| {
            sets(present, size).all(|one| {
                sets(present, size).all(|other| one & other != 0)
                    && sets(all, all / 2 + 1).filter(|before| before & there != 0).all(|before| before & one != 0)
            })
        };
        let smallest = (1..=present).find(|size| meets_all(*size)).expect("all of them do");
        assert_eq!(majority(present, lost), smallest, "{lost} of {all} lost");
    }
    assert_eq!(majority(0, 3), 0);
}

/// Any quorums that are sensible: some configurations over all places.
fn any_quorums() -> impl Strategy<Value = Quorums> {
    let configuration = (1..u32::MAX, any::<u8>()).prop_map(|(bits, need)| {
        let set = Places(bits);
        Configuration { places: set, need: 1 + need % set.len() }
    });
    vec(configuration, 1..=CONFIGURATIONS_MAX).prop_map(|active| Quorums::new(VIEW, &active).unwrap())
}

/// The oracle's view of a configuration: its places one by one.
fn lists(quorums: &Quorums) -> Vec<(Vec<usize>, usize)> {
    let positions = |set: Places| (0..PLACES_MAX).filter(|&at| set.contains(place(at))).collect();
    quorums.configurations().iter().map(|asked| (positions(asked.places), usize::from(asked.need))).collect()
}

/// The oracle's verdict: tries whether the answers suffice, then whether they would if everyone else answered.
fn judge(lists: &[(Vec<usize>, usize)], good: &dyn Fn(usize) -> bool, bad: &dyn Fn(usize) -> bool) -> Verdict {
    let enough = |well: &dyn Fn(usize) -> bool| {
        lists.iter().all(|(places, need)| places.iter().filter(|&&place| well(place)).count() >= *need)
    };
    if enough(good) {
        Verdict::Reached
    } else if enough(&|place| good(place) || !bad(place)) {
        Verdict::Pending
    } else {
        Verdict::Lost
    }
}

#[test]
fn a_quorum_that_needs_nothing_or_more_than_there_is_does_not_exist() {
    let asks = |count, need| Quorums::new(VIEW, &[Configuration { places: Places::first(count), need }]);
    assert!(asks(3, 0).is_none());
    assert!(asks(3, 4).is_none());
    assert!(asks(0, 1).is_none());
    assert!(asks(3, 3).is_some());
    assert!(Quorums::new(VIEW, &[]).is_none());
    assert!(
        Quorums::new(VIEW, &[Configuration { places: Places::first(1), need: 1 }; CONFIGURATIONS_MAX + 1]).is_none()
    );
}

#[test]
fn section_4_5_a_read_asks_r_replicas_and_is_answered_by_them() {
    let mut read = get::Get::new(of(3, 2), Places::NONE);
    assert_eq!(read.next_readers(), places(&[0, 1]));
    assert_eq!(read.next_readers(), Places::NONE);
    assert!(read.on_reply(place(0), VIEW, get::Answer::Record(Some(7))));
    assert_eq!(read.verdict(), Verdict::Pending);
    assert!(read.on_reply(place(1), VIEW, get::Answer::Record(Some(7))));
    assert_eq!(read.verdict(), Verdict::Reached);
    assert_eq!(read.repairs(Some(7)), Places::NONE);
}

#[test]
fn a_reader_that_fails_is_replaced_by_the_next_owner_until_there_is_none() {
    let mut read = get::Get::new(of(3, 2), Places::NONE);
    read.next_readers();
    read.on_reply(place(0), VIEW, get::Answer::Failed);
    assert_eq!(read.next_readers(), places(&[2]));
    assert_eq!(read.verdict(), Verdict::Pending);
    read.on_reply(place(2), VIEW, get::Answer::Failed);
    assert_eq!(read.next_readers(), Places::NONE);
    assert_eq!(read.verdict(), Verdict::Lost);
}

#[test]
fn a_digest_never_counts_towards_r() {
    let mut read = get::Get::new(of(3, 2), Places::NONE);
    for position in 0..3 {
        read.on_reply(place(position), VIEW, get::Answer::Digest(Some(7)));
    }
    assert_eq!(read.verdict(), Verdict::Pending);
}

#[test]
fn a_digest_nobody_read_is_fetched_once_and_repaired_only_after_that() {
    let mut read = get::Get::new(of(4, 1), Places::NONE);
    read.next_readers();
    read.on_reply(place(0), VIEW, get::Answer::Record(Some(7)));
    read.on_reply(place(1), VIEW, get::Answer::Digest(None));
    read.on_reply(place(2), VIEW, get::Answer::Digest(Some(8)));
    read.on_reply(place(3), VIEW, get::Answer::Digest(Some(8)));
    assert!(read.has_unread());
    assert_eq!(read.repairs(Some(7)), places(&[1]));
    assert_eq!(read.next_fetches(), places(&[2]));
    assert_eq!(read.next_fetches(), Places::NONE);
    read.on_reply(place(2), VIEW, get::Answer::Failed);
    assert_eq!(read.next_fetches(), places(&[3]));
    read.on_reply(place(3), VIEW, get::Answer::Record(Some(8)));
    assert!(!read.has_unread());
    assert_eq!(read.repairs(Some(9)), places(&[0, 1, 2, 3]));
    read.on_repaired(places(&[0, 1, 2, 3]), 9);
    assert_eq!(read.repairs(Some(9)), Places::NONE);
}

#[test]
fn a_digest_that_its_own_record_overtook_is_ignored() {
    let mut read = get::Get::new(of(1, 1), Places::NONE);
    read.on_reply(place(0), VIEW, get::Answer::Record(Some(8)));
    assert!(!read.on_reply(place(0), VIEW, get::Answer::Digest(Some(7))));
    assert_eq!(read.repairs(Some(8)), Places::NONE);
}

#[test]
fn section_4_5_a_write_waits_for_w_and_for_the_coordinators_own_commit() {
    let mut write = put::Put::new(of(3, 2), Place::FIRST, Places::NONE);
    assert_eq!(write.next_replicas(), places(&[1, 2]));
    write.on_reply(place(1), VIEW, put::Answer::Durable);
    write.on_reply(place(2), VIEW, put::Answer::Durable);
    assert_eq!(write.verdict(), Verdict::Pending);
    assert!(write.is_durable());
    write.on_reply(place(0), VIEW, put::Answer::Durable);
    assert_eq!(write.verdict(), Verdict::Reached);
    assert_eq!(write.repairs(), Places::NONE);
}

#[test]
fn a_write_counts_a_replica_once() {
    let mut write = put::Put::new(of(3, 2), Place::FIRST, Places::NONE);
    write.next_replicas();
    for _ in 0..3 {
        write.on_reply(place(0), VIEW, put::Answer::Durable);
    }
    assert_eq!(write.verdict(), Verdict::Pending);
}

#[test]
fn a_write_that_every_replica_refused_was_not_applied() {
    let mut write = put::Put::new(of(2, 2), Place::FIRST, Places::NONE);
    assert!(write.maybe_applied());
    write.on_reply(place(0), VIEW, put::Answer::Refused);
    assert!(!write.maybe_applied());
    assert_eq!(write.verdict(), Verdict::Lost);
    write.next_replicas();
    assert!(write.maybe_applied());
    write.on_reply(place(1), VIEW, put::Answer::Unclear);
    assert!(write.maybe_applied());
}

#[test]
fn answers_under_another_view_count_for_nothing() {
    let mut write = put::Put::new(of(1, 1), Place::FIRST, Places::NONE);
    assert!(!write.on_reply(place(0), OTHER_VIEW, put::Answer::Durable));
    assert_eq!(write.verdict(), Verdict::Pending);
    let mut read = get::Get::new(of(1, 1), Places::NONE);
    assert!(!read.on_reply(place(0), OTHER_VIEW, get::Answer::Record(None)));
    assert_eq!(read.verdict(), Verdict::Pending);
}

fn any_read_answer() -> impl Strategy<Value = get::Answer> {
    let contents = || proptest::option::of(0..4_u128);
    prop_oneof![
        3 => contents().prop_map(get::Answer::Record),
        2 => contents().prop_map(get::Answer::Digest),
        1 => proptest::strategy::Just(get::Answer::Failed),
    ]
}

/// What the dumb oracle remembers of a read: the answers of each place that count, in order.
#[derive(Default)]
struct Heard(BTreeMap<usize, Vec<get::Answer>>);

impl Heard {
    fn record(&self, at: usize) -> Option<get::Contents> {
        self.0.get(&at)?.iter().rev().find_map(|answer| match answer {
            get::Answer::Record(contents) => Some(*contents),
            get::Answer::Digest(_) | get::Answer::Failed => None,
        })
    }

    fn contents(&self, at: usize) -> Option<get::Contents> {
        self.record(at).or_else(|| {
            self.0.get(&at)?.iter().rev().find_map(|answer| match answer {
                get::Answer::Digest(contents) => Some(*contents),
                get::Answer::Record(_) | get::Answer::Failed => None,
            })
        })
    }

    fn failed(&self, at: usize) -> bool {
        self.record(at).is_none() && self.0.get(&at).is_some_and(|heard| heard.contains(&get::Answer::Failed))
    }

    /// Whether any place ever gave the record with this digest.
    fn was_read(&self, digest: u128) -> bool {
        self.0.values().flatten().any(|answer| *answer == get::Answer::Record(Some(digest)))
    }
}

proptest! {
    #[test]
    fn a_read_is_judged_as_the_oracle_judges_it(
        quorums in any_quorums(),
        replies in vec((0..PLACES_MAX, any::<bool>(), any_read_answer()), 0..40),
        merged in 0..5_u128,
    ) {
        let lists = lists(&quorums);
        let in_use: Vec<usize> = (0..PLACES_MAX).filter(|at| lists.iter().any(|(set, _)| set.contains(at))).collect();
        let mut read = get::Get::new(quorums, Places::NONE);
        let mut heard = Heard::default();
        for (at, current, answer) in replies {
            let under = if current { VIEW } else { OTHER_VIEW };
            read.on_reply(place(at), under, answer);
            if current && in_use.contains(&at) {
                heard.0.entry(at).or_default().push(answer);
            }
            let verdict = judge(&lists, &|at| heard.record(at).is_some(), &|at| heard.failed(at));
            prop_assert_eq!(read.verdict(), verdict);
        }
        let behind: Vec<usize> = in_use.iter().copied().filter(|&at| match heard.contents(at) {
            None => false,
            Some(None) => true,
            Some(Some(digest)) => digest != merged && heard.was_read(digest),
        }).collect();
        prop_assert_eq!(read.repairs(Some(merged)), places(&behind));
        prop_assert_eq!(read.repairs(None), Places::NONE);
        let unread = in_use.iter().any(|&at| matches!(heard.contents(at), Some(Some(digest)) if !heard.was_read(digest)));
        prop_assert_eq!(read.has_unread(), unread);
        let fetched = read.next_fetches();
        prop_assert!(fetched.iter().all(|fetch| heard.record(fetch.index()).is_none() && !heard.failed(fetch.index())));
    }

    #[test]
    fn asking_readers_until_nobody_fails_reaches_every_quorum_or_runs_out(
        quorums in any_quorums(),
        unreachable in any::<u32>(),
        failing in any::<u32>(),
    ) {
        let (unreachable, failing) = (Places(unreachable), Places(failing));
        let mut read = get::Get::new(quorums, unreachable);
        let mut asked = Places::NONE;
        loop {
            let readers = read.next_readers();
            if readers.is_empty() {
                break;
            }
            prop_assert!(readers.intersection(asked.union(unreachable)).is_empty(), "nobody is asked twice or in vain");
            asked = asked.union(readers);
            for reader in readers.iter() {
                let fails = failing.contains(reader);
                read.on_reply(reader, VIEW, if fails { get::Answer::Failed } else { get::Answer::Record(None) });
            }
        }
        let bad = unreachable.union(failing);
        let verdict = judge(&lists(&quorums), &|at| !bad.contains(place(at)), &|_| true);
        prop_assert_eq!(read.verdict() == Verdict::Reached, verdict == Verdict::Reached);
        prop_assert!(read.verdict() != Verdict::Pending);
    }

    #[test]
    fn a_write_is_judged_as_the_oracle_judges_it(
        quorums in any_quorums(),
        replies in vec((0..PLACES_MAX, any::<bool>(), 0..3_u8), 0..40),
        unreachable in any::<u32>(),
    ) {
        let lists = lists(&quorums);
        let coordinator = quorums.places().iter().next().unwrap();
        let mut unreachable = Places(unreachable);
        unreachable.remove(coordinator);
        let mut write = put::Put::new(quorums, coordinator, unreachable);
        let sent = write.next_replicas();
        let mut heard: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (at, current, answer) in replies {
            let meaning = [put::Answer::Durable, put::Answer::Refused, put::Answer::Unclear][usize::from(answer)];
            write.on_reply(place(at), if current { VIEW } else { OTHER_VIEW }, meaning);
            if current && (sent.contains(place(at)) || at == coordinator.index()) {
                heard.entry(at).or_default().push(answer);
            }
            let durable = |at: usize| heard.get(&at).is_some_and(|answers| answers.contains(&0));
            let over = |at: usize| heard.contains_key(&at) || unreachable.contains(place(at));
            let counted = judge(&lists, &durable, &over);
            let waits = counted == Verdict::Reached && !heard.contains_key(&coordinator.index());
            prop_assert_eq!(write.verdict(), if waits { Verdict::Pending } else { counted });
            prop_assert_eq!(write.is_durable(), counted == Verdict::Reached);
            let asked = |at: &usize| sent.contains(place(*at)) || *at == coordinator.index();
            let certainly_not = |at: usize| heard.get(&at).is_some_and(|answers| answers.iter().all(|&answer| answer == 1));
            let maybe = (0..PLACES_MAX).filter(asked).any(|at| !certainly_not(at));
            prop_assert_eq!(write.maybe_applied(), maybe);
        }
    }
}
