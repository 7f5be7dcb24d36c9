//! Structured logs on standard error, as text for people or JSON for programs. Whoever logs a key logs its store key (a
//! hash); values and secrets are never logged.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Starts logging for this process; a second call changes nothing, so tests may run several nodes in one process.
pub fn start(log: &Log) {
    // The configuration has been checked, so the filter is one.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let _ = match log.format {
        LogFormat::Text => registry().with(filter).with(lines.with_target(false)).try_init(),
        LogFormat::Json => registry().with(filter).with(lines.json().flatten_event(true)).try_init(),
    };
}
