//! A file with secrets that is replaced whole: a new file of mode 0600 is written under another name in the same directory
//! and renamed, so that readers see the old contents or the new ones.
//!
//! Only regular files are replaced. A rename would replace anything else too: `/dev/null`, a FIFO that somebody reads, a
//! symbolic link instead of the file it points to.

use std::fs::{self, File, FileType};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::failure::Failure;

/// A path where a file may be written.
#[derive(Debug)]
pub(crate) struct WrittenFile<'a> {
    path: &'a Path,
    mark: &'static str,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Nothing,
    /// An empty file, or one that begins with the mark.
    Ours,
    /// A regular file that somebody else wrote.
    Foreign,
    SymbolicLink,
    /// Anything else, by name.
    Special(&'static str),
}

impl<'a> WrittenFile<'a> {
    /// `mark` is the first line of the file. A file that does not begin with it may be kept by hand, and is only replaced
    /// with `force`.
    pub(crate) fn new(path: &'a Path, mark: &'static str, force: bool) -> Result<Self, Failure> {
        match existing(path, mark) {
            Existing::Foreign if !force => Err(Failure::usage(format!(
                "{} was not written by this command and would be overwritten; choose another file, or add --force",
                path.display()
            ))),
            Existing::Nothing | Existing::Ours | Existing::Foreign => Ok(Self { path, mark }),
            Existing::SymbolicLink | Existing::Special(_) => Err(Failure::usage(refusal(path, mark))),
        }
    }

    /// Replaces the file; the mark is added.
    pub(crate) fn write(&self, text: &str) -> Result<(), Failure> {
        // It may have changed since it was checked, and then for hours.
        if matches!(existing(self.path, self.mark), Existing::SymbolicLink | Existing::Special(_)) {
            return Err(Failure::failed(refusal(self.path, self.mark)));
        }
        self.replace(text).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => "; its directory must be writable",
                _ => "",
            };
            Failure::failed(format!("cannot write {}: {error}{advice}", self.path.display()))
        })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut name = self.path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = self.path.with_file_name(name);
        // A killed process with the same id may have left it behind.
        let _ = fs::remove_file(&new);
        let written = self.write_new(&new, text).and_then(|()| fs::rename(&new, self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn write_new(&self, new: &Path, text: &str) -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(new)?;
        writeln!(file, "{}", self.mark)?;
        file.write_all(text.as_bytes())
    }
}

fn existing(path: &Path, mark: &str) -> Existing {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Existing::Nothing };
    match metadata.file_type() {
        kind if kind.is_symlink() => Existing::SymbolicLink,
        kind if !kind.is_file() => Existing::Special(name_of(kind)),
        _ if metadata.len() == 0 => Existing::Ours,
        _ => match fs::read(path) {
            Ok(text) if text.starts_with(mark.as_bytes()) => Existing::Ours,
            _ => Existing::Foreign,
        },
    }
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn refusal(path: &Path, mark: &str) -> String {
    let path_text = path.display();
    match existing(path, mark) {
        Existing::SymbolicLink => match fs::canonicalize(path) {
            Ok(target) => {
                format!(
                    "{path_text} is a symbolic link, which is not followed; pass the file itself: {}",
                    target.display()
                )
            }
            Err(_) => format!("{path_text} is a symbolic link to nothing; pass the path of a regular file"),
        },
        Existing::Special(what) => {
            format!("{path_text} is {what}; only a regular file is replaced, and PATH must be one or not exist yet")
        }
        Existing::Nothing | Existing::Ours | Existing::Foreign => format!("{path_text} changed while it was checked"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    const MARK: &str = "# Written by a test.";

    #[test]
    fn devices_fifos_sockets_directories_and_symbolic_links_are_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        fs::create_dir(place("directory")).unwrap();
        assert!(Command::new("mkfifo").arg(place("fifo")).status().unwrap().success());
        let _socket = UnixListener::bind(place("socket")).unwrap();
        fs::write(place("target"), "").unwrap();
        symlink(place("target"), place("link")).unwrap();
        symlink("/dev/null", place("link to a device")).unwrap();
        symlink("nothing", place("dangling")).unwrap();
        for (path, what) in [
            ("/dev/null".into(), "a device"),
            (place("directory"), "a directory"),
            (place("fifo"), "a FIFO"),
            (place("socket"), "a socket"),
            (place("link"), "pass the file itself"),
            (place("link to a device"), "/dev/null"),
            (place("dangling"), "symbolic link to nothing"),
        ] {
            let before = fs::symlink_metadata(&path).unwrap().file_type();
            for force in [false, true] {
                let failure = WrittenFile::new(&path, MARK, force).unwrap_err();
                assert!(failure.to_string().contains(what), "{failure}");
            }
            // It became so after it was checked.
            let failure = WrittenFile { path: &path, mark: MARK }.write("text").unwrap_err();
            assert!(failure.to_string().contains(what), "{failure}");
            assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), before, "{}", path.display());
        }
        assert_eq!(fs::read_to_string(place("target")).unwrap(), "");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 7, "no other file is left");
    }

    #[test]
    fn a_regular_file_is_replaced_whole_with_mode_0600_and_one_of_somebody_else_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        WrittenFile::new(&path, MARK, false).unwrap().write("first\n").unwrap();
        WrittenFile::new(&path, MARK, false).unwrap().write("second\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{MARK}\nsecond\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        fs::write(&path, "by hand").unwrap();
        assert!(WrittenFile::new(&path, MARK, false).unwrap_err().to_string().contains("--force"));
        WrittenFile::new(&path, MARK, true).unwrap().write("").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{MARK}\n"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
