//! The operating system, and the only `unsafe` of the core: the environment of privileged programs, signal masks,
//! process identity and the user's name.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::path::PathBuf;

/// Whether this program runs with more rights than its caller (set-user-id and the like). Its environment is then the
/// caller's word and is not trusted, as with the C library's `secure_getenv`.
#[must_use]
pub fn runs_privileged() -> bool {
    // SAFETY: getauxval reads a table that the kernel laid out before main; it has no preconditions.
    #[cfg(target_os = "linux")]
    let privileged = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    // SAFETY: it has no arguments and no preconditions.
    #[cfg(not(target_os = "linux"))]
    let privileged = unsafe { libc::issetugid() } != 0;
    privileged
}

/// The process' id, asked of the kernel anew: a forked child must not see its parent's.
#[must_use]
pub fn process_id() -> u32 {
    std::process::id()
}

/// Starts a short-lived thread that receives no signals, so that the host program's handlers keep running on the
/// host's own threads. The thread is detached.
///
/// # Errors
///
/// The operating system has no thread to give; `work` has not run.
pub fn spawn_without_signals(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let _blocked = SignalsBlocked::new();
    #[cfg(feature = "test-hooks")]
    let work = {
        let hook = crate::test_hooks::hook();
        move || {
            crate::test_hooks::set_hook(hook);
            work();
        }
    };
    std::thread::Builder::new().name("pgiam-fetch".into()).stack_size(512 * 1024).spawn(work).map(drop)
}

/// Blocks all signals on this thread while it lives; a thread started meanwhile inherits the mask.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset and sigemptyset initialise the set they are given; pthread_sigmask reads `all` and writes
        // `before`, both live for the calls. It fails only for an unknown `how`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: restores the mask this thread had before, which `new` read and initialised.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

/// Waits until something can be read from `file`, or its other end is closed, but no longer than `most`.
#[must_use]
pub fn wait_readable(file: &impl std::os::fd::AsFd, most: std::time::Duration) -> bool {
    use std::os::fd::AsRawFd;
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let milliseconds = i32::try_from(most.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
    let mut poll = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one entry that lives for the call.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) > 0 }
}

/// Whether a connection is open and nothing has come that was not read.
#[must_use]
pub fn is_open_and_silent(stream: &std::net::TcpStream) -> bool {
    use std::os::fd::AsRawFd;
    let mut byte = 0_u8;
    // SAFETY: at most one byte is written, to `byte`, which lives for the call.
    let count =
        unsafe { libc::recv(stream.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// Gives a child the default for `SIGCHLD`: a host that ignores the signal would hand that on through `exec`, and
/// shells and interpreters then cannot wait for their own children. (The mask of [`spawn_without_signals`] and an
/// ignored `SIGPIPE` the standard library resets by itself.)
pub fn default_child_signal(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: signal() is async-signal-safe and the closure does nothing else.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            Ok(())
        });
    }
}

/// Kills a child that leads a process group of its own, with all that it started.
pub fn kill_group(leader: u32) {
    if let Ok(leader @ 2..) = i32::try_from(leader) {
        // SAFETY: kill takes any numbers; a group that is gone already is an error that does not matter.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

/// The name and home directory that the password database has for the effective user, if it has any.
fn password_entry() -> Option<(String, PathBuf)> {
    let mut buffer = vec![0_u8; 16 * 1024];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: getpwuid_r writes `entry`, and into `buffer` no more than the length given; `found` is set to `entry` or
    // NULL. All live across the call.
    let status = unsafe {
        libc::getpwuid_r(libc::geteuid(), entry.as_mut_ptr(), buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found)
    };
    if status != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so `found` points to an initialised entry whose strings live in `buffer`.
    let (name, home) = unsafe { (CStr::from_ptr((*found).pw_name), CStr::from_ptr((*found).pw_dir)) };
    Some((name.to_str().ok()?.to_owned(), PathBuf::from(home.to_str().ok()?.to_owned())))
}

/// The effective user's name, as libpq takes it for the default of `user`.
#[must_use]
pub fn user_name() -> Option<String> {
    password_entry().map(|(name, _)| name)
}

/// The effective user's home directory, for when `HOME` is not set.
#[must_use]
pub fn home_directory() -> Option<PathBuf> {
    password_entry().map(|(_, home)| home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetching_thread_takes_no_signals() {
        let (sender, receiver) = std::sync::mpsc::channel();
        spawn_without_signals(move || {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: with a NULL set pthread_sigmask only writes the present mask into `mask`; sigismember reads it.
            let blocked = unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
                libc::sigismember(mask.as_ptr(), libc::SIGTERM)
            };
            sender.send(blocked).ok();
        })
        .unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
    }

    #[test]
    fn a_program_without_extra_rights_is_not_privileged() {
        assert!(!runs_privileged());
    }
}
