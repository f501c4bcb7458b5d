//! The log that `PGIAM_LOG` turns on: one line for each event, on standard error or in the file that `PGIAM_LOG_FILE` names.
//!
//! This library runs inside other programs, so the log is a value that a client's configuration owns, not a global
//! logger, and no failure to write a line is a failure of a call:
//!
//! * A line is one `write` and takes no lock. `SIGPIPE` does not reach the program, and a line for which a pipe has no room
//!   is dropped, so that no call waits for whoever reads the log.
//! * The file is opened for each line. There is no descriptor that a forked child inherits, that a daemon closes with all
//!   others (its number would soon be another file's), or that keeps a rotated log alive.
//! * Messages are printable and without the user names and passwords of URLs, like those of errors. Callers pass no
//!   secrets.

use std::fmt;
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use crate::error::presentable;
use crate::sys;
use crate::test_hooks;
use crate::time::{Clock, rfc3339};

/// The variable that turns the log on, and says how much it has.
pub(crate) const LEVEL_VARIABLE: &str = "PGIAM_LOG";
/// The variable with the path of the file that the lines are appended to.
pub(crate) const FILE_VARIABLE: &str = "PGIAM_LOG_FILE";

/// A line has no more bytes than a pipe takes at once (`PIPE_BUF`), so that lines of several processes do not mix.
const LONGEST_LINE: usize = 4096;

/// How much is logged: each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What a person should look at: a failed refresh that no caller sees, credentials used past their expiry.
    Warn,
    /// Which credentials are used, and where they came from.
    Info,
    /// Each source that is asked, each token, each connection without one.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Where events go. The default is nowhere.
#[derive(Clone, Debug, Default)]
pub struct Log(Option<Arc<Output>>);

#[derive(Debug)]
struct Output {
    level: Level,
    file: Option<PathBuf>,
    /// A level that is not known. The first line is a warning about it.
    unknown_level: Option<String>,
    warned_of_level: AtomicBool,
    warned_of_file: AtomicBool,
}

impl Output {
    fn is_like(&self, other: &Self) -> bool {
        (self.level, &self.file, &self.unknown_level) == (other.level, &other.file, &other.unknown_level)
    }
}

/// The log of the process' environment, and whether it was read yet. Replaced as a whole: a child inherits no lock.
static OF_PROCESS: ArcSwapOption<Log> = ArcSwapOption::const_empty();

impl Log {
    /// The log for the values of `PGIAM_LOG` and `PGIAM_LOG_FILE`. A level that is not known counts as `info`, with a
    /// warning: whoever sets the variable wants to see something. A relative path is that of a file in the present
    /// working directory, whatever the program changes to later.
    #[must_use]
    pub fn new(level: Option<&str>, file: Option<&str>) -> Self {
        let Some(text) = level.map(str::trim) else { return Self::default() };
        let known = match text.to_ascii_lowercase().as_str() {
            "" | "off" => return Self::default(),
            "warn" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        };
        sys::remember_standard_error();
        Self(Some(Arc::new(Output {
            level: known.unwrap_or(Level::Info),
            file: file
                .filter(|path| !path.is_empty())
                .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.into())),
            unknown_level: known.is_none().then(|| text.to_owned()),
            warned_of_level: AtomicBool::new(false),
            warned_of_file: AtomicBool::new(false),
        })))
    }

    /// The log of the process' environment, which is read by the first call, and again when [`Client::refresh`] reads
    /// it. Off for a program that runs with more rights than its caller.
    ///
    /// [`Client::refresh`]: crate::Client::refresh
    #[must_use]
    pub fn of_process() -> Self {
        if let Some(known) = OF_PROCESS.load().as_deref() {
            return known.clone();
        }
        if sys::runs_privileged() {
            return Self::default();
        }
        let variable = |name| std::env::var(name).ok();
        Self::new(variable(LEVEL_VARIABLE).as_deref(), variable(FILE_VARIABLE).as_deref()).become_of_process()
    }

    /// Makes this the log of the process. If it is like the one before, that one stays, with the warnings it has given.
    #[must_use]
    pub(crate) fn become_of_process(self) -> Self {
        let before = OF_PROCESS.load_full();
        match (before.as_deref(), &self) {
            (Some(Self(None)), Self(None)) => self,
            (Some(Self(Some(old))), Self(Some(new))) if old.is_like(new) => Self(Some(Arc::clone(old))),
            _ => {
                OF_PROCESS.store(Some(Arc::new(self.clone())));
                self
            }
        }
    }

    /// Whether events of this level are logged.
    #[inline]
    #[must_use]
    pub fn is_on(&self, level: Level) -> bool {
        self.0.as_ref().is_some_and(|output| level <= output.level)
    }

    /// Logs what a person should look at. The text must not contain secrets, here and below.
    pub fn warn(&self, text: fmt::Arguments<'_>) {
        self.event(Level::Warn, text);
    }

    /// Logs what happened.
    pub fn info(&self, text: fmt::Arguments<'_>) {
        self.event(Level::Info, text);
    }

    /// Logs a detail.
    pub fn debug(&self, text: fmt::Arguments<'_>) {
        self.event(Level::Debug, text);
    }

    fn event(&self, level: Level, text: fmt::Arguments<'_>) {
        let Some(output) = self.0.as_ref().filter(|output| level <= output.level) else { return };
        if let Some(unknown) = &output.unknown_level
            && !output.warned_of_level.swap(true, Ordering::Relaxed)
        {
            let text = format!("{LEVEL_VARIABLE}: {unknown:?} is not one of warn, info, debug; it counts as info");
            output.write(&line(Level::Warn, &text));
        }
        output.write(&line(level, &text.to_string()));
    }
}

impl Output {
    /// Writes a line, to standard error if the file cannot be written to. What cannot be written anywhere is lost.
    fn write(&self, line: &str) {
        let Some(path) = &self.file else {
            sys::write_standard_error(line.as_bytes()).ok();
            return;
        };
        // O_NONBLOCK: a FIFO that nobody reads is an error at once.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
        let Err(error) = opened.and_then(|file| sys::write_line(file.as_fd(), line.as_bytes())) else { return };
        if !self.warned_of_file.swap(true, Ordering::Relaxed) {
            let text = format!("{FILE_VARIABLE}: cannot write to {}: {error}; using standard error", path.display());
            sys::write_standard_error(self::line(Level::Warn, &text).as_bytes()).ok();
        }
        sys::write_standard_error(line.as_bytes()).ok();
    }
}

/// One line with the time, the process and the level, printable and not too long.
fn line(level: Level, text: &str) -> String {
    let time = rfc3339(Clock::system().now());
    let text = presentable(text);
    test_hooks::message(&text);
    let mut line = format!("{time} pgiam[{}] {}: {text}", sys::process_id(), level.name());
    if line.len() >= LONGEST_LINE {
        line.truncate(line.floor_char_boundary(LONGEST_LINE - "…\n".len()));
        line.push('…');
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(level: &str, work: impl FnOnce(&Log)) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        work(&Log::new(Some(level), path.to_str()));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
    }

    fn one_of_each(log: &Log) {
        log.warn(format_args!("a"));
        log.info(format_args!("b"));
        log.debug(format_args!("c"));
    }

    #[test]
    fn each_level_includes_those_before_it_and_the_log_is_off_unless_it_is_asked_for() {
        for (level, expected) in [
            ("warn", &["warn: a"][..]),
            (" Info ", &["warn: a", "info: b"]),
            ("DEBUG", &["warn: a", "info: b", "debug: c"]),
            ("off", &[]),
            ("", &[]),
        ] {
            assert_eq!(lines(level, one_of_each), expected, "{level}");
        }
        assert!(!Log::new(None, Some("/tmp/unused")).is_on(Level::Warn));
    }

    #[test]
    fn a_level_that_is_not_known_counts_as_info_with_one_warning() {
        for unknown in ["verbose", "1", "trace", "warn,info"] {
            let lines = lines(unknown, |log| (0..2).for_each(|_| one_of_each(log)));
            assert_eq!(lines.len(), 5, "{lines:?}");
            assert!(lines[0].contains(&format!("PGIAM_LOG: {unknown:?} is not one of")), "{lines:?}");
        }
    }

    #[test]
    fn a_line_has_the_time_and_the_process_and_is_printable_and_bounded() {
        let line = line(Level::Info, "to http://jane:planted@proxy\r\n\u{1b}[31mred");
        let start = rfc3339(Clock::system().now());
        assert_eq!(line[..11], start[..11]);
        assert!(line[20..].starts_with(&format!(" pgiam[{}] info: to ", std::process::id())), "{line}");
        assert!(!line.contains("planted") && !line.trim_end_matches('\n').contains(char::is_control), "{line}");
        for length in 4000..4100 {
            let long = self::line(Level::Debug, &"ä".repeat(length));
            assert!(long.len() <= LONGEST_LINE && long.ends_with("…\n"), "{length}");
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_a_line_and_neither_time_nor_the_process() {
        let (reader, writer) = std::io::pipe().unwrap();
        let full = (0..100_000).find(|_| sys::write_line(writer.as_fd(), &[b'x'; 1000]).is_err());
        assert!(full.is_some_and(|lines| lines > 1), "the pipe is full, and the write returned");
        drop(reader);
        // The standard library ignores the signal in Rust programs; C programs do not.
        let ended_by = sys::ends_by_sigpipe(|| sys::write_line(writer.as_fd(), b"line\n").is_err());
        assert!(!ended_by);
    }
}
