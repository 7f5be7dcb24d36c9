//! How a command ends: its exit code, and an error that says what happened and which command to try next.
//!
//! The codes are a contract with scripts and never change their meaning; the texts are for people. There are few of them,
//! because a script asks few questions: was it done, is there such a key, shall I try again, may it have happened.

use std::{fmt, io, process::ExitCode};

/// What the exit code of every `quorate` command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Done = 0,
    /// It failed for a reason none of the others names: a file, the disk, a bug. Nothing says that a retry helps.
    Failed = 1,
    /// The command line or a configuration is wrong; nothing was attempted.
    Usage = 2,
    /// The key holds no value.
    NotFound = 3,
    /// The key holds several concurrent values, and one was asked for.
    Siblings = 4,
    /// A comparison found differences, or some records were refused while the rest was done.
    Different = 5,
    /// Too few nodes could be reached or answered in time; nothing was written. Try again.
    Unavailable = 6,
    /// A write failed and may still appear: read before trying again.
    Unclear = 7,
    /// The cluster refused the request: too large, a wrong context, not allowed.
    Refused = 8,
    /// It was interrupted and left what a resumed run needs.
    Interrupted = 130,
}

impl Exit {
    /// Every code, for the help text.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Siblings,
        Self::Different,
        Self::Unavailable,
        Self::Unclear,
        Self::Refused,
        Self::Interrupted,
    ];

    /// What a script may conclude.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed for another reason (a file, a disk, a bug)",
            Self::Usage => "the command line or a configuration is wrong",
            Self::NotFound => "the key holds no value",
            Self::Siblings => "the key holds several concurrent values",
            Self::Different => "differences were found, or some records were refused",
            Self::Unavailable => "too few nodes answered and nothing was written: try again",
            Self::Unclear => "a write failed and may still appear: read before trying again",
            Self::Refused => "the cluster refused the request: do not repeat it unchanged",
            Self::Interrupted => "interrupted; what a resumed run needs was saved",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The part of `quorate help` that lists the exit codes.
pub fn help() -> String {
    let codes = Exit::ALL.map(|exit| format!("  {:>3}  {}", exit as u8, exit.meaning()));
    format!("Exit codes:\n{}", codes.join("\n"))
}

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct CommandError {
    /// The code the process ends with.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// The next command or step to try.
    pub next: Option<String>,
}

impl CommandError {
    /// An error without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next: None }
    }

    /// The command line asks for something that can't be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file or pipe could not be used.
    pub fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("can't {what} {}: {error}", path.display()))
    }

    /// The same with the next step to try.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.message)?;
        match &self.next {
            Some(next) => write!(formatter, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CommandError {}

/// Writing to a closed pipe is how `quorate … | head` ends, and no error of anybody.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Done, ""),
            _ => Self::new(Exit::Failed, format!("input or output failed: {error}")),
        }
    }
}

/// Ends a command: says what went wrong on standard error and gives the process its code.
pub fn conclude(result: Result<Exit, CommandError>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !error.message.is_empty() {
                eprintln!("quorate: {error}");
            }
            error.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{CommandError, Exit};

    #[test]
    fn exit_codes_are_distinct_and_keep_their_numbers() {
        let codes = Exit::ALL.map(|exit| exit as u8);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_end() {
        let error = CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((error.exit, error.message.as_str()), (Exit::Done, ""));
    }

    #[test]
    fn an_error_names_the_next_step() {
        let error = CommandError::usage("no such node").next("quorate ring show");
        assert_eq!(error.to_string(), "no such node\n  next: quorate ring show");
    }
}
