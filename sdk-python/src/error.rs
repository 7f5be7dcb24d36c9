//! Errors on their way out. Which class an error has, its kind says, which the Rust client chose; the classes are in
//! `quorate.errors`, in Python, so that they have the standard library's bases, attributes, documentation and pickling.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use pyo3::{
    Bound, Py, PyAny, PyErr, PyResult, Python,
    sync::PyOnceLock,
    types::{PyAnyMethods, PyTuple},
};
use quorate::Error;

/// The exception that an error is.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let (need, got) = error.need_and_got().unzip();
    let story = (
        error.kind(),
        error.to_string(),
        error.code(),
        error.message(),
        error.retryable(),
        error.maybe_applied(),
        error.node(),
        error.attempts(),
        error.elapsed().as_secs_f64() * 1000.0,
        need,
        got,
    );
    built(py, story)
}

/// An error as what a call raises.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

/// A value that no call can have.
pub(crate) fn invalid(py: Python<'_>, message: &str) -> PyErr {
    raised_here(py, "InvalidRequest", "invalid_request", message)
}

/// One value was asked for, and there are several.
pub(crate) fn siblings(py: Python<'_>, count: usize) -> PyErr {
    let message =
        format!("{count} concurrent values; merge `values` and put with the `context`, or use `update` or a resolver");
    raised_here(py, "Siblings", "siblings", &message)
}

/// The client was made before `fork`.
pub(crate) fn forked() -> PyErr {
    let message = "the client was made before fork and belongs to the parent process; connect again in this one";
    Python::attach(|py| raised_here(py, "ForkedClient", "forked_client", message))
}

/// Something that can't happen.
pub(crate) fn unforeseen(py: Python<'_>, message: &str) -> PyErr {
    raised_here(py, "Internal", "internal", message)
}

/// Does something, and makes `InternalError` of a panic, which would otherwise pass every `except Exception`.
pub(crate) fn guarded<T>(py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = format!("a bug in the client: {}; what it was doing may have been done", text_of(&*panic));
        Err(raised_here(py, "Internal", "internal", &message))
    })
}

fn raised_here(py: Python<'_>, kind: &str, code: &str, message: &str) -> PyErr {
    built(py, (kind, format!("{code}: {message}"), code, message)).map_or_else(|failed| failed, PyErr::from_value)
}

fn built<'py>(
    py: Python<'py>,
    parts: impl pyo3::IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<Bound<'py, PyAny>> {
    static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let build = BUILD.import(py, "quorate.errors", "_build")?;
    build.call1(parts.into_pyobject(py)?)
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
