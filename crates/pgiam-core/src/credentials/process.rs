//! `credential_process`: a program that prints credentials as JSON.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Process credential provider". The command is split as the AWS CLI splits
//! it: POSIX quoting, no shell. Its standard output is never repeated in a message, because the secrets are there.
//!
//! The program may ask a person. When this process runs in the foreground of a terminal, the program stays in its process
//! group, reads from the terminal and writes its standard error where this process does; Ctrl-C and Ctrl-Z reach both.
//! Otherwise, and for a background refresh, which must not disturb whatever uses the terminal, it runs in a session of
//! its own without a terminal, so that a question fails at once, and the end of its standard error becomes part of the
//! error message.
//!
//! It is killed, with all that it started, at the deadline of the fetch. A person needs longer than a service: with a
//! terminal, and when `timeout_ms` is not set, the limit is two minutes, and the rest of the fetch gets that time back.
//!
//! A program that runs with more rights than its caller never starts another: the caller chose the `PATH`, the
//! environment and the working directory that it would run with.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use crate::credentials::asking::may_ask;
use crate::credentials::document::{Document, PROCESS};
use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, ErrorKind, invalid_configuration, reason, service_words};
use crate::sys::{self, Child, ChildState, Terminal, Variables};
use crate::time::Deadline;

/// Bytes of standard output.
const MAX_OUTPUT: usize = 1024 * 1024;
/// Bytes at the end of standard error that are kept for the message.
const MAX_ERRORS: usize = 2 * 1024;
/// Lines of them in the message.
const LAST_LINES: usize = 3;
/// Bytes of standard output that are searched for words that standard error must not repeat.
const MAX_SCANNED: usize = 128 * 1024;
/// Characters of such a word. AWS has no shorter secrets.
const SHORTEST_SECRET: usize = 12;
/// How long a program that can ask a person may take when `timeout_ms` is not set.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often to look whether a program has ended whose output is open.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long to wait for the end of a program that was killed: one that runs as another user cannot be.
const FAREWELL: Duration = Duration::from_millis(500);

/// `place` says where the command was configured: file and profile.
pub(crate) fn provide(context: &Context<'_>, command: &str, place: &str) -> Result<Provided, Error> {
    provide_with(context, command, sys::runs_privileged())
        .map_err(|error| error.context(&format!("{place}: credential_process")))
}

fn provide_with(context: &Context<'_>, command: &str, is_privileged: bool) -> Result<Provided, Error> {
    let words = words_of(command, is_privileged)?;
    let name = program_name(&words[0]);
    let by_name = |error: Error| error.context(&format!("{name:?}"));
    let terminal = if may_ask() { Terminal::in_foreground() } else { None };
    let deadline = context.deadline.at_least(patience(terminal.is_some(), context.config.settings.has_timeout()));
    let limit = deadline.remaining().unwrap_or_default();
    let started = Instant::now();
    let variables = context.config.environment.for_children();
    let mut running = Running::start(&words, &variables, terminal.as_ref()).map_err(by_name)?;
    let end = running.run(deadline);
    if !matches!(end, End::Ended(_)) {
        running.kill(terminal.as_ref());
    }
    if terminal.is_some() {
        context.asked.set(context.asked.get() + started.elapsed());
    }
    if let Some(failure) = failure(&end, limit, terminal.is_some()) {
        let words = last_words(&running.errors, &running.output);
        return Err(by_name(Error::new(failure.kind(), format!("{}{words}", failure.message()))));
    }
    let credentials = credentials(running.output).map_err(by_name)?;
    Ok(Provided {
        source: Source::Profile,
        identity: credentials.account_id().map(|account| format!("account {}", account.as_str())),
        by: format!("credential_process {name:?}"),
        credentials,
    })
}

/// The program for messages. `NAME=secret program` is not read as a shell reads it, and the value may be a secret.
fn program_name(word: &str) -> &str {
    word.split_inclusive('=').next().unwrap_or_default()
}

/// The program and its arguments.
fn words_of(command: &str, is_privileged: bool) -> Result<Vec<String>, Error> {
    if is_privileged {
        return Err(invalid_configuration(
            "not started, because this program runs with more rights than its caller (set-user-id, set-group-id or file \
             capabilities), who chose the PATH and the environment; use another source of credentials",
        ));
    }
    split(command)
        .filter(|words| !words.is_empty())
        .ok_or_else(|| invalid_configuration("the command is empty, or a quote or backslash in it has no end"))
}

/// Splits a command like the AWS CLI, which uses Python's `shlex.split`. `None`: a quote or backslash has no end.
pub(crate) fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\\' => word.push(characters.next()?),
            '\'' => loop {
                match characters.next()? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => match characters.next()? {
                        c @ ('"' | '\\') => word.push(c),
                        c => word.extend(['\\', c]),
                    },
                    c => word.push(c),
                }
            },
            c => word.push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// The time that the program gets at least.
fn patience(has_terminal: bool, has_timeout: bool) -> Duration {
    if has_terminal && !has_timeout { PATIENCE } else { Duration::ZERO }
}

/// A program that was started, and what it has printed.
struct Running {
    child: Child,
    output: Zeroizing<Vec<u8>>,
    /// The end of standard error, where that is not the terminal's.
    errors: Zeroizing<Vec<u8>>,
}

/// How a run ended.
enum End {
    /// By itself, with its output complete. `None`: the host ignores or reaps its children, so that there is no status.
    Ended(Option<ExitStatus>),
    /// It printed more than [`MAX_OUTPUT`].
    TooMuchOutput,
    /// It was still running at the deadline.
    Overran,
    /// It ended, and something that it started had its output open at the deadline.
    OutputLeftOpen,
}

impl Running {
    fn start(words: &[String], variables: &Variables, terminal: Option<&Terminal>) -> Result<Self, Error> {
        let child = Child::start(words, variables, terminal).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound if words[0].contains('/') => {
                    "the program or its interpreter is not there".into()
                }
                io::ErrorKind::NotFound => "it is in no directory of PATH".into(),
                _ => reason(&error),
            };
            Error::new(ErrorKind::Provider, format!("cannot be started: {why}"))
        })?;
        Ok(Self {
            child,
            output: Zeroizing::new(Vec::with_capacity(16 * 1024)),
            errors: Zeroizing::new(Vec::with_capacity(2 * MAX_ERRORS)),
        })
    }

    fn run(&mut self, deadline: Deadline) -> End {
        while self.child.stdout.is_some() {
            // Asked before reading, so that all that an ended program wrote is there.
            let has_ended = self.child.has_ended();
            let Some(left) = deadline.remaining() else {
                return if has_ended { End::OutputLeftOpen } else { End::Overran };
            };
            let has_read = self.read(left.min(LOOK_INTERVAL));
            if self.output.len() > MAX_OUTPUT {
                return End::TooMuchOutput;
            }
            if has_ended && !has_read && self.output_is_complete() {
                break;
            }
        }
        // The output is complete; the program has until the deadline to end by itself.
        let status = loop {
            match self.child.state() {
                ChildState::Runs if deadline.remaining().is_some() => {
                    self.read(Duration::from_millis(1));
                }
                ChildState::Runs => return End::Overran,
                ChildState::Ended(status) => break status,
            }
        };
        // What it wrote last. Not to the end: a service that it started may have inherited its standard error.
        let _rounds = (0..16).take_while(|_| self.read(Duration::ZERO)).count();
        End::Ended(status)
    }

    /// Whether it is a whole document, which nothing follows. Standard output need not have been closed by then: a process
    /// that the host program forked at the moment of the start has it open too, for as long as it lives.
    fn output_is_complete(&self) -> bool {
        Document::parse("the output", self.output.clone()).is_ok()
    }

    /// Waits until there is something to read, but no longer than `most`, and reads it. Tells whether something was read.
    fn read(&mut self, most: Duration) -> bool {
        let files = [self.child.stdout.as_ref().map(AsFd::as_fd), self.child.stderr.as_ref().map(AsFd::as_fd)];
        let [stdout_ready, stderr_ready] = sys::wait_readable(files, most);
        let mut chunk = Zeroizing::new([0_u8; 8 * 1024]);
        let mut has_read = false;
        if stdout_ready && let Some(read) = read_chunk(&mut self.child.stdout, &mut *chunk) {
            append(&mut self.output, &chunk[..read]);
            has_read = true;
        }
        if stderr_ready && let Some(read) = read_chunk(&mut self.child.stderr, &mut *chunk) {
            self.errors.extend_from_slice(&chunk[read.saturating_sub(MAX_ERRORS)..read]);
            let excess = self.errors.len().saturating_sub(MAX_ERRORS);
            self.errors.drain(..excess);
            has_read = true;
        }
        has_read
    }

    /// Kills the program and what it started.
    fn kill(&mut self, terminal: Option<&Terminal>) {
        self.child.kill();
        if let Some(terminal) = terminal {
            terminal.restore();
        }
        let farewell = Deadline::after(FAREWELL);
        while self.child.state() == ChildState::Runs && farewell.remaining().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads once. At the end of the file, or when reading fails, the file is closed.
fn read_chunk(file: &mut Option<impl Read>, chunk: &mut [u8]) -> Option<usize> {
    match file.as_mut()?.read(chunk) {
        Ok(read @ 1..) => return Some(read),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Ok(0) | Err(_) => *file = None,
    }
    None
}

/// Appends without leaving a copy behind where the buffer has to grow.
fn append(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * needed));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(bytes);
}

/// What is wrong with how a program ended, if anything. `limit` is the time that it had.
fn failure(end: &End, limit: Duration, has_terminal: bool) -> Option<Error> {
    let limit = rounded(limit);
    let longer = "; if it needs longer, raise the setting timeout_ms (--timeout-ms)";
    let asking = if has_terminal { "" } else { ", and it had no terminal to ask a question on" };
    match end {
        End::Ended(status) if status.is_none_or(|status| status.success()) => None,
        End::Ended(status) => {
            let status = status.map(|status| status.to_string()).unwrap_or_default();
            Some(Error::new(ErrorKind::Provider, format!("ended with {status}")))
        }
        End::TooMuchOutput => {
            Some(Error::new(ErrorKind::Provider, format!("prints more than {} KiB", MAX_OUTPUT / 1024)))
        }
        End::Overran => {
            Some(Error::new(ErrorKind::Timeout, format!("did not end within {limit} and was killed{asking}{longer}")))
        }
        End::OutputLeftOpen => Some(Error::new(
            ErrorKind::Timeout,
            format!("ended, but something that it started had its standard output open after {limit}{longer}"),
        )),
    }
}

/// A time limit for people: `400 ms`, `10 s`. A little of it had passed before the program was started.
fn rounded(limit: Duration) -> String {
    let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX / 2);
    match milliseconds.next_multiple_of(if milliseconds < 1000 { 10 } else { 100 }) {
        milliseconds if milliseconds % 1000 == 0 => format!("{} s", milliseconds / 1000),
        milliseconds => format!("{milliseconds} ms"),
    }
}

/// The last lines of a program's standard error, as the end of a message. Words of its standard output are not repeated.
pub(crate) fn last_words(errors: &[u8], output: &[u8]) -> String {
    let errors = String::from_utf8_lossy(errors);
    let mut lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.split_off(lines.len().saturating_sub(LAST_LINES)).join(" / ");
    let output = Zeroizing::new(String::from_utf8_lossy(&output[..output.len().min(MAX_SCANNED)]).into_owned());
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+/=_.%~-".contains(c);
    let secrets: Vec<&str> = output
        .split(|c| !is_word(c))
        .filter(|word| word.len() >= SHORTEST_SECRET && !["SecretAccessKey", "SessionToken"].contains(word))
        .collect();
    // One text for all: a separator that is in no line.
    let secrets = Zeroizing::new(secrets.join("\n"));
    match service_words(&last, &[&secrets]) {
        words if words.is_empty() => words,
        words => format!(": {words}"),
    }
}

pub(crate) fn credentials(output: Zeroizing<Vec<u8>>) -> Result<Credentials, Error> {
    let document = Document::parse("the output", output)?;
    if document.number("Version") != Some(1) {
        return Err(document.fault("has no \"Version\": 1, the only version there is"));
    }
    document.credentials(&PROCESS, "process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_like_pythons_shlex() {
        for (command, words) in [
            ("aws-vault export --format=json dev", &["aws-vault", "export", "--format=json", "dev"][..]),
            (r#""/opt/with space/tool" 'one two' a\ b"#, &["/opt/with space/tool", "one two", "a b"]),
            (
                r#"tool --x="a \"q\" \\ \$HOME \n" '' "" $HOME *"#,
                &["tool", r#"--x=a "q" \ \$HOME \n"#, "", "", "$HOME", "*"],
            ),
            ("tool #1 # two", &["tool", "#1", "#", "two"]),
            (" \t tool\r\nx ", &["tool", "x"]),
            ("größe 'é'", &["größe", "é"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("", &[]),
        ] {
            assert_eq!(split(command).unwrap(), words, "{command}");
        }
        for command in ["'", "tool \"x", "tool \\", "\"\\"] {
            assert_eq!(split(command), None, "{command}");
        }
    }

    #[test]
    fn a_program_with_more_rights_than_its_caller_starts_no_other() {
        let error = words_of("/usr/bin/env true", true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.message().contains("set-user-id"), "{error}");
        words_of("/usr/bin/env true", false).unwrap();
    }

    #[test]
    fn a_person_at_a_terminal_has_two_minutes_unless_timeout_ms_is_set() {
        assert_eq!(patience(true, false), Duration::from_secs(120));
        for (has_terminal, has_timeout) in [(true, true), (false, false), (false, true)] {
            assert_eq!(patience(has_terminal, has_timeout), Duration::ZERO);
        }
    }

    #[test]
    fn an_overrun_names_the_limit_and_the_setting_that_raises_it() {
        for (limit, said) in [(400, " 400 ms "), (399, " 400 ms "), (9999, " 10 s "), (120_000, " 120 s ")] {
            for end in [End::Overran, End::OutputLeftOpen] {
                let error = failure(&end, Duration::from_millis(limit), true).unwrap();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                let message = format!("{} ", error.message().replace(';', " ;"));
                assert!(message.contains(said) && message.contains("timeout_ms"), "{message}");
            }
        }
        let without = failure(&End::Overran, Duration::from_secs(1), false).unwrap();
        assert!(without.message().contains("no terminal"), "{without}");
    }

    #[test]
    fn the_last_lines_of_standard_error_are_repeated_without_words_of_the_output() {
        let errors =
            b"starting\n\none\n  two  \n\x1b[31mError:\x1b[0m token \"planted-secret\" of 123456789012 has expired\n\n";
        let output = br#"{"SecretAccessKey": "planted-secret", "x": "expired"}"#;
        let words = last_words(errors, output);
        assert!(words.starts_with(": one / two / "), "{words}");
        assert!(words.ends_with("token \"[redacted]\" of 123456789012 has expired"), "{words}");
        assert!(!words.contains('\x1b'), "{words}");
        assert_eq!(last_words(b" \n", b""), "");
        let words = last_words(&b"planted-secret ".repeat(1000), &b"planted-secret ".repeat(100_000));
        assert!(words.len() < 1000 && !words.contains("planted"), "{words}");
    }

    #[test]
    fn a_growing_buffer_keeps_its_content() {
        let mut buffer = Zeroizing::new(Vec::new());
        for byte in 0..200 {
            append(&mut buffer, &[byte; 7]);
        }
        assert_eq!(buffer.len(), 1400);
        assert!(buffer.chunks(7).zip(0..).all(|(chunk, byte)| chunk == [byte; 7]));
    }
}
