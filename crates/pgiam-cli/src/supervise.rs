//! Runs a command with a password file in memory: keeps the file fresh, forwards signals, stops and continues together
//! with the command, and exits like the command.
//!
//! The command and this process are in one process group, so a terminal sends its signals to both: those are left to the
//! command. Signals that other processes send to this process alone are forwarded.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::Command;

use pgiam_core::Log;
use rustix::process::{Pid, Signal as KillSignal, WaitOptions, kill_process, waitpid};

use crate::failure::Failure;
use crate::health::log_written;
use crate::memory_file::MemoryFile;
use crate::os::{self, Signal, Signals};
use crate::output::{error as print_error, warn};
use crate::programs;
use crate::refresher::{Event, Refresher};
use crate::suggest;
use crate::tokens::{TokenMaker, TokenSet};

/// Runs the command until it ends and returns the status to exit with. `others`: the password file that the command would
/// have read.
pub(crate) fn run(
    command: &mut Command,
    maker: TokenMaker,
    tokens: TokenSet,
    refresh_every: Option<u32>,
    others: Option<PathBuf>,
) -> Result<u8, Failure> {
    let failed = |what: &'static str| move |error: io::Error| Failure::failed(format!("{what}: {error}"));
    let mut passfile = MemoryFile::new(&maker.passfile(&tokens)?, others).map_err(no_memory_file)?;
    let mut refresher = Refresher::new(maker, refresh_every, &tokens).map_err(failed("cannot set a timer"))?;
    let log = Log::of_process();
    log_written(&log, format_args!("the password file in memory"), refresher.maker(), &tokens);
    drop(tokens);
    let signals = Signals::block().map_err(failed("cannot block signals"))?;
    command.env("PGPASSFILE", passfile.path());
    signals.prepare(command);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(cannot_run(command.get_program(), &error)),
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed("the command has no process id"))?;
    release_input_and_output();

    let end = loop {
        match refresher.next(&signals, None).map_err(failed("cannot wait"))? {
            Event::Tokens(tokens) => {
                let text = refresher.maker().passfile(&tokens)?;
                match passfile.replace(&text) {
                    Ok(()) => {
                        log_written(&log, format_args!("the password file in memory"), refresher.maker(), &tokens);
                        refresher.placed(&tokens)
                    }
                    Err(error) => {
                        let failure = Failure::failed(format!("cannot put the new token into memory: {error}"));
                        warn(&failure.to_string());
                        refresher.failed(&failure)
                    }
                }
                .map_err(failed("cannot wait"))?;
            }
            Event::Failed(failure) => log.warn(format_args!("no new tokens, the old ones stay in use: {failure}")),
            Event::Alive => {}
            Event::Signal(Signal { number: libc::SIGCHLD, .. }) => {
                if let Some(end) = reap(pid, &signals).map_err(failed("cannot wait for the command"))? {
                    break end;
                }
            }
            Event::Signal(signal) => forward(signal, pid),
        }
    };
    let path = passfile.path();
    for note in [never_opened(&passfile, end), left_running(pid, &path)].into_iter().flatten() {
        warn(&note);
    }
    Ok(exit_like(end, &signals))
}

fn no_memory_file(error: io::Error) -> Failure {
    Failure::failed(format!(
        "cannot make a password file in memory: {error}; it is read through /proc, which must be mounted. --env passes one \
         token in PGPASSWORD instead"
    ))
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Exit(i32),
    Signal(i32),
}

/// Handles state changes of the command. `Some`: it has ended.
fn reap(pid: Pid, signals: &Signals) -> io::Result<Option<End>> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    let mut stopped = None;
    // The first process of a container is the parent of all orphans and has to reap them.
    let whom = if std::process::id() == 1 { None } else { Some(pid) };
    while let Some((who, status)) = waitpid(whom, options)? {
        if who != pid {
            continue;
        }
        if let Some(code) = status.exit_status() {
            return Ok(Some(End::Exit(code)));
        }
        if let Some(number) = status.terminating_signal() {
            return Ok(Some(End::Signal(number)));
        }
        stopped = status.stopping_signal();
    }
    // Job control stops a whole job. SIGSTOP is sent to the command alone.
    if let Some(number @ (libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)) = stopped {
        signals.raise_default(number);
        // This process was continued, perhaps alone.
        let _ = kill_process(pid, KillSignal::CONT);
    }
    Ok(None)
}

/// Ends by the same signal as the command, or returns the status to exit with.
fn exit_like(end: End, signals: &Signals) -> u8 {
    match end {
        End::Exit(code) => u8::try_from(code).unwrap_or(1),
        End::Signal(number) => {
            os::disable_core_dump();
            signals.raise_default(number);
            // Signals do not end the first process of a container.
            u8::try_from(128 + number).unwrap_or(1)
        }
    }
}

/// Forwards a signal that another process sent. The command receives itself what the kernel sends to the process group,
/// for a key or a closed terminal.
fn forward(signal: Signal, pid: Pid) {
    let from_elsewhere = signal.sender.is_some_and(|sender| sender != pid.as_raw_nonzero().get());
    if let Some(number) = KillSignal::from_named_raw(signal.number).filter(|_| from_elsewhere) {
        // The command may have ended just now.
        let _ = kill_process(pid, number);
    }
}

/// Whoever reads the output of the command must see its end when the command closes it.
fn release_input_and_output() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// A command that fails without having opened the password file probably could not.
fn never_opened(passfile: &MemoryFile, end: End) -> Option<String> {
    let End::Exit(status @ 1..) = end else { return None };
    (!passfile.was_opened()).then(|| {
        format!(
            "the command ended with status {status} and never opened its password file (PGPASSFILE). It cannot if it runs \
             as another user (sudo), with fewer capabilities, in a container or without /proc, and programs without libpq \
             may not look for it; see docs/settings.md. --env passes one token in PGPASSWORD"
        )
    })
}

/// A process that the command left running, such as a daemon: its password file is about to disappear.
fn left_running(command: Pid, passfile: &str) -> Option<String> {
    // The first process of a container takes all others with it.
    if std::process::id() == 1 {
        return None;
    }
    let variable = format!("PGPASSFILE={passfile}");
    let has_variable = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // Later processes have higher numbers, but for the rare case that the numbers start again.
    let left = processes.filter(|pid| *pid > command.as_raw_nonzero().get()).find(has_variable)?;
    let name = fs::read_to_string(format!("/proc/{left}/comm")).unwrap_or_default();
    Some(format!(
        "process {left} ({}) is still running and its password file is gone, so its next login will fail; keep the command \
         in the foreground, or use pgiam passfile",
        name.trim()
    ))
}

/// The shell's statuses for a command that cannot be run, with a message.
pub(crate) fn cannot_run(command: &OsStr, error: &io::Error) -> u8 {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let why = if missing { format!("command not found{}", did_you_mean(command)) } else { error.to_string() };
    print_error(&format!("{}: {why}", OsString::from(command).display()));
    if missing { 127 } else { 126 }
}

fn did_you_mean(command: &OsStr) -> String {
    let known = programs::PROGRAMS.iter().map(|program| program.name);
    let closest = command.to_str().and_then(|name| suggest::closest(name, known));
    closest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}
