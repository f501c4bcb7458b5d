//! A password file in anonymous memory (memfd), at a path that other processes can open: `/proc/PID/fd/N`.
//!
//! New contents get a new memfd, which takes the number of the old one, so that a reader sees the old file or the new one
//! and never half of both. The file disappears with this process.
//!
//! inotify counts whether the file is ever opened: a command that fails and never opened it probably could not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, fchmod, inotify, memfd_create};
use zeroize::Zeroizing;

/// A password file in anonymous memory.
pub(crate) struct MemoryFile {
    descriptor: OwnedFd,
    /// The user's own password file. Its lines follow, because they may be for other servers.
    others: Option<PathBuf>,
    /// `None` where inotify is not available.
    opens: Option<OwnedFd>,
}

impl MemoryFile {
    /// `others`: the password file that the command would have read.
    pub(crate) fn new(text: &str, others: Option<PathBuf>) -> io::Result<Self> {
        let descriptor = memory(text, others.as_deref())?;
        let opens = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok();
        let mut file = Self { descriptor, others, opens };
        // Fails without /proc.
        File::open(file.path())?;
        file.watch();
        Ok(file)
    }

    /// The path of the file, as long as this process runs.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd())
    }

    /// Replaces the contents.
    pub(crate) fn replace(&mut self, text: &str) -> io::Result<()> {
        let new = memory(text, self.others.as_deref())?;
        rustix::io::dup3(&new, &mut self.descriptor, rustix::io::DupFlags::CLOEXEC)?;
        self.watch();
        Ok(())
    }

    fn watch(&mut self) {
        let path = self.path();
        self.opens.take_if(|opens| inotify::add_watch(opens, path, inotify::WatchFlags::OPEN).is_err());
    }

    /// Whether any process has opened the file. `true` if that is not known.
    pub(crate) fn was_opened(&self) -> bool {
        let Some(opens) = &self.opens else { return true };
        let mut buffer = [MaybeUninit::uninit(); 256];
        let mut reader = inotify::Reader::new(opens, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::OPEN) {
                return true;
            }
        }
        false
    }
}

fn memory(text: &str, others: Option<&Path>) -> io::Result<OwnedFd> {
    let descriptor = memfd_create("pgiam-passfile", MemfdFlags::CLOEXEC)?;
    // libpq ignores a password file that group or others can read.
    fchmod(&descriptor, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(descriptor);
    file.write_all(text.as_bytes())?;
    if let Some(lines) = others.and_then(readable_passfile) {
        file.write_all(&lines)?;
    }
    Ok(file.into())
}

/// The contents of a password file that libpq would read: a regular file that only its owner can read.
fn readable_passfile(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        return None;
    }
    fs::read(path).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_whole_at_the_same_path_and_only_its_owner_can_read_it() {
        let others = tempfile::NamedTempFile::new().unwrap();
        fs::write(others.path(), "other:1:*:u:p\n").unwrap();
        let mut passfile = MemoryFile::new("h:1:*:u:first\n", Some(others.path().to_owned())).unwrap();
        let path = passfile.path();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        let mut open = File::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "h:1:*:u:first\nother:1:*:u:p\n");
        passfile.replace("h:1:*:u:2\n").unwrap();
        assert_eq!(passfile.path(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "h:1:*:u:2\nother:1:*:u:p\n");
        let mut old = String::new();
        io::Read::read_to_string(&mut open, &mut old).unwrap();
        assert!(old.starts_with("h:1:*:u:first\n"), "a process that has it open can read it whole");
        fs::set_permissions(others.path(), fs::Permissions::from_mode(0o640)).unwrap();
        passfile.replace("").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "", "libpq would not read the other file either");
    }

    #[test]
    fn it_is_known_whether_the_file_was_opened_also_after_it_was_replaced() {
        let mut passfile = MemoryFile::new("h:1:*:u:first\n", None).unwrap();
        assert!(!passfile.was_opened());
        passfile.replace("h:1:*:u:2\n").unwrap();
        assert!(!passfile.was_opened());
        fs::read(passfile.path()).unwrap();
        assert!(passfile.was_opened());
    }
}
