//! Failed operations as the command line tells them: with an exit code that scripts can act on, and the next step.

use std::fmt;

use dynamo::operation::{Failure as NodeFailure, Outcome};
use quorate::Error;

use crate::cli::exit::{CommandError, Exit};

/// Why an operation failed.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: Kind,
    text: String,
    /// Whether trying again may help.
    pub retryable: bool,
    /// Whether a write may have been stored.
    pub maybe_applied: bool,
}

/// What there is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No node could be reached.
    Connection,
    /// Nodes were reached, and too few of them answered well.
    Unavailable,
    /// The cluster asks for less.
    Overloaded,
    /// There are too many concurrent values.
    TooManySiblings,
    /// The request can't be carried out, now or later.
    Refused,
    /// Data can't be read.
    Corrupt,
    /// A bug.
    Broken,
}

impl Failure {
    /// A node answered something that does not belong to the question.
    pub(super) fn wrong_answer(outcome: &Outcome) -> Self {
        let text = format!("internal: a node gave an answer that does not fit: {outcome:?}");
        Self { kind: Kind::Broken, text, retryable: false, maybe_applied: true }
    }

    /// The client ended before the operation did.
    pub(super) fn closed() -> Self {
        let text = "the client was closed before the operation ended".to_owned();
        Self { kind: Kind::Broken, text, retryable: false, maybe_applied: true }
    }

    /// What the client library says, as the end of a command.
    pub fn from_client(error: Error) -> CommandError {
        Self::from(error).into()
    }

    fn exit(&self) -> Exit {
        match self.kind {
            Kind::Connection | Kind::Unavailable | Kind::Overloaded if self.maybe_applied => Exit::Unclear,
            Kind::Connection | Kind::Unavailable | Kind::Overloaded => Exit::Unavailable,
            Kind::TooManySiblings | Kind::Refused => Exit::Refused,
            Kind::Corrupt | Kind::Broken => Exit::Failed,
        }
    }

    fn next(&self) -> &'static str {
        match self.kind {
            _ if self.exit() == Exit::Unclear => "quorate kv get KEY to see whether it was written",
            Kind::Connection => {
                "name a node that runs with --endpoints or QUORATE_ENDPOINTS, or start a cluster with `quorate dev`"
            }
            Kind::Unavailable => "quorate status",
            Kind::Overloaded => "try again in a moment; quorate status shows how busy the nodes are",
            Kind::TooManySiblings => "quorate kv get KEY, merge the values, and put with --context",
            Kind::Refused => "change the request; --help shows what is possible",
            Kind::Corrupt => "quorate repair run --scrub --wait, then the same command again",
            Kind::Broken => "quorate status, and the log of the node",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Connection(_) if error.code() == "connection_lost" => Kind::Unavailable,
            Error::Connection(_) => Kind::Connection,
            Error::Timeout(_) | Error::Unavailable(_) | Error::QuorumTimeout(_) => Kind::Unavailable,
            Error::Overloaded(_) => Kind::Overloaded,
            Error::TooManySiblings(_) => Kind::TooManySiblings,
            Error::Siblings(_)
            | Error::TooLarge(_)
            | Error::InvalidRequest(_)
            | Error::Unauthenticated(_)
            | Error::Forbidden(_) => Kind::Refused,
            Error::Corrupt(_) => Kind::Corrupt,
            Error::ClientClosed(_) | Error::Internal(_) => Kind::Broken,
            // The client library may learn new kinds; what to do about them is not known here.
            _ => Kind::Broken,
        };
        Self { kind, text: error.to_string(), retryable: error.retryable(), maybe_applied: error.maybe_applied() }
    }
}

impl From<NodeFailure> for Failure {
    fn from(failure: NodeFailure) -> Self {
        Self {
            kind: if failure.retryable { Kind::Unavailable } else { Kind::Refused },
            text: format!("{:?}: {}", failure.code, failure.message),
            retryable: failure.retryable,
            maybe_applied: failure.maybe_applied,
        }
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.exit(), failure.text.clone()).next(failure.next())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
