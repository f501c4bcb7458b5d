//! Keeps tokens fresh and hears signals meanwhile, by one `poll`. Making tokens may take seconds when the credentials'
//! source is slow, so it runs on a short-lived thread beside.
//!
//! New tokens are made every five minutes (`--refresh-every`), and once half of what the shortest has left is over. A failure
//! is tried again after 1, 2, 4 … 30 s; nobody is told of it as long as the old tokens are good.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::failure::Failure;
use crate::os::{Signal, Signals};
use crate::targets::{Fresh, Tokens, warn};

const REFRESH_EVERY: u32 = 300;
const LONGEST_WAIT_AFTER_FAILURE: i64 = 30;

/// What happened.
pub(crate) enum Event {
    Signal(Signal),
    /// New tokens, to be put in the place of the old ones.
    Fresh(Fresh),
}

/// Makes new tokens at their time.
pub(crate) struct Refresher {
    tokens: Arc<Tokens>,
    every: i64,
    timer: OwnedFd,
    done: Arc<OwnedFd>,
    result: Arc<Mutex<Option<Result<Fresh, Failure>>>>,
    running: bool,
    expires_at: i64,
    failures: u32,
    warned: bool,
}

impl Refresher {
    /// `fresh`: the tokens that are in place.
    pub(crate) fn new(tokens: Tokens, every: Option<u32>, fresh: &Fresh) -> io::Result<Self> {
        // This clock goes on while the machine sleeps, and so does the tokens' time.
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let done = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut refresher = Self {
            tokens: Arc::new(tokens),
            every: every.unwrap_or(REFRESH_EVERY).into(),
            timer,
            done: Arc::new(done),
            result: Arc::default(),
            running: false,
            expires_at: fresh.expires_at,
            failures: 0,
            warned: false,
        };
        refresher.set_timer()?;
        Ok(refresher)
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Waits for a signal or new tokens.
    pub(crate) fn next(&mut self, signals: &Signals) -> io::Result<Event> {
        loop {
            if let Some(signal) = signals.next() {
                return Ok(Event::Signal(signal));
            }
            let mut number = [0; 8];
            if rustix::io::read(&self.timer, &mut number).is_ok() {
                self.begin()?;
            }
            if rustix::io::read(&*self.done, &mut number).is_ok() {
                self.running = false;
                let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
                match result {
                    Some(Ok(fresh)) => return Ok(Event::Fresh(fresh)),
                    Some(Err(failure)) => self.failed(&failure)?,
                    None => self.failed(&Failure::failed("no token was made"))?,
                }
            }
            let mut watched = [
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&self.timer, PollFlags::IN),
                PollFd::new(&*self.done, PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes new tokens now, beside. What came of it is told by [`Refresher::next`].
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if self.running {
            return Ok(());
        }
        let (tokens, result, done) = (Arc::clone(&self.tokens), Arc::clone(&self.result), Arc::clone(&self.done));
        let spawned =
            std::thread::Builder::new().name("pgiam-refresh".into()).stack_size(512 * 1024).spawn(move || {
                let made = tokens.make();
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
                // It fails only if the counter were full.
                let _ = rustix::io::write(&*done, &1_u64.to_ne_bytes());
            });
        match spawned {
            Ok(_) => {
                self.running = true;
                Ok(())
            }
            Err(error) => self.failed(&Failure::failed(format!("no thread can be had: {error}"))),
        }
    }

    /// The new tokens are where programs find them; the next are made when they are due.
    pub(crate) fn placed(&mut self, fresh: &Fresh) -> io::Result<()> {
        self.expires_at = fresh.expires_at;
        self.failures = 0;
        self.warned = false;
        self.set_timer()
    }

    /// No new tokens were made, or they could not be placed: the old ones count, and it is tried again soon.
    pub(crate) fn failed(&mut self, failure: &Failure) -> io::Result<()> {
        self.failures += 1;
        if !self.warned && now() >= self.expires_at {
            self.warned = true;
            warn(&format!("the token has ended and no new one can be made, new logins will fail: {failure}"));
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

/// Keeps tokens fresh until SIGTERM or SIGINT: hands new ones to `place`; SIGHUP makes new ones now. What cannot be placed
/// is told, and tried again with the next ones.
pub(crate) fn keep(
    tokens: Tokens,
    fresh: &Fresh,
    every: Option<u32>,
    mut place: impl FnMut(&Tokens, &Fresh) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot wait for signals and time: {error}"));
    let signals = Signals::hold().map_err(failed)?;
    let mut refresher = Refresher::new(tokens, every, fresh).map_err(failed)?;
    loop {
        match refresher.next(&signals).map_err(failed)? {
            Event::Fresh(fresh) => {
                // The old ones are still in place, and a disk that is full may not stay so.
                match place(&refresher.tokens, &fresh) {
                    Ok(()) => refresher.placed(&fresh).map_err(failed)?,
                    Err(failure) => {
                        warn(&failure.to_string());
                        refresher.failed(&failure).map_err(failed)?;
                    }
                }
            }
            Event::Signal(signal) => match signal.number {
                libc::SIGTERM | libc::SIGINT => return Ok(0),
                libc::SIGHUP => refresher.begin().map_err(failed)?,
                number @ (libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGQUIT) => signals.suffer(number),
                _ => {}
            },
        }
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
    fn new_tokens_are_made_well_before_the_old_ones_end_and_failures_back_off() {
        assert_eq!(wait(300, 900, 0), 300);
        assert_eq!(wait(300, 100, 0), 50);
        assert_eq!(wait(300, -5, 0), 1);
        assert_eq!(wait(1, 900, 0), 1);
        let waits: Vec<i64> = (1..9).map(|failures| wait(300, 600, failures)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(wait(300, 0, u32::MAX), 30);
    }
}
