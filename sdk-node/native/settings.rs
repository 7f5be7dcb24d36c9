//! The settings of a client, as TypeScript passes them on.

use std::time::Duration;

use napi_derive::napi;
use quorate::{Builder, Client};

/// What the nodes call clients of this package, if they are not given a name.
const NAME: &str = concat!("quorate-node/", env!("CARGO_PKG_VERSION"));

/// The settings of a client; what is 0 or empty is the Rust client's to choose.
#[napi(object, object_to_js = false)]
pub struct ConnectOptions {
    /// Addresses, separated by commas.
    pub endpoints: String,
    /// Time for a call.
    pub timeout_ms: f64,
    /// Time for one attempt.
    pub attempt_timeout_ms: f64,
    /// Time to connect to a node.
    pub connect_timeout_ms: f64,
    /// How often an operation is sent at most.
    pub attempts: u32,
    /// Operations under way at the same time.
    pub in_flight: u32,
    /// Operations under way or waiting.
    pub waiting: u32,
    /// I/O threads.
    pub io_threads: u32,
    /// The zone this client runs in.
    pub zone: String,
    /// What the nodes call this client in their logs.
    pub name: String,
}

impl ConnectOptions {
    pub(crate) fn into_builder(self) -> Builder {
        let name = if self.name.is_empty() { NAME.to_owned() } else { self.name };
        let mut builder = Client::builder().endpoints(&self.endpoints).name(name);
        builder = milliseconds(self.timeout_ms).into_iter().fold(builder, Builder::timeout);
        builder = milliseconds(self.attempt_timeout_ms).into_iter().fold(builder, Builder::attempt_timeout);
        builder = milliseconds(self.connect_timeout_ms).into_iter().fold(builder, Builder::connect_timeout);
        builder = count(self.attempts).into_iter().fold(builder, Builder::attempts);
        builder = count(self.in_flight).into_iter().fold(builder, |builder, count| builder.in_flight(count as usize));
        builder = count(self.waiting).into_iter().fold(builder, |builder, count| builder.waiting(count as usize));
        builder = count(self.io_threads).into_iter().fold(builder, |builder, count| builder.io_threads(count as usize));
        if self.zone.is_empty() { builder } else { builder.zone(self.zone) }
    }
}

/// A time; 0 for none. One that no clock can count to is the longest there is.
pub(crate) fn milliseconds(milliseconds: f64) -> Option<Duration> {
    (milliseconds > 0.0).then(|| Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or(Duration::MAX))
}

/// A number of things; 0 for none.
fn count(count: u32) -> Option<u32> {
    (count > 0).then_some(count)
}
