//! Tables and segments against the encoder of the `capnp` crate and against arbitrary bytes.

use capnp::message::{Builder, HeapAllocator, ReaderSegments};
use proptest::prelude::{Strategy, any, prop};

use super::{Segments, Table, WORD_BYTES, parse_table, table_bytes, write_table};
use crate::limits::Limits;
use crate::reason::Reason;

const LIMIT_BYTES: usize = 1 << 20;

fn parse(bytes: &[u8]) -> Result<Option<Table>, Reason> {
    parse_table(bytes, &Limits::server(LIMIT_BYTES), LIMIT_BYTES)
}

#[test]
fn an_announced_length_beyond_the_limit_is_refused_before_the_table_is_complete() {
    let header = [&3_u32.to_le_bytes()[..], &(8_u32 << 20).to_le_bytes()].concat();
    let refused = parse(&header);
    assert!(matches!(refused, Err(Reason::FrameTooLarge { limit_bytes: LIMIT_BYTES, .. })), "{refused:?}");
}

#[test]
fn lengths_that_overflow_when_added_are_refused() {
    let mut header = 511_u32.to_le_bytes().to_vec();
    header.extend([0xFF; 4 * 512]);
    assert!(matches!(parse(&header), Err(Reason::FrameTooLarge { .. })));
}

#[test]
fn segments_beyond_the_limit_are_refused_by_their_count_alone() {
    assert_eq!(parse(&511_u32.to_le_bytes()), Ok(None));
    assert_eq!(parse(&512_u32.to_le_bytes()), Err(Reason::TooManySegments { announced: 513, limit: 512 }));
    assert_eq!(parse(&[0xFF; 4]), Err(Reason::TooManySegments { announced: 1 << 32, limit: 512 }));
}

#[test]
fn a_frame_as_large_as_the_limit_is_taken_and_a_word_more_is_not() {
    let words = (LIMIT_BYTES / WORD_BYTES - 1) as u32;
    let header = |words: u32| [[0; 4], words.to_le_bytes()].concat();
    assert_eq!(parse(&header(words)).unwrap().unwrap().frame_bytes(), LIMIT_BYTES);
    assert!(parse(&header(words + 1)).is_err());
}

/// Lists of segment contents, filled with distinguishable bytes.
fn segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec((0_usize..40, any::<u8>()), 1..20)
        .prop_map(|lengths| lengths.into_iter().map(|(words, byte)| vec![byte; words * WORD_BYTES]).collect())
}

proptest::proptest! {
    #[test]
    fn what_is_written_is_read_back_and_every_prefix_of_a_table_asks_for_more(segments in segments()) {
        let slices: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
        let mut frame = Vec::new();
        write_table(&slices, &mut frame);
        assert_eq!(frame.len(), table_bytes(slices.len()));
        for end in 0..frame.len() {
            assert_eq!(parse(&frame[..end]), Ok(None));
        }
        slices.iter().for_each(|segment| frame.extend_from_slice(segment));
        let table = parse(&frame).unwrap().unwrap();
        assert_eq!(table.frame_bytes(), frame.len());
        let header_bytes = table.header_bytes;
        let read = Segments::copied(table, &frame[header_bytes..]);
        assert_eq!(read.len(), slices.len());
        for (index, segment) in slices.iter().enumerate() {
            assert_eq!(read.get_segment(index as u32), Some(*segment));
        }
        assert_eq!(read.get_segment(slices.len() as u32), None);
    }

    #[test]
    fn the_table_is_the_one_that_the_capnp_crate_writes(fields in 1_u32..60) {
        let mut message = Builder::new(HeapAllocator::new().first_segment_words(4));
        let mut list = message.initn_root::<capnp::text_list::Builder<'_>>(fields);
        (0..fields).for_each(|index| list.set(index, "twelve bytes"));
        let expected = capnp::serialize::write_message_to_words(&message);
        let output = message.get_segments_for_output();
        let mut table = Vec::new();
        write_table(&output, &mut table);
        assert_eq!(table, expected[..table.len()]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }
}
