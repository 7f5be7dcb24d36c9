//! The Quorate client for Python: conversions and waiting, nothing else. Every decision is the Rust client's.

use pyo3::pymodule;

/// The private native half of the package `quorate`.
#[pymodule]
mod _native {
    use pyo3::{
        Bound, PyResult,
        types::{PyModule, PyModuleMethods},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
