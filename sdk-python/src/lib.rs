//! The Quorate client for Python: conversions and waiting, nothing else. Every decision is the Rust client's.
//!
//! Calls come in through the two buckets ([`bucket`]), become questions ([`argument`]) to a bucket of the Rust client ([`place`]),
//! and are waited for in a blocked thread ([`blocking`]) or an event loop ([`asyncio`]); answers become objects on their way out
//! ([`answer`], [`found`], [`values`], [`error`]).

mod answer;
mod argument;
mod asyncio;
mod blocking;
mod bucket;
mod connect;
mod context;
mod error;
mod fork;
mod found;
mod log;
mod place;
mod scanned;
mod values;

use pyo3::pymodule;

/// The private native half of the package `quorate`.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::{
        Bound, PyResult,
        types::{PyAnyMethods, PyDict, PyDictMethods, PyModule, PyModuleMethods},
    };

    #[pymodule_export]
    use crate::{
        asyncio::Owner,
        bucket::{AsyncBucket, Bucket},
        connect::{connect, connect_async},
        context::Context,
        fork::forked,
        found::{Absent, Found, Stored},
        scanned::{ScanPages, Scanned, Update},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let os = module.py().import("os")?;
        if let Ok(register) = os.getattr("register_at_fork") {
            let hooks = PyDict::new(module.py());
            hooks.set_item("after_in_child", module.getattr("forked")?)?;
            register.call((), Some(&hooks))?;
        }
        Ok(())
    }
}
