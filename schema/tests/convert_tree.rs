//! What hash trees are asked and answer crosses the wire unchanged, and whatever arrives instead is bounded.

use capnp::{
    message::{Builder, HeapAllocator, ReaderOptions},
    serialize,
};
use dynamo::{
    ident::StoreKey,
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
};
use proptest::{collection::vec, prelude::*};
use schema::{
    convert::{self, TREE_KEYS_MAX, TREE_QUESTIONS_MAX},
    peer_capnp,
};

fn message() -> Builder<HeapAllocator> {
    Builder::new_default()
}

fn asked(questions: &[TreeQuestion]) -> Vec<Result<TreeQuestion, Failure>> {
    let mut message = message();
    let root = message.init_root::<peer_capnp::tree_request::Builder<'_>>();
    let mut list = root.init_questions(questions.len() as u32);
    convert::encode_tree_questions(list.reborrow(), questions);
    convert::decode_tree_questions(list.into_reader()).unwrap()
}

fn answered(answers: &[TreeAnswer]) -> Result<Vec<TreeAnswer>, Failure> {
    let mut message = message();
    let root = message.init_root::<peer_capnp::tree_reply::Builder<'_>>();
    let mut list = root.init_answers(answers.len() as u32);
    convert::encode_tree_answers(list.reborrow(), answers);
    convert::decode_tree_answers(list.into_reader(), answers.len())
}

fn view(prefix: u32, bits: u8) -> View {
    View { prefix, bits, lo: 3, hi: 4 }
}

fn question() -> impl Strategy<Value = TreeQuestion> {
    let ask = prop_oneof![Just(TreeAsk::Sum), Just(TreeAsk::Children), any::<u32>().prop_map(TreeAsk::Keys)];
    (any::<u64>(), 0..=20_u8, 0..=36_u8, ask).prop_map(|(id, bits, deeper, ask)| {
        let path_bits = bits + deeper;
        let first = |bits: u8| if bits == 0 { 0 } else { id >> (64 - bits) << (64 - bits) };
        let prefix = if bits == 0 { 0 } else { (id >> (64 - bits)) as u32 };
        TreeQuestion { view: view(prefix, bits), path: TreePath { prefix: first(path_bits), bits: path_bits }, ask }
    })
}

fn sum() -> impl Strategy<Value = TreeSum> {
    any::<(u64, u64)>().prop_map(|(count, sum)| TreeSum { count, sum })
}

fn answer() -> impl Strategy<Value = TreeAnswer> {
    prop_oneof![
        sum().prop_map(TreeAnswer::Sum),
        vec(sum(), 256).prop_map(TreeAnswer::Children),
        (vec(any::<([u8; 32], u128)>(), 0..50), any::<bool>()).prop_map(|(mut keys, more)| {
            keys.sort_unstable();
            keys.dedup_by_key(|(key, _)| *key);
            TreeAnswer::Keys { keys: keys.into_iter().map(|(key, digest)| (StoreKey(key), digest)).collect(), more }
        }),
        Just(TreeAnswer::Stale(view(5, 3))),
        Just(TreeAnswer::Failed(Failure::new(ErrorCode::StaleView, "this node holds no such partition"))),
    ]
}

proptest! {
    #[test]
    fn questions_arrive_as_they_were_asked(questions in vec(question(), 0..20)) {
        let expected: Vec<Result<TreeQuestion, Failure>> = questions.iter().copied().map(Ok).collect();
        prop_assert_eq!(asked(&questions), expected);
    }

    #[test]
    fn answers_arrive_as_they_were_given(answers in vec(answer(), 0..8)) {
        prop_assert_eq!(answered(&answers), Ok(answers));
    }

    #[test]
    fn damaged_messages_end_in_failures_and_not_in_panics(
        answers in vec(answer(), 1..4),
        questions in vec(question(), 1..4),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut message = message();
        let root = message.init_root::<peer_capnp::tree_reply::Builder<'_>>();
        convert::encode_tree_answers(root.init_answers(answers.len() as u32), &answers);
        let mut bytes = serialize::write_message_to_words(&message);
        for (at, flip) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Ok(reader) = serialize::read_message(&bytes[..], ReaderOptions::new())
            && let Ok(reply) = reader.get_root::<peer_capnp::tree_reply::Reader<'_>>()
            && let Ok(list) = reply.get_answers()
        {
            let read = convert::decode_tree_answers(list, answers.len());
            let keys: usize = read.iter().flatten().map(convert::tree_answer_keys).sum();
            prop_assert!(keys <= TREE_KEYS_MAX);
        }
        let mut message = Builder::new_default();
        let root = message.init_root::<peer_capnp::tree_request::Builder<'_>>();
        convert::encode_tree_questions(root.init_questions(questions.len() as u32), &questions);
        let mut bytes = serialize::write_message_to_words(&message);
        for (at, flip) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Ok(reader) = serialize::read_message(&bytes[..], ReaderOptions::new())
            && let Ok(request) = reader.get_root::<peer_capnp::tree_request::Reader<'_>>()
            && let Ok(list) = request.get_questions()
            && let Ok(read) = convert::decode_tree_questions(list)
        {
            for question in read.into_iter().flatten() {
                prop_assert!(question.path.bits >= question.view.bits && question.path.bits <= 64);
            }
        }
    }
}

#[test]
fn paths_that_lead_out_of_their_partition_are_refused() {
    let odd = [
        (view(1, 4), TreePath { prefix: 2 << 60, bits: 8 }, TreeAsk::Sum, "path"),
        (view(1, 4), TreePath { prefix: 1 << 60, bits: 3 }, TreeAsk::Sum, "pathBits"),
        (view(1, 4), TreePath { prefix: 1 << 60, bits: 65 }, TreeAsk::Sum, "pathBits"),
        (view(1, 4), TreePath { prefix: 1 << 60 | 1, bits: 12 }, TreeAsk::Sum, "path"),
        (view(0, 0), TreePath { prefix: 0, bits: 60 }, TreeAsk::Children, "children"),
        (view(9, 3), TreePath { prefix: 0, bits: 3 }, TreeAsk::Sum, "view"),
    ];
    for (view, path, ask, field) in odd {
        let failure = asked(&[TreeQuestion { view, path, ask }]).remove(0).unwrap_err();
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert!(failure.message.starts_with(field), "{}", failure.message);
    }
}

#[test]
fn a_call_has_at_most_1024_questions() {
    let mut message = message();
    let root = message.init_root::<peer_capnp::tree_request::Builder<'_>>();
    let list = root.init_questions(TREE_QUESTIONS_MAX as u32 + 1).into_reader();
    assert_eq!(convert::decode_tree_questions(list).unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn the_number_of_answers_must_be_right_unless_one_error_speaks_for_all() {
    let failure = Failure::new(ErrorCode::ShuttingDown, "this node is shutting down");
    let mut message = message();
    let root = message.init_root::<peer_capnp::tree_reply::Builder<'_>>();
    let mut list = root.init_answers(1);
    convert::encode_tree_answers(list.reborrow(), [&TreeAnswer::Failed(failure.clone())]);
    assert_eq!(convert::decode_tree_answers(list.reborrow().into_reader(), 3), Err(failure));
    convert::encode_tree_answers(list.reborrow(), [&TreeAnswer::Sum(TreeSum::default())]);
    assert!(convert::decode_tree_answers(list.into_reader(), 3).unwrap_err().message.contains("1 answers"));
}

#[test]
fn answers_of_a_peer_that_is_wrong_are_failures() {
    let too_few = TreeAnswer::Children(vec![TreeSum::default(); 255]);
    let backwards = TreeAnswer::Keys { keys: vec![(StoreKey([2; 32]), 1), (StoreKey([1; 32]), 1)], more: false };
    let read = answered(&[too_few, backwards, TreeAnswer::Sum(TreeSum { count: 1, sum: 2 })]).unwrap();
    assert!(matches!(read[0], TreeAnswer::Failed(_)) && matches!(read[1], TreeAnswer::Failed(_)), "{read:?}");
    assert_eq!(read[2], TreeAnswer::Sum(TreeSum { count: 1, sum: 2 }), "the others stand");
}

#[test]
fn keys_are_bounded_over_all_answers_together() {
    let many = |first: u8| {
        let keys = (0..TREE_KEYS_MAX as u32 / 2 + 1).map(|at| {
            let mut key = [first; 32];
            key[1..5].copy_from_slice(&at.to_be_bytes());
            (StoreKey(key), 7)
        });
        TreeAnswer::Keys { keys: keys.collect(), more: false }
    };
    let read = answered(&[many(1), many(2)]).unwrap();
    assert!(matches!(read[0], TreeAnswer::Keys { .. }));
    assert!(matches!(read[1], TreeAnswer::Failed(_)));
}
