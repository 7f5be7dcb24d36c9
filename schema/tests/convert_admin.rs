//! What operators ask and are told crosses the wire unchanged, and whatever arrives instead is bounded.

use bytes::Bytes;
use capnp::{
    message::{Builder, HeapAllocator, ReaderOptions},
    serialize,
};
use dynamo::{
    ident::NodeId,
    layout::NodeIndex,
    operation::{Address, ErrorCode, Failure},
};
use proptest::{collection::vec, option, prelude::*};
use schema::{
    admin_capnp,
    convert::{
        self, Held, HintBacklog, INSPECT_BYTES_MAX, Inspection, Reap, RepairRun, RepairStatus, RepairTask, ReplyHeader,
    },
};

fn message() -> Builder<HeapAllocator> {
    Builder::new_default()
}

fn task() -> impl Strategy<Value = RepairTask> {
    ("[a-z]{0,12}", "[a-z]{0,12}", any::<(u64, u64, u64, u64)>(), option::of(0..u64::MAX)).prop_map(
        |(name, state, (done, total, repaired, failed), last_milliseconds_ago)| RepairTask {
            name,
            state,
            done,
            total,
            repaired,
            failed,
            last_milliseconds_ago,
        },
    )
}

fn backlog() -> impl Strategy<Value = HintBacklog> {
    any::<(u16, u64, u64, u64)>().prop_map(|(target, objects, bytes, refused)| HintBacklog {
        target: NodeIndex(target),
        objects,
        bytes,
        refused,
    })
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        Just(Held::Absent),
        Just(Held::Corrupt),
        vec(any::<u8>(), 1..300).prop_map(|record| Held::Record(Bytes::from(record))),
    ]
}

fn inspection() -> impl Strategy<Value = Inspection> {
    let hints = vec((any::<u128>().prop_map(NodeId), held()), 0..9);
    (any::<(bool, u32)>(), held(), hints).prop_map(|((is_owner, running), held, hints)| Inspection {
        is_owner,
        held,
        hints,
        running,
    })
}

fn address() -> impl Strategy<Value = Address> {
    ("(default|[A-Za-z0-9._-]{1,64})", vec(any::<u8>(), 1..100))
        .prop_map(|(bucket, key)| Address::new(Bytes::from(bucket), Bytes::from(key)))
}

proptest! {
    #[test]
    fn statuses_of_repair_survive_the_wire(
        tasks in vec(task(), 0..6),
        hints in vec(backlog(), 0..6),
        unreadable in any::<u64>(),
        throttle in 0.02f32..=1.0,
    ) {
        let status = RepairStatus { tasks, hints, unreadable, throttle };
        let mut message = message();
        let mut wire: admin_capnp::repair_status_reply::Builder<'_> = message.init_root();
        status.encode(&ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(RepairStatus::decode(wire.into_reader()), Ok(status));
    }

    #[test]
    fn runs_survive_the_wire((exchange, hints, scrub) in any::<(bool, bool, bool)>()) {
        let run = RepairRun { exchange, hints, scrub };
        let mut message = message();
        let mut wire: admin_capnp::repair_run_request::Builder<'_> = message.init_root();
        run.encode(wire.reborrow());
        prop_assert_eq!(RepairRun::decode(wire.into_reader()), run);
    }

    #[test]
    fn questions_for_keys_survive_the_wire(address in address(), digest in any::<u128>()) {
        let mut first = message();
        let mut wire: admin_capnp::inspect_request::Builder<'_> = first.init_root();
        convert::encode_inspect(wire.reborrow(), &address);
        prop_assert_eq!(convert::decode_inspect(wire.into_reader()), Ok(address.clone()));
        let reap = Reap { address, digest };
        let mut second = message();
        let mut wire: admin_capnp::reap_request::Builder<'_> = second.init_root();
        convert::encode_reap(wire.reborrow(), &reap);
        prop_assert_eq!(convert::decode_reap(wire.into_reader()), Ok(reap));
    }

    #[test]
    fn inspections_survive_the_wire(inspection in inspection()) {
        let mut message = message();
        let mut wire: admin_capnp::inspect_reply::Builder<'_> = message.init_root();
        inspection.encode(&ReplyHeader::default(), wire.reborrow());
        prop_assert_eq!(Inspection::decode(wire.into_reader()), Ok(inspection));
    }

    #[test]
    fn damaged_answers_never_panic_and_stay_bounded(
        inspection in inspection(),
        task in task(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut message = message();
        inspection.encode(&ReplyHeader::default(), message.init_root());
        damaged(&message, &damage, |message| {
            if let Ok(Ok(read)) = message.get_root().map(Inspection::decode) {
                assert!(read.record_bytes() <= INSPECT_BYTES_MAX);
            }
        });
        let status = RepairStatus { tasks: vec![task], ..RepairStatus::default() };
        let mut message = Builder::new_default();
        status.encode(&ReplyHeader::default(), message.init_root());
        damaged(&message, &damage, |message| {
            if let Ok(Ok(read)) = message.get_root().map(RepairStatus::decode) {
                assert!((0.0..=1.0).contains(&read.throttle));
            }
        });
    }
}

fn damaged(
    message: &Builder<HeapAllocator>,
    damage: &[(prop::sample::Index, u8)],
    read: impl Fn(&capnp::message::Reader<serialize::OwnedSegments>),
) {
    let mut words = serialize::write_message_to_words(message);
    damage.iter().for_each(|(at, byte)| {
        let at = at.index(words.len());
        words[at] = *byte;
    });
    if let Ok(message) = serialize::read_message(&mut &words[..], ReaderOptions::new()) {
        read(&message);
    }
}

#[test]
fn answers_that_failed_are_failures() {
    let failure = Failure::new(ErrorCode::Unsupported, "this node keeps no hints");
    let mut message = message();
    let mut wire: admin_capnp::inspect_reply::Builder<'_> = message.init_root();
    Inspection::encode_failure(&ReplyHeader::default(), &failure, wire.reborrow());
    assert_eq!(Inspection::decode(wire.into_reader()), Err(failure.clone()));
    let mut message = Builder::new_default();
    let mut wire: admin_capnp::repair_status_reply::Builder<'_> = message.init_root();
    RepairStatus::encode_failure(&ReplyHeader::default(), &failure, wire.reborrow());
    assert_eq!(RepairStatus::decode(wire.into_reader()), Err(failure.clone()));
    for reaped in [Ok(true), Ok(false), Err(failure)] {
        let mut message = Builder::new_default();
        let mut wire: admin_capnp::reap_reply::Builder<'_> = message.init_root();
        convert::encode_reaped(&ReplyHeader::default(), &reaped, wire.reborrow());
        assert_eq!(convert::decode_reaped(wire.into_reader()), reaped);
    }
}

#[test]
fn keys_and_buckets_of_questions_are_checked() {
    let ask = |bucket: &str, key: &[u8]| {
        let mut message = message();
        let mut wire: admin_capnp::inspect_request::Builder<'_> = message.init_root();
        wire.set_bucket(bucket);
        wire.set_key(key);
        convert::decode_inspect(wire.into_reader())
    };
    assert_eq!(ask("", b"k").unwrap(), ask("default", b"k").unwrap(), "no bucket is the default one");
    for (bucket, key, code) in [
        ("a/b", vec![1], ErrorCode::InvalidRequest),
        ("a", vec![], ErrorCode::InvalidRequest),
        ("a", vec![1; 1025], ErrorCode::TooLarge),
    ] {
        let failure = ask(bucket, &key).unwrap_err();
        assert!(failure.code == code && !failure.maybe_applied && !failure.retryable, "{failure:?}");
    }
}

#[test]
fn more_hints_than_a_key_can_have_are_refused() {
    let mut message = message();
    let mut wire: admin_capnp::inspect_reply::Builder<'_> = message.init_root();
    wire.reborrow().init_hints(65);
    assert_eq!(Inspection::decode(wire.into_reader()).unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn records_beyond_a_frame_are_refused() {
    let record = Bytes::from(vec![7; INSPECT_BYTES_MAX / 2 + 1]);
    let inspection = Inspection {
        held: Held::Record(record.clone()),
        hints: vec![(NodeId(1), Held::Record(record))],
        ..Inspection::default()
    };
    let mut message = message();
    let mut wire: admin_capnp::inspect_reply::Builder<'_> = message.init_root();
    inspection.encode(&ReplyHeader::default(), wire.reborrow());
    assert_eq!(Inspection::decode(wire.into_reader()).unwrap_err().code, ErrorCode::TooLarge);
}
