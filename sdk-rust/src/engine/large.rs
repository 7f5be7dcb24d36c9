//! Large operations take turns on a connection, and have more time for it: else the last of them would use up the time of its attempt
//! behind the others, only to be sent again for nothing. Small ones are not counted.

use std::time::Duration;

use dynamo::operation::{Action, Outcome, Reply};
use schema::convert::operation_bytes;

use super::table::Entry;

/// From this size on an operation is large.
const LARGE_BYTES: usize = 64 * 1024;

/// Bytes of large operations under way on one connection: two values of the usual greatest length with all that belongs to them. A
/// connection within a data centre is kept busy by that, and no attempt has to wait for more.
pub(super) const UNDER_WAY_MAX: usize = 2 * 1024 * 1024 + LARGE_BYTES;

/// Bytes that pass in a millisecond at least: 2 MiB a second, what a busy disk still takes.
const BYTES_PER_MS: usize = 2 * 1024;

/// What the answer to a read counts that did not fit beside others: a value of the usual greatest length.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Weight of one answer in the mean of a connection: a single value of 1 MiB among small ones does not make reads large.
const ANSWER_WEIGHT: f32 = 1.0 / 32.0;

/// What an operation counts towards [`UNDER_WAY_MAX`] on a connection whose answers to reads have so many bytes in the mean. What a read
/// will bring is not known before; where all values are large, it is known well enough.
pub(super) fn large_bytes(entry: &Entry, answer_bytes: f32) -> usize {
    let operation = &entry.submission.operation;
    let answer = match operation.action {
        _ if entry.alone => ANSWER_BYTES,
        Action::Get { without_values: false } => answer_bytes as usize,
        Action::Get { without_values: true } | Action::Put { .. } | Action::Delete { .. } => 0,
    };
    match operation_bytes(operation).max(answer) {
        bytes if bytes >= LARGE_BYTES => bytes,
        _ => 0,
    }
}

/// Folds what a call brought into the mean of its connection.
pub(super) fn average_answer(mut average: f32, replies: &[Reply]) -> f32 {
    for reply in replies {
        if let Outcome::Found { siblings, .. } = &reply.outcome {
            let bytes: usize = siblings.iter().map(|sibling| sibling.value.len()).sum();
            average += (bytes as f32 - average) * ANSWER_WEIGHT;
        }
    }
    average
}

/// Whether so many bytes of large operations may join those under way. One may always go alone.
pub(super) fn has_room(under_way: usize, more: usize) -> bool {
    under_way == 0 || more == 0 || under_way + more <= UNDER_WAY_MAX
}

/// What attempts have beside their usual time while so many bytes of large operations are under way.
pub(super) fn time_to_carry(bytes: usize) -> Duration {
    Duration::from_millis((bytes / BYTES_PER_MS) as u64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dynamo::operation::{Outcome, Receipt, Reply, Sibling};

    use super::{LARGE_BYTES, average_answer};

    fn found(length: usize) -> Reply {
        let sibling = Sibling { value: Bytes::from(vec![0; length]), value_bytes: length as u32, clock: 1, hash: 1 };
        let outcome = Outcome::Found { siblings: vec![sibling], context: Bytes::new() };
        Reply { outcome, receipt: Receipt::default() }
    }

    #[test]
    fn reads_are_large_where_most_values_are() {
        let large = average_answer(0.0, &[found(1 << 20), found(1 << 20), found(1 << 20)]);
        assert!(large as usize >= LARGE_BYTES);
        let mixed: Vec<Reply> = (0..3000).map(|at| found(if at % 300 == 0 { 1 << 20 } else { 100 })).collect();
        assert!((average_answer(large, &mixed) as usize) < LARGE_BYTES, "a few large ones do not hold up small ones");
    }
}
