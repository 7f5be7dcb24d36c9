//! Large operations take turns on a connection, and have more time for it: else the last of them would use up the time of its attempt
//! behind the others, only to be sent again for nothing. Small ones are not counted.

use std::time::Duration;

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

/// What an operation counts towards [`UNDER_WAY_MAX`].
pub(super) fn large_bytes(entry: &Entry) -> usize {
    match operation_bytes(&entry.submission.operation) {
        _ if entry.alone => ANSWER_BYTES,
        bytes if bytes >= LARGE_BYTES => bytes,
        _ => 0,
    }
}

/// Whether so many bytes of large operations may join those under way. One may always go alone.
pub(super) fn has_room(under_way: usize, more: usize) -> bool {
    under_way == 0 || more == 0 || under_way + more <= UNDER_WAY_MAX
}

/// What attempts have beside their usual time while so many bytes of large operations are under way.
pub(super) fn time_to_carry(bytes: usize) -> Duration {
    Duration::from_millis((bytes / BYTES_PER_MS) as u64)
}
