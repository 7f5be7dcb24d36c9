//! The two native buckets: the same methods, one waits for each call and the other gives a future of the running loop. Arguments
//! come by position only, in the order in which the Python half has them.

use std::sync::Arc;

use pyo3::{Bound, PyAny, PyResult, PyTraverseError, PyVisit, Python, pyclass, pymethods};
use quorate::bridge::{Ask, CallOptions, DeleteEntry, PutEntry, ScanOptions};

use crate::{
    answer::Absence,
    argument::{self, Optional},
    asyncio, blocking, error,
    fork::Ours,
    log,
    place::{Defaults, Place},
    scanned::{ScanPages, Update},
    values,
};

/// A bucket whose calls block until they have ended.
#[pyclass(frozen, module = "quorate._native")]
pub(crate) struct Bucket(Place);

/// A bucket whose calls give a future of the running loop.
#[pyclass(frozen, module = "quorate._native")]
pub(crate) struct AsyncBucket(Place);

impl Bucket {
    pub(crate) fn new(place: Place) -> Self {
        Self(place)
    }

    fn call<'py>(
        this: &Bound<'py, Self>,
        ask: Ask,
        options: &CallOptions,
        absence: Absence,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outcome = blocking::call(this.py(), &this.get().0, ask, options, absence);
        log::pass_on(this.py());
        outcome
    }
}

impl AsyncBucket {
    pub(crate) fn new(place: Place) -> Self {
        Self(place)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    fn call<'py>(
        this: &Bound<'py, Self>,
        ask: Ask,
        options: &CallOptions,
        absence: Absence,
    ) -> PyResult<Bound<'py, PyAny>> {
        asyncio::call(this, ask, options, absence)
    }
}

/// The methods of a bucket. What `$class::call` makes of a question is all that differs.
macro_rules! methods {
    ($class:ident { $($own:item)* }) => {
        #[pymethods]
        impl $class {
            #[getter]
            fn name(&self) -> &str {
                self.0.name()
            }

            #[pyo3(signature = (name, level, r, w, timeout, resolver, /))]
            fn bucket(
                &self,
                name: &str,
                level: Optional<'_, '_>,
                r: Optional<'_, '_>,
                w: Optional<'_, '_>,
                timeout: Optional<'_, '_>,
                resolver: Optional<'_, '_>,
            ) -> PyResult<Self> {
                self.0.bucket(name, &Defaults { level, r, w, timeout, resolver }).map(Self)
            }

            fn ring<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                values::ring(py, &*self.0.ring()?)
            }

            #[pyo3(signature = (key, level, r, n, timeout, /))]
            fn get<'py>(
                this: &Bound<'py, Self>,
                key: &Bound<'py, PyAny>,
                level: Optional<'_, 'py>,
                r: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, r, None, n, timeout)?;
                let ask = Ask::Get { key: argument::data(key, "key")?, without_values: false };
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (key, level, r, n, timeout, /))]
            fn lookup<'py>(
                this: &Bound<'py, Self>,
                key: &Bound<'py, PyAny>,
                level: Optional<'_, 'py>,
                r: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, r, None, n, timeout)?;
                let ask = Ask::Get { key: argument::data(key, "key")?, without_values: false };
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::Absent))
            }

            #[pyo3(signature = (key, level, r, n, timeout, /))]
            fn exists<'py>(
                this: &Bound<'py, Self>,
                key: &Bound<'py, PyAny>,
                level: Optional<'_, 'py>,
                r: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, r, None, n, timeout)?;
                let ask = Ask::Exists { key: argument::data(key, "key")? };
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (key, value, context, ttl, level, w, n, timeout, /))]
            #[allow(clippy::too_many_arguments)]
            fn put<'py>(
                this: &Bound<'py, Self>,
                key: &Bound<'py, PyAny>,
                value: &Bound<'py, PyAny>,
                context: Optional<'_, 'py>,
                ttl: Optional<'_, 'py>,
                level: Optional<'_, 'py>,
                w: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, None, w, n, timeout)?;
                let ask = Ask::Put(PutEntry {
                    key: argument::data(key, "key")?,
                    value: argument::data(value, "value")?,
                    context: argument::context(context)?,
                    ttl: argument::duration(ttl, "ttl")?,
                });
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (key, context, level, w, n, timeout, /))]
            fn delete<'py>(
                this: &Bound<'py, Self>,
                key: &Bound<'py, PyAny>,
                context: Optional<'_, 'py>,
                level: Optional<'_, 'py>,
                w: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, None, w, n, timeout)?;
                let (key, context) = (argument::data(key, "key")?, argument::context(context)?);
                let ask = Ask::Delete(DeleteEntry { key, context });
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (keys, level, r, n, timeout, /))]
            fn get_many<'py>(
                this: &Bound<'py, Self>,
                keys: &Bound<'py, PyAny>,
                level: Optional<'_, 'py>,
                r: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, r, None, n, timeout)?;
                let ask = Ask::GetMany { keys: argument::keys(keys)? };
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (entries, ttl, level, w, n, timeout, /))]
            fn put_many<'py>(
                this: &Bound<'py, Self>,
                entries: &Bound<'py, PyAny>,
                ttl: Optional<'_, 'py>,
                level: Optional<'_, 'py>,
                w: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, None, w, n, timeout)?;
                let ask = Ask::PutMany { entries: argument::put_entries(entries, argument::duration(ttl, "ttl")?)? };
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (keys, level, w, n, timeout, /))]
            fn delete_many<'py>(
                this: &Bound<'py, Self>,
                keys: &Bound<'py, PyAny>,
                level: Optional<'_, 'py>,
                w: Optional<'_, 'py>,
                n: Optional<'_, 'py>,
                timeout: Optional<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let options = argument::options(level, None, w, n, timeout)?;
                let ask = Ask::DeleteMany { entries: argument::delete_entries(keys)? };
                error::guarded(this.py(), || Self::call(this, ask, &options, Absence::None))
            }

            #[pyo3(signature = (key, level, r, w, n, timeout, /))]
            fn begin_update(
                &self,
                key: &Bound<'_, PyAny>,
                level: Optional<'_, '_>,
                r: Optional<'_, '_>,
                w: Optional<'_, '_>,
                n: Optional<'_, '_>,
                timeout: Optional<'_, '_>,
            ) -> PyResult<Update> {
                let options = argument::options(level, r, w, n, timeout)?;
                let update = self.0.native()?.begin_update(argument::data(key, "key")?, &options);
                Ok(Update(Ours::new(update)))
            }

            #[pyo3(signature = (update, /))]
            fn update_read<'py>(this: &Bound<'py, Self>, update: &Update) -> PyResult<Bound<'py, PyAny>> {
                let ask = Ask::UpdateRead(Arc::clone(update.0.here()?));
                error::guarded(this.py(), || Self::call(this, ask, &CallOptions::default(), Absence::None))
            }

            #[pyo3(signature = (update, value, /))]
            fn update_write<'py>(
                this: &Bound<'py, Self>,
                update: &Update,
                value: &Bound<'py, PyAny>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let merged = argument::data(value, "the merged value")?;
                let ask = Ask::UpdateWrite(Arc::clone(update.0.here()?), merged);
                error::guarded(this.py(), || Self::call(this, ask, &CallOptions::default(), Absence::None))
            }

            #[pyo3(signature = (values, all_buckets, level, r, n, timeout, /))]
            fn scan_pages(
                &self,
                values: bool,
                all_buckets: bool,
                level: Optional<'_, '_>,
                r: Optional<'_, '_>,
                n: Optional<'_, '_>,
                timeout: Optional<'_, '_>,
            ) -> PyResult<ScanPages> {
                let CallOptions { level, r, n, timeout, .. } = argument::options(level, r, None, n, timeout)?;
                let options = ScanOptions { values, all_buckets, level, r, n, timeout, ..ScanOptions::default() };
                Ok(ScanPages(Ours::new(self.0.native()?.scan_pages(&options))))
            }

            #[pyo3(signature = (pages, /))]
            fn scan_page<'py>(this: &Bound<'py, Self>, pages: &ScanPages) -> PyResult<Bound<'py, PyAny>> {
                let ask = Ask::ScanPage(Arc::clone(pages.0.here()?));
                error::guarded(this.py(), || Self::call(this, ask, &CallOptions::default(), Absence::None))
            }

            #[pyo3(signature = (key, /))]
            fn explain<'py>(this: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                let ask = Ask::Explain { key: argument::data(key, "key")? };
                error::guarded(this.py(), || Self::call(this, ask, &CallOptions::default(), Absence::None))
            }

            fn stats<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                error::guarded(this.py(), || Self::call(this, Ask::Stats, &CallOptions::default(), Absence::None))
            }

            fn ping<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                error::guarded(this.py(), || Self::call(this, Ask::Ping, &CallOptions::default(), Absence::None))
            }

            fn close<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                error::guarded(this.py(), || Self::call(this, Ask::Close, &CallOptions::default(), Absence::None))
            }

            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                self.0.traverse(&visit)
            }

            $($own)*
        }
    };
}

methods!(Bucket {});

methods!(AsyncBucket {
    /// Nobody waits for this call any more: what was not sent yet is not sent.
    #[pyo3(signature = (call, /))]
    #[allow(clippy::unused_self)]
    fn withdraw(&self, call: &Bound<'_, PyAny>) -> PyResult<()> {
        asyncio::withdraw(call)
    }
});
