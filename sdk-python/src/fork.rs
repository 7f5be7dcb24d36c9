//! The rule about `fork`: a client belongs to the process that made it, because its I/O threads exist only there. In a child its
//! handles refuse every call and are never dropped: dropping them would lock what a thread that no longer exists may hold.
//!
//! The interpreter says when a process is a child, so that a call costs one comparison and no question to the system.

use std::{
    mem,
    sync::atomic::{AtomicU64, Ordering},
};

use pyo3::{PyResult, pyfunction};
use quorate::bridge;

use crate::error;

/// How many forks lie between the first process and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Something that only the process that made it may use or drop.
pub(crate) struct Ours<T> {
    made_in: u64,
    value: Option<T>,
}

/// Says that this process is a child of `fork`, in which clients made before can't be used. Called by the interpreter.
#[pyfunction]
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    bridge::forked_child();
}

/// How many forks lie between the first process and this one.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

impl<T> Ours<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { made_in: generation(), value: Some(value) }
    }

    /// The value, or `ForkedClientError` in a child.
    pub(crate) fn here(&self) -> PyResult<&T> {
        self.get().ok_or_else(error::forked)
    }

    /// The value, or `None` in a child.
    pub(crate) fn get(&self) -> Option<&T> {
        match self.made_in == generation() {
            true => self.value.as_ref(),
            false => None,
        }
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        if self.made_in != generation() {
            mem::forget(self.value.take());
        }
    }
}
