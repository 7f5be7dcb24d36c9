//! Layouts as other nodes are told them: as bytes that are made once, and not for every piece that somebody fetches. After a change of
//! the ring everybody fetches the same within seconds, and then nobody does for a long time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    layout::{Layout, delta::Delta},
    operation::{ErrorCode, Failure},
    ring::Ring,
};
use schema::convert::{LayoutPiece, LayoutRequest, write_delta};

/// Most encodings that are kept: the newest layout and what has changed in it, and the same of the one before, which the last still
/// fetch. At 10,000 nodes they have 5 MB together, and 40 MB in the largest ring that can be.
const KEPT_MAX: usize = 4;

/// An encoding that nobody asked for so long is dropped: whoever is in the middle of one asks much sooner.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The encodings that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Tellings(Mutex<Vec<Telling>>);

/// An encoding of a layout.
#[derive(Debug)]
struct Telling {
    epoch: u64,
    form: Form,
    /// `None` where the form is not worth having.
    bytes: Option<Bytes>,
    asked_at: Instant,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The canonical bytes.
    Whole,
    /// What has changed since the layout before.
    Delta,
}

impl Tellings {
    /// A piece of a layout of the ring, or of what has changed in it if the caller has the one before and so has this node.
    pub(crate) fn piece(&self, ring: &Ring, question: &LayoutRequest) -> Result<LayoutPiece, Failure> {
        let newest = ring.epoch();
        let epoch = if question.epoch == 0 { newest } else { question.epoch };
        let unknown = || {
            let message = format!("this node has no layout of epoch {epoch}; its newest is {newest}");
            Failure::with_message(ErrorCode::StaleView, message)
        };
        let layout = ring.layout(epoch).ok_or_else(unknown)?;
        // Whoever asks for what is behind the end only wants to know the newest epoch, and may do so every half second.
        if question.offset == u64::MAX {
            return Ok(LayoutPiece { epoch, newest, ..LayoutPiece::default() });
        }
        let before = epoch.checked_sub(1).and_then(|epoch| ring.layout(epoch));
        let before = before.filter(|_| question.parent_hash == Some(layout.parent_hash));
        let delta = before.and_then(|before| self.bytes(epoch, Form::Delta, || difference(before, layout)));
        let is_delta = delta.is_some();
        let bytes = delta.or_else(|| self.bytes(epoch, Form::Whole, || Some(layout.encode().into())));
        let bytes = bytes.unwrap_or_default();
        let (total, bytes) = (bytes.len() as u64, LayoutPiece::cut(&bytes, question.offset));
        Ok(LayoutPiece { epoch, newest, total, is_delta, bytes })
    }

    /// Drops what nobody asks for any more.
    pub(crate) fn forget_idle(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|telling| telling.asked_at.elapsed() < KEPT_FOR);
    }

    fn bytes(&self, epoch: u64, form: Form, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        // Whoever else asks meanwhile asks for the same, and waits for it.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|telling| (telling.epoch, telling.form) == (epoch, form));
        let mut telling = match known {
            Some(at) => kept.remove(at),
            None => Telling { epoch, form, bytes: make(), asked_at: Instant::now() },
        };
        telling.asked_at = Instant::now();
        let bytes = telling.bytes.clone();
        // The one that was asked for longest ago stands first.
        kept.push(telling);
        if kept.len() > KEPT_MAX {
            kept.remove(0);
        }
        bytes
    }
}

/// What has changed, if telling it takes much less than telling the layout.
fn difference(before: &Layout, layout: &Layout) -> Option<Bytes> {
    let delta = Delta::between(before, layout).filter(|delta| delta.is_worth_it(layout))?;
    write_delta(&delta)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dynamo::{
        layout::{BucketProperties, Layout},
        ring::Ring,
    };
    use schema::convert::{LayoutRequest, read_delta};

    use super::{KEPT_MAX, Tellings};
    use crate::ring::fetching::tests::{founded, with_bucket};

    fn ring(layouts: usize) -> Ring {
        let mut ring = Ring::new(Arc::new(founded(8)));
        for number in 1..layouts {
            let next = with_bucket(ring.newest(), &format!("b{number}"), BucketProperties::default());
            ring.push(Arc::new(next)).unwrap();
        }
        ring
    }

    fn of(epoch: u64, parent: Option<&Layout>) -> LayoutRequest {
        LayoutRequest { epoch, offset: 0, parent_hash: parent.map(Layout::hash) }
    }

    #[test]
    fn whoever_has_the_layout_before_is_told_what_has_changed_and_everybody_else_the_whole() {
        let (tellings, mut ring) = (Tellings::default(), ring(3));
        let layouts: Vec<Arc<Layout>> = ring.layouts().cloned().collect();
        let [first, second, third] = &layouts[..] else { panic!("there are three") };
        let told = tellings.piece(&ring, &of(3, Some(second))).unwrap();
        assert!(told.is_delta && told.total * 4 < third.encode().len() as u64);
        assert_eq!(read_delta(&told.bytes).unwrap().apply(second).unwrap(), **third);
        for parent in [None, Some(&**first), Some(&**third)] {
            let told = tellings.piece(&ring, &of(3, parent)).unwrap();
            assert!(!told.is_delta);
            assert_eq!(told.bytes, third.encode());
        }
        assert_eq!(tellings.piece(&ring, &of(0, None)).unwrap().epoch, 3);
        // This node has forgotten the one before.
        ring.forget_before(3);
        assert!(!Tellings::default().piece(&ring, &of(3, Some(second))).unwrap().is_delta);
        let refused = Tellings::default().piece(&ring, &of(2, Some(first))).unwrap_err();
        assert!(refused.message.contains("no layout of epoch 2; its newest is 3"), "{}", refused.message);
    }

    #[test]
    fn a_layout_is_encoded_once_for_all_its_pieces_and_only_the_last_few_are_kept() {
        let (tellings, ring) = (Tellings::default(), ring(KEPT_MAX + 2));
        let lies_at = |epoch, offset| {
            let question = LayoutRequest { offset, ..of(epoch, None) };
            tellings.piece(&ring, &question).unwrap().bytes.as_ptr() as usize - offset as usize
        };
        assert_eq!(lies_at(1, 0), lies_at(1, 100));
        assert_eq!(tellings.0.lock().unwrap().len(), 1);
        for epoch in 1..=ring.epoch() {
            lies_at(epoch, 0);
        }
        let kept: Vec<u64> = tellings.0.lock().unwrap().iter().map(|telling| telling.epoch).collect();
        assert_eq!(kept, (3..=ring.epoch()).collect::<Vec<_>>());
        tellings.forget_idle();
        assert_eq!(tellings.0.lock().unwrap().len(), KEPT_MAX);
        // Nothing is made for those who only look for the newest epoch.
        let asked = Tellings::default();
        let newest = asked.piece(&ring, &LayoutRequest { offset: u64::MAX, ..of(0, None) }).unwrap();
        assert_eq!((newest.newest, newest.bytes.len()), (ring.epoch(), 0));
        assert!(asked.0.lock().unwrap().is_empty());
    }
}
