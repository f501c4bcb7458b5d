//! One error type for the whole core.
//!
//! An error has its kind, which the C ABI turns into a status, and a message of one printable line that says what failed
//! and what to do. Messages never contain a secret or a token.

use std::borrow::Cow;
use std::{fmt, io};

use crate::test_hooks;

/// What went wrong, under the names of the C ABI's statuses.
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
    /// No credentials are cached yet; a background fetch has been started. Ask again.
    WouldBlock,
    /// An error of this library or of the operating system.
    Internal,
}

/// Why no token could be made. `Display` gives the whole message.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    unavailable: bool,
}

impl Error {
    /// An error of a kind with its message, which becomes one printable line.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let message = match printable(&message) {
            Cow::Borrowed(_) => message,
            Cow::Owned(escaped) => escaped,
        };
        let error = Self { kind, message, unavailable: false };
        test_hooks::message(&error.message);
        error
    }

    /// The same error with a context before its message: `context: message`. Kind and mark stay. A message that begins
    /// with the same context is not changed.
    #[must_use]
    pub(crate) fn context(self, what: &str) -> Self {
        if self.message.strip_prefix(what).is_some_and(|rest| rest.starts_with(": ")) {
            return self;
        }
        Self { unavailable: self.unavailable, ..Self::new(self.kind, format!("{what}: {}", self.message)) }
    }

    /// Marks the source as unavailable rather than refusing: unreachable, timed out, throttled or answering 5xx. Only after
    /// such a failure are expired credentials used a little longer.
    #[must_use]
    pub(crate) fn source_unavailable(mut self) -> Self {
        self.unavailable = true;
        self
    }

    /// Whether the source was unavailable rather than refusing.
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

/// The text with control characters, line separators and characters that change the direction of writing escaped: one
/// line that cannot move the cursor of a terminal. It is cut off after 10,000 bytes. Whatever a message repeats from paths,
/// variables and answers needs it; [`Error::new`] does it.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 10_000;
    if text.len() > LONGEST {
        let end = text.floor_char_boundary(LONGEST);
        return Cow::Owned(format!("{}…", printable(&text[..end])));
    }
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// Why the operating system refused, in its own words: `too many open files`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => "unknown error".into(),
    }
}

pub(crate) fn invalid_argument(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

pub(crate) fn invalid_configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfiguration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_printable_line_whatever_it_repeats() {
        let error = invalid_configuration("/tmp/a\nb\x1b[2J\u{202e}c: \u{e9}\u{4e2d} \"ok\"");
        assert_eq!(error.message(), "/tmp/a\\nb\\u{1b}[2J\\u{202e}c: \u{e9}\u{4e2d} \"ok\"");
        let long = invalid_argument("é".repeat(1 << 20));
        assert!(long.message().len() < 10_010 && long.message().ends_with("é…"));
        assert_eq!(invalid_argument("x").context("a\rb").message(), "a\\rb: x");
    }

    #[test]
    fn a_context_is_not_repeated() {
        let error = invalid_configuration("environment: no key").context("environment").context("token");
        assert_eq!(error.message(), "token: environment: no key");
    }

    #[test]
    fn the_operating_systems_reason_is_named() {
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EMFILE)), "too many open files");
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EACCES)), "permission denied");
        assert_eq!(reason(&io::Error::other("it is a pipe")), "it is a pipe");
        assert_eq!(reason(&io::ErrorKind::IsADirectory.into()), "is a directory");
    }
}
