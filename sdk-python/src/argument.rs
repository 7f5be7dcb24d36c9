//! Arguments on their way in: keys and values from anything bytes-like, the options of a call, entries of batches. Wrong types
//! are `TypeError`, wrong values `InvalidRequestError`; both before anything was sent.

use std::time::Duration;

use bytes::Bytes;
use pyo3::{
    Bound, PyAny, PyResult,
    exceptions::PyTypeError,
    types::{
        PyAnyMethods, PyBytes, PyBytesMethods, PyMapping, PyMappingMethods, PyMemoryView, PyString, PyStringMethods,
        PyTypeMethods,
    },
};
use quorate::{
    Level,
    bridge::{CallOptions, DeleteEntry, PutEntry},
};

use crate::{context::Context, error};

/// An optional argument as the interpreter hands it over; `None` leaves it to the bucket.
pub(crate) type Optional<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// A key or value: the bytes of a `str`, or of anything that has a buffer. Copied, because the caller may change its buffer while
/// the I/O thread reads.
pub(crate) fn data(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Bytes> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes()));
    }
    let wrong_type = || {
        let found = object.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("{what}: str or a bytes-like object expected, not {found}"))
    };
    let view = PyMemoryView::from(object).map_err(|_| wrong_type())?;
    // A view may have any shape and item type; `tobytes` puts it in order.
    let bytes = view.call_method0("tobytes")?;
    Ok(Bytes::copy_from_slice(bytes.cast::<PyBytes>()?.as_bytes()))
}

/// The options that reads and writes have in common.
pub(crate) fn options(
    level: Optional<'_, '_>,
    r: Optional<'_, '_>,
    w: Optional<'_, '_>,
    n: Optional<'_, '_>,
    timeout: Optional<'_, '_>,
) -> PyResult<CallOptions> {
    Ok(CallOptions {
        level: level.map(level_by_name).transpose()?,
        r: replicas(r, "r")?,
        w: replicas(w, "w")?,
        n: replicas(n, "n")?,
        timeout: duration(timeout, "timeout")?,
    })
}

/// A level by its name.
pub(crate) fn level_by_name(level: &Bound<'_, PyAny>) -> PyResult<Level> {
    let Ok(name) = level.cast::<PyString>() else {
        return Err(PyTypeError::new_err("level: one of the names 'one', 'available', 'quorum' and 'all' expected"));
    };
    match name.to_str()? {
        "one" => Ok(Level::One),
        "available" => Ok(Level::Available),
        "quorum" => Ok(Level::Quorum),
        "all" => Ok(Level::All),
        other => {
            let message = format!("level: '{other}' is none of 'one', 'available', 'quorum' and 'all'");
            Err(error::invalid(level.py(), &message))
        }
    }
}

/// A number of replicas; 0 leaves it to the level.
pub(crate) fn replicas(count: Optional<'_, '_>, what: &str) -> PyResult<u8> {
    let Some(count) = count else { return Ok(0) };
    let wide = integer(count, what)?;
    u8::try_from(wide).map_err(|_| error::invalid(count.py(), &format!("{what}: {wide} is no number of replicas")))
}

/// An integer that is not negative.
pub(crate) fn size(count: &Bound<'_, PyAny>, what: &str) -> PyResult<usize> {
    let wide = integer(count, what)?;
    usize::try_from(wide).map_err(|_| error::invalid(count.py(), &format!("{what}: {wide} is negative")))
}

/// Seconds.
pub(crate) fn duration(seconds: Optional<'_, '_>, what: &str) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    let Ok(number) = seconds.extract::<f64>() else {
        return Err(PyTypeError::new_err(format!("{what}: a number of seconds expected")));
    };
    let valid = Duration::try_from_secs_f64(number);
    valid
        .map(Some)
        .map_err(|_| error::invalid(seconds.py(), &format!("{what}: {number} is no number of seconds to wait")))
}

/// A context, which bytes are not.
pub(crate) fn context(context: Optional<'_, '_>) -> PyResult<Option<quorate::Context>> {
    let Some(context) = context else { return Ok(None) };
    match context.cast::<Context>() {
        Ok(context) => Ok(Some(context.get().inner().clone())),
        Err(_) => Err(PyTypeError::new_err(
            "context: a quorate.Context expected, as reads and writes give it; Context.from_bytes and Context.parse restore one",
        )),
    }
}

/// Many keys. One `str` or `bytes` is not taken for an iterable of keys.
pub(crate) fn keys(keys: &Bound<'_, PyAny>) -> PyResult<Vec<Bytes>> {
    if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err("keys: an iterable of keys expected, not a single one"));
    }
    keys.try_iter()?.map(|key| data(&key?, "key")).collect()
}

/// What `put_many` takes: a mapping, or pairs of key and value that a context may follow.
pub(crate) fn put_entries(entries: &Bound<'_, PyAny>, ttl: Option<Duration>) -> PyResult<Vec<PutEntry>> {
    let pairs = match entries.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => entries.clone(),
    };
    let mut put = Vec::new();
    for entry in pairs.try_iter()? {
        let entry = entry?;
        let context = match entry.len().unwrap_or(0) {
            _ if entry.is_instance_of::<PyString>() || entry.is_instance_of::<PyBytes>() => return Err(wrong_entry()),
            2 => None,
            3 => Some(entry.get_item(2)?).filter(|context| !context.is_none()),
            _ => return Err(wrong_entry()),
        };
        put.push(PutEntry {
            key: data(&entry.get_item(0)?, "key")?,
            value: data(&entry.get_item(1)?, "value")?,
            context: self::context(context.as_ref())?,
            ttl,
        });
    }
    Ok(put)
}

/// What `delete_many` takes.
pub(crate) fn delete_entries(keys: &Bound<'_, PyAny>) -> PyResult<Vec<DeleteEntry>> {
    Ok(self::keys(keys)?.into_iter().map(|key| DeleteEntry { key, context: None }).collect())
}

/// Addresses: one text, or an iterable of them.
pub(crate) fn endpoints(endpoints: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = endpoints.cast::<PyString>() {
        return Ok(text.to_str()?.to_owned());
    }
    let wrong_type =
        || PyTypeError::new_err("endpoints: 'host:port', several separated by commas, or an iterable of such");
    let mut all = Vec::new();
    for endpoint in endpoints.try_iter().map_err(|_| wrong_type())? {
        let endpoint = endpoint?;
        all.push(endpoint.cast::<PyString>().map_err(|_| wrong_type())?.to_str()?.to_owned());
    }
    Ok(all.join(","))
}

fn integer(number: &Bound<'_, PyAny>, what: &str) -> PyResult<i64> {
    number.extract::<i64>().map_err(|cause| match cause.is_instance_of::<PyTypeError>(number.py()) {
        true => PyTypeError::new_err(format!("{what}: an integer expected")),
        false => error::invalid(number.py(), &format!("{what}: out of range")),
    })
}

fn wrong_entry() -> pyo3::PyErr {
    PyTypeError::new_err("entries: a mapping, or tuples (key, value) or (key, value, context) expected")
}
