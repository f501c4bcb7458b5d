//! System calls without a safe wrapper: blocking signals and reading them from a descriptor, preparing a child between
//! fork and exec, ending by a signal. The only `unsafe` code of the program.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Signals that are not blocked: those that the running instruction causes, and those that the Rust runtime and timers use.
const NOT_BLOCKED: [i32; 10] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
    libc::SIGPIPE,
    libc::SIGPROF,
    libc::SIGVTALRM,
];

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) number: i32,
    /// The process that sent it; `None`: the kernel, as for the keys of a terminal, whose signals go to the whole
    /// foreground process group.
    pub(crate) sender: Option<i32>,
}

/// While it exists, signals are read with [`Signals::next`] instead of taking effect.
pub(crate) struct Signals {
    descriptor: OwnedFd,
    before: libc::sigset_t,
    /// The numbers of the signals that were ignored at the start.
    ignored: Vec<i32>,
}

impl Signals {
    /// Blocks every signal that can be blocked.
    pub(crate) fn block() -> io::Result<Self> {
        let ignored = (1..=libc::SIGRTMAX()).filter(|signal| is_ignored(*signal)).collect();
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises `blocked`, which sigdelset, pthread_sigmask and signalfd then read; pthread_sigmask
        // writes `before`. All are live. A descriptor that signalfd returned is ours alone.
        unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for signal in NOT_BLOCKED {
                libc::sigdelset(blocked.as_mut_ptr(), signal);
            }
            // If SIGCHLD was ignored, neither the end of the command nor its status would be reported.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), before.as_mut_ptr());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let descriptor = libc::signalfd(-1, blocked.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { descriptor: OwnedFd::from_raw_fd(descriptor), before: before.assume_init(), ignored })
        }
    }

    /// Whether a signal was ignored when this process started.
    pub(crate) fn was_ignored(&self, signal: i32) -> bool {
        self.ignored.contains(&signal)
    }

    /// The next pending signal.
    pub(crate) fn next(&self) -> Option<Signal> {
        let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
        // Nothing is pending, or the read was interrupted: the descriptor becomes readable again.
        let read = rustix::io::read(&self.descriptor, &mut buffer).ok()?;
        if read != buffer.len() {
            return None;
        }
        // SAFETY: the kernel filled the buffer with one such structure, which is plain numbers; it is read unaligned.
        let info = unsafe { buffer.as_ptr().cast::<libc::signalfd_siginfo>().read_unaligned() };
        let number = i32::try_from(info.ssi_signo).ok()?;
        let sender = (info.ssi_code <= 0).then_some(info.ssi_pid.cast_signed());
        Some(Signal { number, sender })
    }

    /// Makes the child start with the signal mask of this process, and receive SIGTERM when this process ends.
    pub(crate) fn prepare(&self, command: &mut Command) {
        let before = self.before;
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only async-signal-safe calls are made: pthread_sigmask, prctl, getppid, raise.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
                // The parent may have ended before the line above.
                if libc::getppid() != parent.as_raw_nonzero().get() {
                    libc::raise(libc::SIGTERM);
                }
                Ok(())
            });
        }
    }

    /// Lets a blocked signal take its default action: stop or end this process. Returns if it did not end it.
    pub(crate) fn raise_default(&self, signal: i32) {
        let mut one = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises `one`, which the other calls read. The signal's disposition becomes the default,
        // so no handler runs. It is raised while it is blocked: standard signals do not queue, so it takes effect once, when
        // it is unblocked, even if another one was pending.
        unsafe {
            libc::sigemptyset(one.as_mut_ptr());
            libc::sigaddset(one.as_mut_ptr(), signal);
            libc::signal(signal, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_BLOCK, one.as_ptr(), std::ptr::null_mut());
            libc::raise(signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, one.as_ptr(), std::ptr::null_mut());
            libc::pthread_sigmask(libc::SIG_BLOCK, one.as_ptr(), std::ptr::null_mut());
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Prevents a core file of this process, which ends by the same signal as the command: the command's own is of interest.
pub(crate) fn disable_core_dump() {
    // SAFETY: the call takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
}

fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes `action`, which is read if the call succeeded.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
