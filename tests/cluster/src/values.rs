//! Values that say which write they are of: its id, and behind it bytes that follow from the id, so that a value with a
//! single wrong bit is recognised as nobody's.

use crate::random::Random;

/// What a value says that is of no write.
pub const NOBODY: u64 = u64::MAX;

/// Shortest value: the id and 8 bytes that follow from it.
pub const VALUE_BYTES_MIN: usize = 16;

/// The value of a write.
pub fn encode(id: u64, length: usize) -> Vec<u8> {
    let length = length.max(VALUE_BYTES_MIN);
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend(id.to_le_bytes());
    let mut random = Random::new(id.rotate_left(32) ^ length as u64);
    while bytes.len() < length {
        bytes.extend(random.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The write that a value is of, or [`NOBODY`].
pub fn decode(bytes: &[u8]) -> u64 {
    let id = bytes.first_chunk().map_or(NOBODY, |id| u64::from_le_bytes(*id));
    if bytes.len() >= VALUE_BYTES_MIN && encode(id, bytes.len()) == bytes { id } else { NOBODY }
}

#[cfg(test)]
mod tests {
    use super::{NOBODY, decode, encode};

    #[test]
    fn a_value_says_whose_it_is_and_no_changed_byte_passes() {
        for length in [16, 17, 100, 4_000] {
            let value = encode(7, length);
            assert_eq!((value.len(), decode(&value)), (length, 7));
            for at in 0..length {
                let mut wrong = value.clone();
                wrong[at] ^= 0x10;
                assert_eq!(decode(&wrong), NOBODY, "byte {at} of {length}");
            }
            assert_eq!(decode(&value[..length - 1]), NOBODY);
        }
        assert_eq!(decode(b""), NOBODY);
    }
}
