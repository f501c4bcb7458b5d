//! A password file that exists in memory only, for the moment in which libpq reads it.
//!
//! libpq takes a password for each host from there, and it takes the whole rest of the line into its memory before it
//! ends the password at an unescaped `:` (`passwordFromFile`, the same from 14 to 18). What we write behind that `:` is
//! therefore room: a later token, which may be longer, fits into the same place when the connection is reset.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;

use pgiam_libpq::passfile;
use zeroize::Zeroizing;

/// Bytes that a later token may be longer: session tokens differ from one role session to the next.
const ROOM: usize = 4096;

/// The lines to write.
#[derive(Default)]
pub(crate) struct Lines(Zeroizing<String>);

impl Lines {
    /// Adds a host's password. Gives the bytes that a later one may have.
    pub(crate) fn push(&mut self, host: &str, port: u16, user: &str, password: &str) -> Result<usize, String> {
        self.0.reserve(2 * (host.len() + user.len() + password.len()) + ROOM + 32);
        passfile::push_line(&mut self.0, host, port, user, password)?;
        self.0.pop();
        self.0.push(':');
        self.0.extend(std::iter::repeat_n('-', ROOM));
        self.0.push('\n');
        Ok(password.len() + ROOM)
    }
}

/// The file. It is gone when this is dropped.
pub(crate) struct MemoryFile {
    _file: File,
    /// By this libpq opens it.
    pub(crate) path: CString,
}

impl MemoryFile {
    /// `None` where the system has no such files, or no `/proc`.
    pub(crate) fn new(lines: &Lines) -> Option<Self> {
        // By number: glibc has a function for it since 2.27 only.
        // SAFETY: a NUL-terminated name and flags, as the system call takes them.
        let made = unsafe { libc::syscall(libc::SYS_memfd_create, c"pgiam-passfile".as_ptr(), libc::MFD_CLOEXEC) };
        let descriptor = i32::try_from(made).ok().filter(|descriptor| *descriptor >= 0)?;
        // SAFETY: just made, and nobody else's.
        let mut file = unsafe { File::from_raw_fd(descriptor) };
        // libpq refuses a file that others could read.
        file.set_permissions(Permissions::from_mode(0o600)).ok()?;
        file.write_all(lines.0.as_bytes()).ok()?;
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        // SAFETY: a NUL-terminated path.
        (unsafe { libc::access(path.as_ptr(), libc::R_OK) } == 0).then_some(Self { _file: file, path })
    }
}
