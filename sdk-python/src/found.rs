//! What reads and writes return. Made on the way out of every call, so the values are copied once and everything else waits until
//! somebody asks for it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{
    Bound, Py, PyAny, PyResult, Python, pyclass, pymethods,
    sync::PyOnceLock,
    types::{PyAnyMethods, PyBytes, PyList, PyTuple},
};
use quorate::{Bytes, Layout, Receipt, Sibling};

use crate::{argument, context::Context, error, values};

/// The values of a key.
#[pyclass(frozen, eq, module = "quorate")]
pub(crate) struct Found {
    /// The version that was written last; usually the only one.
    last: Version,
    /// The versions before it, in the order in which they were written.
    others: Vec<Version>,
    context: quorate::Context,
    proof: Proof,
    /// The bucket's resolver until it has been applied; only where there is something to resolve.
    resolver: Mutex<Option<Py<PyAny>>>,
    resolved: PyOnceLock<Py<PyBytes>>,
}

/// The absence of values. It is false where a truth value is wanted.
#[pyclass(frozen, eq, module = "quorate")]
#[derive(PartialEq)]
pub(crate) struct Absent {
    context: quorate::Context,
    proof: Proof,
}

/// The answer to a put or a delete.
#[pyclass(frozen, eq, module = "quorate")]
#[derive(PartialEq)]
pub(crate) struct Stored {
    context: Option<quorate::Context>,
    /// How many live versions the key has now, this one included.
    #[pyo3(get)]
    siblings: u16,
    /// The hybrid logical clock of the write: milliseconds since 1970 in the upper 48 bits.
    #[pyo3(get)]
    clock: u64,
    proof: Proof,
}

/// What a receipt is made of, when somebody asks for it.
pub(crate) struct Proof {
    receipt: Receipt,
    /// Names the nodes.
    layout: Arc<Layout>,
}

/// One version; its value is an object of the interpreter already.
struct Version {
    object: Py<PyBytes>,
    /// All but the value.
    sibling: Sibling,
}

impl Found {
    /// Copies what was found out of the reply, which may be large and is not kept.
    pub(crate) fn new(
        py: Python<'_>,
        found: &quorate::Found,
        layout: &Arc<Layout>,
        resolver: Option<&Py<PyAny>>,
    ) -> Self {
        let version = |sibling: &Sibling| Version {
            object: PyBytes::new(py, &sibling.value).unbind(),
            sibling: Sibling { value: Bytes::new(), ..*sibling },
        };
        let (last, others) = match found.siblings() {
            [only] => (version(only), Vec::new()),
            several => {
                let mut several: Vec<Version> = several.iter().map(version).collect();
                let last = several.pop().unwrap_or_else(|| Version {
                    object: PyBytes::new(py, &[]).unbind(),
                    sibling: Sibling { value: Bytes::new(), value_bytes: 0, clock: 0, hash: 0 },
                });
                (last, several)
            }
        };
        let resolver = resolver.filter(|_| !others.is_empty()).map(|resolver| resolver.clone_ref(py));
        Self {
            last,
            others,
            context: detached(found.context()),
            proof: Proof::new(found.receipt(), layout),
            resolver: Mutex::new(resolver),
            resolved: PyOnceLock::new(),
        }
    }

    fn versions(&self) -> impl Iterator<Item = &Version> {
        self.others.iter().chain([&self.last])
    }

    fn objects<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.versions().map(|version| version.object.bind(py).clone()).collect()
    }

    /// Applies the resolver, once; without one, one value can't be told.
    fn resolve(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        let lock = || self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        // A copy, because a resolver is the application's code and may look at this very object.
        let resolver = lock().as_ref().map(|resolver| resolver.clone_ref(py));
        let Some(resolver) = resolver else { return Err(error::siblings(py, self.others.len() + 1)) };
        let value = resolver.bind(py).call1((PyList::new(py, self.objects(py))?,))?;
        let value = PyBytes::new(py, &argument::data(&value, "the resolver's result")?).unbind();
        let value = self.resolved.get_or_init(py, || value).clone_ref(py);
        drop(lock().take());
        Ok(value)
    }
}

#[pymethods]
impl Found {
    /// The value. Concurrent values become one by the bucket's resolver; without one they raise `SiblingsError`.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        if self.others.is_empty() {
            return Ok(self.last.object.clone_ref(py));
        }
        match self.resolved.get(py) {
            Some(value) => Ok(value.clone_ref(py)),
            None => self.resolve(py),
        }
    }

    /// Every concurrent value, at least one, the one that was written last at the end.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.objects(py))
    }

    /// Every concurrent version, in the order of `values`.
    #[getter]
    fn siblings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let siblings = self.versions().map(|version| values::sibling(py, &version.sibling, &version.object));
        PyTuple::new(py, siblings.collect::<PyResult<Vec<_>>>()?)
    }

    /// Whether there are concurrent values.
    #[getter]
    fn is_conflict(&self) -> bool {
        !self.others.is_empty()
    }

    /// Covers everything that was seen: a put or delete under it replaces exactly these values.
    #[getter]
    fn context(&self) -> Context {
        Context::new(self.context.clone())
    }

    /// What the answer rested on.
    #[getter]
    fn receipt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.proof.receipt(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        match self.others.is_empty() {
            true => Ok(format!("Found(value={})", self.last.object.bind(py).repr()?)),
            false => Ok(format!("Found(values={})", self.values(py)?.repr()?)),
        }
    }

    fn __hash__(&self) -> u64 {
        hash_of(&self.context)
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        let same = self.versions().map(|version| &version.sibling).eq(other.versions().map(|version| &version.sibling));
        same && self.context == other.context && self.proof == other.proof
    }
}

impl Absent {
    pub(crate) fn new(absent: &quorate::Absent, layout: &Arc<Layout>) -> Self {
        Self { context: detached(&absent.context), proof: Proof::new(&absent.receipt, layout) }
    }
}

#[pymethods]
impl Absent {
    /// Covers the deletions that were seen; a put under it replaces exactly that.
    #[getter]
    fn context(&self) -> Context {
        Context::new(self.context.clone())
    }

    /// What the answer rested on.
    #[getter]
    fn receipt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.proof.receipt(py)
    }

    fn __bool__(&self) -> bool {
        false
    }

    fn __repr__(&self) -> String {
        format!("Absent(context={})", Context::new(self.context.clone()).__repr__())
    }

    fn __hash__(&self) -> u64 {
        hash_of(&self.context)
    }
}

impl Stored {
    pub(crate) fn new(stored: &quorate::Stored, layout: &Arc<Layout>) -> Self {
        Self {
            context: stored.context.as_ref().map(detached),
            siblings: stored.siblings,
            clock: stored.clock,
            proof: Proof::new(&stored.receipt, layout),
        }
    }
}

#[pymethods]
impl Stored {
    /// The context after this write, if the new version stands alone; `None` when siblings stand beside it: get first.
    #[getter]
    fn context(&self) -> Option<Context> {
        self.context.clone().map(Context::new)
    }

    /// What the acknowledgement rested on.
    #[getter]
    fn receipt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.proof.receipt(py)
    }

    fn __repr__(&self) -> String {
        format!("Stored(siblings={}, clock={})", self.siblings, self.clock)
    }

    fn __hash__(&self) -> u64 {
        hash_of(&(self.clock, self.siblings))
    }
}

impl Proof {
    fn new(receipt: &Receipt, layout: &Arc<Layout>) -> Self {
        Self { receipt: receipt.clone(), layout: Arc::clone(layout) }
    }

    fn receipt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::receipt(py, &self.receipt, &self.layout)
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.receipt == other.receipt
    }
}

pub(crate) fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A context that does not keep the reply it came in.
fn detached(context: &quorate::Context) -> quorate::Context {
    let bytes = Bytes::copy_from_slice(context.as_bytes());
    // Only length is checked there, and this one has the length of a context.
    quorate::Context::from_bytes(bytes).unwrap_or(quorate::Context::EMPTY)
}
