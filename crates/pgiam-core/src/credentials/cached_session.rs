//! The sessions that `aws sso login` and `aws login` leave in a cache file: read, renewed when their end is near, and
//! replaced, while the AWS CLI and other processes do the same.
//!
//! A refresh token is good for one use. Therefore the processes that use this code take turns, and read the file again
//! when it is theirs. The AWS CLI takes no lock: after a refresh that failed the file is read once more. What is cached is
//! used to its end when it cannot be refreshed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::profile_files::Profile;
use crate::credentials::Context;
use crate::credentials::document::Document;
use crate::error::{Error, ErrorKind, invalid_configuration, reason};
use crate::sys;
use crate::time::{Deadline, rfc3339};

/// Bytes. Cache files have a few KiB.
const MAX_CACHE_FILE: usize = 1024 * 1024;
/// Bytes that a new document may be longer than the old one.
const ROOM: usize = 16 * 1024;
/// Between two attempts to take a lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// A kind of session.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The command that begins such a session.
    pub(crate) command: &'static str,
    /// Below the home directory.
    pub(crate) directory: &'static str,
    /// Seconds before the end from which on it is refreshed, as in the AWS CLI.
    pub(crate) refresh_ahead: i64,
    /// The end of what is cached, in Unix seconds. `None`: it is missing or damaged.
    pub(crate) end: fn(&Document) -> Option<i64>,
    /// A refresh whose result cannot be cached ends the session, so that it is better not made.
    pub(crate) must_be_cached: bool,
}

/// The session of a profile.
pub(crate) struct CachedSession<'a> {
    pub(crate) kind: &'static Kind,
    pub(crate) profile: &'a Profile,
    /// The cache file.
    pub(crate) path: PathBuf,
}

impl CachedSession<'_> {
    /// The error when only a person can renew the session.
    pub(crate) fn log_in_again(&self, why: &str) -> Error {
        let (name, profile) = (self.kind.name, self.profile.name());
        let message = format!("the {name} of profile {profile:?} has ended: {why}; run: {}", self.log_in_command());
        Error::new(ErrorKind::CredentialsExpired, message)
    }

    pub(crate) fn log_in_command(&self) -> String {
        let profile = shlex::try_quote(self.profile.name()).unwrap_or_default();
        format!("{} --profile {profile}", self.kind.command)
    }

    /// The cached document, or a renewed one when its end is near. It has not ended. `renew` changes it to what the
    /// service answers.
    pub(crate) fn current(
        &self,
        context: &Context<'_>,
        renew: &dyn Fn(&mut Document, Deadline) -> Result<(), Error>,
    ) -> Result<Document, Error> {
        let is_valid = |document: &Document, ahead| {
            (self.kind.end)(document).is_some_and(|end| context.clock.now().saturating_add(ahead) < end)
        };
        let is_fresh = |document: &Document| is_valid(document, self.kind.refresh_ahead);
        let mut cached = self.read()?;
        if is_fresh(&cached) {
            return Ok(cached);
        }
        // If what is cached is to be used after a failed refresh, there must be time left to use it.
        let deadline = match context.deadline.remaining() {
            Some(left) if is_valid(&cached, 0) => context.deadline.at_most(left / 2),
            _ => context.deadline,
        };
        let error = match self.refresh(context, deadline, &is_fresh, renew) {
            Ok(renewed) if is_valid(&renewed, 0) => return Ok(renewed),
            Ok(_) => self.log_in_again("it was refreshed and has expired already; check this machine's clock"),
            Err(error) => error,
        };
        // The AWS CLI may have refreshed it meanwhile.
        if let Ok(theirs) = self.read()
            && !is_valid(&cached, 0)
        {
            cached = theirs;
        }
        if is_valid(&cached, 0) { Ok(cached) } else { Err(error) }
    }

    fn read(&self) -> Result<Document, Error> {
        let bytes = sys::read_bounded(&self.path, MAX_CACHE_FILE).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.log_in_again(&format!("there is no {}", self.path.display())),
            _ => self.fault(&reason(&error)),
        })?;
        Document::parse("the cache file", bytes)
            .map_err(|error| self.log_in_again(&format!("{}: {}", self.path.display(), error.message())))
    }

    /// Refreshes the session, unless another process has done so, and replaces the cache file.
    fn refresh(
        &self,
        context: &Context<'_>,
        deadline: Deadline,
        is_fresh: &dyn Fn(&Document) -> bool,
        renew: &dyn Fn(&mut Document, Deadline) -> Result<(), Error>,
    ) -> Result<Document, Error> {
        let _lock = self.lock(deadline)?;
        let mut document = self.read()?;
        if is_fresh(&document) {
            return Ok(document);
        }
        let created = match Replacement::create(&self.path) {
            Ok(mut new) if self.kind.must_be_cached => new.reserve(document.to_json().len() + ROOM).map(|()| new),
            created => created,
        };
        let replacement = match created {
            Err(error) if self.kind.must_be_cached => {
                let why = "the file cannot be replaced, and a session that is refreshed without it ends";
                return Err(self.fault(&format!("{why}: {}", reason(&error))));
            }
            replacement => replacement,
        };
        renew(&mut document, deadline)?;
        // What cannot be cached is still valid.
        if let Err(error) = replacement.and_then(|replacement| replacement.write(&document.to_json())) {
            context.config.log.warn(format_args!("{}", self.fault(&reason(&error))));
        }
        Ok(document)
    }

    /// `None`: this directory cannot be locked.
    fn lock(&self, deadline: Deadline) -> Result<Option<Lock>, Error> {
        match Lock::take(self.path.parent().unwrap_or(&self.path), deadline) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let message = format!("another process that refreshes the {} does not come to an end", self.kind.name);
                Err(Error::new(ErrorKind::Timeout, message))
            }
            Err(_) => Ok(None),
        }
    }

    fn fault(&self, why: &str) -> Error {
        invalid_configuration(format!("cache of the {} {}: {why}", self.kind.name, self.path.display()))
    }
}

impl Kind {
    /// The cache file: the hash of the session's name, in `directory` or else in the AWS CLI's own.
    pub(crate) fn path(
        &self,
        context: &Context<'_>,
        directory: Option<PathBuf>,
        hash: &[u8],
    ) -> Result<PathBuf, Error> {
        let home = || {
            let missing = || invalid_configuration(format!("HOME is not set, so the {} cannot be found", self.name));
            context.config.environment.home().ok_or_else(missing)
        };
        let directory = directory.map_or_else(|| home().map(|home| home.join(self.directory)), Ok)?;
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(directory.join(name + ".json"))
    }
}

/// The expiry that a service answered in seconds from now, as the AWS CLI writes it. `now` is the service's time: by a
/// clock that is ahead, the cached session would seem valid after its end, once the clock is right.
pub(crate) fn expires_at(answer: &Document, now: i64) -> Result<String, Error> {
    let lifetime = answer.number("expiresIn").ok_or_else(|| answer.is_missing("expiresIn"))?;
    Ok(rfc3339(now.saturating_add(lifetime)))
}

/// New content for a file: a temporary file in the same directory, with mode 0600, which then takes its place in one
/// step. It is removed if it is dropped before.
struct Replacement<'a> {
    path: &'a Path,
    temporary: PathBuf,
    file: File,
}

impl<'a> Replacement<'a> {
    /// Creates the temporary file. This fails where the file could not be replaced.
    fn create(path: &'a Path) -> io::Result<Self> {
        let temporary = path.with_extension(format!("{}-{:08x}.tmp", sys::process_id(), fastrand::u32(..)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Self { path, temporary, file })
    }

    /// Takes so many bytes of the disk, so that it cannot be full when they are written.
    fn reserve(&mut self, length: usize) -> io::Result<()> {
        self.file.write_all(&vec![b' '; length])?;
        self.file.sync_all()?;
        self.file.rewind()
    }

    fn write(mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, self.path)
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        // After the rename there is no such file.
        fs::remove_file(&self.temporary).ok();
    }
}

/// A lock of a directory (`flock`), which leaves no file behind.
struct Lock(File);

impl Lock {
    /// Waits until the deadline. `WouldBlock`: another process has the lock.
    fn take(directory: &Path, deadline: Deadline) -> io::Result<Self> {
        let directory = File::open(directory)?;
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(Self(directory)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => match deadline.remaining() {
                    Some(left) => std::thread::sleep(LOCK_INTERVAL.min(left)),
                    None => return Err(io::ErrorKind::WouldBlock.into()),
                },
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that was forked meanwhile has it open too.
        self.0.unlock().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_with_mode_0600_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        drop(Replacement::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Replacement::create(&path).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        for text in ["short", "longer than what was reserved"] {
            let mut replacement = Replacement::create(&path).unwrap();
            replacement.reserve(10).unwrap();
            replacement.write(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_waited_for_until_the_deadline_and_is_released_in_a_forked_child_too() {
        let directory = tempfile::tempdir().unwrap();
        let soon = || Deadline::after(Duration::from_millis(30));
        let lock = Lock::take(directory.path(), soon()).unwrap();
        assert_eq!(Lock::take(directory.path(), soon()).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        // What a child has after a fork: another descriptor of the same open file.
        let inherited = lock.0.try_clone().unwrap();
        drop(lock);
        Lock::take(directory.path(), soon()).unwrap();
        drop(inherited);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
