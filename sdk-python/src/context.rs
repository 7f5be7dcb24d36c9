//! The causal context as Python sees it: opaque, immutable, hashable, picklable.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use pyo3::{
    Bound, Py, PyAny, PyResult, Python, pyclass, pymethods,
    types::{PyAnyMethods, PyBytes, PyBytesMethods, PyTuple},
};

use crate::error;

/// Which versions of a key a read saw. Hand it back with the put or delete that replaces them; it means nothing for any other
/// key. Opaque, immutable, hashable and picklable; its text is base64url, the same in every language and in the command line.
#[pyclass(frozen, eq, module = "quorate")]
#[derive(PartialEq, Eq)]
pub(crate) struct Context(quorate::Context);

impl Context {
    pub(crate) fn new(context: quorate::Context) -> Self {
        Self(context)
    }

    pub(crate) fn inner(&self) -> &quorate::Context {
        &self.0
    }
}

#[pymethods]
impl Context {
    /// The context of having seen nothing: a put under it adds a version beside whatever there is.
    #[classattr]
    #[pyo3(name = "EMPTY")]
    fn empty() -> Self {
        Self(quorate::Context::EMPTY)
    }

    /// A context from what `bytes(context)` gave. Whether it is genuine is for the nodes to say.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = Bytes::copy_from_slice(data.as_bytes());
        quorate::Context::from_bytes(bytes).map(Self).map_err(|cause| error::raised(data.py(), &cause))
    }

    /// A context from what `str(context)` gave.
    #[staticmethod]
    #[pyo3(signature = (text, /))]
    fn parse(py: Python<'_>, text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(|cause| error::raised(py, &cause))
    }

    /// Whether nothing was seen.
    #[getter]
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.as_bytes())
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    pub(crate) fn __repr__(&self) -> String {
        match self.0.is_empty() {
            true => "Context.EMPTY".to_owned(),
            false => format!("Context.parse('{}')", self.0),
        }
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Py<PyAny>, Bound<'py, PyTuple>)> {
        let restore = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((restore.unbind(), PyTuple::new(py, [self.__bytes__(py)])?))
    }
}
