//! The settings of a client.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{Client, Error, core::Config, driver::bootstrap};

/// Time for an operation, retries included: what a person still takes for prompt.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Time for one attempt: long enough for a commit on a busy disk, short enough for three of them.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);

/// Time to connect and be greeted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an operation is sent at most: the first owner, again or the next, and one more.
const ATTEMPTS: u32 = 3;

/// Operations under way at the same time. More wait; they would only wait at the nodes otherwise.
const IN_FLIGHT: usize = 1024;

/// Operations that one client holds in all, a bound on its memory. Beyond it they are refused.
const WAITING: usize = 65_536;

/// Most I/O threads. One is enough for half a million small operations a second.
const IO_THREADS_MAX: usize = 64;

/// Pause between two looks for a newer layout, for a client that hears from no node.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Collects the settings of a client. What is not set is as for [`Client::connect`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `connect`"]
pub struct Builder(Config);

impl Default for Builder {
    fn default() -> Self {
        Self(Config {
            endpoints: Vec::new(),
            name: concat!("quorate-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            zone: None,
            timeout: TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            attempts_max: ATTEMPTS,
            in_flight_max: IN_FLIGHT,
            waiting_max: WAITING,
            io_threads: 1,
            refresh_interval: REFRESH_INTERVAL,
        })
    }
}

impl Builder {
    /// Adds addresses, `host:port` separated by commas. Any node will do; more than one helps while nodes are down.
    pub fn endpoints(mut self, endpoints: &str) -> Self {
        let endpoints = endpoints.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty());
        self.0.endpoints.extend(endpoints.map(str::to_owned));
        self
    }

    /// What the nodes call this client in their logs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// The zone this client runs in: reads prefer nodes of the same one.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.0.zone = Some(zone.into());
        self
    }

    /// Time for an operation, retries included; 2 s unless set. No call outlives it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = timeout;
        self
    }

    /// Time for one attempt; 500 ms unless set. Large values have more, by their size.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.0.attempt_timeout = timeout;
        self
    }

    /// Time to connect to a node; 1 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.0.connect_timeout = timeout;
        self
    }

    /// How often an operation is sent at most; 3 unless set, at least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.0.attempts_max = attempts.max(1);
        self
    }

    /// Operations under way at the same time; 1,024 unless set. More wait their turn.
    pub fn in_flight(mut self, operations: usize) -> Self {
        self.0.in_flight_max = operations.max(1);
        self
    }

    /// Operations under way or waiting; 65,536 unless set. Further ones are refused as [`Error::Overloaded`].
    pub fn waiting(mut self, operations: usize) -> Self {
        self.0.waiting_max = operations.max(1);
        self
    }

    /// I/O threads; 1 unless set. Each has its own connections.
    pub fn io_threads(mut self, threads: usize) -> Self {
        self.0.io_threads = threads.clamp(1, IO_THREADS_MAX);
        self
    }

    /// Pause between two looks for a newer layout; 30 s unless set. Replies from nodes usually tell sooner.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.0.refresh_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Connects: asks the addresses, in random order, until one has told the layout. One that does not answer at once is not waited
    /// for, the next is asked meanwhile.
    pub async fn connect(self) -> Result<Client, Error> {
        let (sender, receiver) = oneshot::channel();
        // If nobody waits any more, the client is closed by being dropped.
        bootstrap::start(self.into_config()?, move |shared| drop(sender.send(shared.map(Client::new))));
        receiver.await.map_err(|_| Error::internal("the I/O thread ended before it was ready"))?
    }

    /// The time after which [`Builder::connect`] has succeeded or failed, however many endpoints there are.
    pub fn connect_within(&self) -> Duration {
        bootstrap::connect_within(&self.0)
    }

    pub(crate) fn into_config(self) -> Result<Config, Error> {
        if self.0.endpoints.is_empty() {
            return Err(Error::invalid("endpoints: none given; name at least one node as host:port"));
        }
        Ok(self.0)
    }
}
