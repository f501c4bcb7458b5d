//! Tells whoever supervises a process that keeps tokens fresh how it is: systemd by `sd_notify`, a probe of Kubernetes by a
//! file, and people by the log.
//!
//! Rules: sd_notify(3). `READY=1` is sent when the first tokens are in place. If the unit has `WatchdogSec`, `WATCHDOG=1` is
//! sent while the process waits for time and signals, but not while one renewal runs for longer than any source may take,
//! so that a process that hangs is restarted. A source that fails is no reason: a new process would fail like the old one.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use pgiam_core::{Log, rfc3339};

use crate::failure::Failure;
use crate::output::warn;
use crate::tokens::{TokenMaker, TokenSet};
use crate::written_file::WrittenFile;

/// The first line of a health file. The second is the time.
const MARK: &str = "# Written by pgiam. The tokens are valid until this time, in Unix seconds:";

#[derive(Debug, Args)]
pub(crate) struct HealthArguments {
    /// Write the time until which the tokens are valid to this file, for probes
    #[arg(long, value_name = "PATH")]
    health_file: Option<PathBuf>,
}

/// Where the state of the process is reported.
pub(crate) struct Health<'a> {
    /// What has the tokens, for messages.
    written: &'a Path,
    file: Option<WrittenFile<'a>>,
    supervisor: Option<Supervisor>,
    log: Log,
}

impl<'a> Health<'a> {
    pub(crate) fn new(written: &'a Path, arguments: &'a HealthArguments) -> Result<Self, Failure> {
        let path = arguments.health_file.as_deref();
        Ok(Self {
            written,
            file: path.map(|path| WrittenFile::new(path, MARK, false)).transpose()?,
            supervisor: Supervisor::from_environment(|name| std::env::var_os(name)),
            log: Log::of_process(),
        })
    }

    /// New tokens are in place.
    pub(crate) fn placed(&self, maker: &TokenMaker, tokens: &TokenSet) {
        let until = rfc3339(tokens.expires_at);
        log_written(&self.log, format_args!("{}", self.written.display()), maker, tokens);
        if let Some(file) = &self.file
            && let Err(failure) = file.write(&format!("{}\n", tokens.expires_at))
        {
            warn(&failure.to_string());
        }
        self.notify(&format!("READY=1\nSTATUS=Tokens are valid until {until}"));
    }

    /// No new tokens are in place.
    pub(crate) fn failed(&self, failure: &Failure, expires_at: i64) {
        let until = rfc3339(expires_at);
        self.log.warn(format_args!(
            "no new tokens for {}, the old ones are valid until {until}: {failure}",
            self.written.display()
        ));
        self.notify(&format!("STATUS=Tokens are valid until {until}. Not renewed: {failure}"));
    }

    /// The process is about to end.
    pub(crate) fn ending(&self) {
        self.log.info(format_args!("{} stays, and is not renewed any more", self.written.display()));
        self.notify("STOPPING=1");
    }

    /// How often [`Health::alive`] is to be called.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.supervisor.as_ref()?.interval
    }

    /// The process is not stuck.
    pub(crate) fn alive(&self) {
        self.notify("WATCHDOG=1");
    }

    fn notify(&self, state: &str) {
        if let Some(Err(error)) = self.supervisor.as_ref().map(|supervisor| supervisor.send(state)) {
            self.log.warn(format_args!("NOTIFY_SOCKET: {error}"));
        }
    }
}

/// Logs that tokens were written, and for whom.
pub(crate) fn log_written(log: &Log, to: std::fmt::Arguments<'_>, maker: &TokenMaker, tokens: &TokenSet) {
    let users: Vec<String> =
        maker.targets.iter().map(|target| format!("{} at {}:{}", target.user, target.host, target.port)).collect();
    log.info(format_args!("wrote {to}: tokens for {}, valid until {}", users.join(", "), rfc3339(tokens.expires_at)));
}

/// The service manager.
struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    interval: Option<Duration>,
}

impl Supervisor {
    /// `None`: the process has none, or one that cannot be reached.
    fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let name = variable("NOTIFY_SOCKET")?;
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            _ => SocketAddr::from_pathname(&name),
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        // Half of the time, as sd_watchdog_enabled(3) advises.
        let interval = number("WATCHDOG_USEC").filter(|_| is_for_us).map(|time| Duration::from_micros(time / 2));
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, address: address.ok()?, interval })
    }

    fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, address: &SocketAddr) {
        let listener = UnixDatagram::bind_addr(address).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let pid = std::process::id().to_string();
        let variables = [("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &pid)];
        let variable = |wanted: &str| Some(variables.iter().find(|(name, _)| *name == wanted)?.1.into());
        let supervisor = Supervisor::from_environment(variable).unwrap();
        assert_eq!(supervisor.interval, Some(Duration::from_millis(1500)));
        supervisor.send("READY=1").unwrap();
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");
    }

    #[test]
    fn a_service_manager_is_told_by_a_path_and_by_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        told(path.to_str().unwrap(), &SocketAddr::from_pathname(&path).unwrap());
        let name = format!("pgiam-test-{}", std::process::id());
        told(&format!("@{name}"), &SocketAddr::from_abstract_name(&name).unwrap());
    }

    #[test]
    fn a_watchdog_of_another_process_and_a_missing_socket_are_ignored() {
        assert!(Supervisor::from_environment(|_| None).is_none());
        let other = |name: &str| match name {
            "NOTIFY_SOCKET" => Some("/run/systemd/notify".into()),
            "WATCHDOG_USEC" => Some("3000000".into()),
            "WATCHDOG_PID" => Some("1".into()),
            _ => None,
        };
        assert_eq!(Supervisor::from_environment(other).unwrap().interval, None);
    }
}
