//! What operators do with the ring crosses the wire unchanged, and whatever arrives instead is bounded.

use capnp::{
    message::{Builder, HeapAllocator, ReaderOptions},
    serialize,
};
use dynamo::{
    ident::NodeId,
    layout::{BucketProperties, ConflictRule, Level, Member, MemberState},
    operation::{ErrorCode, Failure},
    staging::{Change, Subject},
};
use proptest::{collection::vec, option, prelude::*};
use schema::{
    admin_capnp,
    convert::{
        self, Commit, Decision, Extremes, HistoryEntry, PlanNode, PlanReport, ReplyHeader, Staging, TRANSFERS_MAX,
        Transfer, Transfers,
    },
};

fn message() -> Builder<HeapAllocator> {
    Builder::new_default()
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u128>().prop_map(NodeId)
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        node().prop_map(Subject::Node),
        "[a-z.]{1,9}".prop_map(Subject::Bucket),
        Just(Subject::Replicas),
        Just(Subject::PartitionBits),
    ]
}

fn properties() -> impl Strategy<Value = BucketProperties> {
    let level = prop_oneof![Just(Level::One), Just(Level::Available), Just(Level::Quorum), Just(Level::All)];
    let rule = prop_oneof![Just(ConflictRule::Siblings), Just(ConflictRule::LastWriterWins)];
    (level, 0u8..8, 0u8..8, rule).prop_map(|(level, r, w, conflict_rule)| BucketProperties {
        level,
        r,
        w,
        conflict_rule,
    })
}

fn member() -> impl Strategy<Value = Member> {
    (node(), "[a-z0-9]{0,9}", "[a-z]{0,9}", any::<u32>(), vec("[a-z]{1,9}:[0-9]{1,4}", 0..4)).prop_map(
        |(id, name, zone, weight, addresses)| Member { id, name, zone, weight, addresses, state: MemberState::Active },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        member().prop_map(Change::Join),
        node().prop_map(Change::Leave),
        (node(), node()).prop_map(|(old, new)| Change::Replace { old, new }),
        node().prop_map(Change::Lost),
        (node(), any::<u32>()).prop_map(|(node, weight)| Change::Reweight { node, weight }),
        (node(), "[a-z]{0,9}").prop_map(|(node, zone)| Change::Zone { node, zone }),
        (node(), vec("[a-z]{1,9}:[0-9]{1,4}", 0..4))
            .prop_map(|(node, addresses)| Change::Addresses { node, addresses }),
        ("[a-z.]{1,9}", properties()).prop_map(|(name, properties)| Change::Bucket { name, properties }),
        any::<u8>().prop_map(Change::Replicas),
        any::<u8>().prop_map(Change::PartitionBits),
        subject().prop_map(Change::Undo),
    ]
}

fn extremes() -> impl Strategy<Value = Extremes> {
    (0.0f64..4.0, 0.0f64..4.0).prop_map(|(max, min)| Extremes { max, min })
}

fn plan() -> impl Strategy<Value = PlanReport> {
    let node = ("[a-z0-9]{0,9}", "[a-z]{0,9}", "[a-z]{0,9}", any::<(u32, u32, u32, u32)>(), 0.0f64..1e6).prop_map(
        |(name, zone, state, (weight, before, after, gained), ideal)| PlanNode {
            name,
            zone,
            weight,
            state,
            before,
            after,
            gained,
            ideal,
        },
    );
    (
        any::<(u64, [u8; 16], u8, u8)>(),
        any::<(u64, u64, u64, u64)>(),
        (extremes(), extremes(), extremes()),
        any::<(u32, u32, u32, u32)>(),
        vec(node, 0..5),
        vec("[a-z ]{0,30}", 0..4),
    )
        .prop_map(|(frame, moves, balances, dangers, nodes, warnings)| PlanReport {
            epoch: frame.0,
            hash: frame.1,
            partition_bits: frame.2,
            replicas: frame.3,
            slots: moves.0,
            moved: moves.1,
            moved_bound: moves.2,
            moved_bytes: moves.3,
            balance: balances.0,
            balance_before: balances.1,
            balance_by_weight: balances.2,
            below_quorum: dangers.0,
            orphaned: dangers.1,
            unavailable_now: dangers.2,
            unavailable_on_the_way: dangers.3,
            nodes,
            warnings,
        })
}

fn staging() -> impl Strategy<Value = Staging> {
    let texts = || vec("[a-z0-9]{0,9}", 0..4);
    (any::<(u64, u32, u64)>(), vec(change(), 0..6), option::of(plan()), texts(), "[a-z ]{0,30}").prop_map(
        |((epoch, moving, bytes), staged, plan, away, problem)| Staging {
            epoch,
            staged,
            plan,
            moving,
            away,
            bytes,
            problem,
        },
    )
}

fn entry() -> impl Strategy<Value = HistoryEntry> {
    (any::<(u64, [u8; 16], u32, u8, u8, u32)>(), option::of(1..u64::MAX), vec("[a-z ]{0,30}", 0..4)).prop_map(
        |((epoch, hash, nodes, partition_bits, replicas, changed_partitions), learned_ms, changes)| HistoryEntry {
            epoch,
            hash,
            learned_ms,
            nodes,
            partition_bits,
            replicas,
            changes,
            changed_partitions,
        },
    )
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (any::<(u32, u8, u64, u64, u64, u64, u64)>(), "[a-z ]{0,12}", "[a-z0-9]{0,9}", "[a-z ]{0,30}").prop_map(
        |((partition, bits, records, records_total, bytes, lo, hi), state, peer, trouble)| Transfer {
            partition,
            bits,
            state,
            peer,
            records,
            records_total,
            bytes,
            lo,
            hi,
            trouble,
        },
    )
}

fn transfers() -> impl Strategy<Value = Transfers> {
    (any::<(u64, u32, u32, u32, u64, u64)>(), vec(transfer(), 0..9), 0.0f32..=1.0).prop_map(
        |((epoch, coming, going, unsettled, bytes_in, bytes_per_second), transfers, throttle)| Transfers {
            epoch,
            coming,
            going,
            unsettled,
            bytes_in,
            bytes_per_second,
            transfers,
            throttle,
        },
    )
}

proptest! {
    #[test]
    fn changes_survive_the_wire(changes in vec(change(), 0..9)) {
        let mut message = message();
        let request: admin_capnp::stage_request::Builder<'_> = message.init_root();
        let mut list = request.init_changes(changes.len() as u32);
        convert::encode_changes(list.reborrow(), &changes);
        prop_assert_eq!(convert::decode_changes(list.into_reader()), Ok(changes));
    }

    #[test]
    fn what_is_staged_and_what_it_would_do_survive_the_wire(staging in staging()) {
        let mut message = message();
        let mut wire: admin_capnp::plan_reply::Builder<'_> = message.init_root();
        staging.encode(&ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(Staging::decode(wire.into_reader()), Ok(staging));
    }

    #[test]
    fn commits_and_decisions_survive_the_wire(
        (epoch, plan, accept_loss, is_conflict) in any::<(u64, [u8; 16], bool, bool)>(),
        changes in vec("[a-z ]{0,30}", 0..4),
    ) {
        let commit = Commit { epoch, plan, accept_loss };
        let mut first = message();
        let mut wire: admin_capnp::commit_request::Builder<'_> = first.init_root();
        commit.encode(wire.reborrow());
        prop_assert_eq!(Commit::decode(wire.into_reader()), Ok(commit));
        let decision = Ok(Decision { epoch, hash: plan, is_conflict, changes });
        let mut second = message();
        let mut wire: admin_capnp::commit_reply::Builder<'_> = second.init_root();
        Decision::encode(&decision, &ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(Decision::decode(wire.into_reader()), decision);
    }

    #[test]
    fn histories_survive_the_wire(entries in vec(entry(), 0..6)) {
        let history = Ok(entries);
        let mut message = message();
        let mut wire: admin_capnp::history_reply::Builder<'_> = message.init_root();
        convert::encode_history(&history, &ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(convert::decode_history(wire.into_reader()), history);
    }

    #[test]
    fn transfers_survive_the_wire(transfers in transfers(), in_flight in any::<u64>()) {
        let mut first = message();
        let mut wire: admin_capnp::transfers_reply::Builder<'_> = first.init_root();
        transfers.encode(&ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(Transfers::decode(wire.into_reader()), Ok(transfers));
        let mut second = message();
        let mut wire: admin_capnp::drain_reply::Builder<'_> = second.init_root();
        convert::encode_drained(&Ok(in_flight), &ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(convert::decode_drained(wire.into_reader()), Ok(in_flight));
    }

    #[test]
    fn damaged_messages_never_panic(
        staging in staging(),
        transfers in transfers(),
        entry in entry(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut message = message();
        staging.encode(&ReplyHeader::default(), message.init_root());
        damaged(&message, &damage);
        transfers.encode(&ReplyHeader::default(), message.init_root());
        damaged(&message, &damage);
        convert::encode_history(&Ok(vec![entry]), &ReplyHeader::default(), message.init_root());
        damaged(&message, &damage);
        let request: admin_capnp::stage_request::Builder<'_> = message.init_root();
        convert::encode_changes(request.init_changes(staging.staged.len() as u32), &staging.staged);
        damaged(&message, &damage);
    }
}

/// Reads a message with some of its bytes changed as everything that operators send or are sent about the ring.
fn damaged(message: &Builder<HeapAllocator>, damage: &[(prop::sample::Index, u8)]) {
    let mut words = serialize::write_message_to_words(message);
    for (at, byte) in damage {
        let at = at.index(words.len());
        words[at] = *byte;
    }
    let Ok(message) = serialize::read_message(&mut &words[..], ReaderOptions::new()) else { return };
    if let Ok(Ok(changes)) =
        message.get_root::<admin_capnp::stage_request::Reader<'_>>().map(|request| request.get_changes())
    {
        let _ = convert::decode_changes(changes);
    }
    let _ = message.get_root().map(Staging::decode);
    let _ = message.get_root().map(Commit::decode);
    let _ = message.get_root().map(Decision::decode);
    let _ = message.get_root().map(convert::decode_history);
    let _ = message.get_root().map(convert::decode_drained);
    if let Ok(Ok(read)) = message.get_root().map(Transfers::decode) {
        assert!(read.transfers.len() <= TRANSFERS_MAX && (0.0..=1.0).contains(&read.throttle));
    }
}

#[test]
fn failures_arrive_as_failures() {
    let failure = Failure::new(ErrorCode::Unavailable, "too few electors");
    let header = ReplyHeader::default();
    let mut message = message();
    Staging::encode_failure(&header, &failure, message.init_root());
    let read: admin_capnp::plan_reply::Reader<'_> = message.get_root_as_reader().unwrap();
    assert_eq!(Staging::decode(read).unwrap_err().message, failure.message);
    Decision::encode(&Err(failure.clone()), &header, message.init_root());
    let read: admin_capnp::commit_reply::Reader<'_> = message.get_root_as_reader().unwrap();
    assert_eq!(Decision::decode(read).unwrap_err().message, failure.message);
    Transfers::encode_failure(&header, &failure, message.init_root());
    let read: admin_capnp::transfers_reply::Reader<'_> = message.get_root_as_reader().unwrap();
    assert_eq!(Transfers::decode(read).unwrap_err().message, failure.message);
    convert::encode_history(&Err(failure.clone()), &header, message.init_root());
    let read: admin_capnp::history_reply::Reader<'_> = message.get_root_as_reader().unwrap();
    assert_eq!(convert::decode_history(read).unwrap_err().message, failure.message);
    convert::encode_drained(&Err(failure.clone()), &header, message.init_root());
    let read: admin_capnp::drain_reply::Reader<'_> = message.get_root_as_reader().unwrap();
    assert_eq!(convert::decode_drained(read).unwrap_err().message, failure.message);
}

#[test]
fn a_change_that_is_not_understood_refuses_all() {
    let mut message = message();
    let request: admin_capnp::stage_request::Builder<'_> = message.init_root();
    let mut list = request.init_changes(2);
    list.reborrow().get(0).set_replicas(3);
    // A leave of nobody.
    list.reborrow().get(1).set_leave(());
    let failure = convert::decode_changes(list.into_reader()).unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    assert!(failure.message.contains("changes.node") && failure.message.contains("nothing was done"), "{failure:?}");
}
