//! Where calls go: a bucket of a client, in the process that made it.

use std::sync::Arc;

use pyo3::{
    Bound, Py, PyAny, PyResult, PyTraverseError, PyVisit, Python, exceptions::PyTypeError, types::PyAnyMethods,
};
use quorate::{
    Client, Error, Layout, Level,
    bridge::{Answer, Ask, CallOptions, Sink, Ticket},
};

use crate::{
    answer::{Absence, Conversion},
    argument::{self, Optional},
    error,
    fork::Ours,
};

/// A bucket of a client.
pub(crate) struct Place {
    own: Ours<Own>,
    name: String,
    /// The level that the client was made with: that of its buckets unless they are given another.
    level: Option<Level>,
    resolver: Option<Py<PyAny>>,
}

struct Own {
    client: Client,
    bucket: quorate::Bucket,
}

/// The defaults of a bucket, as they are handed over.
pub(crate) struct Defaults<'a, 'py> {
    pub(crate) level: Optional<'a, 'py>,
    pub(crate) r: Optional<'a, 'py>,
    pub(crate) w: Optional<'a, 'py>,
    pub(crate) timeout: Optional<'a, 'py>,
    pub(crate) resolver: Optional<'a, 'py>,
}

impl Place {
    /// The bucket that a client's own calls use.
    pub(crate) fn of_client(client: Client, level: Option<Level>) -> Self {
        let bucket = client.default_bucket().clone();
        let bucket = level.into_iter().fold(bucket, quorate::Bucket::level);
        Self { own: Ours::new(Own { client, bucket }), name: "default".to_owned(), level, resolver: None }
    }

    /// Another bucket of the same client.
    pub(crate) fn bucket(&self, name: &str, defaults: &Defaults<'_, '_>) -> PyResult<Self> {
        let client = self.own.here()?.client.clone();
        let level = defaults.level.map(argument::level_by_name).transpose()?.or(self.level);
        let (r, w) = (argument::replicas(defaults.r, "r")?, argument::replicas(defaults.w, "w")?);
        let bucket = level.into_iter().fold(client.bucket(name).replicas(r, w), quorate::Bucket::level);
        let timeout = argument::duration(defaults.timeout, "timeout")?;
        let bucket = timeout.into_iter().fold(bucket, quorate::Bucket::timeout);
        if defaults.resolver.is_some_and(|resolver| !resolver.is_callable()) {
            return Err(PyTypeError::new_err("resolver: a function expected, from a list of values to one value"));
        }
        let resolver = defaults.resolver.map(|resolver| resolver.clone().unbind());
        Ok(Self { own: Ours::new(Own { client, bucket }), name: name.to_owned(), level: self.level, resolver })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn native(&self) -> PyResult<&quorate::Bucket> {
        Ok(&self.own.here()?.bucket)
    }

    pub(crate) fn ring(&self) -> PyResult<Arc<Layout>> {
        Ok(self.own.here()?.client.ring())
    }

    /// Puts a question; an exception means that nothing was done.
    pub(crate) fn ask<S: Sink + 'static>(
        &self,
        py: Python<'_>,
        ask: Ask,
        options: &CallOptions,
        token: u64,
        sink: &Arc<S>,
    ) -> PyResult<Ticket> {
        let asked = self.own.here()?.bucket.ask(ask, options, token, sink);
        asked.map_err(|cause| error::raised(py, &cause))
    }

    /// Nobody waits for a call any more.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        if let Some(own) = self.own.get() {
            own.client.withdraw(ticket);
        }
    }

    /// What a call gives or raises.
    pub(crate) fn outcome<'py>(
        &self,
        py: Python<'py>,
        result: Result<Answer, Error>,
        absence: Absence,
    ) -> PyResult<Bound<'py, PyAny>> {
        let answer = result.map_err(|cause| error::raised(py, &cause))?;
        let layout = self.ring()?;
        Conversion { py, layout: &layout, resolver: self.resolver.as_ref(), absence }.object(answer)
    }

    /// A resolver may lead back here: `self.carts = db.bucket("carts", resolver=self.merge)`.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.resolver)
    }
}
