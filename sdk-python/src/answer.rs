//! Answers on their way out: from what the Rust client says to the objects that Python sees.

use std::sync::Arc;

use pyo3::{
    Bound, IntoPyObject, Py, PyAny, PyResult, Python,
    types::{PyBool, PyBytes, PyDict, PyDictMethods, PyList, PyNone},
};
use quorate::{
    Error, Layout, Lookup,
    bridge::{Answer, Pinged},
};

use crate::{
    error,
    found::{Absent, Found, Stored},
    scanned::Scanned,
    values,
};

/// What a read says of a key without values.
#[derive(Clone, Copy)]
pub(crate) enum Absence {
    /// `None`.
    None,
    /// An `Absent`, which has the context.
    Absent,
}

/// What answers are converted with.
pub(crate) struct Conversion<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) layout: &'a Arc<Layout>,
    pub(crate) resolver: Option<&'a Py<PyAny>>,
    pub(crate) absence: Absence,
}

impl<'py> Conversion<'_, 'py> {
    /// The object that an answer is to the application.
    pub(crate) fn object(&self, answer: Answer) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        match answer {
            Answer::Read(lookup) => self.lookup(lookup),
            Answer::Exists(exists) => Ok(PyBool::new(py, exists).to_owned().into_any()),
            Answer::Stored(stored) => self.stored(stored),
            Answer::Reads(results) => self.each(results, Self::lookup),
            Answer::Writes(results) => self.each(results, Self::stored),
            Answer::Values(values) => {
                Ok(PyList::new(py, values.iter().map(|value| PyBytes::new(py, value)))?.into_any())
            }
            Answer::Updated(Some(stored)) => self.stored(stored),
            Answer::Updated(None) | Answer::Closed => Ok(PyNone::get(py).to_owned().into_any()),
            Answer::Page(page) => {
                let page = page.into_iter().map(|scanned| Scanned::new(py, scanned, self.layout, self.resolver));
                Ok(PyList::new(py, page.collect::<PyResult<Vec<_>>>()?)?.into_any())
            }
            Answer::Explanation(explanation) => values::explanation(py, &explanation, self.layout),
            Answer::Stats(stats) => values::stats(py, &stats),
            Answer::Pings(pings) => self.pings(pings),
            Answer::Connected(_) | Answer::Event(_) => Err(error::unforeseen(py, "an answer that nobody asked for")),
        }
    }

    fn lookup(&self, lookup: Lookup) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        match (lookup, self.absence) {
            (Lookup::Found(found), _) => {
                Ok(Bound::new(py, Found::new(py, &found, self.layout, self.resolver))?.into_any())
            }
            (Lookup::Absent(_), Absence::None) => Ok(PyNone::get(py).to_owned().into_any()),
            (Lookup::Absent(absent), Absence::Absent) => {
                Ok(Bound::new(py, Absent::new(&absent, self.layout))?.into_any())
            }
        }
    }

    fn stored(&self, stored: quorate::Stored) -> PyResult<Bound<'py, PyAny>> {
        Ok(Bound::new(self.py, Stored::new(&stored, self.layout))?.into_any())
    }

    /// A list with an object for each result: what was asked for, or the exception in its place.
    fn each<T>(
        &self,
        results: Vec<Result<T, Error>>,
        convert: fn(&Self, T) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let object = |result| match result {
            Ok(value) => convert(self, value),
            Err(error) => error::exception(self.py, &error),
        };
        let objects = results.into_iter().map(object).collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(self.py, objects)?.into_any())
    }

    fn pings(&self, pings: Vec<Pinged>) -> PyResult<Bound<'py, PyAny>> {
        let by_name = PyDict::new(self.py);
        for Pinged { name, took, .. } in pings {
            let took = match took {
                Ok(took) => took.as_secs_f64().into_pyobject(self.py)?.into_any(),
                Err(error) => error::exception(self.py, &error)?,
            };
            by_name.set_item(name, took)?;
        }
        Ok(by_name.into_any())
    }
}
