//! Making clients.

use pyo3::{
    Bound, PyAny, PyResult, Python,
    exceptions::PyTypeError,
    pyfunction,
    types::{PyString, PyStringMethods},
};
use quorate::{Builder, Client, Level};

use crate::{
    argument::{self, Optional},
    asyncio, blocking,
    bucket::Bucket,
    error, log,
};

/// What the nodes call a client in their logs, unless it is given a name.
const NAME: &str = concat!("quorate-python/", env!("CARGO_PKG_VERSION"));

/// Connects, and waits until that has come to something.
#[pyfunction]
#[pyo3(signature = (endpoints, level, timeout, attempt_timeout, connect_timeout, attempts, in_flight, waiting, io_threads, zone, name, /))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn connect(
    py: Python<'_>,
    endpoints: &Bound<'_, PyAny>,
    level: Optional<'_, '_>,
    timeout: &Bound<'_, PyAny>,
    attempt_timeout: &Bound<'_, PyAny>,
    connect_timeout: &Bound<'_, PyAny>,
    attempts: &Bound<'_, PyAny>,
    in_flight: &Bound<'_, PyAny>,
    waiting: &Bound<'_, PyAny>,
    io_threads: &Bound<'_, PyAny>,
    zone: Optional<'_, '_>,
    name: Optional<'_, '_>,
) -> PyResult<Bucket> {
    let times = [timeout, attempt_timeout, connect_timeout];
    let counts = [attempts, in_flight, waiting, io_threads];
    let (builder, level) = builder(endpoints, level, times, counts, zone, name)?;
    log::install(py)?;
    let place = error::guarded(py, || blocking::connect(py, builder, level));
    log::pass_on(py);
    place.map(Bucket::new)
}

/// A future of the running loop, for a connected client.
#[pyfunction]
#[pyo3(signature = (endpoints, level, timeout, attempt_timeout, connect_timeout, attempts, in_flight, waiting, io_threads, zone, name, /))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn connect_async<'py>(
    py: Python<'py>,
    endpoints: &Bound<'py, PyAny>,
    level: Optional<'_, 'py>,
    timeout: &Bound<'py, PyAny>,
    attempt_timeout: &Bound<'py, PyAny>,
    connect_timeout: &Bound<'py, PyAny>,
    attempts: &Bound<'py, PyAny>,
    in_flight: &Bound<'py, PyAny>,
    waiting: &Bound<'py, PyAny>,
    io_threads: &Bound<'py, PyAny>,
    zone: Optional<'_, 'py>,
    name: Optional<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let times = [timeout, attempt_timeout, connect_timeout];
    let counts = [attempts, in_flight, waiting, io_threads];
    let (builder, level) = builder(endpoints, level, times, counts, zone, name)?;
    log::install(py)?;
    error::guarded(py, || asyncio::connect(py, builder, level))
}

fn builder(
    endpoints: &Bound<'_, PyAny>,
    level: Optional<'_, '_>,
    [timeout, attempt_timeout, connect_timeout]: [&Bound<'_, PyAny>; 3],
    [attempts, in_flight, waiting, io_threads]: [&Bound<'_, PyAny>; 4],
    zone: Optional<'_, '_>,
    name: Optional<'_, '_>,
) -> PyResult<(Builder, Option<Level>)> {
    let time = |time, what| argument::duration(Some(time), what).map(Option::unwrap_or_default);
    let attempts = argument::size(attempts, "attempts")?;
    let builder = Client::builder()
        .endpoints(&argument::endpoints(endpoints)?)
        .timeout(time(timeout, "timeout")?)
        .attempt_timeout(time(attempt_timeout, "attempt_timeout")?)
        .connect_timeout(time(connect_timeout, "connect_timeout")?)
        .attempts(u32::try_from(attempts).unwrap_or(u32::MAX))
        .in_flight(argument::size(in_flight, "in_flight")?)
        .waiting(argument::size(waiting, "waiting")?)
        .io_threads(argument::size(io_threads, "io_threads")?)
        .name(text(name, "name")?.unwrap_or_else(|| NAME.to_owned()));
    let builder = text(zone, "zone")?.into_iter().fold(builder, Builder::zone);
    Ok((builder, level.map(argument::level_by_name).transpose()?))
}

fn text(text: Optional<'_, '_>, what: &str) -> PyResult<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    let Ok(text) = text.cast::<PyString>() else { return Err(PyTypeError::new_err(format!("{what}: str expected"))) };
    Ok(Some(text.to_str()?.to_owned()))
}
