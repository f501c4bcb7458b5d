//! One error type for the whole core, and the rules for foreign text in a message.
//!
//! An error carries its kind, which the C ABI turns into a status, and one message: which source failed, what it said,
//! and what to do. A message is one printable line whatever is in the paths, variables and responses that it repeats,
//! and it never has the user name or password of a URL: [`Error::new`] takes care of both. What a service or a program
//! said goes through [`service_words`] first.

use std::borrow::Cow;
use std::collections::HashSet;
use std::{fmt, io};

use crate::percent_encoding::percent_encode;
use crate::test_hooks;

/// The class of an error; the C ABI has a status for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host, port, region or user cannot be signed for.
    InvalidArgument,
    /// A setting, an environment variable or a profile file is contradictory or cannot be read.
    InvalidConfiguration,
    /// No source of credentials is configured.
    NoCredentials,
    /// No region was given, and none could be found.
    NoRegion,
    /// A configured source of credentials failed.
    Provider,
    /// The deadline passed before a source answered.
    Timeout,
    /// The only credentials found have expired.
    CredentialsExpired,
    /// No credentials are cached yet; a background fetch has been started. Ask again.
    WouldBlock,
    /// This library or the operating system failed.
    Internal,
}

/// Why no token could be made. `Display` gives the message: one printable line without secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    unavailable: bool,
}

impl Error {
    /// Creates an error. Control characters in the message are escaped, and the user name and password of a URL are
    /// left out.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let error = Self { kind, message: presentable(&message.into()), unavailable: false };
        test_hooks::message(&error.message);
        error
    }

    /// Puts `what: ` in front of the message, unless it begins with it already. The kind stays, and so does
    /// [`Error::is_source_unavailable`].
    #[must_use]
    pub(crate) fn context(self, what: &str) -> Self {
        if self.message.strip_prefix(what).is_some_and(|rest| rest.starts_with(": ")) {
            return self;
        }
        Self { unavailable: self.unavailable, ..Self::new(self.kind, format!("{what}: {}", self.message)) }
    }

    /// Marks the error as an outage of the source, not a refusal: it was unreachable, timed out, throttled the request or
    /// answered 5xx. Only then may expired credentials be used a little longer.
    #[must_use]
    pub(crate) fn source_unavailable(mut self) -> Self {
        self.unavailable = true;
        self
    }

    /// Whether the source had an outage, see [`Error::source_unavailable`].
    pub(crate) fn is_source_unavailable(&self) -> bool {
        self.unavailable
    }

    /// The class of the error.
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

/// The most characters that are repeated of what a service said.
const MOST_WORDS: usize = 300;

/// The most bytes that are looked at of what a service said.
const MOST_SCANNED: usize = 4096;

/// So many consecutive bytes of a secret are recognised wherever they appear.
const RECOGNISED: usize = 12;

const HIDDEN: &str = "[redacted]";

/// What a service or a program said, fit for a message: one printable line of at most 300 characters. It may be empty.
///
/// `secrets` is what was sent with the request. Any part of one that the text repeats is replaced, also where it is cut
/// off or percent-encoded, and so is what looks like a secret access key, a session token, a JSON web token or a
/// signature.
pub(crate) fn service_words(text: &str, secrets: &[&str]) -> String {
    let text = without_user_info(&text[..text.floor_char_boundary(MOST_SCANNED)]);
    let text = without_look_alikes(&without_secrets(&text, secrets));
    let spaced: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    let words = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    // More of the message follows.
    let words = words.trim_end_matches('.');
    match words.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}...", words[..end].trim_end()),
        None => words.to_owned(),
    }
}

fn without_secrets(text: &str, secrets: &[&str]) -> String {
    let bytes = text.as_bytes();
    let mut hidden = vec![false; bytes.len()];
    for secret in secrets {
        let encoded = percent_encode(secret);
        for form in [secret.as_bytes(), encoded.as_bytes()] {
            let length = form.len().min(RECOGNISED);
            // A shorter one is no secret, and hiding it would make words unreadable.
            if length < 4 {
                continue;
            }
            let parts: HashSet<&[u8]> = form.windows(length).collect();
            for (start, part) in bytes.windows(length).enumerate() {
                if parts.contains(part) {
                    hidden[start..start + length].fill(true);
                }
            }
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut before = false;
    for (at, c) in text.char_indices() {
        match (hidden[at], before) {
            (false, _) => shown.push(c),
            (true, false) => shown.push_str(HIDDEN),
            (true, true) => {}
        }
        before = hidden[at];
    }
    shown
}

/// Hides the words that look like a secret, for a text whose secrets are not known.
fn without_look_alikes(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+/=_.%~-".contains(c);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        shown.push_str(before);
        shown.push_str(if looks_secret(word) { HIDDEN } else { word });
        rest = after;
    }
    shown + rest
}

fn looks_secret(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.bytes().any(|byte| test(&byte));
    let all = |test: fn(u8) -> bool| word.bytes().all(test);
    let is_secret_key = word.len() == 40
        && all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit);
    let is_json_web_token = word.len() >= 20 && word.starts_with("eyJ");
    let is_signature = word.len() == 64 && all(|byte| byte.is_ascii_hexdigit());
    is_secret_key || is_json_web_token || is_signature || word.contains("Signature=") || word.len() >= 100
}

/// A text as one printable line, without the user names and passwords of URLs.
pub(crate) fn presentable(text: &str) -> String {
    printable(&without_user_info(text)).into_owned()
}

/// Replaces the user name and password of every URL in a text.
fn without_user_info(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, from) = rest.split_at(at + 3);
        let end = from.find(|c: char| "/?#\"'<>".contains(c) || c.is_whitespace()).unwrap_or(from.len());
        // A URL within a URL, as in http://http://user:password@proxy: its colon belongs to what follows.
        let is_scheme = from[end..].starts_with("//") && from[..end].ends_with(':');
        let (authority, after) = from.split_at(end - usize::from(is_scheme));
        shown.push_str(scheme);
        match authority.rfind('@') {
            Some(at) => shown.extend(["***", &authority[at..]]),
            None => shown.push_str(authority),
        }
        rest = after;
    }
    shown + rest
}

/// Escapes every character that is not printable, as in `\n`, so that a text is one line that cannot move the cursor of
/// a terminal. [`Error::new`] does it to every message. Of a long text the middle is left out: it is a value that
/// somebody gave, and what is wrong with it follows.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    const START: usize = 1_500;
    const END: usize = 3_000;
    if text.len() > START + END {
        let start = &text[..text.floor_char_boundary(START)];
        let end = &text[text.ceil_char_boundary(text.len() - END)..];
        return Cow::Owned(format!("{}…{}", printable(start), printable(end)));
    }
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_printable(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    Cow::Owned(shown)
}

/// Neither a control character nor one that breaks or reorders a line, or takes no space in it.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Why the operating system refused: `too many open files`.
///
/// Not by `Display`, which asks the C library: that translates the text and reads the live environment for it. The
/// standard library's own names, [`io::ErrorKind`], lack some errors that do occur.
pub(crate) fn reason(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return error.to_string() };
    let name = error.kind().to_string();
    match number {
        libc::EMFILE => "too many open files".into(),
        libc::ENFILE => "too many open files in the system".into(),
        libc::EIO => "input/output error".into(),
        libc::ENXIO | libc::ENODEV => "no such device".into(),
        libc::ENOBUFS => "no buffer space available".into(),
        libc::EPROTO => "protocol error".into(),
        _ if name.starts_with("uncategorized") => format!("system error {number}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjEGcaCXVzLWVhc3QtMSJHMEUCIQDx/9zQhk+Zr4Hq6pQb0vYl9m3fPlantedPlanted==";

    #[test]
    fn a_long_message_keeps_its_start_and_its_end() {
        let long = invalid_argument(format!("region: {:?} is not a name", "é".repeat(1 << 20)));
        assert!(long.message().len() < 4_510, "{} bytes", long.message().len());
        assert!(long.message().starts_with("region: \"éé") && long.message().ends_with("éé\" is not a name"));
    }

    #[test]
    fn a_message_is_one_printable_line_without_the_user_info_of_urls() {
        for (message, shown) in [
            ("/home/a\nb/\u{1b}[31mc", "/home/a\\nb/\\u{1b}[31mc"),
            ("profile \u{202e}nimda", "profile \\u{202e}nimda"),
            ("Müller's profile 東京", "Müller's profile 東京"),
            ("\"http://user:pa@ss@proxy:3128/\" is down", "\"http://***@proxy:3128/\" is down"),
            ("https://a/b@c and s3://k:s@d", "https://a/b@c and s3://***@d"),
            ("\"http://http://user:password@proxy:3128/\"", "\"http://http://***@proxy:3128/\""),
            ("a://b@c://d:e@f://g", "a://***@c://***@f://g"),
        ] {
            assert_eq!(Error::new(ErrorKind::Provider, message).message(), shown);
        }
    }

    #[test]
    fn what_a_service_says_becomes_one_line_of_bounded_length() {
        assert_eq!(service_words(" Rate\r\n\texceeded\u{0} \u{202e}", &[]), "Rate exceeded");
        assert_eq!(service_words("\n", &[]), "");
        let words = service_words(&"größer ".repeat(100_000), &[]);
        assert!(words.chars().count() <= MOST_WORDS + 3 && words.ends_with("..."), "{words}");
    }

    #[test]
    fn an_echoed_secret_is_hidden_whole_cut_off_and_percent_encoded() {
        for text in [
            format!("The security token {SESSION_TOKEN} is invalid"),
            format!("x-amz-security-token:{}", &SESSION_TOKEN[20..60]),
            format!("token={}&x", *percent_encode(SESSION_TOKEN)),
            format!("the header is \"{}", &SESSION_TOKEN[..15]),
        ] {
            let words = service_words(&text, &["short", SESSION_TOKEN]);
            assert!(words.contains(HIDDEN), "{words}");
            for part in SESSION_TOKEN.as_bytes().windows(RECOGNISED) {
                assert!(!words.contains(std::str::from_utf8(part).unwrap()), "{words}");
            }
        }
        assert_eq!(service_words("bad token hunter22.", &["hunter22"]), "bad token [redacted]");
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden_and_names_are_not() {
        for secret in [
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".replace("EXAMPLE", "3XAMPLE"),
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln".into(),
            format!("{SESSION_TOKEN}{SESSION_TOKEN}"),
            "a0b1".repeat(16),
        ] {
            assert_eq!(service_words(&format!("error: \"{secret}\"!"), &[]), "error: \"[redacted]\"!");
        }
        for words in [
            "User: arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/jane.doe@example.com \
             is not authorized to perform: sts:AssumeRole",
            "Request id 01234567-89ab-cdef-0123-456789abcdef, key AKIAIOSFODNN7EXAMPLE",
        ] {
            assert_eq!(service_words(words, &[]), words);
        }
    }

    #[test]
    fn the_operating_systems_reason_is_named() {
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EMFILE)), "too many open files");
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EACCES)), "permission denied");
        assert_eq!(reason(&io::Error::from_raw_os_error(9999)), "system error 9999");
        assert_eq!(reason(&io::Error::other("it is a pipe")), "it is a pipe");
        assert_eq!(reason(&io::ErrorKind::IsADirectory.into()), "is a directory");
    }

    #[test]
    fn a_context_is_not_repeated() {
        let error = invalid_configuration("environment: no key").context("environment").context("token");
        assert_eq!(error.message(), "token: environment: no key");
        assert_eq!(invalid_argument("x").context("a\rb").message(), "a\\rb: x");
    }

    #[test]
    fn context_keeps_the_kind_and_the_mark_of_an_outage() {
        let error = Error::new(ErrorKind::Timeout, "no answer").source_unavailable().context("container");
        assert_eq!(error.message(), "container: no answer");
        assert!(error.kind() == ErrorKind::Timeout && error.is_source_unavailable());
    }
}
