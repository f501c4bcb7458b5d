//! Renews tokens and receives signals meanwhile, with one `poll`. Making tokens may take seconds if the source of the
//! credentials is slow, so it runs on a short-lived background thread.
//!
//! Tokens are renewed every five minutes (`--refresh-every`), and no later than half-way to their expiry. After a failure
//! it is tried again after 1, 2, 4 … 30 s; there is no message as long as the old tokens are valid.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::failure::Failure;
use crate::health::Health;
use crate::mfa;
use crate::os::{Signal, Signals};
use crate::output::warn;
use crate::tokens::{TokenMaker, TokenSet};

const REFRESH_EVERY: u32 = 300;
const LONGEST_WAIT_AFTER_FAILURE: i64 = 30;
/// Longer than a source of credentials may take. A renewal that runs for so long hangs.
const LONGEST_RENEWAL: Duration = Duration::from_secs(120);

/// What happened.
pub(crate) enum Event {
    Signal(Signal),
    /// New tokens, to replace the old ones.
    Tokens(TokenSet),
    /// No new tokens were made; the old ones stay in use.
    Failed(Failure),
    /// The time to show that the process is not stuck.
    Alive,
}

/// Makes new tokens when they are due.
pub(crate) struct Refresher {
    maker: Arc<TokenMaker>,
    every: i64,
    timer: OwnedFd,
    done: Arc<OwnedFd>,
    result: Arc<Mutex<Option<Result<TokenSet, Failure>>>>,
    /// Since when a renewal runs.
    running: Option<Instant>,
    expires_at: i64,
    failures: u32,
    warned: bool,
}

impl Refresher {
    /// `tokens`: those in use now.
    pub(crate) fn new(maker: TokenMaker, every: Option<u32>, tokens: &TokenSet) -> io::Result<Self> {
        mfa::stop_asking();
        // This clock continues while the machine sleeps, like the lifetime of the tokens.
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let done = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut refresher = Self {
            maker: Arc::new(maker),
            every: every.unwrap_or(REFRESH_EVERY).into(),
            timer,
            done: Arc::new(done),
            result: Arc::default(),
            running: None,
            expires_at: tokens.expires_at,
            failures: 0,
            warned: false,
        };
        refresher.set_timer()?;
        Ok(refresher)
    }

    pub(crate) fn maker(&self) -> &TokenMaker {
        &self.maker
    }

    /// When the tokens in use expire, in Unix seconds.
    pub(crate) fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Waits for a signal or new tokens; with an interval, not longer than that.
    pub(crate) fn next(&mut self, signals: &Signals, interval: Option<Duration>) -> io::Result<Event> {
        let timeout = interval.and_then(|interval| Timespec::try_from(interval).ok());
        loop {
            if let Some(signal) = signals.next() {
                return Ok(Event::Signal(signal));
            }
            let mut number = [0; 8];
            if rustix::io::read(&self.timer, &mut number).is_ok() {
                self.begin()?;
            }
            if rustix::io::read(&*self.done, &mut number).is_ok() {
                self.running = None;
                let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
                let failure = match result {
                    Some(Ok(tokens)) => return Ok(Event::Tokens(tokens)),
                    Some(Err(failure)) => failure,
                    None => Failure::failed("no token was made"),
                };
                self.failed(&failure)?;
                return Ok(Event::Failed(failure));
            }
            let mut watched = [
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&self.timer, PollFlags::IN),
                PollFd::new(&*self.done, PollFlags::IN),
            ];
            match poll(&mut watched, timeout.as_ref()) {
                Ok(0) if !self.hangs() => return Ok(Event::Alive),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn hangs(&self) -> bool {
        self.running.is_some_and(|since| since.elapsed() > LONGEST_RENEWAL)
    }

    /// Starts making new tokens in the background; [`Refresher::next`] returns them.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let (maker, result, done) = (Arc::clone(&self.maker), Arc::clone(&self.result), Arc::clone(&self.done));
        let spawned =
            std::thread::Builder::new().name("pgiam-refresh".into()).stack_size(512 * 1024).spawn(move || {
                let made = maker.make();
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
                // It could only fail if the counter were full.
                let _ = rustix::io::write(&*done, &1_u64.to_ne_bytes());
            });
        match spawned {
            Ok(_) => {
                self.running = Some(Instant::now());
                Ok(())
            }
            Err(error) => self.failed(&Failure::failed(format!("cannot start a thread: {error}"))),
        }
    }

    /// The new tokens are in use; the next ones are made when they are due.
    pub(crate) fn placed(&mut self, tokens: &TokenSet) -> io::Result<()> {
        self.expires_at = tokens.expires_at;
        self.failures = 0;
        self.warned = false;
        self.set_timer()
    }

    /// No new tokens were made, or they could not be written: the old ones stay in use, and it is tried again soon.
    pub(crate) fn failed(&mut self, failure: &Failure) -> io::Result<()> {
        self.failures += 1;
        if !self.warned && now() >= self.expires_at {
            self.warned = true;
            warn(&format!("the token has expired and could not be renewed, new logins will fail: {failure}"));
        }
        self.set_timer()
    }

    fn set_timer(&mut self) -> io::Result<()> {
        let seconds = wait(self.every, self.expires_at - now(), self.failures);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: seconds, tv_nsec: 0 } };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// Keeps tokens fresh until SIGTERM or SIGINT, and passes new ones to `place`. SIGHUP makes new tokens now. If they cannot
/// be placed there is a message, and it is tried again with the next ones.
pub(crate) fn keep(
    maker: TokenMaker,
    tokens: &TokenSet,
    every: Option<u32>,
    health: &Health<'_>,
    mut place: impl FnMut(&TokenMaker, &TokenSet) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot wait for signals and time: {error}"));
    let signals = Signals::block().map_err(failed)?;
    let mut refresher = Refresher::new(maker, every, tokens).map_err(failed)?;
    loop {
        match refresher.next(&signals, health.interval()).map_err(failed)? {
            Event::Tokens(tokens) => match place(&refresher.maker, &tokens) {
                Ok(()) => {
                    health.placed(&refresher.maker, &tokens);
                    refresher.placed(&tokens).map_err(failed)?;
                }
                // The old ones are still in use, and a full disk may be emptied.
                Err(failure) => {
                    warn(&failure.to_string());
                    health.failed(&failure, refresher.expires_at());
                    refresher.failed(&failure).map_err(failed)?;
                }
            },
            Event::Failed(failure) => health.failed(&failure, refresher.expires_at()),
            Event::Alive => health.alive(),
            Event::Signal(signal) => match reaction(signal.number, signals.was_ignored(signal.number)) {
                Reaction::End => {
                    health.ending();
                    return Ok(0);
                }
                Reaction::Refresh => refresher.begin().map_err(failed)?,
                Reaction::Default => signals.raise_default(signal.number),
                Reaction::None => {}
            },
        }
    }
}

/// What a signal does to a process that keeps tokens fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    End,
    Refresh,
    /// What it does to any program.
    Default,
    None,
}

/// A signal that was ignored at the start stays ignored, as SIGINT is in a background job of a script. After `nohup`,
/// SIGHUP makes new tokens all the same, which does no harm.
fn reaction(signal: i32, was_ignored: bool) -> Reaction {
    match signal {
        libc::SIGHUP => Reaction::Refresh,
        _ if was_ignored => Reaction::None,
        libc::SIGTERM | libc::SIGINT => Reaction::End,
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGQUIT => Reaction::Default,
        _ => Reaction::None,
    }
}

/// Seconds to wait, at least 1.
fn wait(every: i64, left: i64, failures: u32) -> i64 {
    match failures {
        0 => every.min(left / 2).max(1),
        failures => (1_i64 << (failures - 1).min(10)).min(LONGEST_WAIT_AFTER_FAILURE).min(every),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_well_before_they_expire_and_failures_back_off() {
        assert_eq!(wait(300, 900, 0), 300);
        assert_eq!(wait(300, 100, 0), 50);
        assert_eq!(wait(300, -5, 0), 1);
        assert_eq!(wait(1, 900, 0), 1);
        let waits: Vec<i64> = (1..9).map(|failures| wait(300, 600, failures)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(wait(300, 0, u32::MAX), 30);
    }

    #[test]
    fn a_signal_that_was_ignored_at_the_start_stays_ignored_except_sighup() {
        for (signal, at_start, ignored) in [
            (libc::SIGTERM, Reaction::End, Reaction::None),
            (libc::SIGINT, Reaction::End, Reaction::None),
            (libc::SIGQUIT, Reaction::Default, Reaction::None),
            (libc::SIGTSTP, Reaction::Default, Reaction::None),
            (libc::SIGHUP, Reaction::Refresh, Reaction::Refresh),
            (libc::SIGWINCH, Reaction::None, Reaction::None),
        ] {
            assert_eq!((reaction(signal, false), reaction(signal, true)), (at_start, ignored), "{signal}");
        }
    }
}
