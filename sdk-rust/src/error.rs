//! What can go wrong, in one table: a kind to match on, and with each error what was tried, where, for how long, and whether
//! a write may have been applied.

use std::{fmt, time::Duration};

use dynamo::operation::{ErrorCode, Failure};

/// Why an operation failed. Match on the kind, read the rest with the methods; the text is for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operation's time was over before it was answered.
    Timeout(Details),
    /// Not enough replicas can be reached, or none that can serve.
    Unavailable(Details),
    /// Not enough replicas answered the coordinator in time.
    QuorumTimeout(Details),
    /// Refused before anything was done, by a node or by this client's own limits: try later.
    Overloaded(Details),
    /// The key holds as many concurrent versions as are allowed: get, merge, put with the context.
    TooManySiblings(Details),
    /// One value was asked for, and there are concurrent ones: merge them, or use `update`.
    Siblings(Details),
    /// A key, value or context above its limit.
    TooLarge(Details),
    /// The request itself is wrong; never retry it unchanged.
    InvalidRequest(Details),
    /// Missing or wrong credentials.
    Unauthenticated(Details),
    /// Known, but not allowed.
    Forbidden(Details),
    /// No node could be reached, a connection broke before the answer came (`connection_lost`; a write may have been applied),
    /// or what was reached is not the cluster that was expected.
    Connection(Details),
    /// The client was closed.
    ClientClosed(Details),
    /// Replicas hold the key but can't verify their record of it.
    Corrupt(Details),
    /// A bug, or a condition nobody foresaw.
    Internal(Details),
}

/// What every error knows.
#[derive(Clone)]
pub struct Details(Box<Fields>);

#[derive(Clone)]
struct Fields {
    code: &'static str,
    message: String,
    retryable: bool,
    maybe_applied: bool,
    node: Option<String>,
    attempts: u32,
    elapsed: Duration,
    need: u8,
    got: u8,
}

impl Error {
    /// The name of the kind, as classes in other languages are named after it: `QuorumTimeout`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "Timeout",
            Self::Unavailable(_) => "Unavailable",
            Self::QuorumTimeout(_) => "QuorumTimeout",
            Self::Overloaded(_) => "Overloaded",
            Self::TooManySiblings(_) => "TooManySiblings",
            Self::Siblings(_) => "Siblings",
            Self::TooLarge(_) => "TooLarge",
            Self::InvalidRequest(_) => "InvalidRequest",
            Self::Unauthenticated(_) => "Unauthenticated",
            Self::Forbidden(_) => "Forbidden",
            Self::Connection(_) => "Connection",
            Self::ClientClosed(_) => "ClientClosed",
            Self::Corrupt(_) => "Corrupt",
            Self::Internal(_) => "Internal",
        }
    }

    /// A stable name for programs, finer than the kind: `timeout`, `storage_full`, …
    pub fn code(&self) -> &'static str {
        self.fields().code
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        self.fields().retryable
    }

    /// Whether a write may have been stored somewhere, and so may become visible although this call failed.
    pub fn maybe_applied(&self) -> bool {
        self.fields().maybe_applied
    }

    /// The node that was asked last.
    pub fn node(&self) -> Option<&str> {
        self.fields().node.as_deref()
    }

    /// How often the operation was sent to a node that took it up: what a node refuses because it shuts down is not counted.
    pub fn attempts(&self) -> u32 {
        self.fields().attempts
    }

    /// From the call to the error.
    pub fn elapsed(&self) -> Duration {
        self.fields().elapsed
    }

    /// Replicas that were needed and replicas that answered well, where that is what failed.
    pub fn need_and_got(&self) -> Option<(u8, u8)> {
        let fields = self.fields();
        (fields.need > 0).then_some((fields.need, fields.got))
    }

    /// What happened and what to do, without the rest.
    pub fn message(&self) -> &str {
        &self.fields().message
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::Timeout(Details::new("timeout", true, message))
    }

    pub(crate) fn overloaded(message: impl Into<String>) -> Self {
        Self::Overloaded(Details::new("overloaded", true, message))
    }

    pub(crate) fn siblings(count: usize) -> Self {
        let message =
            format!("{count} concurrent values; merge `siblings()` and put with the `context()`, or use `update`");
        Self::Siblings(Details::new("siblings", false, message))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidRequest(Details::new("invalid_request", false, message))
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::TooLarge(Details::new("too_large", false, message))
    }

    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::Connection(Details::new("connection", true, message))
    }

    pub(crate) fn connection_lost(message: impl Into<String>) -> Self {
        Self::Connection(Details::new("connection_lost", true, message))
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::Corrupt(Details::new("corrupt", true, message))
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::InvalidRequest(Details::new("unsupported", false, message))
    }

    pub(crate) fn wrong_cluster(message: impl Into<String>) -> Self {
        Self::Connection(Details::new("wrong_cluster", false, message))
    }

    pub(crate) fn closed() -> Self {
        Self::ClientClosed(Details::new("client_closed", false, "the client was closed"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Internal(Details::new("internal", false, message))
    }

    /// The error that a node's failure is to the application.
    pub(crate) fn from_failure(failure: Failure) -> Self {
        let (kind, code): (fn(Details) -> Self, _) = match failure.code {
            ErrorCode::Internal => (Self::Internal, "internal"),
            ErrorCode::InvalidRequest => (Self::InvalidRequest, "invalid_request"),
            ErrorCode::TooLarge => (Self::TooLarge, "too_large"),
            ErrorCode::TooManySiblings => (Self::TooManySiblings, "too_many_siblings"),
            ErrorCode::Unavailable => (Self::Unavailable, "unavailable"),
            ErrorCode::QuorumTimeout => (Self::QuorumTimeout, "quorum_timeout"),
            ErrorCode::Overloaded => (Self::Overloaded, "overloaded"),
            ErrorCode::Unsupported => (Self::InvalidRequest, "unsupported"),
            ErrorCode::Unauthenticated => (Self::Unauthenticated, "unauthenticated"),
            ErrorCode::Forbidden => (Self::Forbidden, "forbidden"),
            ErrorCode::Corrupt => (Self::Corrupt, "corrupt"),
            ErrorCode::StaleView => (Self::Unavailable, "stale_view"),
            ErrorCode::StorageFull => (Self::Unavailable, "storage_full"),
            ErrorCode::ShuttingDown => (Self::Unavailable, "shutting_down"),
            ErrorCode::WrongCluster => (Self::Connection, "wrong_cluster"),
        };
        let mut details = Details::new(code, failure.retryable, failure.message);
        details.0.maybe_applied = failure.maybe_applied;
        details.0.need = failure.need;
        details.0.got = failure.got;
        kind(details)
    }

    /// Adds what is known about how the operation went.
    pub(crate) fn with_story(
        mut self,
        maybe_applied: bool,
        node: Option<String>,
        attempts: u32,
        elapsed: Duration,
    ) -> Self {
        let fields = &mut *self.details_mut().0;
        fields.maybe_applied = maybe_applied;
        fields.node = node.or(fields.node.take());
        fields.attempts = attempts;
        fields.elapsed = elapsed;
        self
    }

    /// A write that was under way may have been applied.
    pub(crate) fn with_doubt(self, writes: bool) -> Self {
        if writes { self.with_something_applied() } else { self }
    }

    /// Something was stored before this went wrong.
    pub(crate) fn with_something_applied(mut self) -> Self {
        self.details_mut().0.maybe_applied = true;
        self
    }

    fn fields(&self) -> &Fields {
        match self {
            Self::Timeout(details)
            | Self::Unavailable(details)
            | Self::QuorumTimeout(details)
            | Self::Overloaded(details)
            | Self::TooManySiblings(details)
            | Self::Siblings(details)
            | Self::TooLarge(details)
            | Self::InvalidRequest(details)
            | Self::Unauthenticated(details)
            | Self::Forbidden(details)
            | Self::Connection(details)
            | Self::ClientClosed(details)
            | Self::Corrupt(details)
            | Self::Internal(details) => &details.0,
        }
    }

    fn details_mut(&mut self) -> &mut Details {
        match self {
            Self::Timeout(details)
            | Self::Unavailable(details)
            | Self::QuorumTimeout(details)
            | Self::Overloaded(details)
            | Self::TooManySiblings(details)
            | Self::Siblings(details)
            | Self::TooLarge(details)
            | Self::InvalidRequest(details)
            | Self::Unauthenticated(details)
            | Self::Forbidden(details)
            | Self::Connection(details)
            | Self::ClientClosed(details)
            | Self::Corrupt(details)
            | Self::Internal(details) => details,
        }
    }
}

impl Details {
    fn new(code: &'static str, retryable: bool, message: impl Into<String>) -> Self {
        Self(Box::new(Fields {
            code,
            message: message.into(),
            retryable,
            maybe_applied: false,
            node: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            need: 0,
            got: 0,
        }))
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = &self.0;
        formatter
            .debug_struct("Details")
            .field("code", &fields.code)
            .field("message", &fields.message)
            .field("retryable", &fields.retryable)
            .field("maybe_applied", &fields.maybe_applied)
            .field("node", &fields.node)
            .field("attempts", &fields.attempts)
            .field("elapsed", &fields.elapsed)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields();
        write!(formatter, "{}: {}", fields.code, fields.message)?;
        if fields.maybe_applied {
            formatter.write_str("; the write may have been applied")?;
        }
        if fields.attempts > 0 {
            let times = if fields.attempts == 1 { "attempt" } else { "attempts" };
            write!(formatter, " ({} {times} in {:?}", fields.attempts, fields.elapsed)?;
            if let Some(node) = &fields.node {
                write!(formatter, ", last at {node}")?;
            }
            formatter.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
