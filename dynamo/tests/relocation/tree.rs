//! The answer of a hash tree, made from all records of the range: the dumb oracle of one, which looks at the row first.

use dynamo::{
    ident::StoreKey,
    merkle,
    peer::{TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
    record,
    replica::{Refusal, check_read},
};

use crate::node::Node;

/// What a node's hash tree says.
pub(crate) fn answer(node: &Node, question: &TreeQuestion) -> TreeAnswer {
    let key = question.view.first_key();
    match check_read(node.disk.row_of(&key).as_ref(), &key, &question.view) {
        Ok(()) => {}
        Err(Refusal::Stale(view)) => return TreeAnswer::Stale(view),
        Err(Refusal::Behind(view)) => {
            panic!("a view older than {:?} was not brought up first: {view:?}", question.view)
        }
        Err(Refusal::Failed(failure)) => return TreeAnswer::Failed(failure),
    }
    let TreePath { prefix, bits } = question.path;
    let first = |key: &StoreKey| u64::from_be_bytes(key.0[..8].try_into().expect("eight bytes"));
    let is_within = |key: &StoreKey| bits == 0 || first(key) >> (64 - bits) == prefix >> (64 - bits);
    let records = node.disk.records.iter().filter(|(key, _)| is_within(key));
    let keys = records.map(|(key, bytes)| (*key, record::verify(key, bytes).unwrap_or(merkle::UNREADABLE)));
    match question.ask {
        TreeAsk::Sum => TreeAnswer::Sum(sum(keys)),
        TreeAsk::Children => {
            let mut children = vec![Vec::new(); 256];
            for (key, digest) in keys {
                children[usize::from((first(&key) << bits >> 56) as u8)].push((key, digest));
            }
            TreeAnswer::Children(children.into_iter().map(|keys| sum(keys.into_iter())).collect())
        }
        TreeAsk::Keys(most) => {
            let mut keys: Vec<_> = keys.take(most as usize + 1).collect();
            let more = keys.len() > most as usize;
            keys.truncate(most as usize);
            TreeAnswer::Keys { keys, more }
        }
    }
}

fn sum(keys: impl Iterator<Item = (StoreKey, u128)>) -> TreeSum {
    keys.fold(TreeSum::default(), |total, (key, digest)| {
        let mut bytes = key.0.to_vec();
        bytes.extend(digest.to_be_bytes());
        let sum = total.sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(&bytes));
        TreeSum { count: total.count + 1, sum }
    })
}
