//! A password file that exists in memory only, until libpq has read it.
//!
//! libpq reads a password for each host from it, and it keeps the whole rest of the line in memory before it ends the
//! password at an unescaped `:` (`passwordFromFile`, the same in versions 14 to 18). What is written after that `:` is
//! therefore room: a later token, which may be longer, fits into the same place when the connection is reset.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;

use zeroize::Zeroizing;

use crate::passfile;

/// Bytes that a later token may be longer: session tokens differ from one role session to the next.
const ROOM: usize = 4096;

/// The lines to write.
#[derive(Default)]
pub struct Lines {
    text: Zeroizing<Vec<u8>>,
}

impl Lines {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds a host's password, with room for a longer one if wanted. Returns the bytes that a later password may have.
    ///
    /// # Errors
    ///
    /// A host or user that no line can contain.
    pub fn push(&mut self, host: &str, port: &str, user: &str, password: &[u8], room: bool) -> Result<usize, String> {
        passfile::push_line(&mut self.text, host, port, user, password)?;
        if !room {
            return Ok(password.len());
        }
        // A vector that grows by itself would leave a copy of the password behind.
        let length = self.text.len();
        let mut longer = Zeroizing::new(Vec::with_capacity(length + ROOM + 1));
        longer.extend_from_slice(&self.text[..length - 1]);
        longer.push(b':');
        longer.resize(length + ROOM, b'-');
        longer.push(b'\n');
        self.text = longer;
        Ok(password.len() + ROOM)
    }
}

/// The file. It no longer exists when this is dropped.
#[derive(Debug)]
pub struct MemoryFile {
    _file: File,
    /// The path by which libpq opens it.
    pub path: CString,
}

impl MemoryFile {
    /// `None` if the system has no such files, or no `/proc`.
    #[must_use]
    pub fn new(lines: &Lines) -> Option<Self> {
        const CLOSE_ON_EXEC: libc::c_uint = 1;
        // By number: glibc has the function since 2.27 only.
        // SAFETY: a NUL-terminated name; the kernel returns a new file descriptor or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_memfd_create, c"pgiam-passfile".as_ptr(), CLOSE_ON_EXEC) };
        let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
        // SAFETY: a new descriptor that nothing else owns.
        let mut file = unsafe { File::from_raw_fd(descriptor) };
        // libpq refuses a file that others could read.
        file.set_permissions(Permissions::from_mode(0o600)).ok()?;
        file.write_all(&lines.text).ok()?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        File::open(&path).ok()?;
        Some(Self { _file: file, path: CString::new(path).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_its_lines_for_its_owner_alone_until_it_is_dropped() {
        let mut lines = Lines::default();
        assert_eq!(lines.push("h", "1", "u", b"a:b", false), Ok(3));
        assert_eq!(lines.push("h", "2", "u", b"c", true), Ok(1 + ROOM));
        let file = MemoryFile::new(&lines).expect("Linux has memory files");
        let path = file.path.to_str().expect("a path").to_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, format!("h:1:*:u:a\\:b\nh:2:*:u:c:{}\n", "-".repeat(ROOM)));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(file);
        assert!(std::fs::read_to_string(&path).map_or(true, |now| now != text));
    }
}
