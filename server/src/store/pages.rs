//! A reader of LMDB's pages that trusts nothing in them, for those who read everything: scans and the scrub.
//!
//! LMDB follows damaged pages wherever they lead, and its cursors end the process by an assertion when they meet a page of
//! the wrong kind. What walks over whole tables must survive all there is in a file, and should notice it. So this reads
//! pages by their numbers with plain reads, and checks what LMDB wrote and never looks at again: that a page is the one it
//! says it is, that everything in it lies within it, that keys ascend and lie between their parent's, that leaves are at
//! the depth the tree has. An open read transaction keeps LMDB from reusing the pages meanwhile.
//!
//! The format is data format 1 on 64-bit machines of this byte order, as [`super::header`] has made sure.

use std::{fs::File, io, ops::ControlFlow, os::unix::fs::FileExt};

use heed::{Env, RoTxn, WithoutTls};

const PAGE_HEAD_BYTES: usize = 16;
const NODE_HEAD_BYTES: usize = 8;
const PAGE_BRANCH: u16 = 0x01;
const PAGE_LEAF: u16 = 0x02;
const PAGE_OVERFLOW: u16 = 0x04;
/// The flags that say what a page is; the others only mean something while it is being changed.
const PAGE_KINDS: u16 = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40;
const NODE_LARGE: u16 = 0x01;
const NODE_TABLE: u16 = 0x02;
const NO_PAGE: u64 = u64::MAX;
const TREE_BYTES: usize = 48;
const DEPTH_MAX: u16 = 32;

/// Where the description of the table of tables stands in a header page, and the number of the transaction.
const MAIN_TREE_AT: usize = PAGE_HEAD_BYTES + 72;
const TRANSACTION_AT: usize = PAGE_HEAD_BYTES + 128;

/// How often the newest header may change while it is read. It changes once a commit and is read in microseconds.
const ATTEMPTS_MAX: usize = 1_000;

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {page}: {what}")]
pub(super) struct PageError {
    /// Its number.
    page: u64,
    /// What is wrong.
    what: &'static str,
}

type Result<T, E = PageError> = std::result::Result<T, E>;

/// The pages of an environment as one transaction sees them.
pub(super) struct Pages<'t> {
    file: &'t File,
    page_bytes: usize,
    main: Tree,
    /// As long as it is open, LMDB does not reuse the pages it sees.
    _transaction: RoTxn<'t, WithoutTls>,
}

/// Where a table's pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    depth: u16,
    root: u64,
    /// How many entries it should have.
    pub(super) entries: u64,
}

/// What is done with each entry.
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Keys between which everything below a page must lie: from the first on, and below the second.
type Fence<'k> = (Option<&'k [u8]>, Option<&'k [u8]>);

impl<'t> Pages<'t> {
    /// The pages as of now.
    pub(super) fn of(env: &'t Env<WithoutTls>, file: &'t File) -> heed::Result<Self> {
        let page_bytes = env.unnamed_database_stat().page_size as usize;
        for _ in 0..ATTEMPTS_MAX {
            let transaction = env.read_txn()?;
            let mut header = vec![0; page_bytes];
            let at = (transaction.id() as u64 % 2) * page_bytes as u64;
            file.read_exact_at(&mut header, at)?;
            // Commits write the two headers in turn, so ours is written again by the next commit but one. That has not begun
            // if a transaction that begins now still sees ours as the last.
            let is_ours = long(&header, TRANSACTION_AT) == transaction.id() as u64;
            if is_ours && env.read_txn()?.id() == transaction.id() {
                let main = Tree::parse(&header[MAIN_TREE_AT..MAIN_TREE_AT + TREE_BYTES]);
                return Ok(Self { file, page_bytes, main, _transaction: transaction });
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy).into())
    }

    /// Finds a table by its name.
    pub(super) fn table(&self, name: &str) -> Result<Tree> {
        let mut found = None;
        self.walk(&self.main, Some(name.as_bytes()), &mut |key, value| {
            if key == name.as_bytes() && value.len() == TREE_BYTES {
                found = Some(Tree::parse(value));
            }
            ControlFlow::Break(())
        })?;
        found.ok_or(PageError { page: self.main.root, what: "it does not lead to the table" })
    }

    /// Visits the entries of a table in the order of their keys, from `from` on or all, until told to stop. Whether it came
    /// to the end. Of a table that was read as a whole, the number of entries must be compared by whoever counts them.
    pub(super) fn walk(&self, tree: &Tree, from: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<bool> {
        if tree.root == NO_PAGE {
            return Ok(true);
        }
        if tree.depth == 0 || tree.depth > DEPTH_MAX {
            return Err(PageError { page: tree.root, what: "its tree has an impossible height" });
        }
        let flow = self.walk_page(tree.root, tree.depth, (None, None), from, visit)?;
        Ok(flow.is_continue())
    }

    fn walk_page(
        &self,
        number: u64,
        height: u16,
        fence: Fence<'_>,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        let page = Page::parse(number, self.read(number)?, if height > 1 { PAGE_BRANCH } else { PAGE_LEAF })?;
        page.check_order(fence)?;
        for at in 0..page.count() {
            let node = page.node(at)?;
            let next_key = if at + 1 < page.count() { Some(page.node(at + 1)?.key) } else { fence.1 };
            let flow = if height > 1 {
                // Everything below this node comes before what was asked for.
                if let (Some(from), Some(next_key)) = (from, next_key)
                    && next_key <= from
                {
                    continue;
                }
                let first_key = if at == 0 { fence.0 } else { Some(node.key) };
                self.walk_page(node.child(), height - 1, (first_key, next_key), from, visit)?
            } else if from.is_some_and(|from| node.key < from) {
                continue;
            } else if node.flags & NODE_LARGE != 0 {
                let value = self.large_value(&page, &node)?;
                visit(node.key, &value[PAGE_HEAD_BYTES..])
            } else {
                visit(node.key, page.inline_value(&node)?)
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A value that has pages of its own, behind their head.
    fn large_value(&self, page: &Page, node: &Node<'_>) -> Result<Vec<u8>> {
        let first = page.pointer(node)?;
        let length = PAGE_HEAD_BYTES + node.value_bytes;
        let pages = length.div_ceil(self.page_bytes) as u64;
        self.check_number(first)?;
        self.check_number(first + pages - 1)?;
        let error = |what| PageError { page: first, what };
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, first * self.page_bytes as u64).map_err(|_| error("it can't be read"))?;
        let counted = u64::from(u32::from_ne_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]));
        if long(&bytes, 0) != first || half(&bytes, 10) & PAGE_KINDS != PAGE_OVERFLOW || counted < pages {
            return Err(error("not the value it should be"));
        }
        Ok(bytes)
    }

    fn read(&self, number: u64) -> Result<Vec<u8>> {
        self.check_number(number)?;
        let mut bytes = vec![0; self.page_bytes];
        let read = self.file.read_exact_at(&mut bytes, number * self.page_bytes as u64);
        read.map_err(|_| PageError { page: number, what: "it can't be read" })?;
        Ok(bytes)
    }

    /// Page numbers have 48 bits in a node; beyond the end of the file, reading finds nothing.
    fn check_number(&self, number: u64) -> Result<()> {
        let is_possible = (2..1 << 48).contains(&number);
        if is_possible { Ok(()) } else { Err(PageError { page: number, what: "no page has this number" }) }
    }
}

impl Tree {
    fn parse(bytes: &[u8]) -> Self {
        Self { depth: half(bytes, 6), entries: long(bytes, 32), root: long(bytes, 40) }
    }
}

/// A branch or leaf whose head makes sense.
struct Page {
    number: u64,
    bytes: Vec<u8>,
    lower: usize,
    upper: usize,
}

/// An entry of a page.
struct Node<'p> {
    key: &'p [u8],
    flags: u16,
    /// Of a leaf: the value's length. Of a branch: the lower half of the child's number.
    value_bytes: usize,
    /// Where the value begins.
    value_at: usize,
}

impl Page {
    fn parse(number: u64, bytes: Vec<u8>, kind: u16) -> Result<Self> {
        let error = |what| Err(PageError { page: number, what });
        if long(&bytes, 0) != number {
            return error("another page stands in its place");
        }
        if half(&bytes, 10) & PAGE_KINDS != kind {
            return error("not of the kind it should be");
        }
        let (lower, upper) = (usize::from(half(&bytes, 12)), usize::from(half(&bytes, 14)));
        let is_possible = lower >= PAGE_HEAD_BYTES && lower.is_multiple_of(2) && lower <= upper && upper <= bytes.len();
        let page = Self { number, bytes, lower, upper };
        let least = if kind == PAGE_BRANCH { 2 } else { 1 };
        if !is_possible || page.count() < least { error("its head is impossible") } else { Ok(page) }
    }

    fn count(&self) -> usize {
        (self.lower - PAGE_HEAD_BYTES) / 2
    }

    fn node(&self, at: usize) -> Result<Node<'_>> {
        let start = usize::from(half(&self.bytes, PAGE_HEAD_BYTES + 2 * at));
        if start < self.upper || start + NODE_HEAD_BYTES > self.bytes.len() {
            return Err(self.error("an entry lies outside of it"));
        }
        let [low, high, flags, key_bytes] = [0, 2, 4, 6].map(|offset| half(&self.bytes, start + offset));
        let key_at = start + NODE_HEAD_BYTES;
        let value_at = key_at + usize::from(key_bytes);
        let key = self.bytes.get(key_at..value_at).ok_or_else(|| self.error("a key lies outside of it"))?;
        Ok(Node { key, flags, value_bytes: usize::from(low) | usize::from(high) << 16, value_at })
    }

    /// Whether the keys ascend and lie within the fence. The first key of a branch stands for everything below the second
    /// and is not looked at.
    fn check_order(&self, fence: Fence<'_>) -> Result<()> {
        let is_branch = half(&self.bytes, 10) & PAGE_BRANCH != 0;
        let mut before = fence.0;
        for at in usize::from(is_branch)..self.count() {
            let key = self.node(at)?.key;
            let is_first = at == usize::from(is_branch);
            let ascends = before.is_none_or(|before| if is_first { before <= key } else { before < key });
            if !ascends || fence.1.is_some_and(|end| key >= end) {
                return Err(self.error("its keys are not in order"));
            }
            before = Some(key);
        }
        Ok(())
    }

    fn inline_value(&self, node: &Node<'_>) -> Result<&[u8]> {
        if node.flags & !NODE_TABLE != 0 {
            return Err(self.error("an entry is of an unknown kind"));
        }
        let value = self.bytes.get(node.value_at..node.value_at + node.value_bytes);
        value.ok_or_else(|| self.error("a value lies outside of it"))
    }

    /// The first page of a large value.
    fn pointer(&self, node: &Node<'_>) -> Result<u64> {
        let pointer = self.bytes.get(node.value_at..node.value_at + 8);
        pointer.map(|pointer| long(pointer, 0)).ok_or_else(|| self.error("a value lies outside of it"))
    }

    fn error(&self, what: &'static str) -> PageError {
        PageError { page: self.number, what }
    }
}

impl Node<'_> {
    /// Of a branch: the page below.
    fn child(&self) -> u64 {
        self.value_bytes as u64 | u64::from(self.flags) << 32
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(long)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs::File, ops::ControlFlow, os::unix::fs::FileExt};

    use super::Pages;
    use crate::store::tables::{DATA_FILE, Environment};

    /// An environment whose table has entries of all kinds, and what they are.
    fn filled(directory: &std::path::Path) -> (Environment, BTreeMap<Vec<u8>, Vec<u8>>) {
        let environment = Environment::open(directory, 1 << 26).unwrap();
        let mut model = BTreeMap::new();
        for round in 0..8_u32 {
            let mut transaction = environment.env.write_txn().unwrap();
            for number in 0..900_u32 {
                let key = (number.wrapping_mul(2_654_435_761) ^ round).to_be_bytes().repeat(8);
                let value = vec![round as u8; if number % 50 == 0 { 9_000 } else { (number % 200) as usize }];
                environment.stamps.put(&mut transaction, &key, &value).unwrap();
                model.insert(key, value);
            }
            transaction.commit().unwrap();
        }
        (environment, model)
    }

    #[test]
    fn a_walk_sees_what_lmdb_holds_from_any_key_on() {
        let directory = tempfile::tempdir().unwrap();
        let (environment, model) = filled(directory.path());
        let file = File::open(directory.path().join(DATA_FILE)).unwrap();
        let pages = Pages::of(&environment.env, &file).unwrap();
        let tree = pages.table("stamps").unwrap();
        assert_eq!(tree.entries, model.len() as u64);
        assert!(tree.depth >= 3, "a tree this low tests no branches of branches");
        let starts =
            [None, Some(vec![0; 32]), Some(vec![0x80; 32]), Some(vec![0xff; 32]), model.keys().nth(77).cloned()];
        for from in starts {
            let mut seen = Vec::new();
            let is_end = pages.walk(&tree, from.as_deref(), &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            });
            assert_eq!(is_end, Ok(true));
            let expected: Vec<_> =
                model.iter().filter(|(key, _)| from.as_ref().is_none_or(|from| *key >= from)).collect();
            assert!(seen.iter().map(|(key, value)| (key, value)).eq(expected), "from {from:?}");
        }
        let mut count = 0;
        let stopped = pages.walk(&tree, None, &mut |_, _| {
            count += 1;
            if count == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((stopped, count), (Ok(false), 10));
    }

    #[test]
    fn a_flipped_bit_in_any_page_changes_nothing_is_noticed_or_is_in_a_value_or_key() {
        let directory = tempfile::tempdir().unwrap();
        let (environment, model) = filled(directory.path());
        let file = File::options().read(true).write(true).open(directory.path().join(DATA_FILE)).unwrap();
        let (mut noticed, mut state) = (0, 9_u64);
        for _ in 0..600 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = 8_192 + (state >> 33) % (environment.env.info().last_page_number as u64 * 4_096 - 8_192);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (state >> 60 & 7)], at).unwrap();
            let pages = Pages::of(&environment.env, &file).unwrap();
            let mut different = 0;
            let walked = pages.table("stamps").and_then(|tree| {
                pages.walk(&tree, None, &mut |key, value| {
                    different += usize::from(model.get(key).is_none_or(|expected| expected != value));
                    ControlFlow::Continue(())
                })
            });
            noticed += usize::from(walked.is_err());
            assert!(different <= 1 || walked.is_err(), "one bit changed {different} entries and nothing was noticed");
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(noticed > 10, "only {noticed} of 600 were noticed");
    }
}
