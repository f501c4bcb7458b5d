//! One error type for the whole core.
//!
//! An error carries its kind, which the C ABI turns into a status, and one message that says which source failed, what
//! was tried and what to do. Messages never carry a secret, a token or a response body: whoever writes one puts in
//! names, numbers and places only.

use std::fmt;

use crate::test_hooks;

/// What went wrong, in the words of the C ABI's statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A host, port, region or user that cannot be signed for.
    InvalidArgument,
    /// A setting, an environment variable or a profile file that contradicts itself or cannot be read.
    InvalidConfiguration,
    /// No source of credentials is configured.
    NoCredentials,
    /// No region was given and none could be found.
    NoRegion,
    /// A configured source of credentials failed.
    Provider,
    /// The deadline passed before a source answered.
    Timeout,
    /// The only credentials found have expired.
    CredentialsExpired,
    /// Nothing is at hand yet; a fetch has been started beside. Ask again.
    WouldBlock,
    /// A fault of this library or of the operating system.
    Internal,
}

/// Why no token could be made. `Display` gives the whole message, fit to show to a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    unavailable: bool,
}

impl Error {
    /// An error of a kind with its message.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let error = Self { kind, message: message.into(), unavailable: false };
        test_hooks::message(&error.message);
        error
    }

    /// The same error with what was being done before its message: `context: message`. Class and mark stay.
    #[must_use]
    pub(crate) fn context(self, what: &str) -> Self {
        Self { unavailable: self.unavailable, ..Self::new(self.kind, format!("{what}: {}", self.message)) }
    }

    /// Marks the source as down rather than refusing: unreachable, timed out, throttled or answering 5xx. Only such a
    /// failure lets expired credentials be served a little longer.
    #[must_use]
    pub(crate) fn source_unavailable(mut self) -> Self {
        self.unavailable = true;
        self
    }

    /// Whether the source was down rather than refusing.
    pub(crate) fn is_source_unavailable(&self) -> bool {
        self.unavailable
    }

    /// What went wrong, as a class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The whole message, without a trailing newline.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}

pub(crate) fn invalid_argument(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

pub(crate) fn invalid_configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfiguration, message)
}
