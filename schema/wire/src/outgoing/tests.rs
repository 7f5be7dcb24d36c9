//! What is queued against what a socket takes, in any portions.

use std::io::IoSlice;
use std::rc::Rc;

use capnp::message::{Builder, HeapAllocator};
use proptest::prelude::prop;

use super::{Outgoing, SHARED_BYTES, SLICES};

/// A message with that much data, in several segments when it is more than a few words.
fn message(bytes: usize, fill: u8) -> Rc<Builder<HeapAllocator>> {
    let mut message = Builder::new(HeapAllocator::new().first_segment_words(16));
    message.set_root::<capnp::data::Owned>(&vec![fill; bytes][..]).unwrap();
    Rc::new(message)
}

/// Takes at most `most` bytes from the front, as a socket would.
fn take(outgoing: &mut Outgoing, most: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    let mut slices = [IoSlice::new(&[]); SLICES];
    let used = outgoing.gather(&mut slices);
    for slice in &slices[..used] {
        let room = most - taken.len();
        taken.extend_from_slice(&slice[..room.min(slice.len())]);
    }
    outgoing.advance(taken.len());
    taken
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn frames_leave_in_order_and_whole_however_the_socket_takes_them(
        sizes in prop::collection::vec(prop::sample::select(vec![0, 1, 100, 5_000, SHARED_BYTES, 3 * SHARED_BYTES]), 1..30),
        writes in prop::collection::vec(1_usize..100_000, 1..20),
    ) {
        let mut outgoing = Outgoing::default();
        let mut expected = Vec::new();
        let mut written = Vec::new();
        let mut most = writes.iter().cycle();
        for (index, size) in sizes.iter().enumerate() {
            let message = message(*size, index as u8);
            expected.extend(capnp::serialize::write_message_to_words(&message));
            outgoing.push(&message);
            assert_eq!(outgoing.queued_bytes(), expected.len() - written.len());
            if index % 3 == 0 {
                written.extend(take(&mut outgoing, *most.next().unwrap()));
            }
        }
        while !outgoing.is_empty() {
            written.extend(take(&mut outgoing, *most.next().unwrap()));
        }
        assert!(written == expected, "{} bytes written, {} expected", written.len(), expected.len());
        assert!(outgoing.pieces.is_empty());
    }
}

#[test]
fn a_large_message_is_not_copied() {
    let mut outgoing = Outgoing::default();
    let large = message(SHARED_BYTES, 1);
    outgoing.push(&large);
    assert_eq!(Rc::strong_count(&large), 2);
    take(&mut outgoing, usize::MAX);
    assert_eq!(Rc::strong_count(&large), 1);
}
