//! The operating system, and the only `unsafe` of the core: privileges, the monotonic clock, process identity, threads,
//! children, bounded reads of files, and the user's name.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString, c_char};
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceBox;
use zeroize::Zeroizing;

/// Whether this program runs with more rights than its caller (set-user-id, set-group-id, file capabilities). The caller
/// chose its environment and working directory, so it trusts neither, like the C library's `secure_getenv`.
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

/// The process' id.
#[must_use]
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// Tells a process from its parent and from all processes that those descend from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    id: u32,
    generation: u64,
}

/// The identity of this process. It differs from its parent's after `fork` and `clone`, also where a new PID namespace
/// gives the child its parent's process id.
#[must_use]
pub(crate) fn process_identity() -> ProcessIdentity {
    // A child inherits the count, so no number that one of its ancestors took before the fork comes again.
    static GENERATIONS: AtomicU64 = AtomicU64::new(0);
    static MARK: OnceBox<Option<&'static AtomicU64>> = OnceBox::new();
    let generation = MARK.get_or_init(|| Box::new(wiped_on_fork())).map_or(0, |mark| {
        let new = || GENERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
        match mark.load(Ordering::Acquire) {
            0 => {
                let new = new();
                mark.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire).map_or_else(|other| other, |_| new)
            }
            generation => generation,
        }
    });
    ProcessIdentity { id: process_id(), generation }
}

/// A number that the kernel sets to 0 in every child of this process; `None` on a system that does not offer this (Linux
/// before 4.14).
#[cfg(target_os = "linux")]
fn wiped_on_fork() -> Option<&'static AtomicU64> {
    let length = std::mem::size_of::<AtomicU64>();
    // SAFETY: a new private mapping at an address of the kernel's choice touches no other memory.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: advice on the mapping that was just made, for its whole length.
    if unsafe { libc::madvise(page, length, libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: the mapping was made above and nothing refers to it.
        unsafe { libc::munmap(page, length) };
        return None;
    }
    // SAFETY: the page is zeroed, aligned, readable and writable, and never unmapped; zero bytes are a valid AtomicU64.
    Some(unsafe { &*page.cast::<AtomicU64>() })
}

#[cfg(not(target_os = "linux"))]
fn wiped_on_fork() -> Option<&'static AtomicU64> {
    None
}

/// Seconds since some start, by a clock that nobody sets and that counts the time a computer is asleep.
#[must_use]
pub(crate) fn monotonic_seconds() -> i64 {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: writes `time`, which lives for the call; all bytes zero are a valid timespec if the call fails.
    let time = unsafe {
        libc::clock_gettime(CLOCK, time.as_mut_ptr());
        time.assume_init()
    };
    time.tv_sec
}

unsafe extern "C" {
    // Not in the libc crate for every target. POSIX: sets the calling thread's cancelability and returns the former one.
    fn pthread_setcancelstate(state: i32, old_state: *mut i32) -> i32;
}

const PTHREAD_CANCEL_DISABLE: i32 = 1;

/// Starts a short-lived, detached thread. It receives no signals, so that the host program's handlers run on the host's
/// own threads, and cannot be cancelled, since a cancellation would unwind through Rust code and abort the process.
///
/// # Errors
///
/// The operating system has no thread to give; `work` has not run.
pub(crate) fn spawn_without_signals(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let _blocked = SignalsBlocked::new();
    #[cfg(feature = "test-hooks")]
    let work = {
        let hook = crate::test_hooks::hook();
        move || {
            crate::test_hooks::set_hook(hook);
            work();
        }
    };
    let work = move || {
        let mut before = 0;
        // SAFETY: writes `before`, which lives for the call; a thread may set its own state at any time.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        work();
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

/// Writes a line in one call, and drops it where it would have to wait. A pipe without a reader is an error and sends the
/// process no `SIGPIPE`, as in libpq's `pq_block_sigpipe`.
///
/// # Errors
///
/// The line was not written, or only its beginning was.
pub(crate) fn write_line(file: std::os::fd::BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    let mut ready = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry that lives for the call, which does not wait.
    if unsafe { libc::poll(&raw mut ready, 1, 0) } == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let _blocked = SignalsBlocked::new();
    let was_pending = sigpipe_is_pending();
    // SAFETY: `line` lives for the call.
    let written = unsafe { libc::write(file.as_raw_fd(), line.as_ptr().cast(), line.len()) };
    let error = io::Error::last_os_error();
    if written < 0 && error.raw_os_error() == Some(libc::EPIPE) && !was_pending && sigpipe_is_pending() {
        take_sigpipe();
    }
    match usize::try_from(written) {
        Ok(written) if written == line.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(error),
    }
}

/// Device and inode of a file.
type FileIdentity = (libc::dev_t, libc::ino_t);

/// The open file with this number, and whether it is closed on exec.
fn open_file(descriptor: libc::c_int) -> Option<(FileIdentity, bool)> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat initialises `status` if it returns 0, and only then is it read; F_GETFD only reads a flag.
    unsafe {
        if libc::fstat(descriptor, status.as_mut_ptr()) != 0 {
            return None;
        }
        let status = status.assume_init();
        let flags = libc::fcntl(descriptor, libc::F_GETFD);
        Some(((status.st_dev, status.st_ino), flags & libc::FD_CLOEXEC != 0))
    }
}

/// Which file is standard error: the one that has its number when this is called first, before this library has opened
/// a file or a connection.
pub(crate) fn remember_standard_error() -> Option<FileIdentity> {
    static FIRST: OnceBox<Option<FileIdentity>> = OnceBox::new();
    *FIRST.get_or_init(|| Box::new(open_file(libc::STDERR_FILENO).map(|(file, _)| file)))
}

/// Writes a line to standard error, unless another file has its number. Where a program closed it, the next file that is
/// opened gets the number: a connection of this library, or the program's data. Such a file is closed on exec, which
/// one that was put there as standard error is not.
///
/// # Errors
///
/// Those of [`write_line`]; `NotFound` if there is no standard error.
pub(crate) fn write_standard_error(line: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;
    match open_file(libc::STDERR_FILENO) {
        Some((file, closed_on_exec)) if !closed_on_exec || Some(file) == remember_standard_error() => {
            write_line(io::stderr().as_fd(), line)
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn sigpipe_is_pending() -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigpending initialises the set if it succeeds, and only then is it read.
    unsafe { libc::sigpending(pending.as_mut_ptr()) == 0 && libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 }
}

/// Takes a pending `SIGPIPE` away, before it is unblocked.
fn take_sigpipe() {
    let mut only = MaybeUninit::<libc::sigset_t>::uninit();
    let mut taken = 0;
    // SAFETY: sigemptyset initialises the set, which the other calls read; the signal is pending on this thread, so
    // sigwait returns at once.
    unsafe {
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), libc::SIGPIPE);
        libc::sigwait(only.as_ptr(), &raw mut taken);
    }
}

/// Whether `work` ends a process in which `SIGPIPE` has its default action, as it has in C programs.
#[cfg(test)]
pub(crate) fn ends_by_sigpipe(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child makes no call that needs another thread, and ends.
    unsafe {
        match libc::fork() {
            0 => {
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::_exit(i32::from(!work()));
            }
            child => {
                let mut status = -1;
                libc::waitpid(child, &raw mut status, 0);
                status != 0
            }
        }
    }
}

/// Waits until one of the files has something to read or its other end is closed, but no longer than `most`. Tells which.
#[must_use]
pub(crate) fn wait_readable<const N: usize>(
    files: [Option<std::os::fd::BorrowedFd<'_>>; N],
    most: std::time::Duration,
) -> [bool; N] {
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let milliseconds = i32::try_from(most.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // poll ignores negative descriptors.
    let mut polls = files.map(|file| libc::pollfd {
        fd: file.map_or(-1, |file| file.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: `polls` has N entries and lives for the call.
    let count = unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    polls.map(|poll| count > 0 && poll.revents != 0)
}

/// Where a child process runs.
#[derive(Clone, Copy)]
enum Session {
    /// In a session of its own, without a terminal.
    Own,
    /// In this process' group, so that it may use the terminal as this process may.
    Shared,
}

/// Every variable of an environment, as `NAME=value` with the NUL that C wants. Wiped, since some are secrets.
pub(crate) struct Variables(Vec<Zeroizing<Vec<u8>>>);

impl Variables {
    /// Those of this process now. No other thread may be changing them.
    pub(crate) fn of_process() -> Self {
        let line = |(name, value): (OsString, OsString)| {
            let value = Zeroizing::new(value.into_vec());
            let mut line = Vec::with_capacity(name.len() + value.len() + 2);
            line.extend_from_slice(name.as_bytes());
            line.push(b'=');
            line.extend_from_slice(&value);
            line.push(0);
            Zeroizing::new(line)
        };
        Self(std::env::vars_os().map(line).collect())
    }

    /// The directories that programs are searched in.
    fn path(&self) -> &[u8] {
        let path = self.0.iter().find_map(|line| line.strip_prefix(b"PATH=")?.strip_suffix(b"\0"));
        path.unwrap_or(b"/bin:/usr/bin")
    }
}

/// A program that was started.
pub(crate) struct Child {
    id: libc::pid_t,
    state: ChildState,
    session: Session,
    pub(crate) stdout: Option<PipeReader>,
    /// `None`: where standard error of this process goes.
    pub(crate) stderr: Option<PipeReader>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildState {
    Runs,
    /// `None`: the host program ignores or reaps its children, so that there is no status.
    Ended(Option<ExitStatus>),
}

impl Child {
    /// Starts a program with its arguments, which is searched in the `PATH` of its variables if it has no slash. It reads
    /// from the terminal and shares this process' group and standard error, or has a session of its own and nothing to
    /// read. Signals are as in a new program: none is blocked, and `SIGCHLD` and `SIGPIPE` are not ignored.
    ///
    /// `std::process` would fork and then wait, without a time limit, for the end of a pipe that a process forked by another
    /// thread at the same moment has open too, for as long as it lives. `posix_spawn` needs no pipe.
    ///
    /// # Errors
    ///
    /// The program cannot be executed, or this process has no descriptors left for the pipes.
    pub(crate) fn start(words: &[String], variables: &Variables, terminal: Option<&Terminal>) -> io::Result<Self> {
        let mut files = FileActions::new()?;
        let (stdout, output) = pipe()?;
        files.put(&output, libc::STDOUT_FILENO)?;
        let (session, _input, stderr) = match terminal {
            Some(terminal) => {
                let input = above_standard_files(&terminal.file)?;
                files.put(&input, libc::STDIN_FILENO)?;
                (Session::Shared, input, None)
            }
            None => {
                let (stderr, errors) = pipe()?;
                files.put(&errors, libc::STDERR_FILENO)?;
                files.put_nothing(libc::STDIN_FILENO)?;
                (Session::Own, errors, Some(stderr))
            }
        };
        let id = Spawn { files, attributes: Attributes::new(session)?, variables }.program(words)?;
        Ok(Self { id, state: ChildState::Runs, session, stdout: Some(stdout), stderr })
    }

    /// Whether it has ended. Its number stays its own: until [`Self::state`] no other process can get it.
    pub(crate) fn has_ended(&self) -> bool {
        if self.state != ChildState::Runs {
            return true;
        }
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: numbers only; writes `info`, which lives for the call and is valid when it is all zeros. A child that runs
        // leaves its signal at zero.
        unsafe {
            let outcome = libc::waitid(libc::P_PID, self.id.unsigned_abs(), info.as_mut_ptr(), options);
            outcome != 0 || info.assume_init().si_signo != 0
        }
    }

    /// Whether it runs. Does not wait. Once it has ended, another process can get its number.
    pub(crate) fn state(&mut self) -> ChildState {
        if self.state == ChildState::Runs {
            let mut status = 0;
            // SAFETY: writes `status`, which lives for the call. This process' child of this number was not waited for yet,
            // at least not by this library.
            self.state = match unsafe { libc::waitpid(self.id, &raw mut status, libc::WNOHANG) } {
                0 => ChildState::Runs,
                -1 => ChildState::Ended(None),
                _ => ChildState::Ended(Some(ExitStatus::from_raw(status))),
            };
        }
        self.state
    }

    /// Kills it with all that it started.
    pub(crate) fn kill(&self) {
        match self.session {
            Session::Own => kill_session(self.id),
            // Those whose parent has ended are not found, and its number may be another process'.
            Session::Shared if self.has_ended() => {}
            Session::Shared => kill_tree(self.id),
        }
    }
}

/// A pipe whose end for writing does not have the number of a standard file.
fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader, above_standard_files(&writer)?))
}

/// The same open file with a number above those of the standard files, closed on exec. A file that is put in the place of
/// itself would stay closed on exec, where this process has no standard files.
fn above_standard_files(file: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC only makes a new descriptor, which belongs to nobody else.
    unsafe {
        match libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) {
            -1 => Err(io::Error::last_os_error()),
            new => Ok(OwnedFd::from_raw_fd(new)),
        }
    }
}

/// The functions of `posix_spawn` return the error's number.
fn checked(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// What becomes of the files of a new program.
struct FileActions(Box<libc::posix_spawn_file_actions_t>);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: init initialises what it gets, and only then is it used.
        unsafe {
            checked(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    fn put(&mut self, file: &OwnedFd, number: libc::c_int) -> io::Result<()> {
        // SAFETY: initialised by `new`.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut *self.0, file.as_raw_fd(), number) })
    }

    fn put_nothing(&mut self, number: libc::c_int) -> io::Result<()> {
        let nothing = c"/dev/null".as_ptr();
        // SAFETY: initialised by `new`; the text lives for ever.
        checked(unsafe { libc::posix_spawn_file_actions_addopen(&raw mut *self.0, number, nothing, libc::O_RDONLY, 0) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used afterwards.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut *self.0) };
    }
}

/// The flag of `posix_spawn` for a session of its own, or for a group where the crate libc has no such flag.
#[cfg(target_os = "linux")]
const OWN_SESSION: libc::c_int = libc::POSIX_SPAWN_SETSID as libc::c_int;
#[cfg(not(target_os = "linux"))]
const OWN_SESSION: libc::c_int = libc::POSIX_SPAWN_SETPGROUP;

/// Session and signals of a new program.
struct Attributes(Box<libc::posix_spawnattr_t>);

impl Attributes {
    fn new(session: Session) -> io::Result<Self> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        let mut signals = MaybeUninit::uninit();
        let both = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        // SAFETY: init and sigemptyset initialise what they get, and only then is it used. All live for the calls.
        unsafe {
            checked(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut attributes = Self(attributes.assume_init());
            let place = &raw mut *attributes.0;
            libc::sigemptyset(signals.as_mut_ptr());
            checked(libc::posix_spawnattr_setsigmask(place, signals.as_ptr()))?;
            libc::sigaddset(signals.as_mut_ptr(), libc::SIGCHLD);
            libc::sigaddset(signals.as_mut_ptr(), libc::SIGPIPE);
            checked(libc::posix_spawnattr_setsigdefault(place, signals.as_ptr()))?;
            let set = |flags: libc::c_int| checked(libc::posix_spawnattr_setflags(place, flags as libc::c_short));
            match session {
                Session::Shared => set(both)?,
                // glibc before 2.26 has no sessions here. In a group of its own a program that asks is stopped, and killed
                // at the deadline.
                Session::Own => set(both | OWN_SESSION).or_else(|_| set(both | libc::POSIX_SPAWN_SETPGROUP))?,
            }
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used afterwards.
        unsafe { libc::posix_spawnattr_destroy(&raw mut *self.0) };
    }
}

/// All that a new program gets but its arguments.
struct Spawn<'a> {
    files: FileActions,
    attributes: Attributes,
    variables: &'a Variables,
}

impl Spawn<'_> {
    /// Searches a program as `execvp` does, and starts it.
    fn program(&self, words: &[String]) -> io::Result<libc::pid_t> {
        let c_string = |word: &[u8]| CString::new(word).map_err(io::Error::from);
        let arguments = words.iter().map(|word| c_string(word.as_bytes())).collect::<io::Result<Vec<CString>>>()?;
        let name = words.first().map_or("", String::as_str);
        let directories: Vec<&[u8]> =
            if name.contains('/') { vec![b""] } else { self.variables.path().split(|byte| *byte == b':').collect() };
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for directory in directories {
            // An empty directory is the present one.
            let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let file = c_string(&[directory, slash, name.as_bytes()].concat())?;
            match self.file(&file, &arguments) {
                Err(failure) => match failure.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => {}
                    // Another directory may have one that may be executed.
                    Some(libc::EACCES) => error = failure,
                    _ => return Err(failure),
                },
                started => return started,
            }
        }
        Err(error)
    }

    /// Starts a file; one without an interpreter's name is a script of the shell.
    fn file(&self, file: &CStr, arguments: &[CString]) -> io::Result<libc::pid_t> {
        let mut words: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
        match self.execute(file, &words) {
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                words.splice(..1, [c"sh", file]);
                self.execute(c"/bin/sh", &words)
            }
            outcome => outcome,
        }
    }

    fn execute(&self, file: &CStr, arguments: &[&CStr]) -> io::Result<libc::pid_t> {
        let end = std::iter::once(std::ptr::null_mut());
        let arguments: Vec<*mut c_char> =
            arguments.iter().map(|word| word.as_ptr().cast_mut()).chain(end.clone()).collect();
        let variables: Vec<*mut c_char> =
            self.variables.0.iter().map(|line| line.as_ptr().cast_mut().cast()).chain(end).collect();
        let mut id = 0;
        // SAFETY: both lists end with NULL, their texts with a NUL; all live for the call, which changes none of them. The
        // files and attributes are initialised.
        checked(unsafe {
            libc::posix_spawn(
                &raw mut id,
                file.as_ptr(),
                &raw const *self.files.0,
                &raw const *self.attributes.0,
                arguments.as_ptr(),
                variables.as_ptr(),
            )
        })?;
        Ok(id)
    }
}

fn signal(process: i32, signal: i32) {
    // SAFETY: kill takes any numbers. A process that is gone, or that may not be signalled, is an error to ignore.
    unsafe { libc::kill(process, signal) };
}

/// Kills a child of [`Session::Own`] with all that it started and that did not leave its process group.
fn kill_session(leader: libc::pid_t) {
    if leader >= 2 {
        signal(-leader, libc::SIGKILL);
    }
}

/// Kills a child of [`Session::Shared`] with its descendants. A descendant whose parent has ended is not found.
fn kill_tree(root: libc::pid_t) {
    if root < 2 {
        return;
    }
    let mut tree = vec![root];
    signal(root, libc::SIGSTOP);
    // A process that is stopped starts no other. Rounds, for those started meanwhile.
    for _ in 0..8 {
        let processes = processes();
        let before = tree.len();
        let mut at = 0;
        while let Some(&parent) = tree.get(at) {
            for &(process, _) in processes.iter().filter(|(_, of)| *of == parent) {
                if !tree.contains(&process) {
                    signal(process, libc::SIGSTOP);
                    tree.push(process);
                }
            }
            at += 1;
        }
        if tree.len() == before {
            break;
        }
    }
    tree.into_iter().for_each(|process| signal(process, libc::SIGKILL));
}

/// Every process that /proc shows, with its parent.
fn processes() -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // The name, in parentheses, may contain anything; state and parent follow it.
            let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some((process, parent))
        })
        .collect()
}

/// The controlling terminal of a process that is in its foreground and so may ask a person.
pub(crate) struct Terminal {
    file: File,
    modes: libc::termios,
}

impl Terminal {
    /// `None`: there is no terminal, or this process runs in its background.
    pub(crate) fn in_foreground() -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/tty").ok()?;
        let mut modes = MaybeUninit::uninit();
        // SAFETY: the descriptor is open; tcgetattr initialises `modes` when it returns 0, and only then is it used.
        let modes = unsafe {
            if libc::tcgetattr(file.as_raw_fd(), modes.as_mut_ptr()) != 0 {
                return None;
            }
            modes.assume_init()
        };
        let terminal = Self { file, modes };
        terminal.is_ours().then_some(terminal)
    }

    fn is_ours(&self) -> bool {
        // SAFETY: both only read; the descriptor is open.
        unsafe { libc::tcgetpgrp(self.file.as_raw_fd()) == libc::getpgrp() }
    }

    /// Restores the modes that the terminal had: who is killed while reading a password leaves it without echo.
    pub(crate) fn restore(&self) {
        // In the background this would stop the whole process.
        if self.is_ours() {
            // SAFETY: the descriptor is open, and tcgetattr initialised `modes`.
            unsafe { libc::tcsetattr(self.file.as_raw_fd(), libc::TCSANOW, &raw const self.modes) };
        }
    }
}

/// Reads a regular file of at most `limit` bytes. A FIFO, a device or a socket is refused before it is opened, so that
/// the call neither waits for a writer nor reads without end. Every buffer is wiped.
///
/// # Errors
///
/// The file cannot be opened or read, is not a regular file, or is larger than `limit`; the error's text is a phrase
/// that fits behind the file's name.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if path.is_relative() && runs_privileged() {
        let why = "a program with more rights than its caller reads no file by a relative path";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    expect_regular(std::fs::metadata(path)?.file_type())?;
    // Another file may have the name by now: O_NONBLOCK keeps the open from waiting for a FIFO's writer.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    expect_regular(metadata.file_type())?;
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > limit {
        return Err(too_large(limit));
    }
    read_all(&mut file, size, limit)
}

/// Reads to the end. `size` is a guess: files in /proc have none, others grow meanwhile.
fn read_all(file: &mut File, size: usize, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; size + 1]);
    let mut filled = 0;
    loop {
        if filled > limit {
            return Err(too_large(limit));
        }
        if filled == buffer.len() {
            // Not `resize`, which would leave a copy behind.
            let mut larger = Zeroizing::new(vec![0; (2 * filled).clamp(4096.min(limit + 1), limit + 1)]);
            larger[..filled].copy_from_slice(&buffer);
            buffer = larger;
        }
        match file.read(&mut buffer[filled..]) {
            Ok(0) => {
                buffer.truncate(filled);
                return Ok(buffer);
            }
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn expect_regular(file_type: FileType) -> io::Result<()> {
    let what = match file_type {
        regular if regular.is_file() => return Ok(()),
        directory if directory.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        fifo if fifo.is_fifo() => "a pipe",
        socket if socket.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and only a regular file is read")))
}

fn too_large(limit: usize) -> io::Error {
    let limit = if limit >= 1 << 20 { format!("{} MiB", limit >> 20) } else { format!("{} KiB", limit.div_ceil(1024)) };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit}"))
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
///
/// None for a program whose rights come from its group or from capabilities and not from its user: there the effective
/// user is the caller, whose files must not direct those rights.
#[must_use]
pub fn home_directory() -> Option<PathBuf> {
    // SAFETY: both calls only return a number.
    let is_callers = unsafe { libc::geteuid() == libc::getuid() };
    if runs_privileged() && is_callers { None } else { password_entry().map(|(_, home)| home) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_thread_takes_no_signals_and_cannot_be_cancelled() {
        let (sender, receiver) = std::sync::mpsc::channel();
        spawn_without_signals(move || {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            let mut cancellation = 0;
            // SAFETY: with a NULL set pthread_sigmask only writes the present mask into `mask`; sigismember reads it. The
            // other call writes `cancellation`.
            let blocked = unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
                pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut cancellation);
                libc::sigismember(mask.as_ptr(), libc::SIGTERM)
            };
            sender.send((blocked, cancellation)).ok();
        })
        .unwrap();
        assert_eq!(receiver.recv().unwrap(), (1, PTHREAD_CANCEL_DISABLE));
    }

    #[test]
    fn a_process_keeps_its_identity_and_a_child_has_another_even_with_the_same_id() {
        let own = process_identity();
        assert_eq!(process_identity(), own);
        // SAFETY: the child compares numbers and ends; it takes no lock.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    let child = process_identity();
                    let differs = child.generation != own.generation && child == process_identity();
                    libc::_exit(i32::from(!differs));
                }
                child => {
                    let mut status = -1;
                    libc::waitpid(child, &raw mut status, 0);
                    status
                }
            }
        };
        assert_eq!(status, 0);
        assert_eq!(process_identity(), own);
    }

    #[test]
    fn a_bounded_read_takes_regular_files_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let long = vec![b'x'; 10_000];
        std::fs::write(&path, &long).unwrap();
        assert_eq!(*read_bounded(&path, 10_000).unwrap(), long);
        let error = read_bounded(&path, 9_999).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::FileTooLarge, "it is larger than 10 KiB".into()));
        std::fs::write(&path, "").unwrap();
        assert!(read_bounded(&path, 0).unwrap().is_empty());
        // Its size is said to be 0.
        assert!(!read_bounded(Path::new("/proc/self/status"), 100_000).unwrap().is_empty());
        assert_eq!(read_bounded(Path::new("/proc/self/status"), 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_bounded_read_refuses_pipes_and_devices_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for (path, what) in [(fifo.as_path(), "a pipe"), (Path::new("/dev/zero"), "a device")] {
            let error = read_bounded(path, 1000).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_eq!(read_bounded(directory.path(), 1000).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_program_without_extra_rights_is_not_privileged() {
        assert!(!runs_privileged());
    }

    #[test]
    fn a_program_that_has_ended_keeps_its_number_until_its_status_is_read() {
        let words = ["sh", "-c", "exit 3"].map(str::to_owned);
        let mut child = Child::start(&words, &Variables::of_process(), None).unwrap();
        while !child.has_ended() {
            std::thread::yield_now();
        }
        let process = format!("/proc/{}", child.id);
        assert!(std::path::Path::new(&process).exists() && child.has_ended());
        let ChildState::Ended(Some(status)) = child.state() else { panic!("it runs, or there is no status") };
        assert_eq!(status.code(), Some(3));
        assert!(child.has_ended() && !std::path::Path::new(&process).exists());
    }
}
