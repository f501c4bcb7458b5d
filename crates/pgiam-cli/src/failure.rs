//! Errors, by exit status.

use std::fmt;

/// An error with a message for people: one line, without secrets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The arguments or settings must be changed: exit status 2.
    Usage(String),
    /// A file, a credential source or the system failed: exit status 1.
    Failed(String),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Failed(message) => f.write_str(message),
        }
    }
}
