//! The layout as data: every rule of the check, the canonical bytes, the pages, the stand-ins. Paper, sections 4.2 and 4.6.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dynamo::{
    ident::NodeId,
    layout::{
        BucketProperties, ConflictRule, Layout, Level, Member, MemberState, NodeIndex, SLOT_EMPTY,
        check::{LayoutError, electors_max},
        codec::{DecodeError, LAYOUT_FORMAT},
        pages::PAGE_PARTITIONS,
        spans::{Span, Spans},
        stand_ins::STAND_INS_MAX,
    },
    ring::Ring,
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

fn member(number: u16, zone: &str) -> Member {
    Member {
        id: NodeId(1000 + u128::from(number)),
        name: format!("n{number}"),
        zone: zone.into(),
        weight: 1,
        addresses: vec![format!("10.0.0.{}:7400", number % 256)],
        state: MemberState::Active,
    }
}

/// A layout that deals slots round-robin to `nodes` nodes, each in its own zone: right, though not what a planner makes.
fn layout(nodes: u16, replicas: u8, partition_bits: u8) -> Layout {
    let owners = usize::from(replicas).min(usize::from(nodes));
    let slots = (0..1_usize << partition_bits).flat_map(|partition| {
        (0..usize::from(replicas)).map(move |position| match position < owners {
            true => ((partition + position) % usize::from(nodes)) as u16,
            false => SLOT_EMPTY,
        })
    });
    let bucket = BucketProperties { level: Level::One, r: 1, w: 1, conflict_rule: ConflictRule::LastWriterWins };
    Layout {
        cluster: 7,
        generation: 1,
        epoch: 3,
        parent_hash: [9; 16],
        electors: (0..electors_max(usize::from(nodes)) as u16).map(NodeIndex).collect(),
        members: (0..nodes).map(|number| member(number, &format!("z{number}"))).collect(),
        partition_bits,
        replicas,
        slots: slots.collect(),
        buckets: BTreeMap::from([("carts".into(), BucketProperties::default()), ("sessions".into(), bucket)]),
        spans: Spans::settled(3),
    }
}

/// What the check says after `change` was made to a right layout of five nodes, N = 3.
fn broken(change: impl FnOnce(&mut Layout)) -> LayoutError {
    let mut layout = layout(5, 3, 4);
    assert_eq!(layout.check(), Ok(()));
    change(&mut layout);
    let error = layout.check().expect_err("the rule is broken");
    assert_eq!(Layout::decode(&layout.encode()), Err(DecodeError::Layout(error.clone())), "decode checks too");
    assert!(error.to_string().starts_with("the layout must not be used: "));
    error
}

#[test]
fn the_check_knows_every_rule_about_nodes() {
    assert_eq!(broken(|layout| layout.epoch = 0), LayoutError::EpochZero);
    assert_eq!(broken(|layout| layout.members[1].name = "n0".into()), LayoutError::DuplicateName("n0".into()));
    assert_eq!(broken(|layout| layout.members[1].name = String::new()), LayoutError::NodeName("".into()));
    assert_eq!(broken(|layout| layout.members[1].name = "a b".into()), LayoutError::NodeName("a b".into()));
    assert_eq!(broken(|layout| layout.members[1].name = "x".repeat(65)), LayoutError::NodeName("x".repeat(65)));
    assert_eq!(broken(|layout| layout.members[1].zone = "\n".into()), LayoutError::ZoneName("\n".into()));
    assert_eq!(broken(|layout| layout.members[1].id = NodeId(1000)), LayoutError::DuplicateId(NodeId(1000)));
    assert_eq!(broken(|layout| layout.members[2].weight = 0), LayoutError::WeightZero("n2".into()));
    for address in ["", "host", ":80", "host:", "host:70000", "ho st:80", &format!("{}:80", "x".repeat(260))] {
        assert_eq!(
            broken(|layout| layout.members[2].addresses = vec![address.into()]),
            LayoutError::Address("n2".into())
        );
    }
    let many = vec!["h:1".to_string(); 9];
    assert_eq!(broken(|layout| layout.members[2].addresses = many), LayoutError::Address("n2".into()));
    assert_eq!(broken(|layout| layout.members.clear()), LayoutError::NoActiveNode);
    let leaving = |layout: &mut Layout| layout.members.iter_mut().for_each(|node| node.state = MemberState::Leaving);
    assert_eq!(broken(leaving), LayoutError::NoActiveNode);
    let many = (0..=u16::MAX).map(|number| member(number, "z"));
    assert_eq!(broken(|layout| layout.members = many.collect()), LayoutError::TooManyNodes(65_536));
}

#[test]
fn the_check_knows_every_rule_about_electors() {
    assert_eq!(broken(|layout| layout.electors.clear()), LayoutError::ElectorCount(0));
    assert_eq!(broken(|layout| layout.electors.truncate(2)), LayoutError::ElectorCount(2));
    assert_eq!(broken(|layout| layout.electors = (0..7).map(NodeIndex).collect()), LayoutError::ElectorCount(7));
    assert_eq!(broken(|layout| layout.electors[0] = NodeIndex(1)), LayoutError::Elector(NodeIndex(1)));
    assert_eq!(broken(|layout| layout.electors[4] = NodeIndex(5)), LayoutError::Elector(NodeIndex(5)));
    let counts = [0, 1, 2, 3, 4, 5, 6, 7, 999, 1000].map(electors_max);
    assert_eq!(counts, [1, 1, 1, 3, 3, 5, 5, 5, 5, 7]);
}

#[test]
fn the_check_knows_every_rule_about_buckets() {
    let insert = |name: &str, properties: BucketProperties| {
        let name = name.to_string();
        broken(move |layout| layout.buckets.extend([(name, properties)]))
    };
    assert_eq!(insert("a/b", BucketProperties::default()), LayoutError::BucketName("a/b".into()));
    let unreachable = BucketProperties { r: 4, ..BucketProperties::default() };
    assert_eq!(insert("carts", unreachable), LayoutError::BucketQuorum("carts".into()));
    let many = (0..10_001).map(|number| (format!("b{number}"), BucketProperties::default()));
    assert_eq!(broken(|layout| layout.buckets = many.collect()), LayoutError::TooManyBuckets(10_001));
}

#[test]
fn the_check_knows_every_rule_about_slots() {
    assert_eq!(broken(|layout| layout.replicas = 0), LayoutError::Replicas(0));
    assert_eq!(broken(|layout| layout.replicas = 8), LayoutError::Replicas(8));
    assert_eq!(broken(|layout| layout.partition_bits = 21), LayoutError::PartitionBits(21));
    let mut short = layout(5, 3, 4);
    short.slots.pop();
    assert_eq!(short.check(), Err(LayoutError::SlotCount { expected: 48, found: 47 }));
    assert_eq!(Layout::decode(&short.encode()), Err(DecodeError::Truncated));
    assert_eq!(broken(|layout| layout.slots[5] = SLOT_EMPTY), LayoutError::Owners(1));
    assert_eq!(broken(|layout| layout.slots[5] = 5), LayoutError::UnknownOwner(1));
    assert_eq!(broken(|layout| layout.slots[6] = layout.slots[8]), LayoutError::OwnerTwice(2));
    let leaving = |layout: &mut Layout| {
        layout.electors = vec![NodeIndex(0)];
        layout.members[4].state = MemberState::Leaving;
    };
    assert_eq!(broken(leaving), LayoutError::LeavingOwner(2));
}

#[test]
fn two_owners_share_a_zone_only_where_zones_are_fewer_than_replicas() {
    assert_eq!(broken(|layout| layout.members[1].zone = "z0".into()), LayoutError::ZoneCrowded(0));
    // Three zones can still take one replica each, although two of them hold two nodes: dealing round-robin is wrong.
    let pairs = |layout: &mut Layout| (0..5).for_each(|at| layout.members[at].zone = format!("z{}", at / 2));
    assert_eq!(broken(pairs), LayoutError::ZoneCrowded(0));
    // With one zone, or with two of which one has a single node, sharing can't be avoided.
    let mut one = layout(5, 3, 4);
    one.members.iter_mut().for_each(|member| member.zone = "z".into());
    assert_eq!(one.check(), Ok(()));
    one.members[4].zone = "y".into();
    one.slots.chunks_exact_mut(3).for_each(|slots| slots.copy_from_slice(&[0, 4, 1]));
    assert_eq!(one.check(), Ok(()));
    one.slots[..3].copy_from_slice(&[0, 1, 2]);
    assert_eq!(one.check(), Err(LayoutError::ZoneCrowded(0)));
}

#[test]
fn with_fewer_nodes_than_replicas_the_last_slots_stay_empty() {
    let two = layout(2, 3, 2);
    assert_eq!(two.check(), Ok(()));
    assert_eq!(two.owners(1).collect::<Vec<_>>(), [NodeIndex(1), NodeIndex(0)]);
    let mut gap = two;
    gap.slots.swap(1, 2);
    assert_eq!(gap.check(), Err(LayoutError::Owners(0)));
}

#[test]
fn bytes_that_are_no_layout_say_what_is_wrong() {
    let bytes = layout(3, 3, 4).encode();
    assert_eq!(bytes[0], LAYOUT_FORMAT);
    for length in 0..bytes.len() {
        assert_eq!(Layout::decode(&bytes[..length]), Err(DecodeError::Truncated));
    }
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        Layout::decode(&bytes).expect_err("the bytes are wrong")
    };
    assert_eq!(changed(&|bytes| bytes.push(0)), DecodeError::Trailing(1));
    assert_eq!(changed(&|bytes| bytes[0] = 3), DecodeError::Format(3));
    let find = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).expect("it is in there");
    let carts = find(b"carts");
    assert_eq!(changed(&|bytes| bytes[carts] = b'x'), DecodeError::BucketOrder);
    assert_eq!(changed(&|bytes| bytes[carts] = 0xff), DecodeError::Text);
    assert_eq!(changed(&|bytes| bytes[carts + 5] = 9), DecodeError::Choice { field: "level", value: 9 });
    assert_eq!(changed(&|bytes| bytes[carts - 4] = 0xff), DecodeError::Truncated);
}

#[test]
fn pages_cover_the_slots_and_their_hashes_show_where_layouts_differ() {
    let small = layout(3, 3, 4);
    assert_eq!(small.page_count(), 1);
    assert_eq!(small.page_slots(0), Some(&small.slots[..]));
    let mut large = layout(5, 3, 14);
    let pages: Vec<u16> = (0..large.page_count()).flat_map(|page| large.page_slots(page).unwrap()).copied().collect();
    assert_eq!((large.page_count(), pages == large.slots), (4, true));
    assert_eq!((large.page_slots(4), large.page_hash(4), large.page_hash(u32::MAX)), (None, None, None));
    let hashes = |layout: &Layout| (0..4).map(|page| layout.page_hash(page)).collect::<Vec<_>>();
    let (before, hash) = (hashes(&large), large.hash());
    let first = PAGE_PARTITIONS as usize * 3 * 2;
    large.slots.swap(first, first + 1);
    let after = hashes(&large);
    let differ: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(differ, [false, false, true, false]);
    assert_ne!(large.hash(), hash);
}

#[test]
fn a_stand_in_comes_from_the_zone_of_the_owner_it_replaces() {
    let mut layout = layout(15, 3, 10);
    (0..15).for_each(|at| layout.members[at].zone = format!("z{}", at % 5));
    assert_eq!(layout.check(), Ok(()));
    for partition in 0..layout.partitions() {
        let owners: Vec<NodeIndex> = layout.owners(partition).collect();
        let away = [owners[2], owners[0]];
        let stand_ins: Vec<NodeIndex> = layout.stand_ins(partition, |node| !away.contains(&node)).take(2).collect();
        let zones = |nodes: &[NodeIndex]| nodes.iter().map(|node| node.0 % 5).collect::<Vec<_>>();
        assert_eq!(zones(&stand_ins), zones(&[owners[0], owners[2]]), "partition {partition}");
    }
}

#[test]
fn the_work_of_one_dead_node_falls_on_many() {
    let layout = layout(100, 3, 12);
    let dead = NodeIndex(17);
    let first = |partition| layout.stand_ins(partition, |node| node != dead).next().unwrap();
    let owned = (0..layout.partitions()).filter(|&partition| layout.owners(partition).any(|node| node == dead));
    let mut work = BTreeMap::<NodeIndex, usize>::new();
    owned.for_each(|partition| *work.entry(first(partition)).or_default() += 1);
    assert!(work.len() > 60, "123 partitions fall on {} nodes", work.len());
    assert!(*work.values().max().unwrap() <= 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stand_ins_are_alive_never_owners_never_twice_and_bounded(
        nodes in 1..40_u16, replicas in 1..=7_u8, bits in 0..8_u8, at in any::<u32>(), dead in any::<u64>(),
    ) {
        let layout = layout(nodes, replicas, bits);
        let partition = at % layout.partitions();
        let alive = |node: NodeIndex| dead >> (node.0 % 64) & 1 == 0;
        let named: Vec<NodeIndex> = layout.stand_ins(partition, alive).collect();
        prop_assert!(named.len() <= STAND_INS_MAX);
        prop_assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
        prop_assert!(named.iter().all(|&node| alive(node) && !layout.owners(partition).any(|owner| owner == node)));
        // In a small map everybody who owns anything is found.
        let mut others: BTreeSet<u16> = layout.slots.iter().copied().filter(|&slot| slot != SLOT_EMPTY).collect();
        others.retain(|&node| layout.owners(partition).all(|owner| owner.0 != node));
        let wanted = others.iter().filter(|&&node| alive(NodeIndex(node))).count();
        prop_assert_eq!(named.len(), wanted.min(STAND_INS_MAX));
    }

    #[test]
    fn a_layout_survives_its_bytes(nodes in 1..40_u16, replicas in 1..=7_u8, bits in 0..8_u8) {
        let layout = layout(nodes, replicas, bits);
        let bytes = layout.encode();
        let again = Layout::decode(&bytes).unwrap();
        prop_assert_eq!(again.hash(), layout.hash());
        prop_assert_eq!(again, layout);
    }

    #[test]
    fn damaged_bytes_are_refused_or_are_the_bytes_of_another_layout(
        place in any::<proptest::sample::Index>(), flip in 1..=255_u8, nodes in 1..6_u16,
    ) {
        let mut bytes = layout(nodes, 3, 2).encode();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(layout) = Layout::decode(&bytes) {
            prop_assert_eq!(layout.check(), Ok(()));
            prop_assert_eq!(layout.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_give_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Layout::decode(&bytes).is_err());
        // With a right beginning, so that the bytes reach further into the decoder.
        let right = layout(3, 3, 0).encode();
        bytes.splice(0..0, right[..59].iter().copied());
        prop_assert!(Layout::decode(&bytes).is_err());
    }
}

#[test]
fn old_layouts_are_wanted_while_something_moves_and_not_after() {
    let mut ring = Ring::new(Arc::new(layout(5, 3, 4)));
    let first = ring.epoch();
    let agree = |ring: &mut Ring, moved: Span| {
        let before = ring.newest();
        let spans = Spans::from_partitions((0..16).map(|at| if at == 3 { moved } else { Span::settled(first) }));
        let next = Layout { epoch: before.epoch + 1, parent_hash: before.hash(), spans, ..Layout::clone(before) };
        ring.push(Arc::new(next)).unwrap();
    };
    assert_eq!(ring.oldest_wanted(), first);
    agree(&mut ring, Span { since: first + 1, oldest: first });
    agree(&mut ring, Span { since: first + 1, oldest: first });
    assert_eq!(ring.oldest_wanted(), first);
    agree(&mut ring, Span::settled(first + 1));
    assert_eq!(ring.oldest_wanted(), ring.epoch());
    ring.forget_before(ring.oldest_wanted());
    assert_eq!(ring.layouts().count(), 1);
    for partition in 0..16 {
        let view = ring.newest().settled_view(partition);
        let found = ring.configurations(&view.first_key().id(), &view).expect("the newest layout says it");
        assert_eq!((found.len(), found[0].epoch), (1, view.hi), "{partition}");
    }
}
