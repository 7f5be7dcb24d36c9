//! What scans return: keys, and the handle of a scan under way.

use std::sync::Arc;

use pyo3::{
    Bound, Py, PyAny, PyResult, Python, pyclass, pymethods,
    types::{PyAnyMethods, PyBytes},
};
use quorate::{Layout, bridge};

use crate::{
    error,
    fork::Ours,
    found::{Found, hash_of},
};

/// A key that a scan came by.
#[pyclass(frozen, eq, module = "quorate")]
pub(crate) struct Scanned {
    /// Its bucket.
    #[pyo3(get)]
    bucket: String,
    key: Vec<u8>,
    /// How many live versions it has.
    #[pyo3(get)]
    siblings: usize,
    /// Bytes of its live values together.
    #[pyo3(get)]
    value_bytes: u64,
    found: Option<Py<Found>>,
}

/// A scan under way, page by page.
#[pyclass(frozen, module = "quorate._native")]
pub(crate) struct ScanPages(pub(crate) Ours<Arc<bridge::ScanPages>>);

/// An update under way: read, merge, write, and again if somebody else was quicker.
#[pyclass(frozen, module = "quorate._native")]
pub(crate) struct Update(pub(crate) Ours<Arc<bridge::Update>>);

#[pymethods]
impl Update {
    /// The seconds that are left for merging.
    fn remaining(&self) -> PyResult<f64> {
        Ok(self.0.here()?.remaining().as_secs_f64())
    }

    /// What to raise when merging was given up because none were left.
    fn overdue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        error::exception(py, &self.0.here()?.overdue())
    }
}

impl Scanned {
    pub(crate) fn new(
        py: Python<'_>,
        scanned: quorate::Scanned,
        layout: &Arc<Layout>,
        resolver: Option<&Py<PyAny>>,
    ) -> PyResult<Self> {
        let found = scanned.found.as_ref().map(|found| Py::new(py, Found::new(py, found, layout, resolver)));
        Ok(Self {
            bucket: scanned.bucket,
            key: scanned.key.to_vec(),
            siblings: scanned.siblings,
            value_bytes: scanned.value_bytes,
            found: found.transpose()?,
        })
    }
}

#[pymethods]
impl Scanned {
    /// The key.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.key)
    }

    /// Its values, when they were asked for.
    #[getter]
    fn found(&self, py: Python<'_>) -> Option<Py<Found>> {
        self.found.as_ref().map(|found| found.clone_ref(py))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (bucket, key) = (pyo3::types::PyString::new(py, &self.bucket).repr()?, self.key(py).repr()?);
        Ok(format!("Scanned(bucket={bucket}, key={key}, siblings={}, value_bytes={})", self.siblings, self.value_bytes))
    }

    fn __hash__(&self) -> u64 {
        hash_of(&(&self.bucket, &self.key))
    }
}

impl PartialEq for Scanned {
    fn eq(&self, other: &Self) -> bool {
        let found = self.found.as_ref().map(Py::get) == other.found.as_ref().map(Py::get);
        let rest = |scanned: &Self| (scanned.siblings, scanned.value_bytes);
        found && self.bucket == other.bucket && self.key == other.key && rest(self) == rest(other)
    }
}
