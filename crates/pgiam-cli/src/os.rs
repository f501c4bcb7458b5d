//! What has no safe wrapper: the start of the process, holding signals back to read them from a descriptor, preparing a
//! child between fork and exec, and dying of a signal. The only `unsafe` of the helper.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the C library hands over.
///
/// Rust's own start would first read the map of the process' memory and put up a stack and handlers to tell of stack
/// overflows: a seventh of a run that makes one token (docs/performance.md). What it does for safety is done here too.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, arguments: *const *const libc::c_char) -> libc::c_int {
    use std::ffi::{CStr, OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    occupy_standard_descriptors();
    // SAFETY: no handler is set. A reader that is gone is told by the failed write.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let arguments: Vec<OsString> = (0..usize::try_from(count).unwrap_or(0))
        .map(|number| {
            // SAFETY: the C standard: `arguments` holds `count` texts, which live as long as the process.
            OsStr::from_bytes(unsafe { CStr::from_ptr(*arguments.add(number)) }.to_bytes()).to_owned()
        })
        .collect();
    // As of a Rust program that panics: the message was printed.
    std::panic::catch_unwind(|| crate::run(arguments)).unwrap_or(101).into()
}

/// Opens /dev/null for standard input, output and error where they are closed: a file opened later would take the
/// number, and what is meant for a person would be written into it.
#[cfg(not(test))]
fn occupy_standard_descriptors() {
    for descriptor in 0..3 {
        // SAFETY: takes a number; a closed descriptor is an error.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            // SAFETY: the text is NUL-terminated. The lowest free number is given, which is this one.
            if unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } < 0 {
                std::process::abort();
            }
        }
    }
}

/// Signals that are the fault of the running instruction, or that the Rust runtime and the clock use: left alone.
const LEFT_ALONE: [i32; 10] = [
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

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) number: i32,
    /// Who sent it; `None`: the kernel, as for the keys of a terminal, which go to its whole foreground process group.
    pub(crate) sender: Option<i32>,
}

/// While it lives, signals wait to be read instead of taking effect.
pub(crate) struct Signals {
    descriptor: OwnedFd,
    before: libc::sigset_t,
}

impl Signals {
    /// Holds back every signal that can be.
    pub(crate) fn hold() -> io::Result<Self> {
        let mut held = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises `held`, which sigdelset, pthread_sigmask and signalfd then read; pthread_sigmask
        // writes `before`. All are live. A descriptor that signalfd returned is ours alone.
        unsafe {
            libc::sigfillset(held.as_mut_ptr());
            for signal in LEFT_ALONE {
                libc::sigdelset(held.as_mut_ptr(), signal);
            }
            // Inherited as ignored, no SIGCHLD would ever tell that the command has ended, nor how.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), before.as_mut_ptr());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let descriptor = libc::signalfd(-1, held.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { descriptor: OwnedFd::from_raw_fd(descriptor), before: before.assume_init() })
        }
    }

    /// The next signal that waits, if there is one.
    pub(crate) fn next(&self) -> Option<Signal> {
        let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
        // Nothing waits, or the read was interrupted: the descriptor tells again.
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

    /// Makes the child start with the signals that we started with, and end with SIGTERM when we are gone.
    pub(crate) fn prepare(&self, command: &mut Command) {
        let before = self.before;
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only async-signal-safe calls are made: pthread_sigmask, prctl, getppid, raise.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
                // The parent may have gone before it could be watched.
                if libc::getppid() != parent.as_raw_nonzero().get() {
                    libc::raise(libc::SIGTERM);
                }
                Ok(())
            });
        }
    }

    /// Lets a held signal do what it does by default: to stop this process, or to end it. Returns if it did not end it.
    pub(crate) fn suffer(&self, signal: i32) {
        let mut one = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises `one`, which the other calls read. The signal's disposition becomes the default,
        // so no handler runs. It is raised while it is held: standard signals do not queue, so it has effect once, when
        // it is let through, even if another one waited.
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

/// Keeps a death by signal from leaving a core file: the core of interest is the child's.
pub(crate) fn without_core_file() {
    // SAFETY: the call takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
}
