//! Runs a command whose passwords stand in a file in anonymous memory, and stays with it: keeps the file fresh, hands
//! signals on, stops and goes on as the command does, and ends as it ends.
//!
//! The file is a memfd, named by its place among this process' descriptors (`/proc/PID/fd/N`). Fresh tokens get a new
//! memfd that takes the old one's number, so a reader sees the old file or the new one and never half of both. It is gone
//! with this process, and the command is told by SIGTERM then.
//!
//! Command and wrapper share a process group, so that what a terminal sends reaches both: the wrapper leaves that to the
//! command, and hands on what others send to the wrapper alone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use rustix::process::{Pid, Signal as KillSignal, WaitOptions, kill_process, waitpid};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::os::{self, Signal, Signals};
use crate::refresher::{Event, Refresher};
use crate::targets::{Fresh, Tokens, warn};

/// A password file in anonymous memory.
pub(crate) struct Passfile {
    descriptor: OwnedFd,
    /// The user's own, whose lines follow ours: they may be for other servers.
    others: Option<PathBuf>,
}

impl Passfile {
    /// `others`: the password file that the command would have read.
    pub(crate) fn new(text: &str, others: Option<PathBuf>) -> io::Result<Self> {
        let descriptor = Self::memory(text, others.as_deref())?;
        Ok(Self { descriptor, others })
    }

    fn memory(text: &str, others: Option<&Path>) -> io::Result<OwnedFd> {
        let descriptor = memfd_create("pgiam-passfile", MemfdFlags::CLOEXEC)?;
        // libpq reads no password file that others could read.
        fchmod(&descriptor, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(descriptor);
        file.write_all(text.as_bytes())?;
        if let Some(lines) = others.and_then(lines_of_others) {
            file.write_all(&lines)?;
        }
        Ok(file.into())
    }

    /// Its path, for as long as this process lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd())
    }

    /// Puts another file into its place.
    pub(crate) fn replace(&mut self, text: &str) -> io::Result<()> {
        let new = Self::memory(text, self.others.as_deref())?;
        rustix::io::dup3(&new, &mut self.descriptor, rustix::io::DupFlags::CLOEXEC)?;
        Ok(())
    }
}

/// A password file that libpq would read: a regular one that only its owner can read.
fn lines_of_others(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let about = fs::metadata(path).ok()?;
    if !about.is_file() || about.permissions().mode() & 0o077 != 0 {
        return None;
    }
    fs::read(path).ok().map(Zeroizing::new)
}

/// Runs the command to its end. `Ok`: the status to exit with.
pub(crate) fn run(
    command: &mut Command,
    tokens: Tokens,
    fresh: Fresh,
    every: Option<u32>,
    others: Option<PathBuf>,
) -> Result<u8, Failure> {
    let failed = |what: &'static str| move |error: io::Error| Failure::failed(format!("{what}: {error}"));
    let mut passfile =
        Passfile::new(&tokens.passfile(&fresh)?, others).map_err(failed("cannot hold the token in memory"))?;
    let mut refresher = Refresher::new(tokens, every, &fresh).map_err(failed("cannot set a timer"))?;
    drop(fresh);
    let signals = Signals::hold().map_err(failed("cannot hold signals"))?;
    command.env("PGPASSFILE", passfile.path());
    signals.prepare(command);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(cannot_run(command.get_program().to_owned(), &error)),
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed("the command has no process id"))?;
    let_go_of_input_and_output();

    loop {
        match refresher.next(&signals).map_err(failed("cannot wait"))? {
            Event::Fresh(fresh) => {
                let text = refresher.tokens().passfile(&fresh)?;
                match passfile.replace(&text) {
                    Ok(()) => refresher.placed(&fresh),
                    Err(error) => {
                        let failure = Failure::failed(format!("the new token cannot be held in memory: {error}"));
                        warn(&failure.to_string());
                        refresher.failed(&failure)
                    }
                }
                .map_err(failed("cannot wait"))?;
            }
            Event::Signal(Signal { number: libc::SIGCHLD, .. }) => {
                if let Some(status) = look_after(pid, &signals).map_err(failed("cannot wait for the command"))? {
                    return Ok(status);
                }
            }
            Event::Signal(signal) => hand_on(signal, pid),
        }
    }
}

/// Takes note of what the command did. `Some`: it has ended.
fn look_after(pid: Pid, signals: &Signals) -> io::Result<Option<u8>> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    let mut stopped = None;
    // As the first process of a container we are the parent of whatever lost its own, and have to bury it.
    let whom = if std::process::id() == 1 { None } else { Some(pid) };
    while let Some((who, status)) = waitpid(whom, options)? {
        if who != pid {
            continue;
        }
        if let Some(code) = status.exit_status() {
            return Ok(Some(u8::try_from(code).unwrap_or(1)));
        }
        if let Some(number) = status.terminating_signal() {
            os::without_core_file();
            signals.suffer(number);
            // The first process of a container is not ended by signals.
            return Ok(Some(u8::try_from(128 + number).unwrap_or(1)));
        }
        stopped = status.stopping_signal();
    }
    // Job control stops a job as a whole. SIGSTOP is another's business with the command alone.
    if let Some(number @ (libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)) = stopped {
        signals.suffer(number);
        // Somebody has woken us, and perhaps us alone.
        let _ = kill_process(pid, KillSignal::CONT);
    }
    Ok(None)
}

/// What the kernel sent, for a key or a lost terminal, the command got too; and it knows what it sent itself.
fn hand_on(signal: Signal, pid: Pid) {
    let from_elsewhere = signal.sender.is_some_and(|sender| sender != pid.as_raw_nonzero().get());
    if let Some(number) = KillSignal::from_named_raw(signal.number).filter(|_| from_elsewhere) {
        // The command may have ended just now.
        let _ = kill_process(pid, number);
    }
}

/// Whoever reads the command's output is to see its end when the command closes it.
fn let_go_of_input_and_output() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// The shell's statuses for a command that cannot be run.
pub(crate) fn cannot_run(command: OsString, error: &io::Error) -> u8 {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let why = if missing { "command not found".to_owned() } else { error.to_string() };
    let _ = writeln!(io::stderr(), "pgiam: {}: {why}", command.display());
    if missing { 127 } else { 126 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_memory_is_replaced_whole_under_its_path_and_only_its_owner_reads_it() {
        let others = tempfile::NamedTempFile::new().unwrap();
        fs::write(others.path(), "other:1:*:u:p\n").unwrap();
        let mut passfile = Passfile::new("h:1:*:u:first\n", Some(others.path().to_owned())).unwrap();
        let path = passfile.path();
        let about = fs::metadata(&path).unwrap();
        assert!(about.is_file());
        assert_eq!(about.permissions().mode() & 0o7777, 0o600);
        let mut open = File::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "h:1:*:u:first\nother:1:*:u:p\n");
        passfile.replace("h:1:*:u:2\n").unwrap();
        assert_eq!(passfile.path(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "h:1:*:u:2\nother:1:*:u:p\n");
        let mut old = String::new();
        io::Read::read_to_string(&mut open, &mut old).unwrap();
        assert!(old.starts_with("h:1:*:u:first\n"), "who had it open reads it whole");
        fs::set_permissions(others.path(), fs::Permissions::from_mode(0o640)).unwrap();
        passfile.replace("").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "", "libpq would not read the other one either");
    }
}
