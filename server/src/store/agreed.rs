//! What a node must not forget of what the ring's members agreed upon: the layouts by their epochs, its own promises as an elector, and
//! the changes that are staged. All of it is durable before anybody hears of it (design, ring, "Agreeing on the next epoch").

use dynamo::layout::Layout;

use super::{
    Store,
    directory::{Directory, STAMP_LAYOUT},
    error::OpenError,
};

/// The stamp of a layout is called this and its epoch as 16 hexadecimal digits, so that stamps are in the order of epochs.
const LAYOUT_PREFIX: &str = "layout/";
const STAMP_ACCEPTOR: &str = "acceptor";
const STAMP_STAGED: &str = "staged";

impl Store {
    /// The newest layout that was stored, encoded.
    pub fn layout(&self) -> Result<Vec<u8>, OpenError> {
        match self.directory.facts(LAYOUT_PREFIX)?.pop() {
            Some((name, content)) => Ok(self.directory.parse_layout(&name, content)?.bytes),
            None => self.directory.fact(STAMP_LAYOUT),
        }
    }

    /// The layouts that were stored, by epoch, the oldest first and encoded. There is always one; what was stored last is never missing.
    pub fn layouts(&self) -> Result<Vec<(u64, Vec<u8>)>, OpenError> {
        let mut layouts = Vec::new();
        for (name, content) in self.directory.facts(LAYOUT_PREFIX)? {
            let stored = self.directory.parse_layout(&name, content)?;
            layouts.push((stored.epoch, stored.bytes));
        }
        let founding = self.directory.fact(STAMP_LAYOUT)?;
        // What the directory was founded with has no epoch of its own, and matters until it is forgotten by those that came later.
        match (Layout::decode(&founding), layouts.first()) {
            (Ok(layout), None) => layouts.push((layout.epoch, founding)),
            (Ok(layout), Some((first, _))) if layout.epoch + 1 == *first => layouts.insert(0, (layout.epoch, founding)),
            (Ok(_) | Err(_), Some(_)) => {}
            (Err(error), None) => {
                return Err(self.directory.damaged(format!("the layout it was founded with: {error}")));
            }
        }
        Ok(layouts)
    }

    /// Stores the layout that was decided for an epoch, durably, and when this node learned of it (milliseconds since 1970). Storing the
    /// same again changes nothing; another one for the same epoch is refused, because one of the two was never decided.
    pub fn put_layout(&self, epoch: u64, layout: &[u8], learned_ms: u64) -> Result<(), OpenError> {
        let name = layout_name(epoch);
        if let Some(content) = self.directory.fact_if_any(&name)? {
            let stored = self.directory.parse_layout(&name, content)?;
            if stored.bytes == layout {
                return Ok(());
            }
            return Err(self.directory.damaged(format!("another layout of epoch {epoch} is stored already")));
        }
        let content = [&learned_ms.to_le_bytes()[..], layout].concat();
        self.directory.put(&name, &content)
    }

    /// When this node learned of an epoch's layout, in milliseconds since 1970; `None` if it was founded with it or has forgotten it.
    pub fn learned_ms(&self, epoch: u64) -> Result<Option<u64>, OpenError> {
        let name = layout_name(epoch);
        let Some(content) = self.directory.fact_if_any(&name)? else { return Ok(None) };
        Ok(Some(self.directory.parse_layout(&name, content)?.learned_ms))
    }

    /// Forgets layouts of epochs before this one, but never the newest.
    pub fn forget_layouts_before(&self, epoch: u64) -> Result<(), OpenError> {
        let mut stored = self.directory.facts(LAYOUT_PREFIX)?;
        stored.pop();
        let bound = layout_name(epoch);
        let old: Vec<String> = stored.into_iter().map(|(name, _)| name).filter(|name| *name < bound).collect();
        self.directory.forget(&old)
    }

    /// What this node has promised as an elector, as it was stored last; `None` if nothing was.
    pub fn acceptor(&self) -> Result<Option<Vec<u8>>, OpenError> {
        self.directory.fact_if_any(STAMP_ACCEPTOR)
    }

    /// Stores durably what this node has promised as an elector. To be called before the promise is answered.
    pub fn put_acceptor(&self, acceptor: &[u8]) -> Result<(), OpenError> {
        self.directory.put(STAMP_ACCEPTOR, acceptor)
    }

    /// The changes of the ring that are staged, as they were stored last; `None` if none ever were.
    pub fn staged(&self) -> Result<Option<Vec<u8>>, OpenError> {
        self.directory.fact_if_any(STAMP_STAGED)
    }

    /// Stores durably which changes of the ring are staged.
    pub fn put_staged(&self, staged: &[u8]) -> Result<(), OpenError> {
        self.directory.put(STAMP_STAGED, staged)
    }
}

/// A layout as it is stored: `learned u64, milliseconds since 1970, little end first | layout`.
struct StoredLayout {
    epoch: u64,
    learned_ms: u64,
    bytes: Vec<u8>,
}

impl Directory {
    fn parse_layout(&self, name: &str, content: Vec<u8>) -> Result<StoredLayout, OpenError> {
        let epoch = name.strip_prefix(LAYOUT_PREFIX).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let parsed = epoch.zip(content.split_first_chunk());
        let stored = parsed.map(|(epoch, (learned, bytes))| {
            let learned_ms = u64::from_le_bytes(*learned);
            StoredLayout { epoch, learned_ms, bytes: bytes.to_vec() }
        });
        stored.ok_or_else(|| self.damaged(format!("the stamp {name:?} is malformed")))
    }
}

fn layout_name(epoch: u64) -> String {
    format!("{LAYOUT_PREFIX}{epoch:016x}")
}
