//! One layout from one other node, piece by piece: as what has changed since the layout here, if the other one can tell that, and else
//! as a whole. Nothing that comes is believed: a difference must lead from the layout here to one that follows it by its hash and has
//! the hash that the difference names, or the whole layout is fetched instead.

use dynamo::{
    layout::Layout,
    operation::{ErrorCode, Failure},
};
use schema::convert::{LayoutPiece, LayoutRequest, read_delta};

use crate::counters::Count;

/// Longest layout that is fetched: a ring of 60,000 nodes and a million partitions has less. A difference has less than its layout.
const LAYOUT_BYTES_MAX: u64 = 64 << 20;

/// What was fetched since this process started.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    whole: Count,
    deltas: Count,
    unfit: Count,
    bytes: Count,
}

/// Another node that is asked for layouts.
pub(crate) struct Source<'a, Ask> {
    /// What people call it.
    pub(crate) name: &'a str,
    /// Asks it.
    pub(crate) ask: Ask,
    /// Where it is counted.
    pub(crate) fetches: &'a Fetches,
}

/// All bytes of an answer.
struct Told {
    bytes: Vec<u8>,
    is_delta: bool,
}

impl<Ask: AsyncFn(LayoutRequest) -> Result<LayoutPiece, Failure>> Source<'_, Ask> {
    /// The layout after the one here.
    pub(crate) async fn next(&self, here: &Layout) -> Result<Layout, Failure> {
        let epoch = here.epoch.saturating_add(1);
        match self.next_by_delta(here, epoch).await {
            Ok(layout) => Ok(layout),
            // It would give the whole no more than the difference.
            Err(failure) if matches!(failure.code, ErrorCode::Unavailable | ErrorCode::StaleView) => Err(failure),
            Err(failure) => {
                self.fetches.unfit.one();
                tracing::debug!(epoch, why = %failure.message, "the whole layout is fetched instead");
                self.whole(epoch).await
            }
        }
    }

    /// The layout of an epoch, whatever is here.
    pub(crate) async fn whole(&self, epoch: u64) -> Result<Layout, Failure> {
        let told = self.told(LayoutRequest { epoch, ..LayoutRequest::default() }).await?;
        self.decode(epoch, &told.bytes)
    }

    async fn next_by_delta(&self, here: &Layout, epoch: u64) -> Result<Layout, Failure> {
        let hash = here.hash();
        let told = self.told(LayoutRequest { epoch, offset: 0, parent_hash: Some(hash) }).await?;
        if !told.is_delta {
            return self.decode(epoch, &told.bytes);
        }
        let delta = read_delta(&told.bytes).map_err(|failure| self.broken(epoch, &failure.message))?;
        if (delta.epoch, delta.parent_hash) != (epoch, hash) {
            return Err(self.broken(epoch, "the difference leads to a layout that does not follow the one here"));
        }
        let layout = delta.apply(here).map_err(|error| self.broken(epoch, &error.to_string()))?;
        self.fetches.deltas.one();
        Ok(layout)
    }

    fn decode(&self, epoch: u64, bytes: &[u8]) -> Result<Layout, Failure> {
        let layout = Layout::decode(bytes).map_err(|error| self.broken(epoch, &error.to_string()))?;
        if layout.epoch != epoch {
            return Err(self.broken(epoch, &format!("it is the layout of epoch {}", layout.epoch)));
        }
        self.fetches.whole.one();
        Ok(layout)
    }

    /// All pieces of what is asked for.
    async fn told(&self, question: LayoutRequest) -> Result<Told, Failure> {
        let LayoutRequest { epoch, parent_hash, .. } = question;
        let broken = |why: &str| Err(self.broken(epoch, why));
        let (mut bytes, mut promised): (Vec<u8>, _) = (Vec::new(), None);
        loop {
            let piece = (self.ask)(LayoutRequest { offset: bytes.len() as u64, ..question }).await?;
            self.fetches.bytes.add(piece.bytes.len() as u64);
            let (total, is_delta) = *promised.get_or_insert((piece.total, piece.is_delta));
            if piece.epoch != epoch {
                return broken(&format!("it is of epoch {}", piece.epoch));
            }
            if total > LAYOUT_BYTES_MAX {
                return broken(&format!("it has {total} bytes, and at most {LAYOUT_BYTES_MAX} are taken"));
            }
            if (total, is_delta) != (piece.total, piece.is_delta) {
                return broken("its pieces are not of one answer");
            }
            if is_delta && parent_hash.is_none() {
                return broken("it is a difference, and the whole was asked for");
            }
            bytes.extend_from_slice(&piece.bytes);
            if bytes.len() as u64 > total {
                return broken("it has more bytes than it should have");
            }
            if bytes.len() as u64 == total {
                return Ok(Told { bytes, is_delta });
            }
            if piece.bytes.is_empty() {
                return broken("a piece of it has no bytes");
            }
        }
    }

    fn broken(&self, epoch: u64, why: &str) -> Failure {
        let message = format!(
            "what node {} tells of layout {epoch} can't be used: {why}; nothing was taken in, and others are asked",
            self.name
        );
        Failure::with_message(ErrorCode::Internal, message)
    }
}

impl Fetches {
    /// Name, number and meaning of each counter.
    pub(crate) fn counters(&self) -> [(&'static str, u64, &'static str); 4] {
        [
            ("layouts_fetched_whole", self.whole.read(), "layouts fetched from other nodes as a whole"),
            ("layouts_fetched_as_deltas", self.deltas.read(), "layouts of which only what has changed was fetched"),
            (
                "layout_deltas_unfit",
                self.unfit.read(),
                "differences of layouts that could not be used; the whole layout was fetched instead",
            ),
            ("layouts_fetched_bytes", self.bytes.read(), "bytes of all layouts and differences that were fetched"),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests;
