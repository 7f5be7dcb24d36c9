//! The bytes of a partition's row: what is written is read again, what was damaged is noticed, and rows that older versions of the
//! software wrote say what was true then.

use dynamo::{
    layout::View,
    replica::{PartitionRow, RowError},
    version::{Actor, Dot},
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

const VIEW: View = View { prefix: 5, bits: 4, lo: 2, hi: 3 };

fn full_row() -> PartitionRow {
    PartitionRow {
        last: Some(Dot { actor: Actor(9), seq: 8 }),
        records: 7,
        deleted: 6,
        sum: 5 << 90,
        forgotten: 4,
        full: 3,
        copied: 2 << 40,
        owned: 1 << 50,
        is_moved: true,
        view: VIEW,
    }
}

/// The row as a version of the software wrote it that knew only so many bytes of its body.
fn in_format(format: u8, row: &PartitionRow, body_bytes: usize) -> Vec<u8> {
    let mut bytes = row.encode()[..17 + body_bytes].to_vec();
    bytes[0] = format;
    let checksum = xxh3_128_with_seed(&bytes[17..], u64::from(VIEW.bits) << 32 | u64::from(VIEW.prefix));
    bytes[1..17].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_row_survives_its_encoding_and_no_flipped_bit_does() {
    for row in [PartitionRow::new(VIEW), full_row()] {
        let bytes = row.encode();
        assert_eq!(PartitionRow::decode(5, 4, &bytes), Ok(row));
        assert_eq!(PartitionRow::decode(6, 4, &bytes), Err(RowError::Damaged));
        assert_eq!(PartitionRow::decode(5, 5, &bytes), Err(RowError::Damaged));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(PartitionRow::decode(5, 4, &flipped).is_err());
        }
        for length in 0..bytes.len() {
            assert_eq!(PartitionRow::decode(5, 4, &bytes[..length]), Err(RowError::Damaged));
        }
    }
    assert_eq!(PartitionRow::decode(5, 4, &[4]), Err(RowError::UnknownFormat(4)));
}

#[test]
fn rows_of_the_formats_before_are_read_as_those_of_owners_of_their_newest_configuration() {
    let settled = PartitionRow { full: 0, copied: 0, owned: VIEW.hi, is_moved: false, ..full_row() };
    let body_bytes = 5 + 16 + 16 + 16 + 16;
    let second = in_format(2, &full_row(), body_bytes + 8);
    assert_eq!(PartitionRow::decode(5, 4, &second), Ok(settled));
    let first = in_format(1, &full_row(), body_bytes);
    assert_eq!(PartitionRow::decode(5, 4, &first), Ok(PartitionRow { forgotten: 0, ..settled }));
    for bytes in [first, second] {
        for bit in 8..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(PartitionRow::decode(5, 4, &flipped), Err(RowError::Damaged));
        }
    }
}
